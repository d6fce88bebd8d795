/*
 * export.h — the requests of a stored run as a table, one row a request. Times are CLOCK_MONOTONIC
 * ns of the host, 0 when the event did not happen; a latency that does not exist is empty (CSV) or
 * null (JSON).
 */
#ifndef LEM_CLI_EXPORT_H
#define LEM_CLI_EXPORT_H

#include "base/error.h"
#include "base/str.h"
#include "model/run_record.h"

/* format: "csv" (RFC 4180, with a heading), "json" (one array), "jsonl" (an object a line). */
int export_requests(const struct run_record *r, const char *format, struct str *out,
		    struct lem_error *err);

#endif
