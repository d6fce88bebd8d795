/*
 * pen.h — writes labelled lines for a terminal: wrapped at the width, aligned, with colour only
 * when asked. Texts come from outside (engines, files, other people's results), so bytes that a
 * terminal would obey are shown as '?'.
 */
#ifndef LEM_REPORT_PEN_H
#define LEM_REPORT_PEN_H

#include "model/quantity.h"
#include "report/report.h"

enum { PEN_LABEL_WIDTH = 13 };

struct pen {
	const struct report_style *style;
	struct str *out;
	int width; /* columns, 60 to 120 */
};

void pen_init(struct pen *p, const struct report_style *style, struct str *out);

/* Escape sequences, or "" without colour. */
const char *pen_bold(const struct pen *p);
const char *pen_dim(const struct pen *p);
const char *pen_plain(const struct pen *p);
const char *pen_verdict(const struct pen *p, const char *level); /* green, yellow, red */

const char *pen_dot(const struct pen *p);        /* " · " between parts */
const char *pen_plus_minus(const struct pen *p); /* "±" */

void pen_heading(struct pen *p, const char *text);
/* "  label        text", further lines indented; label "" continues the one above. */
void pen_line(struct pen *p, const char *label, const char *fmt, ...) _printf_(3, 4);
/* "3.21 mJ ± 0.8 %"; "not measured: reason" when unknown. */
void pen_quantity(struct pen *p, const char *label, const struct quantity *q, const char *unit);
/* The half width as " ± 0.8 %", empty for an exact figure. buf of 24 bytes is enough. */
char *pen_spread(const struct pen *p, const struct quantity *q, char *buf, size_t size);

/* text without control characters and broken UTF-8; without anything beyond ASCII when so asked.
 * Returns the columns it takes (one per code point). */
size_t pen_clean(const struct pen *p, const char *text, struct str *out);

#endif
