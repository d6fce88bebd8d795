#include "cli/export.h"

#include <math.h>

#include "base/jsonw.h"
#include "run/goodput.h"

enum kind { KIND_WHOLE, KIND_FLAG, KIND_TEXT, KIND_MS };

struct column {
	const char *name;
	enum kind kind;
	bool known;
	int64_t whole; /* of a flag too */
	const char *text;
	double ms; /* NAN: not known */
};

enum { COLUMNS_MAX = 32 };

/* One request as cells; both forms have their columns from here. New ones come last, so that a
 * reader by position goes on working. */
struct row {
	struct column at[COLUMNS_MAX];
	size_t n;
};

static void whole_if(struct row *r, bool known, const char *name, int64_t value)
{
	assert(r->n < COLUMNS_MAX);
	r->at[r->n++] =
		(struct column){.name = name, .kind = KIND_WHOLE, .known = known, .whole = value};
}

static void whole(struct row *r, const char *name, int64_t value)
{
	whole_if(r, true, name, value);
}

static void flag_if(struct row *r, bool known, const char *name, bool value)
{
	whole_if(r, known, name, value);
	r->at[r->n - 1].kind = KIND_FLAG;
}

static void text_if(struct row *r, bool known, const char *name, const char *value)
{
	assert(r->n < COLUMNS_MAX);
	r->at[r->n++] =
		(struct column){.name = name, .kind = KIND_TEXT, .known = known, .text = value};
}

static void ms(struct row *r, const char *name, double value)
{
	assert(r->n < COLUMNS_MAX);
	r->at[r->n++] =
		(struct column){.name = name, .kind = KIND_MS, .known = !isnan(value), .ms = value};
}

static double span_ms(int64_t from_ns, int64_t to_ns)
{
	return from_ns && to_ns ? (double)(to_ns - from_ns) / 1e6 : (double)NAN;
}

static void fill(const struct run_record *rec, const struct request_record *q,
		 const struct slo_limits *l, struct row *r)
{
	const struct goodput_times t = goodput_times(q);

	r->n = 0;
	whole(r, "request", q->id);
	whole(r, "pass", q->pass);
	whole(r, "prompt", q->prompt_index);
	whole(r, "scheduled_ns", q->t_scheduled_ns);
	whole(r, "sent_ns", q->t_sent_ns);
	whole(r, "first_token_ns", q->t_first_ns);
	whole(r, "last_token_ns", q->t_last_ns);
	whole(r, "input_tokens", q->input_tokens);
	whole(r, "output_tokens", q->output_tokens);
	whole(r, "output_tokens_asked", q->output_tokens_asked);
	flag_if(r, true, "truncated", q->truncated);
	text_if(r, true, "finish", q->finish);
	ms(r, "ttft_ms", span_ms(q->t_sent_ns, q->t_first_ns));
	ms(r, "e2e_ms", span_ms(q->t_sent_ns, q->t_last_ns));
	whole_if(r, q->input_tokens_asked > 0, "input_tokens_asked", q->input_tokens_asked);
	whole_if(r, q->cached_tokens >= 0, "cached_tokens", q->cached_tokens);
	whole_if(r, rec->server.used, "chunks", q->n_stamps);
	flag_if(r, true, "uncounted", q->uncounted);
	text_if(r, q->failure[0], "failure", q->failure);
	ms(r, "ttft_from_schedule_ms", t.ttft_ms);
	ms(r, "e2e_from_schedule_ms", t.e2e_ms);
	ms(r, "tpot_ms", q->output_tokens > 1 ? t.tpot_ms : (double)NAN);
	flag_if(r, slo_any(l) && !q->uncounted, "good", !goodput_misses(q, l));
}

/* ---- CSV ---- */

static void csv_text(struct str *out, const char *text)
{
	if (!strpbrk(text, ",\"\r\n")) {
		str_add(out, text);
		return;
	}
	str_addc(out, '"');
	for (; *text; text++) {
		if (*text == '"')
			str_addc(out, '"');
		str_addc(out, *text);
	}
	str_addc(out, '"');
}

static void csv_row(const struct row *r, struct str *out)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct column *c = &r->at[i];

		if (i)
			str_addc(out, ',');
		if (!c->known)
			continue;
		if (c->kind == KIND_TEXT)
			csv_text(out, c->text);
		else if (c->kind == KIND_MS)
			str_addf(out, "%.6f", c->ms);
		else
			str_addf(out, "%" PRId64, c->whole);
	}
	str_addc(out, '\n');
}

static void csv_heading(const struct run_record *rec, const struct slo_limits *l, struct str *out)
{
	const struct request_record none = {0};
	struct row r;

	fill(rec, &none, l, &r);
	for (size_t i = 0; i < r.n; i++)
		str_addf(out, "%s%s", i ? "," : "", r.at[i].name);
	str_addc(out, '\n');
}

/* ---- JSON ---- */

static void json_cell(struct jsonw *w, const struct column *c)
{
	if (!c->known)
		jsonw_null(w, c->name);
	else if (c->kind == KIND_TEXT)
		jsonw_str(w, c->name, c->text);
	else if (c->kind == KIND_MS)
		jsonw_f64(w, c->name, c->ms);
	else if (c->kind == KIND_FLAG)
		jsonw_bool(w, c->name, c->whole);
	else
		jsonw_i64(w, c->name, c->whole);
}

static void json_rows(const struct run_record *rec, const struct slo_limits *l, bool lines,
		      struct str *out)
{
	struct jsonw w;
	struct row r;

	jsonw_init(&w, out, 0);
	if (!lines)
		jsonw_array(&w, NULL);
	for (size_t i = 0; i < rec->n_requests; i++) {
		fill(rec, &rec->requests[i], l, &r);
		jsonw_object(&w, NULL);
		for (size_t k = 0; k < r.n; k++)
			json_cell(&w, &r.at[k]);
		jsonw_str(&w, "text", rec->requests[i].text);
		jsonw_end_object(&w);
		if (lines)
			str_addc(out, '\n');
	}
	if (!lines) {
		jsonw_end_array(&w);
		str_addc(out, '\n');
	}
}

int export_requests(const struct run_record *rec, const struct slo_limits *l, const char *format,
		    struct str *out, struct lem_error *err)
{
	bool lines = str_eq(format, "jsonl");
	struct row r;

	if (lines || str_eq(format, "json")) {
		json_rows(rec, l, lines, out);
		return 0;
	}
	if (!str_eq(format, "csv"))
		return lem_fail(err, LEM_E_USAGE, "--format takes csv, json or jsonl, not '%.60s'",
				format);
	csv_heading(rec, l, out);
	for (size_t i = 0; i < rec->n_requests; i++) {
		fill(rec, &rec->requests[i], l, &r);
		csv_row(&r, out);
	}
	return 0;
}
