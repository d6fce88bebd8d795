#include <setjmp.h>
#include <signal.h>

#include "base/clock.h"
#include "sys/bounded.h"

#include <cmocka.h>

struct shared {
	atomic_uint beat;
	int what, seen;
	char text[32];
};

static int setup(void **state)
{
	*state = bounded_alloc(sizeof(struct shared));
	return 0;
}

static int teardown(void **state)
{
	bounded_free(*state, sizeof(struct shared));
	return 0;
}

enum { FILL = 1, HANG, CRASH, SLOW_BUT_MOVING, FAIL };

static void sleep_ms(int ms)
{
	int64_t until = clock_now_ns() + ms * NS_PER_MS;

	while (clock_now_ns() < until)
		(void)clock_sleep_until_ns(until);
}

static void work(void *arg)
{
	struct shared *s = arg;

	lem_strlcpy(s->text, "told", sizeof(s->text));
	if (s->what == CRASH) {
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	if (s->what == FAIL)
		_exit(3);
	if (s->what == HANG)
		for (;;)
			pause();
	for (int i = 0; s->what == SLOW_BUT_MOVING && i < 12; i++) {
		sleep_ms(50);
		atomic_fetch_add(&s->beat, 1);
	}
	s->seen = 1;
}

static enum bounded_end run(struct shared *s, int what, int64_t silence_ns, int *signal_number)
{
	enum bounded_end end;

	s->what = what;
	assert_return_code(bounded_run(work, s, &s->beat, silence_ns, &end, signal_number, NULL),
			   0);
	assert_string_equal(s->text, "told"); /* what it had said until its end */
	return end;
}

static void test_done(void **state)
{
	struct shared *s = *state;
	int sig = -1;

	assert_int_equal(run(s, FILL, 10 * NS_PER_S, &sig), BOUNDED_DONE);
	assert_int_equal(sig, 0);
	assert_int_equal(s->seen, 1);
}

static void test_hung(void **state)
{
	struct shared *s = *state;
	int64_t t0 = clock_now_ns();
	int sig = -1;

	assert_int_equal(run(s, HANG, 300 * NS_PER_MS, &sig), BOUNDED_HUNG);
	assert_int_equal(sig, 0);
	assert_int_equal(s->seen, 0);
	assert_true(clock_now_ns() - t0 >= 300 * NS_PER_MS);
}

/* Longer in all than the silence that is allowed, but never silent so long. */
static void test_slow_is_not_hung(void **state)
{
	struct shared *s = *state;

	assert_int_equal(run(s, SLOW_BUT_MOVING, 500 * NS_PER_MS, NULL), BOUNDED_DONE);
	assert_int_equal(s->seen, 1);
}

static void test_died(void **state)
{
	struct shared *s = *state;
	int sig = 0;

	assert_int_equal(run(s, CRASH, 10 * NS_PER_S, &sig), BOUNDED_DIED);
	assert_int_equal(sig, SIGABRT);
	assert_int_equal(run(s, FAIL, 10 * NS_PER_S, &sig), BOUNDED_DIED);
	assert_int_equal(sig, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_done, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hung, setup, teardown),
		cmocka_unit_test_setup_teardown(test_slow_is_not_hung, setup, teardown),
		cmocka_unit_test_setup_teardown(test_died, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
