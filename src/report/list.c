#include <math.h>

#include "report/pen.h"

/* Cleans a text into a buffer of its own; the caller frees it. */
static char *clean(const struct pen *p, const char *text)
{
	struct str s = STR_INIT;

	pen_clean(p, text, &s);
	return str_detach(&s);
}

/* "2/4 of 5d7cb5, 8 requests/s": the launch by the last letters of its id. */
static void put_level(struct pen *p, const struct store_row *r)
{
	const struct level_record v = {
		.n = r->level_n, .rate_hz = r->rate_hz, .in_flight = r->in_flight};
	const char *dash = strrchr(r->launch_id, '-');
	char load[48];

	if (r->launch_id[0])
		str_addf(p->out, "  %" PRId64 "/%" PRId64 " of %s, %s", r->level_index + 1,
			 r->level_n, dash ? dash + 1 : r->launch_id,
			 report_load(&v, load, sizeof(load)));
}

struct widths {
	int id, engine;
};

static void put_row(struct pen *p, const struct store_row *r, const struct widths *w)
{
	_cleanup_free_ char *model = clean(p, r->model), *engine = clean(p, r->engine);
	char joules[32], rate[32] = "-";

	if (!isnan(r->output_tokens_per_s))
		snprintf(rate, sizeof(rate), "%.1f", r->output_tokens_per_s);
	report_scaled(r->j_per_output_token, "J", true, joules, sizeof(joules));
	str_addf(p->out, "%-*s  %s%-8s%s %-*s %10s %12s  %-9s  %s", w->id, r->run_id,
		 pen_verdict(p, r->verdict), r->verdict[0] ? r->verdict : "-", pen_plain(p),
		 w->engine, engine, rate, joules, r->weights, model);
	put_level(p, r);
	str_addc(p->out, '\n');
}

void report_list_text(const struct store_row *rows, size_t n, const struct report_style *style,
		      struct str *out)
{
	struct widths w = {.id = 6, .engine = 9};
	struct pen p;

	pen_init(&p, style, out);
	for (size_t i = 0; i < n; i++) {
		w.id = MAX(w.id, (int)strlen(rows[i].run_id));
		w.engine = MAX(w.engine, (int)strlen(rows[i].engine));
	}
	str_addf(out, "%s%-*s  %-8s %-*s %10s %12s  %-9s  %s%s\n", pen_dim(&p), w.id, "run",
		 "verdict", w.engine, "engine", "out tok/s", "J/out token", "weights", "model",
		 pen_plain(&p));
	for (size_t i = 0; i < n; i++)
		put_row(&p, &rows[i], &w);
}
