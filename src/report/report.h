/*
 * report.h — what a person reads of a result, as text. Sees stored data only, never a live run.
 */
#ifndef LEM_REPORT_REPORT_H
#define LEM_REPORT_REPORT_H

#include "base/str.h"
#include "compare/compare.h"
#include "model/run_record.h"
#include "model/summary.h"
#include "store/store.h"

struct report_style {
	bool color; /* ANSI colours */
	bool ascii; /* nothing beyond ASCII */
	int width;  /* columns, at least 60 are used */
};

void report_run_text(const struct run_record *r, const struct summary *s,
		     const struct report_style *style, struct str *out);
void report_list_text(const struct store_row *rows, size_t n, const struct report_style *style,
		      struct str *out);

void report_compare_text(const struct compare_run *a, const struct compare_run *b,
			 const struct comparison *c, const struct report_style *style,
			 struct str *out);

/* One line of a campaign's table. */
struct report_cell {
	const char *name, *engine;
	const char *where;   /* "process", "docker"; NULL: not known */
	const char *gpus;    /* host indices, "2,5"; "" the CPU; NULL: not known */
	const char *outcome; /* a verdict, else what became of it: "failed", "not started" */
	const char *run_id;  /* "": none */
	const char *error;   /* one line; "": none */
	struct quantity output_tokens_per_s, j_per_output_token;
};
void report_cells_text(const struct report_cell *cells, size_t n, const struct report_style *style,
		       struct str *out);

/* One line of the loads that were measured in one launch. */
struct report_level {
	const struct level_record *level;
	const struct summary *summary; /* NULL: it was not measured */
	const char *outcome;           /* a verdict, or "failed", "interrupted", "not measured" */
	const char *run_id;            /* "": none */
};
void report_levels_text(const struct report_level *rows, size_t n, const struct report_style *style,
			struct str *out);
/* "8 requests/s", "16 in flight". 48 bytes are enough. */
char *report_load(const struct level_record *v, char *buf, size_t size);

/* "3.21 mJ", "12.0 J", "450 uJ": three digits and a prefix; "-" for NAN. buf of 32 bytes is enough.
 */
char *report_scaled(double value, const char *unit, bool ascii, char *buf, size_t size);

#endif
