#include "load/roofline.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static struct roofline_figures run(const struct roofline_case *c)
{
	struct roofline_figures f;
	struct lem_error err = LEM_ERROR_INIT;

	if (roofline_run(c, &f, &err) < 0)
		fail_msg("%s", err.what);
	if (f.n_failed)
		fail_msg("%zu failed: %s", f.n_failed, f.first_failure.what);
	assert_int_equal(f.n_ok, c->n);
	assert_int_equal(f.n_chunks, c->n * (size_t)c->tokens);
	assert_true(f.cpu_s > 0 && f.wall_s > 0);
	assert_true(fabs(f.requests_per_cpu_s * f.cpu_s / (double)c->n - 1) < 1e-9);
	return f;
}

static void test_bursts(void **state)
{
	struct roofline_figures f = run(&(struct roofline_case){
		.tokens = 32, .n = 500, .plan = {.mode = HTTP_LOAD_CLOSED, .in_flight = 8}});

	(void)state;
	assert_int_equal(f.lag_us.n, 500);
	assert_int_equal(f.itl_error_us.n, 0);
	assert_int_equal(f.stamp_us.n, 0);
}

/* The client's stamps are never before the server's, and every chunk is found again. */
static void test_stamps_against_the_server(void **state)
{
	struct roofline_figures f =
		run(&(struct roofline_case){.script = {.gap_ns = 2 * NS_PER_MS, .record = 2000},
					    .tokens = 10,
					    .n = 100,
					    .plan = {.mode = HTTP_LOAD_OPEN},
					    .rate_hz = 1000});

	(void)state;
	assert_int_equal(f.stamp_us.n, 1000);
	assert_true(f.stamp_us.p50 >= 0 && f.stamp_us.p50 <= f.stamp_us.p99);
	assert_int_equal(f.itl_error_us.n, 900);
	assert_int_equal(f.itl_server_us.n, 900);
	assert_int_equal(f.itl_script_us.n, 900);
	/* what the server did off its script the client sees, but for the client's own error */
	assert_true(fabs(f.itl_script_us.max - f.itl_server_us.max) <= f.itl_error_us.max);
	assert_true(f.e2e_ms.p50 >= 18);
}

/* Coordinated omission: a stall of the server is in the latency from the schedule. */
static void test_a_stall_is_seen(void **state)
{
	struct roofline_figures f =
		run(&(struct roofline_case){.script = {.gap_ns = NS_PER_MS,
						       .stall_every = 10,
						       .stall_at = 2,
						       .stall_ns = 300 * NS_PER_MS},
					    .tokens = 4,
					    .n = 100,
					    .plan = {.mode = HTTP_LOAD_OPEN},
					    .rate_hz = 500});

	(void)state;
	assert_true(f.e2e_ms.p99 >= 300);
	assert_true(f.e2e_ms.p50 >= 3);
}

static void test_failures_are_told(void **state)
{
	struct roofline_figures f;
	struct lem_error err = LEM_ERROR_INIT;
	const struct roofline_case c = {.script = {.fault = NULL_500},
					.tokens = 4,
					.n = 10,
					.plan = {.mode = HTTP_LOAD_ALL}};

	(void)state;
	assert_int_equal(roofline_run(&c, &f, &err), 0);
	assert_int_equal(f.n_failed, 10);
	assert_non_null(strstr(f.first_failure.what, "status 500"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_stamps_against_the_server),
		cmocka_unit_test(test_a_stall_is_seen),
		cmocka_unit_test(test_failures_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
