#include "energy/uncertainty.h"

#include <math.h>

/* A step at t holds the energy up to about t - 5 ms on H100; other devices were not probed. */
#define DELAY_NS (10.0 * NS_PER_MS)
/* What the grid leaves to each step alone: 1.4 ms standard deviation. */
#define JITTER_NS (3.0 * NS_PER_MS)

#define RING_SAMPLE_NS (20.0 * NS_PER_MS)

/* W × ns = nJ */
static double uj(double watts, double ns)
{
	return watts * ns / 1e3;
}

double uncertainty_within_step(double f, double step_ns, double mean_w, double low_w, double high_w)
{
	double even = f * mean_w;
	double most = fmin(f * high_w, mean_w - (1 - f) * low_w);
	double least = fmax(f * low_w, mean_w - (1 - f) * high_w);

	return uj(fmax(0, fmax(most - even, even - least)), step_ns);
}

double uncertainty_of_ring(double lag_half_ns, double low_w, double high_w)
{
	/* Power may change anywhere inside a sample: at worst in its middle, a quarter of it is
	 * smeared. */
	return uj(high_w - low_w, lag_half_ns + RING_SAMPLE_NS / 4);
}

/* What of an edge's timing error is its own, µJ. */
static double alone_uj(const struct edge *x, const struct edges *e)
{
	double own_ns = e->grid ? fmax(JITTER_NS, x->half_ns - (double)e->common_ns) : x->half_ns;

	return uj(x->high_w, own_ns);
}

double uncertainty_between(const struct edge *a, const struct edge *b, const struct edges *e)
{
	double difference_w = fmax(fabs(a->high_w - b->low_w), fabs(b->high_w - a->low_w));
	double common_ns = (e->stepping ? DELAY_NS : 0) + (e->grid ? (double)e->common_ns : 0);

	/* A window that begins and ends with the load is cut short inside the steps at both edges
	 * alike: these do not cancel by chance. */
	return uj(difference_w, common_ns) + fabs(b->uj - a->uj) * e->tilt + a->within_uj +
	       b->within_uj + hypot(alone_uj(a, e), alone_uj(b, e));
}

struct quantity uncertainty_sum(const struct quantity *q, size_t n, const char *method)
{
	double value = 0, below = 0, above = 0;

	for (size_t i = 0; i < n; i++) {
		if (!q[i].known)
			return q[i];
		value += q[i].value;
		below += (q[i].value - q[i].low) * (q[i].value - q[i].low);
		above += (q[i].high - q[i].value) * (q[i].high - q[i].value);
	}
	if (n == 0)
		return quantity_unknown("nothing to sum");
	return quantity_of(value, value - sqrt(below), value + sqrt(above), method);
}
