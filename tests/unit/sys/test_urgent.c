#include "sys/urgent.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/resource.h>

#include <cmocka.h>

struct seen {
	enum urgency told;
	int policy, nice;
};

static void *be_urgent(void *arg)
{
	struct seen *s = arg;

	s->told = urgent_thread();
	s->policy = sched_getscheduler(0);
	errno = 0;
	s->nice = getpriority(PRIO_PROCESS, 0);
	return NULL;
}

/* What it says is what the kernel says, and the other threads stay as they were. */
static void test_of_one_thread(void **state)
{
	int policy = sched_getscheduler(0), was = getpriority(PRIO_PROCESS, 0);
	struct seen s = {0};
	pthread_t t;

	(void)state;
	assert_int_equal(pthread_create(&t, NULL, be_urgent, &s), 0);
	pthread_join(t, NULL);
	assert_int_equal(s.told == URGENT_REALTIME, (s.policy & ~SCHED_RESET_ON_FORK) == SCHED_RR);
	if (s.told == URGENT_REALTIME)
		assert_true(s.policy & SCHED_RESET_ON_FORK);
	if (s.told == URGENT_NICE)
		assert_int_equal(s.nice, -10);
	if (s.told == URGENT_NO)
		assert_int_equal(s.nice, was);
	assert_int_equal(sched_getscheduler(0), policy);
	assert_int_equal(getpriority(PRIO_PROCESS, 0), was);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(urgency_name(URGENT_NO), "ordinary");
	assert_string_equal(urgency_name(URGENT_NICE), "nice");
	assert_string_equal(urgency_name(URGENT_REALTIME), "realtime");
	assert_string_equal(urgency_name((enum urgency)9), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_of_one_thread),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
