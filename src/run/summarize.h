/*
 * summarize.h — from a raw record to its figures and its verdict. Pure: the same record gives the
 * same summary at any time, on any machine.
 */
#ifndef LEM_RUN_SUMMARIZE_H
#define LEM_RUN_SUMMARIZE_H

#include "model/run_record.h"
#include "model/summary.h"

void summarize(const struct run_record *r, struct summary *ret);

/* verdict.c: judges what summarize has filled in. */
void judge(const struct run_record *r, struct summary *s);

#endif
