#include "run/warmup.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static const struct warmup_config rule = {
	.enabled = true,
	.convergence_detection = true,
	.cv_threshold = 0.05,
	.max_prompts = 50,
	.window_size = 5,
	.min_prompts = 5,
};

/* The example that users of older files know: 100, 50, then 20 five times settles after seven
 * iterations. */
static void test_known_example(void **state)
{
	const double ms[] = {100, 50, 20, 20, 20, 20, 20};
	double cv;

	(void)state;
	for (size_t n = 0; n < 7; n++)
		assert_int_equal(warmup_judge(&rule, ms, n, &cv), WARMUP_MORE);
	assert_int_equal(warmup_judge(&rule, ms, 7, &cv), WARMUP_CONVERGED);
	assert_true(cv == 0);
}

static void test_gives_up(void **state)
{
	double ms[50], cv;

	(void)state;
	for (int i = 0; i < 50; i++)
		ms[i] = i % 2 ? 10 : 20;
	assert_int_equal(warmup_judge(&rule, ms, 49, &cv), WARMUP_MORE);
	assert_int_equal(warmup_judge(&rule, ms, 50, &cv), WARMUP_GAVE_UP);
	assert_true(cv > 0.3 && cv < 0.4);
}

static void test_window_not_full(void **state)
{
	const double ms[] = {10, 10};
	double cv;

	(void)state;
	warmup_judge(&rule, ms, 2, &cv);
	assert_true(isnan(cv));
}

static void test_fixed_count(void **state)
{
	struct warmup_config c = rule;
	const double ms[] = {100, 1, 50};
	double cv;

	(void)state;
	c.requests = (struct maybe_i64){true, 3};
	assert_int_equal(warmup_judge(&c, ms, 2, &cv), WARMUP_MORE);
	assert_int_equal(warmup_judge(&c, ms, 3, &cv), WARMUP_CONVERGED);
	c = rule;
	c.convergence_detection = false;
	c.max_prompts = 2;
	assert_int_equal(warmup_judge(&c, ms, 2, &cv), WARMUP_CONVERGED);
}

/* A window strictly below the threshold, not at it. */
static void test_threshold_is_strict(void **state)
{
	const double ms[] = {95, 105, 95, 105}; /* population sd 5, mean 100 */
	struct warmup_config c = rule;
	double cv;

	(void)state;
	c.window_size = c.min_prompts = 4;
	assert_int_equal(warmup_judge(&c, ms, 4, &cv), WARMUP_MORE);
	c.cv_threshold = 0.0501;
	assert_int_equal(warmup_judge(&c, ms, 4, &cv), WARMUP_CONVERGED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_example),       cmocka_unit_test(test_gives_up),
		cmocka_unit_test(test_window_not_full),     cmocka_unit_test(test_fixed_count),
		cmocka_unit_test(test_threshold_is_strict),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
