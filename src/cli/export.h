/*
 * export.h — the requests of a stored run as a table, one row a request. Times are CLOCK_MONOTONIC
 * ns of the host, 0 when the event did not happen; what does not exist or is not known is empty
 * (CSV) or null (JSON).
 */
#ifndef LEM_CLI_EXPORT_H
#define LEM_CLI_EXPORT_H

#include "base/error.h"
#include "base/str.h"
#include "model/run_record.h"

/* format: "csv" (RFC 4180, with a heading), "json" (one array), "jsonl" (an object a line). The
 * column `good` is judged by limits (run/goodput.h); empty when there are none, and of requests
 * that were not counted. */
int export_requests(const struct run_record *r, const struct slo_limits *limits, const char *format,
		    struct str *out, struct lem_error *err);

#endif
