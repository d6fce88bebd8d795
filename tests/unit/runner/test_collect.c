/* Two streams are read to their ends, within a bound of time and of bytes. */
#include "runner/collect.h"

#include <fcntl.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"

static void test_both_streams(void **state)
{
	const char *const argv[] = {"sh", "-c", "echo one; echo two >&2; echo three", NULL};
	const struct proc_spec q = {.argv = argv};
	_cleanup_str_ struct str out = STR_INIT, log = STR_INIT;
	_cleanup_proc_ struct proc p = PROC_INIT;

	(void)state;
	assert_int_equal(proc_spawn(&q, &p, NULL), 0);
	assert_int_equal(collect_output(&p, clock_now_ns() + 10 * NS_PER_S, -1, &out, &log, NULL),
			 0);
	assert_string_equal(str_c(&out), "one\nthree\n");
	assert_string_equal(str_c(&log), "two\n");
}

static void test_time_is_up(void **state)
{
	const char *const argv[] = {"sleep", "60", NULL};
	const struct proc_spec q = {.argv = argv};
	_cleanup_str_ struct str out = STR_INIT, log = STR_INIT;
	_cleanup_proc_ struct proc p = PROC_INIT;

	(void)state;
	assert_int_equal(proc_spawn(&q, &p, NULL), 0);
	assert_int_equal(collect_output(&p, clock_now_ns() + 50 * NS_PER_MS, -1, &out, &log, NULL),
			 -LEM_E_TIMEOUT);
}

/* What cannot be read any more has ended: it is not asked again and again. */
static void test_a_stream_that_fails(void **state)
{
	_cleanup_str_ struct str out = STR_INIT, log = STR_INIT;
	struct proc p = PROC_INIT;

	(void)state;
	p.out = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(p.out >= 0);
	assert_int_equal(collect_output(&p, clock_now_ns() + NS_PER_S, -1, &out, &log, NULL), 0);
	assert_int_equal(p.out, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_streams),
		cmocka_unit_test(test_time_is_up),
		cmocka_unit_test(test_a_stream_that_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
