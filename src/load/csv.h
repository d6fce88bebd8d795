/*
 * csv.h — rows of a CSV file in memory, one after the other (RFC 4180): fields in quotes may hold
 * commas, line breaks and "" for a quote; lines end with LF or CRLF; a byte order mark at the start
 * and lines without anything are passed over. Blanks around a field that is not quoted are cut off.
 * Pure; bounded by CSV_ROW_MAX bytes and CSV_FIELDS_MAX fields a row.
 */
#ifndef LEM_LOAD_CSV_H
#define LEM_LOAD_CSV_H

#include "base/error.h"
#include "base/str.h"

enum { CSV_ROW_MAX = 1 << 20, CSV_FIELDS_MAX = 256 };

struct csv {
	const char *p, *end;
	size_t next_line; /* 1-based, of p */

	/* of the row given last; valid until the next call */
	size_t line; /* where it begins */
	size_t n;    /* fields */
	size_t at[CSV_FIELDS_MAX];
	struct str row;
};

void csv_init(struct csv *c, const char *bytes, size_t n);
void csv_release(struct csv *c);
#define _cleanup_csv_ _cleanup_(csv_release)

/* 1: there is a row; 0: the end; LEM_E_REFUSED: it breaks the rules, c->line says where. */
int csv_next(struct csv *c, struct lem_error *err);

/* Field i of the row; "" beyond its end. A NUL in a file ends its field. */
static inline const char *csv_field(const struct csv *c, size_t i)
{
	return i < c->n ? c->row.buf + c->at[i] : "";
}

#endif
