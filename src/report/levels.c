#include <math.h>

#include "report/pen.h"

enum { LOAD_BYTES = 48, TABLE_WIDTH = 93, GOOD_WIDTH = 7 };

char *report_load(const struct level_record *v, char *buf, size_t size)
{
	if (v->in_flight)
		(void)snprintf(buf, size, "%" PRId64 " in flight", v->in_flight);
	else
		(void)snprintf(buf, size, "%.6g requests/s", v->rate_hz);
	return buf;
}

static void put_number(struct str *out, int width, bool known, double v)
{
	if (known && isfinite(v))
		str_addf(out, " %*.*f", width, v < 9.995 ? 2 : v < 99.95 ? 1 : 0, v);
	else
		str_addf(out, " %*s", width, "-");
}

/* Gaps by token where they are known, else by chunk, which is marked. */
static bool put_gaps(struct str *out, const struct summary *s)
{
	bool by_chunk = s && !s->itl.n && s->itl_chunk.n;
	const struct latency_stats *l = !s ? NULL : by_chunk ? &s->itl_chunk : &s->itl;

	put_number(out, 8, l && l->n, l && l->n ? l->p50 : NAN);
	put_number(out, 7, l && l->n, l && l->n ? l->p99 : NAN);
	str_addc(out, by_chunk ? '*' : ' ');
	return by_chunk;
}

/* A column of requests that met all goals, when the config has some. */
static bool have_goals(const struct report_level *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].summary && slo_any(&rows[i].summary->slo.limits))
			return true;
	return false;
}

static bool put_row(struct pen *p, const struct report_level *row, bool goals, bool ids)
{
	const struct summary *s = row->summary;
	struct str *out = p->out;
	char load[LOAD_BYTES], joules[32];
	bool by_chunk;

	str_addf(out, "%-16s %s%-12s%s", report_load(row->level, load, sizeof(load)),
		 pen_verdict(p, row->outcome), row->outcome, pen_plain(p));
	put_number(out, 7, s && s->requests_per_s.known, s ? s->requests_per_s.value : NAN);
	if (goals)
		put_number(out, GOOD_WIDTH, s && s->slo.requests_per_s.known,
			   s ? s->slo.requests_per_s.value : NAN);
	put_number(out, 9, s && s->output_tokens_per_s.known,
		   s ? s->output_tokens_per_s.value : NAN);
	put_number(out, 8, s && s->ttft.n, s ? s->ttft.p50 : NAN);
	put_number(out, 8, s && s->ttft.n, s ? s->ttft.p99 : NAN);
	by_chunk = put_gaps(out, s);
	report_scaled(s && s->j_per_output_token.known ? s->j_per_output_token.value : (double)NAN,
		      "J", true, joules, sizeof(joules));
	str_addf(out, "%9s%s%s\n", joules, ids ? "  " : "", ids ? row->run_id : "");
	return by_chunk;
}

void report_levels_text(const struct report_level *rows, size_t n, const struct report_style *style,
			struct str *out)
{
	bool by_chunk = false, ids = true, goals = have_goals(rows, n);
	int good = goals ? GOOD_WIDTH + 1 : 0;
	struct pen p;

	pen_init(&p, style, out);
	for (size_t i = 0; i < n; i++)
		ids &= style->width >= TABLE_WIDTH + good + (int)strlen(rows[i].run_id);
	str_addf(out, "%s%-16s %-12s %7s%*s %9s %17s %16s %9s%s%s\n", pen_dim(&p), "load",
		 "verdict", "served", good, goals ? "good" : "", "output", "first token, ms",
		 "inter-token, ms", "energy", ids ? "  run" : "", pen_plain(&p));
	str_addf(out, "%s%-16s %-12s %7s%*s %9s %8s %8s %8s %7s %9s%s\n", pen_dim(&p), "", "",
		 "req/s", good, goals ? "req/s" : "", "tokens/s", "p50", "p99", "p50", "p99",
		 "J/token", pen_plain(&p));
	for (size_t i = 0; i < n; i++)
		by_chunk |= put_row(&p, &rows[i], goals, ids);
	if (by_chunk)
		str_add(out, "* gaps between chunks; how many tokens each holds was not told\n");
}
