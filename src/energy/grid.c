#include "energy/grid.h"

#include "energy/period.h"

#include <math.h>

/* Steps of the H100's counter lie within 1.4 ms (standard deviation) of their grid. */
#define JITTER_NS (3 * NS_PER_MS)

enum { MIN_STEPS = 3, FIRST_ALL = 32, FIT_MAX = 256 };

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

/* The middles of the tight brackets, ascending; the first ones all, of the rest at most FIT_MAX. */
static size_t take_middles(const struct bracket *b, size_t n, double *out)
{
	size_t tight = 0, seen = 0, k = 0, stride;

	for (size_t i = 0; i < n; i++)
		tight += is_tight(&b[i]);
	stride = tight / FIT_MAX + 1;
	for (size_t i = 0; i < n; i++) {
		if (!is_tight(&b[i]))
			continue;
		if (seen < FIRST_ALL || seen % stride == 0)
			out[k++] = middle(&b[i]);
		seen++;
	}
	return k;
}

/* Least squares of t = t0 + k × period, k counted by the period found. */
static bool fit_line(const double *t_ns, size_t n, double period_ns, struct grid *g)
{
	double sk = 0, st = 0, skk = 0, skt = 0, det;

	for (size_t i = 0; i < n; i++) {
		double t = t_ns[i] - t_ns[0], k = round(t / period_ns);

		sk += k;
		st += t;
		skk += k * k;
		skt += k * t;
	}
	det = (double)n * skk - sk * sk;
	if (n < MIN_STEPS || !(det > 0))
		return false;
	g->period_ns = ((double)n * skt - sk * st) / det;
	g->t0_ns = t_ns[0] + (st - g->period_ns * sk) / (double)n;
	g->spread_ns = g->period_ns * sqrt(det / (double)n);
	return g->period_ns > 0;
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

struct grid grid_fit(const struct bracket *b, size_t n)
{
	_cleanup_free_ double *t_ns = lem_calloc(n + 1, sizeof(*t_ns));
	size_t k = take_middles(b, n, t_ns);
	double period_ns = first_period(b, n);
	struct grid g = {0};

	if (period_ns > 2.0 * (double)JITTER_NS)
		period_ns = period_find(t_ns, k, period_ns);
	if (!(period_ns > 0) || !fit_line(t_ns, k, period_ns, &g))
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
