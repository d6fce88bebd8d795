#include "load/csv.h"

void csv_init(struct csv *c, const char *bytes, size_t n)
{
	*c = (struct csv){.p = bytes, .end = bytes + n, .next_line = 1};
	if (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
		c->p += 3;
}

void csv_release(struct csv *c)
{
	str_release(&c->row);
}

static bool at_line_end(const struct csv *c)
{
	return c->p == c->end || *c->p == '\n' ||
	       (*c->p == '\r' && c->p + 1 < c->end && c->p[1] == '\n');
}

static void skip_line_end(struct csv *c)
{
	if (c->p < c->end && *c->p == '\r')
		c->p++;
	if (c->p < c->end)
		c->p++;
	c->next_line++;
}

static bool is_blank(char ch)
{
	return ch == ' ' || ch == '\t';
}

static int put(struct csv *c, char ch, struct lem_error *err)
{
	if (c->row.len >= CSV_ROW_MAX)
		return lem_fail(err, LEM_E_REFUSED, "a row is longer than %d bytes", CSV_ROW_MAX);
	str_addc(&c->row, ch);
	return 0;
}

/* Behind the opening quote; to behind the closing one. */
static int quoted(struct csv *c, struct lem_error *err)
{
	for (; c->p < c->end; c->p++) {
		int rc;

		if (*c->p == '"' && (c->p + 1 == c->end || c->p[1] != '"')) {
			c->p++;
			return 0;
		}
		c->p += *c->p == '"';
		c->next_line += *c->p == '\n';
		rc = put(c, *c->p, err);
		if (rc < 0)
			return rc;
	}
	return lem_fail(err, LEM_E_REFUSED, "a quote is never closed");
}

static int plain(struct csv *c, struct lem_error *err)
{
	size_t from = c->row.len;

	for (; !at_line_end(c) && *c->p != ','; c->p++) {
		int rc = put(c, *c->p, err);

		if (rc < 0)
			return rc;
	}
	while (c->row.len > from && is_blank(c->row.buf[c->row.len - 1]))
		c->row.len--;
	return 0;
}

static int field(struct csv *c, struct lem_error *err)
{
	int rc;

	if (c->n == CSV_FIELDS_MAX)
		return lem_fail(err, LEM_E_REFUSED, "a row has more than %d fields",
				CSV_FIELDS_MAX);
	c->at[c->n++] = c->row.len;
	while (c->p < c->end && is_blank(*c->p))
		c->p++;
	if (c->p == c->end || *c->p != '"') {
		rc = plain(c, err);
	} else {
		c->p++;
		rc = quoted(c, err);
		while (rc >= 0 && c->p < c->end && is_blank(*c->p))
			c->p++;
		if (rc >= 0 && !at_line_end(c) && *c->p != ',')
			rc = lem_fail(err, LEM_E_REFUSED, "text follows a closing quote");
	}
	if (rc >= 0)
		str_addc(&c->row, '\0');
	return rc;
}

int csv_next(struct csv *c, struct lem_error *err)
{
	while (c->p < c->end && at_line_end(c))
		skip_line_end(c);
	str_reset(&c->row);
	c->n = 0;
	c->line = c->next_line;
	if (c->p == c->end)
		return 0;
	for (;;) {
		int rc = field(c, err);

		if (rc < 0)
			return rc;
		if (at_line_end(c))
			break;
		c->p++; /* the comma */
	}
	if (c->p < c->end)
		skip_line_end(c);
	return 1;
}
