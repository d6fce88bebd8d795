#include "energy/integrate.h"

#include <math.h>

#include "energy/edges.h"
#include "energy/ring.h"
#include "energy/uncertainty.h"

/* Power seen this far from an edge bounds what may have happened inside the edge's step. */
#define LEVELS_NS (250 * NS_PER_MS)
/* Steps on either side whose mean power counts as well. */
enum { LEVEL_SEGMENTS = 2 };
/* How far past the last step an edge may lie. */
#define BEYOND_STEPS 2.5

/* The 1 s average misplaces half a second of the change of power at an edge (energy.md 2). */
#define AVERAGE_LAG_NS  (500.0 * NS_PER_MS)
#define AVERAGE_SPAN_NS (1500 * NS_PER_MS)
/* What aliasing may add where the field is not an average at all (A100: 25 of 100 ms, energy.md 3).
 */
#define AVERAGE_SHARE 0.05
#define POWER_GAP_NS  (2 * NS_PER_S)

static double segment_w(const struct edges *e, size_t i)
{
	const struct knot *a = &e->knots[i], *b = &e->knots[i + 1];

	return (double)(b->value - a->value) * 1e3 / (double)(b->t_ns - a->t_ns);
}

/* Index of the first entry that ended at or after t. */
static size_t first_at(const struct series *s, int64_t t_ns)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->t_end_ns[mid] < t_ns)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void widen(struct edge *x, double watts)
{
	x->low_w = fmin(x->low_w, watts);
	x->high_w = fmax(x->high_w, watts);
}

/* The samples around the edge and within its whole step: power may have changed anywhere in it. */
static void see_samples(struct edge *x, const struct edges *e, size_t segment,
			const struct series *levels, int64_t t_ns)
{
	int64_t from_ns = MIN(t_ns - LEVELS_NS, e->knots[segment].t_ns);
	int64_t to_ns = MAX(t_ns + LEVELS_NS, e->knots[segment + 1].t_ns);

	for (size_t i = levels ? first_at(levels, from_ns) : 0;
	     levels && i < levels->n && levels->t_end_ns[i] <= to_ns; i++)
		if (levels->ok[i])
			widen(x, (double)levels->value[i] / 1e3);
}

/* The mean powers of the steps around the edge; far ones say nothing about it. */
static void see_segments(struct edge *x, const struct edges *e, size_t segment, int64_t t_ns)
{
	size_t from = segment > LEVEL_SEGMENTS ? segment - LEVEL_SEGMENTS : 0;
	size_t to = MIN(segment + LEVEL_SEGMENTS, e->n - 2);

	for (size_t i = from; i <= to; i++)
		if (i == segment || (e->knots[i].t_ns <= t_ns + LEVELS_NS &&
				     e->knots[i + 1].t_ns >= t_ns - LEVELS_NS))
			widen(x, segment_w(e, i));
}

static void interpolate(const struct edges *e, size_t segment, const struct ring *ring,
			int64_t t_ns, struct edge *x)
{
	const struct knot *a = &e->knots[segment], *b = &e->knots[segment + 1];
	double step_ns = (double)(b->t_ns - a->t_ns), total = (double)(b->value - a->value);
	double f = (double)(t_ns - a->t_ns) / step_ns, share; /* f beyond [0, 1]: extrapolated */

	x->uj = (double)a->value + f * total;
	if (f < 0 || f > 1) { /* nothing bounds it from the other side */
		x->within_uj =
			(f < 0 ? -f : f - 1) * step_ns * (x->high_w - MIN(x->low_w, 0.0)) / 1e3;
		return;
	}
	x->within_uj = uncertainty_within_step(f, step_ns, x->power_w, x->low_w, x->high_w);
	if (ring_share(ring, a->t_ns, t_ns, b->t_ns, &share)) {
		x->uj = (double)a->value + share * total;
		x->within_uj = MIN(x->within_uj, uncertainty_of_ring((double)ring->lag_half_ns,
								     x->low_w, x->high_w));
	}
}

static void at_edge(const struct edges *e, const struct series *levels, const struct ring *ring,
		    int64_t t_ns, struct edge *x)
{
	size_t i = edges_segment(e, t_ns);

	*x = (struct edge){.power_w = segment_w(e, i)};
	x->low_w = x->high_w = x->power_w;
	see_segments(x, e, i, t_ns);
	see_samples(x, e, i, levels, t_ns);
	x->half_ns = (double)MAX(e->knots[i].half_ns, e->knots[i + 1].half_ns);
	interpolate(e, i, ring, t_ns, x);
}

/* Nothing that is on draws nothing: a counter that never moved is none. */
static bool stands_still(const struct edges *e)
{
	return e->knots[e->n - 1].value == e->knots[0].value;
}

static bool reaches(const struct edges *e, int64_t t0_ns, int64_t t1_ns, char *why, size_t size)
{
	int64_t beyond_ns = (int64_t)(BEYOND_STEPS * e->period_ns);
	int64_t first = e->knots[0].t_ns, last = e->knots[e->n - 1].t_ns;

	if (!e->stepping)
		beyond_ns = 0; /* continuous: the reads themselves are the knots */
	if (t0_ns < first - beyond_ns)
		(void)snprintf(why, size, "readings begin %.2f s after the window's start",
			       (double)(first - t0_ns) / 1e9);
	else if (t1_ns > last + beyond_ns)
		(void)snprintf(why, size, "readings end %.2f s before the window's end",
			       (double)(t1_ns - last) / 1e9);
	else
		return true;
	return false;
}

struct quantity integrate_counter(const struct series *counter, const struct series *levels,
				  int64_t t0_ns, int64_t t1_ns)
{
	_cleanup_edges_ struct edges e = {0};
	struct quantity q = quantity_unknown("the energy counter was read less than twice");
	_cleanup_ring_ struct ring ring = {0};
	struct edge a, b;
	double j, half_j;

	if (t1_ns <= t0_ns)
		return quantity_unknown("the window is empty");
	if (!edges_find(counter, &e))
		return q;
	if (counter->signal == SIGNAL_ENERGY_COUNTER_UJ && stands_still(&e))
		return quantity_unknown("the energy counter stands still");
	if (!reaches(&e, t0_ns, t1_ns, q.reason, sizeof(q.reason)))
		return q;
	if (levels && levels->signal == SIGNAL_POWER_RING_MW)
		ring_align(levels, &e, t0_ns - INTEGRATE_ALIGN_NS, t1_ns + INTEGRATE_ALIGN_NS,
			   &ring);
	at_edge(&e, levels, &ring, t0_ns, &a);
	at_edge(&e, levels, &ring, t1_ns, &b);
	j = (b.uj - a.uj) / 1e6;
	half_j = uncertainty_between(&a, &b, &e) / 1e6;
	return quantity_of(j, j - half_j, j + half_j,
			   ring.aligned ? "counter, interpolated by the sample ring"
					: "counter, interpolated");
}

/* Half of the swing of power around t, W. */
static double swing_w(const struct series *s, int64_t t_ns)
{
	double low = INFINITY, high = -INFINITY;

	for (size_t i = first_at(s, t_ns - AVERAGE_SPAN_NS);
	     i < s->n && s->t_end_ns[i] <= t_ns + AVERAGE_SPAN_NS; i++) {
		if (!s->ok[i])
			continue;
		low = fmin(low, (double)s->value[i] / 1e3);
		high = fmax(high, (double)s->value[i] / 1e3);
	}
	return high > low ? high - low : 0;
}

struct quantity integrate_power(const struct series *power, int64_t t0_ns, int64_t t1_ns)
{
	double nj = 0, half_j, j;
	int64_t last_t = 0, covered_ns = 0;
	int64_t last_mw = 0;
	bool has_last = false;

	for (size_t i = 0; i < power->n; i++) {
		int64_t t = power->t_begin_ns[i] + (power->t_end_ns[i] - power->t_begin_ns[i]) / 2;
		int64_t a = MAX(last_t, t0_ns), b = MIN(t, t1_ns);

		if (!power->ok[i])
			continue;
		if (has_last && b > a && t - last_t <= POWER_GAP_NS) {
			/* Trapezoid, cut to the window. */
			double slope = (double)(power->value[i] - last_mw) / (double)(t - last_t);
			double mid = (double)last_mw +
				     slope * ((double)(a - last_t) + (double)(b - last_t)) / 2;

			nj += mid / 1e3 * (double)(b - a);
			covered_ns += b - a;
		}
		has_last = true;
		last_t = t;
		last_mw = power->value[i];
	}
	if (t1_ns <= t0_ns || covered_ns < t1_ns - t0_ns - NS_PER_MS)
		return quantity_unknown("power readings do not cover the window");
	j = nj / 1e9;
	half_j = (swing_w(power, t0_ns) + swing_w(power, t1_ns)) * AVERAGE_LAG_NS / 1e9 +
		 AVERAGE_SHARE * fabs(j);
	return quantity_of(j, j - half_j, j + half_j,
			   "average power, integrated (no energy counter)");
}
