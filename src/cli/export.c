#include "cli/export.h"

#include <math.h>

#include "base/jsonw.h"

static double ms(int64_t from_ns, int64_t to_ns)
{
	return from_ns && to_ns ? (double)(to_ns - from_ns) / 1e6 : (double)NAN;
}

struct whole_column {
	const char *name;
	int64_t value;
};

enum { WHOLE_COLUMNS = 11 };

/* One list gives both forms their columns. */
static void columns_of(const struct request_record *q, struct whole_column c[WHOLE_COLUMNS])
{
	const struct whole_column all[WHOLE_COLUMNS] = {
		{"request", q->id},
		{"pass", q->pass},
		{"prompt", q->prompt_index},
		{"scheduled_ns", q->t_scheduled_ns},
		{"sent_ns", q->t_sent_ns},
		{"first_token_ns", q->t_first_ns},
		{"last_token_ns", q->t_last_ns},
		{"input_tokens", q->input_tokens},
		{"output_tokens", q->output_tokens},
		{"output_tokens_asked", q->output_tokens_asked},
		{"truncated", q->truncated},
	};

	memcpy(c, all, sizeof(all));
}

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

static void csv_ms(struct str *out, double value)
{
	str_addc(out, ',');
	if (!isnan(value))
		str_addf(out, "%.6f", value);
}

static void csv_row(const struct request_record *q, struct str *out)
{
	struct whole_column c[WHOLE_COLUMNS];

	columns_of(q, c);
	for (size_t i = 0; i < WHOLE_COLUMNS; i++)
		str_addf(out, "%" PRId64 ",", c[i].value);
	csv_text(out, q->finish);
	csv_ms(out, ms(q->t_sent_ns, q->t_first_ns));
	csv_ms(out, ms(q->t_sent_ns, q->t_last_ns));
	str_addc(out, '\n');
}

static void csv_heading(struct str *out)
{
	const struct request_record none = {0};
	struct whole_column c[WHOLE_COLUMNS];

	columns_of(&none, c);
	for (size_t i = 0; i < WHOLE_COLUMNS; i++)
		str_addf(out, "%s,", c[i].name);
	str_add(out, "finish,ttft_ms,e2e_ms\n");
}

static void json_row(struct jsonw *w, const struct request_record *q)
{
	struct whole_column c[WHOLE_COLUMNS];

	columns_of(q, c);
	jsonw_object(w, NULL);
	for (size_t i = 0; i + 1 < WHOLE_COLUMNS; i++)
		jsonw_i64(w, c[i].name, c[i].value);
	jsonw_bool(w, c[WHOLE_COLUMNS - 1].name, q->truncated);
	jsonw_str(w, "finish", q->finish);
	jsonw_f64(w, "ttft_ms", ms(q->t_sent_ns, q->t_first_ns));
	jsonw_f64(w, "e2e_ms", ms(q->t_sent_ns, q->t_last_ns));
	jsonw_str(w, "text", q->text);
	jsonw_end_object(w);
}

static void json_rows(const struct run_record *r, bool lines, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	if (!lines)
		jsonw_array(&w, NULL);
	for (size_t i = 0; i < r->n_requests; i++) {
		json_row(&w, &r->requests[i]);
		if (lines)
			str_addc(out, '\n');
	}
	if (!lines) {
		jsonw_end_array(&w);
		str_addc(out, '\n');
	}
}

int export_requests(const struct run_record *r, const char *format, struct str *out,
		    struct lem_error *err)
{
	bool lines = str_eq(format, "jsonl");

	if (lines || str_eq(format, "json")) {
		json_rows(r, lines, out);
		return 0;
	}
	if (!str_eq(format, "csv"))
		return lem_fail(err, LEM_E_USAGE, "--format takes csv, json or jsonl, not '%.60s'",
				format);
	csv_heading(out);
	for (size_t i = 0; i < r->n_requests; i++)
		csv_row(&r->requests[i], out);
	return 0;
}
