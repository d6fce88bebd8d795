/*
 * slo_option.h — goals as they are written on the command line: ttft=200,tpot=50,e2e=5000, in ms,
 * each optional.
 */
#ifndef LEM_CLI_SLO_OPTION_H
#define LEM_CLI_SLO_OPTION_H

#include "base/error.h"
#include "model/slo.h"

/* LEM_E_USAGE says what is wrong and shows what is right. */
int slo_option_parse(const char *text, struct slo_limits *ret, struct lem_error *err);

#endif
