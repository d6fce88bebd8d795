/*
 * trace.h — request traces: a CSV with a header, one request a row, with its time, the tokens of
 * its prompt and of its answer. Columns are found by name, in any order, whatever stands beside
 * them:
 *
 *            time                          input                         output
 *   Azure    TIMESTAMP                     ContextTokens                 GeneratedTokens
 *   BurstGPT Timestamp                     Request tokens                Response tokens
 *   other    timestamp, arrival_time, time input_tokens, input_length,   output_tokens,
 *                                          prompt_tokens                 output_length,
 *                                                                        completion_tokens
 *
 * (Azure: github.com/Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and 2024.md;
 * BurstGPT: github.com/HPMLL/BurstGPT.) A time is a number of seconds, or a date and time as ISO
 * 8601 has it, with up to 9 digits of fraction and Z or an offset: "2023-11-16 18:15:46.6805900",
 * "2024-05-10 00:00:00.009930+00:00". Without an offset it is UTC; only differences count.
 *
 * Requests without tokens, or with an empty count, failed when they were recorded (BurstGPT keeps
 * them with 0 response tokens): they are counted and left out. Pure.
 */
#ifndef LEM_LOAD_TRACE_H
#define LEM_LOAD_TRACE_H

#include "base/error.h"

struct trace_row {
	int64_t t_ns; /* after the first row of the file */
	int32_t input, output;
};

/* Which rows are wanted; zeroed: all of them. */
struct trace_slice {
	int64_t start_ns;    /* after the first row of the file */
	int64_t duration_ns; /* 0: to its end */
	size_t most;         /* this many rows; 0: no such limit */
};

enum { TRACE_ROWS_MAX = 10 * 1000 * 1000, TRACE_TOKENS_MAX = 1 << 24 };

struct trace {
	struct trace_row *at; /* malloc'ed, n entries by time */
	size_t n;
	size_t n_rows;    /* of the slice, whether or not of use */
	size_t n_skipped; /* of them: failed */
	char form[12];    /* "azure", "burstgpt", "csv" */
};

/* name stands in errors, which are LEM_E_REFUSED and name the line. At most TRACE_ROWS_MAX rows are
 * kept; *ret is untouched on failure. */
int trace_parse(const char *bytes, size_t n, const char *name, const struct trace_slice *slice,
		struct trace *ret, struct lem_error *err);
void trace_release(struct trace *t);
#define _cleanup_trace_ _cleanup_(trace_release)

/* false: it is no time. */
bool trace_time_ns(const char *text, int64_t *ret_ns);

#endif
