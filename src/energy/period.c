#include "energy/period.h"

#include <math.h>

/*
 * A long span tells periods finely apart, but then thousands of them have to be tried and
 * neighbouring peaks look alike. So the span grows by doubling, and each stage tries only around
 * the best few of the stage before.
 */
enum { BEAM = 8, TRIES = 4 };

#define FIRST_SPAN_NS (2.0 * NS_PER_S)
#define STRETCH_MAX   100.0 /* a longer pause between moments ends the search's hopes */
#define WIDTH         0.15
#define FINENESS      16.0 /* steps of the search shift the far end by this part of a period */
#define CLEAR         0.8  /* moments known to +- 15 of 100 ms still reach 0.85 */

struct candidate {
	double period_ns, score;
};

struct beam {
	struct candidate at[BEAM];
	size_t n;
};

double period_concentration(const double *t_ns, size_t n, double period_ns)
{
	double x = 0, y = 0;

	for (size_t i = 0; i < n; i++) {
		double angle = 2 * M_PI * (t_ns[i] - t_ns[0]) / period_ns;

		x += cos(angle);
		y += sin(angle);
	}
	return n ? hypot(x, y) / (double)n : 0;
}

/* Keeps the best ones; of two that are nearer than apart_ns the better. */
static void offer(struct beam *b, struct candidate c, double apart_ns)
{
	size_t at = b->n, worst = 0;

	for (size_t i = 0; i < b->n; i++) {
		if (fabs(b->at[i].period_ns - c.period_ns) < apart_ns)
			at = i;
		if (b->at[i].score < b->at[worst].score)
			worst = i;
	}
	if (at == b->n && b->n == BEAM)
		at = worst;
	if (at == b->n)
		b->at[b->n++] = c;
	else if (c.score > b->at[at].score)
		b->at[at] = c;
}

static size_t within(const double *t_ns, size_t n, double span_ns)
{
	size_t k = 0;

	while (k < n && t_ns[k] - t_ns[0] <= span_ns)
		k++;
	return k;
}

static void try_around(const double *t_ns, size_t n, double middle_ns, double step_ns, int tries,
		       struct beam *b)
{
	for (int i = -tries; i <= tries; i++) {
		double period_ns = middle_ns + i * step_ns;

		offer(b, (struct candidate){period_ns, period_concentration(t_ns, n, period_ns)},
		      2.5 * step_ns);
	}
}

double period_find(const double *t_ns, size_t n, double about_ns)
{
	size_t k = within(t_ns, n, FIRST_SPAN_NS);
	double span_ns = k ? t_ns[k - 1] - t_ns[0] : 0;
	double step_ns = about_ns * about_ns / (FINENESS * span_ns);
	struct beam beam = {0};
	struct candidate best = {0};

	if (k < 3 || !(span_ns > about_ns))
		return 0;
	try_around(t_ns, k, about_ns, step_ns, (int)(WIDTH * about_ns / step_ns) + 1, &beam);
	while (k < n) {
		double before_ns = span_ns, stretch;
		struct beam next = {0};

		k = MAX(k + 1, within(t_ns, n, 2 * span_ns));
		span_ns = t_ns[k - 1] - t_ns[0];
		stretch = fmin(span_ns / before_ns, STRETCH_MAX);
		step_ns = about_ns * about_ns / (FINENESS * span_ns);
		for (size_t i = 0; i < beam.n; i++)
			try_around(t_ns, k, beam.at[i].period_ns, step_ns,
				   (int)(TRIES * stretch) + 1, &next);
		beam = next;
	}
	for (size_t i = 0; i < beam.n; i++)
		if (beam.at[i].score > best.score)
			best = beam.at[i];
	return best.score > CLEAR ? best.period_ns : 0;
}
