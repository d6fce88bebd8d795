#include "energy/ring.h"

#include <math.h>

/* Entries are 16.5 to 23.6 ms apart; a larger distance is a hole. */
#define HOLE_NS (60 * NS_PER_MS)
/* Lags tried. About 20 ms was seen on H100 (traces/h100-llm). */
#define LAG_FROM_NS (-60 * NS_PER_MS)
#define LAG_TO_NS   (100 * NS_PER_MS)
#define LAG_STEP_NS (4 * NS_PER_MS)

enum { MIN_STEPS = 8, MAX_STEPS = 2000 };

/* The misfit at the right lag must be this much smaller than at the worst for the lag to mean
 * anything, and lags within this factor of the best are as good as it. */
#define CLEARLY_BETTER 4.0
#define AS_GOOD        1.5

static void take_samples(const struct series *s, int64_t t0_ns, int64_t t1_ns, struct ring *r)
{
	r->t_ns = lem_calloc(s->n + 1, sizeof(*r->t_ns));
	r->uj = lem_calloc(s->n + 1, sizeof(*r->uj));
	for (size_t i = 0; i < s->n; i++) {
		int64_t t = s->t_end_ns[i];
		double before = r->n ? r->uj[r->n - 1] : 0, dt;

		if (!s->ok[i] || t < t0_ns || t > t1_ns || (r->n && t <= r->t_ns[r->n - 1]))
			continue;
		dt = r->n ? (double)(t - r->t_ns[r->n - 1]) : 0;
		r->t_ns[r->n] = t;
		r->uj[r->n++] = before + (double)s->value[i] * dt / 1e6; /* mW × ns = 1e-6 µJ */
	}
}

/* Energy up to t in the ring's own time; false outside and in a hole. */
static bool energy_at(const struct ring *r, int64_t t_ns, double *ret)
{
	size_t lo = 0, hi = r->n;

	while (lo < hi) { /* first stamp at or after t */
		size_t mid = lo + (hi - lo) / 2;

		if (r->t_ns[mid] < t_ns)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0 || lo == r->n || r->t_ns[lo] - r->t_ns[lo - 1] > HOLE_NS)
		return false;
	*ret = r->uj[lo - 1] + (r->uj[lo] - r->uj[lo - 1]) * (double)(t_ns - r->t_ns[lo - 1]) /
				       (double)(r->t_ns[lo] - r->t_ns[lo - 1]);
	return true;
}

struct misfit {
	double counter, ring; /* totals, µJ */
	double cc, cr, rr;    /* sums of products of the two, step by step */
	size_t n;
};

static struct misfit misfit_at(const struct ring *r, const struct edges *e, size_t from, size_t to,
			       int64_t lag_ns)
{
	struct misfit m = {0};
	double before = 0, after;
	bool has_before = false;

	for (size_t i = from; i <= to; i++) {
		bool has = energy_at(r, e->knots[i].t_ns + lag_ns, &after);

		if (has && has_before && i > from) {
			double c = (double)(e->knots[i].value - e->knots[i - 1].value),
			       d = after - before;

			m.counter += c;
			m.ring += d;
			m.cc += c * c;
			m.cr += c * d;
			m.rr += d * d;
			m.n++;
		}
		has_before = has;
		before = after;
	}
	return m;
}

/* Sum of squares of counter minus ring after the ring has been scaled to the counter's total. */
static double residual(const struct misfit *m)
{
	double gain = m->ring > 0 ? m->counter / m->ring : 1;

	return fmax(0, m->cc - 2 * gain * m->cr + gain * gain * m->rr);
}

static void find_lag(struct ring *r, const struct edges *e, size_t from, size_t to)
{
	enum { TRIES = (LAG_TO_NS - LAG_FROM_NS) / LAG_STEP_NS + 1 };
	double misfit[TRIES], best = INFINITY, worst = 0;
	int at = 0, first, last;

	for (int i = 0; i < TRIES; i++) {
		struct misfit m = misfit_at(r, e, from, to, LAG_FROM_NS + i * LAG_STEP_NS);

		if (m.n < MIN_STEPS)
			return;
		misfit[i] = residual(&m) / (double)m.n;
		worst = fmax(worst, misfit[i]);
		if (misfit[i] < best) {
			best = misfit[i];
			at = i;
		}
	}
	if (at == 0 || at == TRIES - 1 || worst < CLEARLY_BETTER * best)
		return;
	for (first = at; first > 0 && misfit[first - 1] < AS_GOOD * best; first--)
		;
	for (last = at; last < TRIES - 1 && misfit[last + 1] < AS_GOOD * best; last++)
		;
	r->aligned = true;
	r->lag_ns = LAG_FROM_NS + (first + last) * LAG_STEP_NS / 2;
	r->lag_half_ns = MAX((last - first) * LAG_STEP_NS / 2, LAG_STEP_NS);
}

void ring_align(const struct series *samples, const struct edges *e, int64_t t0_ns, int64_t t1_ns,
		struct ring *ret)
{
	size_t from = edges_segment(e, t0_ns), to = edges_segment(e, t1_ns);

	*ret = (struct ring){0};
	take_samples(samples, t0_ns, t1_ns, ret);
	if (ret->n > 1 && to > from)
		find_lag(ret, e, from, MIN(to, from + MAX_STEPS));
}

void ring_release(struct ring *r)
{
	free(r->t_ns);
	free(r->uj);
	*r = (struct ring){0};
}

bool ring_share(const struct ring *r, int64_t a_ns, int64_t t_ns, int64_t b_ns, double *ret)
{
	double a, t, b;

	if (!r->aligned || !energy_at(r, a_ns + r->lag_ns, &a) ||
	    !energy_at(r, t_ns + r->lag_ns, &t) || !energy_at(r, b_ns + r->lag_ns, &b) || !(b > a))
		return false;
	*ret = (t - a) / (b - a);
	return true;
}
