#include "load/trace.h"

#include <ctype.h>
#include <math.h>
#include <strings.h>

#include "base/clock.h"
#include "base/num.h"
#include "load/csv.h"

/* ---- times ---- */

/* n digits as a number within [low, high]; false: they are not there. */
static bool digits(const char **p, int n, int low, int high, int *ret)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if (!isdigit((unsigned char)(*p)[i]))
			return false;
		v = v * 10 + (*p)[i] - '0';
	}
	*p += n;
	*ret = v;
	return v >= low && v <= high;
}

static bool one_of(const char **p, const char *set)
{
	if (!**p || !strchr(set, **p))
		return false;
	(*p)++;
	return true;
}

/* Days since 1970-01-01 of the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level
 * date algorithms"). */
static int64_t days_from_civil(int y, int m, int d)
{
	int64_t year = y - (m <= 2), era = year / 400, yoe = year - era * 400,
		doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1,
		doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;

	return era * 146097 + doe - 719468;
}

static bool fraction(const char **p, int64_t *ret_ns)
{
	int64_t unit = NS_PER_S / 10, ns = 0;
	const char *from;

	if (**p != '.' && **p != ',')
		return true;
	from = ++*p;
	for (; isdigit((unsigned char)**p); (*p)++, unit /= 10)
		ns += (**p - '0') * unit;
	*ret_ns = ns;
	return *p > from && *p - from <= 9;
}

/* Z, +hh:mm, +hhmm, +hh or nothing. */
static bool offset(const char **p, int64_t *ret_s)
{
	int h = 0, m = 0;
	bool west = **p == '-';

	if (one_of(p, "Zz") || !**p)
		return true;
	if (!one_of(p, "+-") || !digits(p, 2, 0, 23, &h))
		return false;
	(void)one_of(p, ":");
	if (**p && !digits(p, 2, 0, 59, &m))
		return false;
	*ret_s = (h * 3600 + m * 60) * (west ? -1 : 1);
	return true;
}

static bool iso_time(const char *p, int64_t *ret_ns)
{
	int year, month, day, hour = 0, minute = 0, second = 0;
	int64_t ns = 0, east_s = 0;

	if (!digits(&p, 4, 1970, 2200, &year) || !one_of(&p, "-/") ||
	    !digits(&p, 2, 1, 12, &month) || !one_of(&p, "-/") || !digits(&p, 2, 1, 31, &day) ||
	    !one_of(&p, " Tt") || !digits(&p, 2, 0, 23, &hour) || !one_of(&p, ":") ||
	    !digits(&p, 2, 0, 59, &minute) || !one_of(&p, ":") || !digits(&p, 2, 0, 60, &second) ||
	    !fraction(&p, &ns) || !offset(&p, &east_s) || *p)
		return false;
	*ret_ns = (days_from_civil(year, month, day) * 86400 + hour * 3600 + minute * 60 + second -
		   east_s) *
			  NS_PER_S +
		  ns;
	return true;
}

bool trace_time_ns(const char *text, int64_t *ret_ns)
{
	double s;

	if (!num_parse_f64(text, &s))
		return iso_time(text, ret_ns);
	/* the year 2191, as seconds of Unix; any two times have a difference in 63 bits */
	if (!(s >= -1e9 && s <= 7e9))
		return false;
	*ret_ns = llround(s * 1e9);
	return true;
}

/* ---- the header ---- */

enum column { COLUMN_TIME, COLUMN_INPUT, COLUMN_OUTPUT, N_COLUMNS };

static const struct {
	enum column column;
	const char *name, *form;
} known[] = {
	{COLUMN_TIME, "timestamp", "csv"},
	{COLUMN_TIME, "arrival_time", "csv"},
	{COLUMN_TIME, "time", "csv"},
	{COLUMN_INPUT, "contexttokens", "azure"},
	{COLUMN_INPUT, "request tokens", "burstgpt"},
	{COLUMN_INPUT, "input_tokens", "csv"},
	{COLUMN_INPUT, "input_length", "csv"},
	{COLUMN_INPUT, "prompt_tokens", "csv"},
	{COLUMN_OUTPUT, "generatedtokens", "azure"},
	{COLUMN_OUTPUT, "response tokens", "burstgpt"},
	{COLUMN_OUTPUT, "output_tokens", "csv"},
	{COLUMN_OUTPUT, "output_length", "csv"},
	{COLUMN_OUTPUT, "completion_tokens", "csv"},
};

struct parser {
	const char *name;
	struct csv csv;
	size_t at[N_COLUMNS]; /* in a row */
	struct trace_row *rows;
	size_t n, cap;
	bool unsorted;
};

static int fail_at(const struct parser *p, size_t line, struct lem_error *err)
{
	return lem_error_where(err, "%.200s:%zu", p->name, line);
}

static int no_column(const struct parser *p, enum column c, struct lem_error *err)
{
	static const char *const what[] = {"times", "input lengths", "output lengths"};
	_cleanup_str_ struct str names = STR_INIT, wanted = STR_INIT;

	for (size_t i = 0; i < p->csv.n && names.len < 150; i++)
		str_addf(&names, "%s%.40s", i ? ", " : "", csv_field(&p->csv, i));
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (known[i].column == c)
			str_addf(&wanted, "%s%s", wanted.len ? ", " : "", known[i].name);
	(void)lem_fail(err, LEM_E_REFUSED,
		       "the trace has no column of %s: its first line is %.200s", what[c],
		       str_c(&names));
	(void)fail_at(p, p->csv.line, err);
	return lem_error_fix(err, "name the column one of: %s", str_c(&wanted));
}

/* The first of a column's names, in the order of the table, that the header has. */
static bool find_column(struct parser *p, enum column c, const char **ret_form)
{
	for (size_t k = 0; k < ARRAY_LEN(known); k++)
		for (size_t i = 0; known[k].column == c && i < p->csv.n; i++)
			if (strcasecmp(csv_field(&p->csv, i), known[k].name) == 0) {
				p->at[c] = i;
				*ret_form = known[k].form;
				return true;
			}
	return false;
}

static int read_header(struct parser *p, char *form, size_t size, struct lem_error *err)
{
	const char *forms[N_COLUMNS] = {0};
	int rc = csv_next(&p->csv, err);

	if (rc < 0)
		return fail_at(p, p->csv.line, err);
	for (enum column c = 0; c < N_COLUMNS; c++)
		if (!find_column(p, c, &forms[c]))
			return no_column(p, c, err);
	lem_strlcpy(form,
		    str_eq(forms[COLUMN_INPUT], forms[COLUMN_OUTPUT]) ? forms[COLUMN_INPUT] : "csv",
		    size);
	return 0;
}

/* ---- rows ---- */

/* "374", "374.0" as pandas writes it; 0 for a count that is not there. */
static bool tokens_of(const char *text, int32_t *ret)
{
	double v = 0;

	if (*text && !num_parse_f64(text, &v))
		return false;
	if (v < 0 || v > TRACE_TOKENS_MAX || v != floor(v))
		return false;
	*ret = (int32_t)v;
	return true;
}

static int bad_field(const struct parser *p, enum column c, struct lem_error *err)
{
	static const char *const what[] = {"is no time", "is no number of tokens",
					   "is no number of tokens"};

	(void)lem_fail(err, LEM_E_REFUSED, "'%.40s' %s", csv_field(&p->csv, p->at[c]), what[c]);
	(void)fail_at(p, p->csv.line, err);
	return lem_error_fix(err, "%s",
			     c == COLUMN_TIME
				     ? "times are seconds, or dates such as 2024-05-10 00:00:00.5"
				     : "a request that failed has 0 or nothing there");
}

/* An empty field is a count that is not there, a missing one a file that is not whole. */
static int check_width(const struct parser *p, struct lem_error *err)
{
	size_t last = MAX(MAX(p->at[COLUMN_TIME], p->at[COLUMN_INPUT]), p->at[COLUMN_OUTPUT]);

	if (last < p->csv.n)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED, "the row has %zu fields, %zu are needed", p->csv.n,
		       last + 1);
	(void)fail_at(p, p->csv.line, err);
	return lem_error_fix(err, "was the file cut off? remove the row, or get it whole");
}

static int add_row(struct parser *p, struct lem_error *err)
{
	struct trace_row row = {0};
	int rc = check_width(p, err);

	if (rc < 0)
		return rc;
	if (!trace_time_ns(csv_field(&p->csv, p->at[COLUMN_TIME]), &row.t_ns))
		return bad_field(p, COLUMN_TIME, err);
	if (!tokens_of(csv_field(&p->csv, p->at[COLUMN_INPUT]), &row.input))
		return bad_field(p, COLUMN_INPUT, err);
	if (!tokens_of(csv_field(&p->csv, p->at[COLUMN_OUTPUT]), &row.output))
		return bad_field(p, COLUMN_OUTPUT, err);
	if (p->n == TRACE_ROWS_MAX) {
		(void)lem_fail(err, LEM_E_REFUSED, "the trace has more than %d rows",
			       TRACE_ROWS_MAX);
		(void)fail_at(p, p->csv.line, err);
		return lem_error_fix(err, "cut it, for example with head -n");
	}
	if (p->n == p->cap) {
		p->cap = MAX(p->cap * 2, (size_t)1024);
		p->rows = lem_reallocarray(p->rows, p->cap, sizeof(*p->rows));
	}
	p->unsorted |= p->n && row.t_ns < p->rows[p->n - 1].t_ns;
	p->rows[p->n++] = row;
	return 0;
}

static int read_rows(struct parser *p, struct lem_error *err)
{
	for (;;) {
		int rc = csv_next(&p->csv, err);

		if (rc < 0)
			return fail_at(p, p->csv.line, err);
		if (rc == 0)
			return 0;
		rc = add_row(p, err);
		if (rc < 0)
			return rc;
	}
}

struct numbered {
	struct trace_row row;
	size_t number;
};

static int earlier(const void *va, const void *vb)
{
	const struct numbered *a = va, *b = vb;

	if (a->row.t_ns != b->row.t_ns)
		return a->row.t_ns < b->row.t_ns ? -1 : 1;
	return (a->number > b->number) - (a->number < b->number);
}

/* By time; rows of one time stay as they stood. */
static void sort_rows(struct trace_row *rows, size_t n)
{
	_cleanup_free_ struct numbered *all = lem_calloc(n, sizeof(*all));

	for (size_t i = 0; i < n; i++)
		all[i] = (struct numbered){rows[i], i};
	qsort(all, n, sizeof(*all), earlier);
	for (size_t i = 0; i < n; i++)
		rows[i] = all[i].row;
}

static void take_slice(struct parser *p, const struct trace_slice *s, struct trace *t)
{
	int64_t t0 = p->n ? p->rows[0].t_ns : 0;

	for (size_t i = 0; i < p->n && (!s->most || t->n < s->most); i++) {
		struct trace_row row = p->rows[i];

		row.t_ns -= t0;
		if (row.t_ns < s->start_ns ||
		    (s->duration_ns && row.t_ns - s->start_ns >= s->duration_ns))
			continue;
		t->n_rows++;
		if (row.input && row.output)
			p->rows[t->n++] = row;
		else
			t->n_skipped++;
	}
	t->at = p->rows;
	p->rows = NULL;
}

static int fail_empty(const struct parser *p, const struct trace *t, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED,
		       "the trace has no request to send: %zu rows, %zu of them in the slice, of "
		       "which %zu failed when they were recorded",
		       p->n, t->n_rows, t->n_skipped);
	(void)lem_error_where(err, "%.200s", p->name);
	return lem_error_fix(err, "name another slice or file");
}

int trace_parse(const char *bytes, size_t n, const char *name, const struct trace_slice *slice,
		struct trace *ret, struct lem_error *err)
{
	struct parser p = {.name = name};
	struct trace t = {0};
	int rc;

	csv_init(&p.csv, bytes, n);
	rc = read_header(&p, t.form, sizeof(t.form), err);
	if (rc >= 0)
		rc = read_rows(&p, err);
	csv_release(&p.csv);
	if (rc >= 0 && p.unsorted)
		sort_rows(p.rows, p.n);
	if (rc >= 0) {
		take_slice(&p, slice, &t);
		rc = t.n ? 0 : fail_empty(&p, &t, err);
	}
	free(p.rows);
	if (rc < 0)
		trace_release(&t);
	else
		*ret = t;
	return rc;
}

void trace_release(struct trace *t)
{
	free(t->at);
	*t = (struct trace){0};
}
