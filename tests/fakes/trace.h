/*
 * trace.h — recorded NVML signals (columns t_end_ns,t_begin_ns,signal,value; plain or .gz) and the
 * phases beside them. The folder of the recordings is $LEM_SHARED/traces, else ../shared/traces
 * beside the source tree.
 */
#ifndef LEM_TESTS_TRACE_H
#define LEM_TESTS_TRACE_H

#include "base/base.h"

struct trace_row {
	int64_t t_begin_ns, t_end_ns, value;
};

struct trace_signal { /* by time of the read's end */
	struct trace_row *rows;
	size_t n, cap;
};

enum {
	TRACE_SIGNALS = 128
}; /* by letter: 'e' counter mJ, 'p' average, 'i' instant, 's' ring mW, … */

struct trace {
	struct trace_signal signal[TRACE_SIGNALS];
};

struct trace_phase {
	char name[32];
	int64_t start_ns, end_ns;
};

bool trace_load(const char *path, struct trace *ret);
void trace_release(struct trace *t);
/* Last row that ended at or before t; NULL before the first. */
const struct trace_row *trace_at(const struct trace_signal *s, int64_t t_ns);

/* "DIR/NAME/FILE" as a malloc'ed path, or NULL when that recording is not here. */
char *trace_path(const char *name, const char *file);
/* malloc'ed array of *n phases; NULL when the file cannot be read. */
struct trace_phase *trace_phases(const char *path, size_t *n);

#endif
