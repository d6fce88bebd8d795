#include "energy/grid.h"

#include <math.h>

/* Steps of the H100's counter lie within 1.4 ms (standard deviation) of their grid. */
#define JITTER_NS (3 * NS_PER_MS)

enum { MIN_STEPS = 3 };

static bool is_tight(const struct bracket *b)
{
	return b->hi_ns - b->lo_ns <= GRID_TIGHT_NS;
}

static double middle(const struct bracket *b)
{
	return (double)b->lo_ns + (double)(b->hi_ns - b->lo_ns) / 2;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
	qsort(v, n, sizeof(*v), compare_double);
	return v[n / 2];
}

/* The distance of neighbouring steps: where polling was dense enough that none was missed. */
static double first_period(const struct bracket *b, size_t n)
{
	_cleanup_free_ double *gaps = lem_calloc(n + 1, sizeof(*gaps));
	size_t k = 0;

	for (size_t i = 1; i < n; i++)
		if (b[i].adjacent && is_tight(&b[i]) && is_tight(&b[i - 1]))
			gaps[k++] = middle(&b[i]) - middle(&b[i - 1]);
	return k ? median(gaps, k) : 0;
}

struct fit { /* least squares of t = t0 + k × period */
	double n, k, t, kk, kt;
};

static void fit_add(struct fit *f, double k, double t)
{
	f->n++;
	f->k += k;
	f->t += t;
	f->kk += k * k;
	f->kt += k * t;
}

static bool fit_solve(const struct fit *f, double base_ns, struct grid *g)
{
	double det = f->n * f->kk - f->k * f->k;

	if (f->n < MIN_STEPS || !(det > 0))
		return false;
	g->period_ns = (f->n * f->kt - f->k * f->t) / det;
	g->t0_ns = base_ns + (f->t - g->period_ns * f->k) / f->n;
	g->spread_ns = g->period_ns * sqrt(det / f->n);
	return g->period_ns > 0;
}

/* Numbers the steps one after the other; the period sharpens as the lever grows. */
static bool number_steps(const struct bracket *b, size_t n, double period_ns, struct fit *f,
			 double *base_ns)
{
	double first = 0, last = 0, k = 0;

	for (size_t i = 0; i < n; i++) {
		double t, steps;

		if (!is_tight(&b[i]))
			continue;
		t = middle(&b[i]);
		if (f->n == 0) {
			*base_ns = first = last = t;
			fit_add(f, 0, 0);
			continue;
		}
		steps = round((t - last) / period_ns);
		if (steps < 1 || fabs(t - last - steps * period_ns) > period_ns / 3)
			return false; /* no grid, or its phase has jumped */
		k += steps;
		last = t;
		period_ns = (t - first) / k;
		fit_add(f, k, t - first);
	}
	return true;
}

/*
 * Moves the grid to where the brackets agree. Of each side the tenth that is strictest is left out:
 * a step that came early or late by chance must not rule out the phase of all others.
 */
static void tighten(const struct bracket *b, size_t n, struct grid *g)
{
	_cleanup_free_ double *lo = lem_calloc(n + 1, sizeof(*lo)),
			      *hi = lem_calloc(n + 1, sizeof(*hi));
	size_t k = 0;
	double from, to;

	for (size_t i = 0; i < n; i++) {
		double step;

		if (!is_tight(&b[i]))
			continue;
		step = g->t0_ns + round((middle(&b[i]) - g->t0_ns) / g->period_ns) * g->period_ns;
		lo[k] = (double)b[i].lo_ns - step;
		hi[k++] = (double)b[i].hi_ns - step;
	}
	qsort(lo, k, sizeof(*lo), compare_double);
	qsort(hi, k, sizeof(*hi), compare_double);
	from = lo[k - 1 - k / 10];
	to = hi[k / 10];
	g->t0_ns += (from + to) / 2;
	/* The brackets' errors are not independent (all reads follow one estimate): twice the
	 * slope's. */
	g->tilt = 4 * (to > from ? (to - from) / 2 + (double)JITTER_NS : (double)JITTER_NS) /
		  g->spread_ns;
	g->half_ns = (int64_t)(fabs(to - from) / 2) + JITTER_NS;
}

static double worst_residual_ns(const struct bracket *b, size_t n, const struct grid *g)
{
	double worst = 0;

	for (size_t i = 0; i < n; i++) {
		double off = (middle(&b[i]) - g->t0_ns) / g->period_ns;

		if (is_tight(&b[i]))
			worst = fmax(worst, fabs(off - round(off)) * g->period_ns);
	}
	return worst;
}

struct grid grid_fit(const struct bracket *b, size_t n)
{
	struct grid g = {0};
	struct fit f = {0};
	double period_ns = first_period(b, n), base_ns = 0;

	if (!(period_ns > 2.0 * (double)JITTER_NS) ||
	    !number_steps(b, n, period_ns, &f, &base_ns) || !fit_solve(&f, base_ns, &g) ||
	    worst_residual_ns(b, n, &g) > g.period_ns / 4)
		return (struct grid){0};
	tighten(b, n, &g);
	g.known = true;
	return g;
}

int64_t grid_floor(const struct grid *g, int64_t t_ns)
{
	return (int64_t)floor(((double)t_ns - g->t0_ns) / g->period_ns);
}

int64_t grid_time_ns(const struct grid *g, int64_t k)
{
	return (int64_t)(g->t0_ns + (double)k * g->period_ns);
}
