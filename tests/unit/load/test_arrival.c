#include "load/arrival.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

enum { N = 200000 };

static double at[N], again[N];

/* Mean and coefficient of variation of the gaps. */
static void gaps(const double *t, size_t n, double *ret_mean, double *ret_cv)
{
	double sum = 0, square = 0;

	for (size_t k = 1; k < n; k++)
		sum += t[k] - t[k - 1];
	*ret_mean = sum / (double)(n - 1);
	for (size_t k = 1; k < n; k++)
		square += pow(t[k] - t[k - 1] - *ret_mean, 2);
	*ret_cv = sqrt(square / (double)(n - 1)) / *ret_mean;
}

static void draw(const struct arrival_spec *s, double *t, size_t n)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (arrival_schedule(s, t, n, &err) < 0)
		fail_msg("%s", err.what);
	for (size_t k = 1; k < n; k++)
		if (t[k] < t[k - 1])
			fail_msg("arrival %zu is before the one ahead of it", k);
	assert_true(t[0] >= 0);
}

/* 200 000 gaps: the mean is known to cv/447, the coefficient of variation to about 1 % for cv ≤ 1.
 */
static void expect_gaps(const struct arrival_spec *s, double cv)
{
	double mean, got;

	draw(s, at, N);
	gaps(at, N, &mean, &got);
	if (fabs(mean * s->rate_hz / 1e9 - 1) > 5 * cv / 447 + 1e-9)
		fail_msg("rate %g: mean gap %g ns", s->rate_hz, mean);
	if (fabs(got - cv) > 0.03 * cv + 1e-6)
		fail_msg("%s: coefficient of variation %g, expected %g", arrival_kind_name(s->kind),
			 got, cv);
}

static void test_mean_and_spread(void **state)
{
	static const double shapes[] = {0.25, 0.5, 1, 2, 4, 100};

	(void)state;
	for (uint64_t seed = 1; seed < 4; seed++) {
		expect_gaps(&(struct arrival_spec){.kind = ARRIVAL_POISSON,
						   .rate_hz = 40,
						   .seed = seed},
			    1);
		for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
			expect_gaps(&(struct arrival_spec){.kind = ARRIVAL_GAMMA,
							   .rate_hz = 0.5,
							   .burstiness = shapes[i],
							   .seed = seed},
				    1 / sqrt(shapes[i]));
	}
	expect_gaps(&(struct arrival_spec){.kind = ARRIVAL_CONSTANT, .rate_hz = 1e4}, 0);
}

static void test_constant_does_not_drift(void **state)
{
	(void)state;
	draw(&(struct arrival_spec){.kind = ARRIVAL_CONSTANT, .rate_hz = 3}, at, N);
	assert_true(at[0] == 0);
	for (size_t k = 0; k < N; k += 997)
		assert_true(fabs(at[k] - (double)k / 3 * 1e9) < 1);
}

static void test_same_seed_same_schedule(void **state)
{
	struct arrival_spec s = {
		.kind = ARRIVAL_GAMMA, .rate_hz = 7, .burstiness = 0.3, .seed = 42};

	(void)state;
	draw(&s, at, 5000);
	draw(&s, again, 5000);
	assert_memory_equal(at, again, 5000 * sizeof(*at));
	/* a longer schedule begins with the shorter one */
	draw(&s, again, 6000);
	assert_memory_equal(at, again, 5000 * sizeof(*at));
	s.seed = 43;
	draw(&s, again, 5000);
	assert_true(memcmp(at, again, 5000 * sizeof(*at)) != 0);
}

static size_t count_until(const double *t, size_t n, double t_ns)
{
	size_t k = 0;

	while (k < n && t[k] < t_ns)
		k++;
	return k;
}

/* The expected count by time t is the integral of the rate. */
static void expect_ramp(enum arrival_kind kind, double from, double to)
{
	const struct arrival_spec s = {.kind = kind,
				       .rate_hz = from,
				       .ramp_ns = 100e9,
				       .ramp_to_hz = to,
				       .burstiness = 1,
				       .seed = 5};

	draw(&s, at, N);
	for (double t = 10; t <= 130; t += 20) {
		double in = MIN(t, 100.0),
		       u = from * in + (to - from) * in * in / 200 + to * (t - in);
		double got = (double)count_until(at, N, t * 1e9);
		double slack = kind == ARRIVAL_CONSTANT ? 1.5 : 5 * sqrt(u) + 1;

		if (fabs(got - u) > slack)
			fail_msg("%g → %g /s: %g arrivals by %g s, expected %g", from, to, got, t,
				 u);
	}
}

static void test_ramps(void **state)
{
	(void)state;
	expect_ramp(ARRIVAL_CONSTANT, 10, 1000);
	expect_ramp(ARRIVAL_CONSTANT, 0, 500);
	expect_ramp(ARRIVAL_CONSTANT, 1000, 10);
	expect_ramp(ARRIVAL_CONSTANT, 50, 50);
	expect_ramp(ARRIVAL_POISSON, 0, 1000);
	expect_ramp(ARRIVAL_GAMMA, 900, 100);
}

static void test_trace(void **state)
{
	static const double t[] = {5e9, 6e9, 6e9, 8e9};
	static const double want[] = {0, 1e9, 1e9, 3e9, 4e9, 5e9, 5e9, 7e9, 8e9};
	struct arrival_spec s = {
		.kind = ARRIVAL_TRACE, .trace_ns = t, .n_trace = 4, .trace_scale = 1};

	(void)state;
	draw(&s, at, ARRAY_LEN(want));
	for (size_t k = 0; k < ARRAY_LEN(want); k++)
		assert_true(at[k] == want[k]);
	s.trace_scale = 0.5;
	draw(&s, at, 4);
	assert_true(at[3] == 1.5e9);
	s.n_trace = 1;
	draw(&s, at, 3);
	assert_true(at[2] == 0);
}

static void refuse(struct arrival_spec s, const char *part)
{
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(arrival_schedule(&s, at, 100, &err), -LEM_E_USAGE);
	if (!strstr(err.what, part))
		fail_msg("'%s' is not in '%s'", part, err.what);
}

static void test_nonsense_is_refused(void **state)
{
	static const double backwards[] = {1e9, 0};
	static const double holes[] = {0, NAN};

	(void)state;
	refuse((struct arrival_spec){.rate_hz = 0}, "rate is 0");
	refuse((struct arrival_spec){.rate_hz = -1}, "rate is -1");
	refuse((struct arrival_spec){.rate_hz = NAN}, "rate is");
	refuse((struct arrival_spec){.rate_hz = INFINITY}, "rate is inf");
	refuse((struct arrival_spec){.rate_hz = 1e-9}, "s away");
	refuse((struct arrival_spec){.rate_hz = 1, .ramp_ns = -1, .ramp_to_hz = 1}, "ramp");
	refuse((struct arrival_spec){.rate_hz = 1, .ramp_ns = 1e9}, "ramp to 0");
	refuse((struct arrival_spec){.kind = ARRIVAL_GAMMA, .rate_hz = 1}, "burstiness is 0");
	refuse((struct arrival_spec){.kind = ARRIVAL_TRACE, .trace_scale = 1}, "no arrivals");
	refuse((struct arrival_spec){.kind = ARRIVAL_TRACE, .trace_ns = backwards, .n_trace = 1},
	       "scale is 0");
	refuse((struct arrival_spec){.kind = ARRIVAL_TRACE,
				     .trace_ns = backwards,
				     .n_trace = 2,
				     .trace_scale = 1},
	       "arrival 1");
	refuse(
		(struct arrival_spec){
			.kind = ARRIVAL_TRACE, .trace_ns = holes, .n_trace = 2, .trace_scale = 1},
		"arrival 1");
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(arrival_kind_name(ARRIVAL_GAMMA), "gamma");
	assert_string_equal(arrival_kind_name((enum arrival_kind)99), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mean_and_spread),
		cmocka_unit_test(test_constant_does_not_drift),
		cmocka_unit_test(test_same_seed_same_schedule),
		cmocka_unit_test(test_ramps),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
