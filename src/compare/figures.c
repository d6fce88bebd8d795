#include <math.h>

#include "compare/impl.h"
#include "stats/stats.h"

enum { GROUPS = 10, FILLED_MIN = 5 };

/* ---- ratios ---- */

static struct quantity no_interval(double value, const char *method)
{
	return quantity_of(value, NAN, NAN, method);
}

static struct quantity ratio(const struct quantity *a, const struct quantity *b)
{
	struct interval i;

	if (!a->known || !b->known)
		return quantity_unknown(a->known   ? "not measured in B"
					: b->known ? "not measured in A"
						   : "not measured");
	if (!(a->value > 0) || !(b->value >= 0))
		return quantity_unknown("nothing to divide by");
	if (isnan(a->low) || isnan(b->low))
		return no_interval(b->value / a->value, "B / A; a figure has no interval");
	/* none of these figures can be negative, whatever a wide interval says */
	if (stats_ratio_interval(b->value, (struct interval){fmax(b->low, 0), b->high}, a->value,
				 (struct interval){fmax(a->low, 0), a->high}, &i))
		return quantity_of(b->value / a->value, i.low, i.high,
				   "B / A; MOVER-R from both intervals");
	return no_interval(b->value / a->value, "B / A; an interval is too wide to divide by");
}

static void add(struct comparison *c, const char *name, const char *label, const char *unit,
		const struct quantity *a, const struct quantity *b)
{
	if (c->n_figures == COMPARE_MAX_FIGURES)
		return;
	c->figures[c->n_figures++] = (struct compare_figure){
		.name = name, .label = label, .unit = unit, .a = *a, .b = *b, .ratio = ratio(a, b)};
}

/* ---- latencies ---- */

enum mean { MEAN_TTFT, MEAN_E2E, MEAN_ITL };

/* The sum and the count of one request's samples. */
static bool samples(enum mean what, const struct request_record *q, double *ms, double *n)
{
	bool gaps = what == MEAN_ITL;
	int64_t from = gaps ? q->t_first_ns : q->t_scheduled_ns,
		to = what == MEAN_TTFT ? q->t_first_ns : q->t_last_ns;

	if (!from || !to || (gaps && q->output_tokens < 2))
		return false;
	*ms = (double)(to - from) / 1e6;
	*n = gaps ? (double)(q->output_tokens - 1) : 1;
	return true;
}

/* The slice of the window in which a request stands: by its schedule, offline by its end. */
static size_t slice_of(const struct run_record *r, const struct request_record *q)
{
	double at = (double)((r->server.arrivals ? q->t_scheduled_ns : q->t_last_ns) -
			     r->window_start_ns);

	return (size_t)fmin(fmax(at * GROUPS / (double)(r->window_end_ns - r->window_start_ns), 0),
			    GROUPS - 1);
}

/* A mean whose interval comes from ten slices of the window, as that of a rate does: requests of
 * one batch are alike, so they are no independent samples. */
static struct quantity mean(const struct run_record *r, enum mean what)
{
	double sum[GROUPS] = {0}, count[GROUPS] = {0}, v;
	int filled = 0;
	struct interval i;

	for (size_t k = 0; k < r->n_requests && r->window_end_ns > r->window_start_ns; k++) {
		const struct request_record *q = &r->requests[k];
		double ms, n;

		if (q->uncounted || !compare_answered(q) || !samples(what, q, &ms, &n))
			continue;
		sum[slice_of(r, q)] += ms;
		count[slice_of(r, q)] += n;
	}
	for (int g = 0; g < GROUPS; g++)
		filled += count[g] > 0;
	if (!stats_ratio_jackknife(sum, count, GROUPS, &v, &i))
		return quantity_unknown("no request gave enough tokens");
	if (filled < FILLED_MIN)
		return no_interval(v, "mean; too few slices of the window have answers");
	return quantity_of(v, fmax(fmin(i.low, v), 0), fmax(i.high, v),
			   "mean; spread over 10 slices");
}

static void add_mean(struct comparison *c, const char *name, const char *label, enum mean what,
		     const struct run_record *a, const struct run_record *b)
{
	struct quantity qa = mean(a, what), qb = mean(b, what);

	add(c, name, label, "ms", &qa, &qb);
}

static struct quantity quantile(const struct latency_stats *s, double value)
{
	return s->n ? no_interval(value, "quantile")
		    : quantity_unknown(s->reason[0] ? s->reason : "not measured");
}

static void add_quantiles(struct comparison *c, const char *const names[2],
			  const char *const labels[2], const struct latency_stats *a,
			  const struct latency_stats *b)
{
	const struct quantity qa[2] = {quantile(a, a->p50), quantile(a, a->p99)},
			      qb[2] = {quantile(b, b->p50), quantile(b, b->p99)};

	for (int i = 0; i < 2; i++)
		add(c, names[i], labels[i], "ms", &qa[i], &qb[i]);
}

static void add_latencies(struct comparison *c, const struct compare_run *a,
			  const struct compare_run *b)
{
	static const char *const ttft[2] = {"ttft_p50_ms", "ttft_p99_ms"},
				 *const ttft_l[2] = {"first token p50", "first token p99"},
				 *const itl[2] = {"itl_p50_ms", "itl_p99_ms"},
				 *const itl_l[2] = {"inter-token p50", "inter-token p99"},
				 *const e2e[2] = {"e2e_p50_ms", "e2e_p99_ms"},
				 *const e2e_l[2] = {"end to end p50", "end to end p99"};

	add_mean(c, "ttft_mean_ms", "first token mean", MEAN_TTFT, a->rec, b->rec);
	add_quantiles(c, ttft, ttft_l, &a->sum->ttft_sched, &b->sum->ttft_sched);
	add_mean(c, "itl_mean_ms", "inter-token mean", MEAN_ITL, a->rec, b->rec);
	add_quantiles(c, itl, itl_l, &a->sum->itl, &b->sum->itl);
	add_mean(c, "e2e_mean_ms", "end to end mean", MEAN_E2E, a->rec, b->rec);
	add_quantiles(c, e2e, e2e_l, &a->sum->e2e_sched, &b->sum->e2e_sched);
}

/* ---- energy ---- */

/* Joules of other domains are no measure of each other. */
static void add_energy(struct comparison *c, const struct summary *a, const struct summary *b)
{
	bool both = a->j_per_output_token.known && b->j_per_output_token.known;
	size_t first = c->n_figures;

	add(c, "j_per_output_token", "output token", "J", &a->j_per_output_token,
	    &b->j_per_output_token);
	add(c, "j_per_request", "request", "J", &a->j_per_request, &b->j_per_request);
	if (!both || str_eq(a->energy_scope, b->energy_scope))
		return;
	for (size_t i = first; i < c->n_figures; i++)
		c->figures[i].ratio = quantity_unknown("the energy is that of other domains");
	compare_add(c, "energy_scope", false,
		    "the energy of A is that of %s, of B of %s: it is not compared",
		    a->energy_scope, b->energy_scope);
}

void compare_figures(const struct compare_run *a, const struct compare_run *b, struct comparison *c)
{
	add(c, "output_tokens_per_s", "output", "tokens/s", &a->sum->output_tokens_per_s,
	    &b->sum->output_tokens_per_s);
	add(c, "total_tokens_per_s", "all tokens", "tokens/s", &a->sum->total_tokens_per_s,
	    &b->sum->total_tokens_per_s);
	add(c, "requests_per_s", "requests", "requests/s", &a->sum->requests_per_s,
	    &b->sum->requests_per_s);
	add_latencies(c, a, b);
	add_energy(c, a->sum, b->sum);
}
