#include "stats/stats.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#define assert_near(a, b, tol) assert_true(fabs((a) - (b)) <= (tol))

/* Values of numpy.quantile(x, q), whose default is the same rule. */
static void test_quantiles(void **state)
{
	const double x[] = {1, 2, 4, 8, 16};

	(void)state;
	assert_near(stats_quantile_sorted(x, 5, 0), 1, 0);
	assert_near(stats_quantile_sorted(x, 5, 1), 16, 0);
	assert_near(stats_quantile_sorted(x, 5, 0.5), 4, 0);
	assert_near(stats_quantile_sorted(x, 5, 0.9), 12.8, 1e-12);
	assert_near(stats_quantile_sorted(x, 5, 0.99), 15.68, 1e-12);
	assert_near(stats_quantile_sorted(x, 1, 0.37), 1, 0);
}

static void test_moments(void **state)
{
	const double x[] = {2, 4, 4, 4, 5, 5, 7, 9};

	(void)state;
	assert_near(stats_mean(x, 8), 5, 1e-12);
	assert_near(stats_sd_population(x, 8), 2, 1e-12);
	assert_near(stats_sd(x, 8), sqrt(32.0 / 7), 1e-12);
	assert_true(isnan(stats_sd(x, 1)));
	assert_true(isnan(stats_mean(x, 0)));
}

static void test_bootstrap(void **state)
{
	double x[200];
	struct rand r;
	struct interval i;

	(void)state;
	rand_seed(&r, 42);
	for (int k = 0; k < 200; k++)
		x[k] = 10 + rand_normal(&r);
	i = stats_bootstrap_mean(x, 200, 1000, &r);
	/* the normal interval of a mean of 200 is ± 1.96 / sqrt(200) = ± 0.139 */
	assert_near(i.high - i.low, 0.277, 0.06);
	assert_true(i.low < stats_mean(x, 200) && stats_mean(x, 200) < i.high);
	i = stats_bootstrap_mean(x, 1, 1000, &r);
	assert_true(i.low == x[0] && i.high == x[0]);
}

static void test_student(void **state)
{
	(void)state;
	assert_near(stats_t975(1), 12.706, 1e-3);
	assert_near(stats_t975(9), 2.262, 1e-3);
	assert_near(stats_t975(30), 2.042, 1e-3);
	assert_near(stats_t975(1000), 1.962, 1e-3);
}

static void test_jackknife(void **state)
{
	const double num[] = {10, 20, 30}, den[] = {1, 2, 3}, zero[] = {0, 0, 0};
	double ratio;
	struct interval i;

	(void)state;
	assert_true(stats_ratio_jackknife(num, den, 3, &ratio, &i));
	assert_near(ratio, 10, 1e-12);
	assert_near(i.high - i.low, 0, 1e-9);
	assert_false(stats_ratio_jackknife(num, zero, 3, &ratio, &i));
	assert_true(stats_ratio_jackknife(num, den, 1, &ratio, &i));
	assert_true(i.low == i.high);
}

/* The interval must cover the true rate in about 95 of 100 trials. */
static void test_jackknife_covers(void **state)
{
	struct rand r;
	int covered = 0;

	(void)state;
	rand_seed(&r, 7);
	for (int trial = 0; trial < 1000; trial++) {
		double num[10], den[10], ratio;
		struct interval i;

		for (int k = 0; k < 10; k++) {
			den[k] = 1 + 0.1 * rand_normal(&r);
			num[k] = 50 * den[k] + rand_normal(&r);
		}
		assert_true(stats_ratio_jackknife(num, den, 10, &ratio, &i));
		covered += i.low <= 50 && 50 <= i.high;
	}
	assert_in_range(covered, 930, 970);
}

static void test_latency(void **state)
{
	double x[] = {5, 1, 3}, holes[] = {(double)NAN, 5, (double)NAN, 1, 3},
	       none[] = {(double)NAN};
	struct latency_stats s = stats_latency(x, 3, "none");

	(void)state;
	assert_int_equal(s.n, 3);
	assert_near(s.p50, 3, 0);
	assert_near(s.min, 1, 0);
	assert_near(s.max, 5, 0);
	assert_near(s.mean, 3, 1e-12);
	s = stats_latency(holes, 5, "none");
	assert_int_equal(s.n, 3);
	assert_near(s.p50, 3, 0);
	assert_near(s.max, 5, 0);
	s = stats_latency(none, 1, "only holes");
	assert_int_equal(s.n, 0);
	assert_string_equal(s.reason, "only holes");
	s = stats_latency(x, 0, "no tokens");
	assert_int_equal(s.n, 0);
	assert_string_equal(s.reason, "no tokens");
}

/* From Wilson's formula, computed apart. */
static void test_wilson(void **state)
{
	struct interval i = stats_wilson(8, 10);

	(void)state;
	assert_near(i.low, 0.490162, 1e-5);
	assert_near(i.high, 0.943318, 1e-5);
	i = stats_wilson(0, 20);
	assert_true(i.low == 0);
	assert_near(i.high, 0.161125, 1e-5);
	i = stats_wilson(20, 20);
	assert_near(i.low, 0.838875, 1e-5);
	assert_true(i.high == 1);
	i = stats_wilson(1, 1);
	assert_true(i.low > 0 && i.high == 1);
}

static void test_ratio_of_two(void **state)
{
	struct interval i;

	(void)state;
	/* exact figures have an exact ratio */
	assert_true(
		stats_ratio_interval(6, (struct interval){6, 6}, 2, (struct interval){2, 2}, &i));
	assert_near(i.low, 3, 1e-12);
	assert_near(i.high, 3, 1e-12);
	/* an exact divisor only scales */
	assert_true(
		stats_ratio_interval(6, (struct interval){5, 8}, 2, (struct interval){2, 2}, &i));
	assert_near(i.low, 2.5, 1e-12);
	assert_near(i.high, 4, 1e-12);
	/* small and symmetric: relative half widths add as squares, 3 % and 4 % to 5 % */
	assert_true(stats_ratio_interval(100, (struct interval){97, 103}, 50,
					 (struct interval){48, 52}, &i));
	assert_near((i.high - i.low) / 2, 2 * 0.05, 1e-3);
	/* a divisor that may be nothing */
	assert_false(
		stats_ratio_interval(6, (struct interval){5, 7}, 2, (struct interval){0, 4}, &i));
	assert_false(stats_ratio_interval(6, (struct interval){5, 7}, 2,
					  (struct interval){0.1, 4.5}, &i));
	assert_false(
		stats_ratio_interval(0, (struct interval){0, 0}, 2, (struct interval){1, 3}, &i));
	assert_false(stats_ratio_interval((double)NAN, (struct interval){0, 0}, 2,
					  (struct interval){1, 3}, &i));
}

/* The interval must cover the true ratio in about 95 of 100 trials. */
static void test_ratio_covers(void **state)
{
	enum { TRIALS = 4000 };
	struct rand r;
	int covered = 0;

	(void)state;
	rand_seed(&r, 7);
	for (int k = 0; k < TRIALS; k++) {
		double a = 30 + 2 * rand_normal(&r), b = 10 + rand_normal(&r);
		struct interval i, ia = {a - 3.92, a + 3.92}, ib = {b - 1.96, b + 1.96};

		covered += stats_ratio_interval(a, ia, b, ib, &i) && i.low <= 3 && 3 <= i.high;
	}
	assert_in_range(covered, TRIALS * 93 / 100, TRIALS * 97 / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_quantiles),        cmocka_unit_test(test_moments),
		cmocka_unit_test(test_bootstrap),        cmocka_unit_test(test_student),
		cmocka_unit_test(test_wilson),           cmocka_unit_test(test_ratio_of_two),
		cmocka_unit_test(test_ratio_covers),     cmocka_unit_test(test_jackknife),
		cmocka_unit_test(test_jackknife_covers), cmocka_unit_test(test_latency),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
