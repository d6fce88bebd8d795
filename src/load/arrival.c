#include "load/arrival.h"

#include <math.h>

#include "base/rand.h"

#define NS 1e9

/* A year; beyond it a schedule is a mistake, and its ns no longer fit 53 bits. */
#define LATEST_NS (366 * 86400 * NS)

const char *arrival_kind_name(enum arrival_kind k)
{
	static const char *const names[] = {"constant", "poisson", "gamma", "trace"};

	return (size_t)k < ARRAY_LEN(names) ? names[k] : "unknown";
}

/* Marsaglia and Tsang, "A simple method for generating gamma variables" (2000); shape ≥ 1. */
static double gamma_above_1(struct rand *r, double shape)
{
	double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);

	for (;;) {
		double x = rand_normal(r), v = 1 + c * x;

		if (v <= 0)
			continue;
		v = v * v * v;
		if (log1p(-rand_f64(r)) < 0.5 * x * x + d - d * v + d * log(v))
			return d * v;
	}
}

/* A gap of mean 1; below shape 1 by the boost of the same paper. */
static double gamma_gap(struct rand *r, double shape)
{
	if (shape >= 1)
		return gamma_above_1(r, shape) / shape;
	return gamma_above_1(r, shape + 1) * pow(1 - rand_f64(r), 1 / shape) / shape;
}

/* When the expected count reaches u: the inverse of ∫ rate. */
static double reach_ns(const struct arrival_spec *s, double u)
{
	double a = s->rate_hz, b = s->ramp_to_hz, t = s->ramp_ns / NS, whole = (a + b) / 2 * t;

	if (s->ramp_ns <= 0)
		return u / a * NS;
	if (u <= 0)
		return 0;
	if (u >= whole)
		return (t + (u - whole) / b) * NS;
	/* of at + (b − a)t²/2T = u, the root that does not cancel */
	return 2 * u / (a + sqrt(MAX(a * a + 2 * (b - a) * u / t, 0.0))) * NS;
}

static void from_process(const struct arrival_spec *s, double *at_ns, size_t n)
{
	struct rand r;
	double u = 0;

	rand_seed(&r, s->seed);
	for (size_t k = 0; k < n; k++) {
		if (s->kind == ARRIVAL_CONSTANT)
			u = (double)k;
		else if (s->kind == ARRIVAL_POISSON)
			u += rand_exp(&r);
		else
			u += gamma_gap(&r, s->burstiness);
		at_ns[k] = reach_ns(s, u);
	}
}

static void from_trace(const struct arrival_spec *s, double *at_ns, size_t n)
{
	size_t m = s->n_trace;
	double span = s->trace_ns[m - 1] - s->trace_ns[0];
	double period = m > 1 ? span + span / (double)(m - 1) : 0;

	for (size_t k = 0; k < n; k++)
		at_ns[k] = (s->trace_ns[k % m] - s->trace_ns[0] + (double)(k / m) * period) *
			   s->trace_scale;
}

static bool above_0(double x)
{
	return isfinite(x) && x > 0;
}

static int check_trace(const struct arrival_spec *s, struct lem_error *err)
{
	if (!s->n_trace)
		return lem_fail(err, LEM_E_USAGE, "the trace has no arrivals");
	if (!above_0(s->trace_scale))
		return lem_fail(err, LEM_E_USAGE, "the trace's scale is %g, it must be above 0",
				s->trace_scale);
	for (size_t k = 0; k < s->n_trace; k++)
		if (!isfinite(s->trace_ns[k]) || (k && s->trace_ns[k] < s->trace_ns[k - 1]))
			return lem_fail(err, LEM_E_USAGE,
					"arrival %zu of the trace is before the one ahead of it",
					k);
	return 0;
}

static int check(const struct arrival_spec *s, struct lem_error *err)
{
	bool ramp = s->ramp_ns != 0;

	if (s->kind == ARRIVAL_TRACE)
		return check_trace(s, err);
	if (!(above_0(s->rate_hz) || (ramp && s->rate_hz == 0)))
		return lem_fail(err, LEM_E_USAGE, "the arrival rate is %g /s, it must be above 0",
				s->rate_hz);
	if (ramp && (!above_0(s->ramp_ns) || !above_0(s->ramp_to_hz)))
		return lem_fail(err, LEM_E_USAGE, "a ramp to %g /s over %g s: both must be above 0",
				s->ramp_to_hz, s->ramp_ns / NS);
	if (s->kind == ARRIVAL_GAMMA && !above_0(s->burstiness))
		return lem_fail(err, LEM_E_USAGE, "the burstiness is %g, it must be above 0",
				s->burstiness);
	return 0;
}

int arrival_schedule(const struct arrival_spec *s, double *at_ns, size_t n, struct lem_error *err)
{
	int r = check(s, err);

	if (r < 0)
		return r;
	if (s->kind == ARRIVAL_TRACE)
		from_trace(s, at_ns, n);
	else
		from_process(s, at_ns, n);
	if (n && !(at_ns[n - 1] < LATEST_NS))
		return lem_fail(err, LEM_E_USAGE, "the last of %zu arrivals would be %g s away", n,
				at_ns[n - 1] / NS);
	return 0;
}
