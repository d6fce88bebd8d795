/*
 * report.h — what a person reads of a result, as text. Sees stored data only, never a live run.
 */
#ifndef LEM_REPORT_REPORT_H
#define LEM_REPORT_REPORT_H

#include "base/str.h"
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

/* "3.21 mJ", "12.0 J", "450 uJ": three digits and a prefix; "-" for NAN. buf of 32 bytes is enough.
 */
char *report_scaled(double value, const char *unit, bool ascii, char *buf, size_t size);

#endif
