#include "run/goodput.h"

#include <math.h>

#include "run/streams.h"
#include "stats/stats.h"

enum { GROUPS = 10 };

static double span_ms(int64_t from_ns, int64_t to_ns)
{
	return from_ns && to_ns ? (double)(to_ns - from_ns) / 1e6 : (double)NAN;
}

struct goodput_times goodput_times(const struct request_record *q)
{
	struct goodput_times t = {.ttft_ms = span_ms(q->t_scheduled_ns, q->t_first_ns),
				  .tpot_ms = NAN,
				  .e2e_ms = span_ms(q->t_scheduled_ns, q->t_last_ns)};

	if (q->output_tokens == 1)
		t.tpot_ms = 0;
	else if (q->output_tokens > 1)
		t.tpot_ms = span_ms(q->t_first_ns, q->t_last_ns) / (double)(q->output_tokens - 1);
	return t;
}

/* What has no time is not known to hold. */
static bool holds(double ms, double limit_ms)
{
	return !slo_is_set(limit_ms) || ms <= limit_ms;
}

unsigned goodput_misses(const struct request_record *q, const struct slo_limits *l)
{
	struct goodput_times t = goodput_times(q);
	unsigned misses = 0;

	if (!request_answered(q))
		return GOODPUT_FAILED;
	if (!holds(t.ttft_ms, l->ttft_ms))
		misses |= GOODPUT_TTFT;
	if (!holds(t.tpot_ms, l->tpot_ms))
		misses |= q->output_tokens > 0 ? GOODPUT_TPOT : GOODPUT_UNTOLD;
	if (!holds(t.e2e_ms, l->e2e_ms))
		misses |= GOODPUT_E2E;
	return misses;
}

/* ---- over all requests ---- */

struct slices {
	double requests[GROUPS], tokens[GROUPS], seconds[GROUPS];
};

/* Work that was issued at once has no arrivals to stand by. */
static int64_t place_ns(const struct run_record *r, const struct request_record *q)
{
	return r->server.arrivals ? q->t_scheduled_ns : q->t_last_ns;
}

static void count_good(const struct run_record *r, const struct request_record *q,
		       struct summary *s, struct slices *x)
{
	double at = (double)(place_ns(r, q) - r->window_start_ns), share = 0;
	size_t g;

	s->slo.good++;
	s->slo.good_output_tokens += q->output_tokens;
	if (s->window_ns > 0)
		share = at / (double)s->window_ns;
	g = (size_t)fmin(fmax(share * GROUPS, 0), GROUPS - 1);
	x->requests[g]++;
	x->tokens[g] += (double)q->output_tokens;
}

static void count_misses(struct slo_summary *s, unsigned misses)
{
	s->failed += (misses & GOODPUT_FAILED) != 0;
	s->untold += (misses & GOODPUT_UNTOLD) != 0;
	s->missed_ttft += (misses & GOODPUT_TTFT) != 0;
	s->missed_tpot += (misses & GOODPUT_TPOT) != 0;
	s->missed_e2e += (misses & GOODPUT_E2E) != 0;
}

static void count(const struct run_record *r, struct summary *s, struct slices *x)
{
	int64_t unsent;

	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];
		unsigned misses = goodput_misses(q, &s->slo.limits);

		if (q->uncounted)
			continue;
		s->slo.judged++;
		count_misses(&s->slo, misses);
		if (!misses)
			count_good(r, q, s, x);
	}
	unsent = MAX(s->requests_asked - s->slo.judged, INT64_C(0));
	s->slo.judged += unsent;
	s->slo.failed += unsent;
}

/* ---- what 99 % stayed within ---- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of `judged` values of which n are known and the rest are endless. */
static double met_by_99(double *ms, size_t n, int64_t judged)
{
	size_t need = (size_t)((judged * 99 + 99) / 100);

	if (!need || need > n)
		return NAN;
	qsort(ms, n, sizeof(*ms), by_value);
	return ms[need - 1];
}

static void find_met(const struct run_record *r, struct slo_summary *s)
{
	_cleanup_free_ double *ttft = lem_calloc(r->n_requests + 1, sizeof(*ttft));
	_cleanup_free_ double *tpot = lem_calloc(r->n_requests + 1, sizeof(*tpot));
	_cleanup_free_ double *e2e = lem_calloc(r->n_requests + 1, sizeof(*e2e));
	size_t n[3] = {0};

	for (size_t i = 0; i < r->n_requests; i++) {
		struct goodput_times t = goodput_times(&r->requests[i]);

		if (r->requests[i].uncounted || !request_answered(&r->requests[i]))
			continue;
		if (!isnan(t.ttft_ms))
			ttft[n[0]++] = t.ttft_ms;
		if (!isnan(t.tpot_ms))
			tpot[n[1]++] = t.tpot_ms;
		if (!isnan(t.e2e_ms))
			e2e[n[2]++] = t.e2e_ms;
	}
	s->met_by_99 = (struct slo_limits){met_by_99(ttft, n[0], s->judged),
					   met_by_99(tpot, n[1], s->judged),
					   met_by_99(e2e, n[2], s->judged)};
}

/* ---- figures ---- */

static struct quantity share(const struct slo_summary *s)
{
	struct interval i;

	if (!s->judged)
		return quantity_unknown("no request was asked for");
	i = stats_wilson((uint64_t)s->good, (uint64_t)s->judged);
	return quantity_of((double)s->good / (double)s->judged, i.low, i.high,
			   "good / judged; Wilson");
}

static struct quantity rate(const double *n, const double *seconds)
{
	struct interval i;
	double v;

	if (!stats_ratio_jackknife(n, seconds, GROUPS, &v, &i))
		return quantity_unknown("nothing was measured");
	return quantity_of(v, fmax(fmin(i.low, v), 0), fmax(i.high, v),
			   "of good requests / window; spread over 10 slices");
}

void goodput(const struct run_record *r, const struct slo_limits *l, struct summary *s)
{
	static const char none[] = "no request was good";
	struct slices x = {0};

	s->slo = (struct slo_summary){.limits = *l};
	for (int g = 0; g < GROUPS; g++)
		x.seconds[g] = (double)s->window_ns / 1e9 / GROUPS;
	count(r, s, &x);
	find_met(r, &s->slo);
	s->slo.share = share(&s->slo);
	s->slo.requests_per_s = rate(x.requests, x.seconds);
	s->slo.output_tokens_per_s = rate(x.tokens, x.seconds);
	s->slo.j_per_request = quantity_per(s->scope_j, (double)s->slo.good, none);
	s->slo.j_per_output_token =
		quantity_per(s->scope_j, (double)s->slo.good_output_tokens, none);
}
