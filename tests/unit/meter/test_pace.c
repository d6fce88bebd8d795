/* When the counter is read: phase found, kept, found again. */
#include <setjmp.h>

#include "meter/pace.h"

#include <cmocka.h>

#define MS NS_PER_MS

struct counter {
	int64_t period_ns, phase_ns;
	int64_t reads;
	int64_t settled,
		strays; /* reads after t_settled_ns, and those of them not close to a step */
	int64_t t_settled_ns;
	bool stands;
};

static int64_t value_at(const struct counter *c, int64_t t_ns)
{
	return c->stands ? 5 : (t_ns - c->phase_ns) / c->period_ns;
}

/* Follows the pace from t0 to t1; each call takes 3 ms and sees the counter in its middle. */
static void follow(struct pace *p, struct counter *c, int64_t t0, int64_t t1)
{
	while (t0 < t1) {
		int64_t late = (t0 - c->phase_ns) % c->period_ns;
		int64_t next = pace_next(p, t0, t0 + 3 * MS, value_at(c, t0 + 3 * MS / 2));

		assert_true(next > t0);
		c->reads++;
		if (t0 > c->t_settled_ns) {
			c->settled++;
			/* Well after a step, or one of a pair around it. */
			c->strays += late > 74 * MS && late < c->period_ns - 20 * MS;
		}
		t0 = next;
	}
}

static void test_locks_on(void **state)
{
	(void)state;
	for (int64_t phase = 0; phase < 100; phase += 7) {
		struct counter c = {.period_ns = 100 * MS,
				    .phase_ns = phase * MS,
				    .t_settled_ns = 3 * NS_PER_S};
		struct pace p;

		pace_init(&p, 100 * MS);
		follow(&p, &c, NS_PER_S, 61 * NS_PER_S);
		assert_int_equal(p.mode, PACE_LOCKED);
		assert_true(c.settled > 100 && c.strays * 20 < c.settled);
		assert_true(c.reads < 60 * 10 * 1.1 + 40);
		assert_true(p.period_ns > 99.9 * MS && p.period_ns < 100.1 * MS);
	}
}

static void test_lower_rate(void **state)
{
	struct counter c = {
		.period_ns = 100 * MS, .phase_ns = 33 * MS, .t_settled_ns = 20 * NS_PER_S};
	struct pace p;

	(void)state;
	pace_init(&p, NS_PER_S);
	follow(&p, &c, 0, 300 * NS_PER_S);
	assert_true(c.reads < 300 * 1.3 + 40);
	assert_true(c.settled > 100 && c.strays * 20 < c.settled);
}

static void test_phase_jump_is_found_again(void **state)
{
	struct counter c = {.period_ns = 100 * MS, .phase_ns = 10 * MS, .t_settled_ns = INT64_MAX};
	struct pace p;

	(void)state;
	pace_init(&p, 100 * MS);
	follow(&p, &c, 0, 30 * NS_PER_S);
	c.phase_ns += 47 * MS;
	c.t_settled_ns = 45 * NS_PER_S;
	follow(&p, &c, 30 * NS_PER_S, 90 * NS_PER_S);
	assert_int_equal(p.mode, PACE_LOCKED);
	assert_true(c.settled > 100 && c.strays * 20 < c.settled);
}

static void test_fast_counter_is_left_alone(void **state)
{
	struct counter c = {.period_ns = MS};
	struct pace p;

	(void)state;
	pace_init(&p, 100 * MS);
	follow(&p, &c, 0, 100 * NS_PER_S);
	assert_int_equal(p.mode, PACE_FREE);
	assert_true(c.reads < 1050);
}

static void test_standing_counter_is_not_hammered(void **state)
{
	struct counter c = {.period_ns = 100 * MS, .stands = true};
	struct pace p;

	(void)state;
	pace_init(&p, 100 * MS);
	follow(&p, &c, 0, 50 * NS_PER_S);
	assert_int_equal(p.mode, PACE_FREE);
	assert_true(c.reads < 500 + 260);
	c.stands = false; /* it is looked for again after a minute */
	follow(&p, &c, 50 * NS_PER_S, 130 * NS_PER_S);
	assert_int_equal(p.mode, PACE_LOCKED);
}

/* A mark: read at once, then in each of the next two steps, never so close to one that the value
 * might be either side's. */
static void test_marks(void **state)
{
	for (int64_t at_ms = 0; at_ms < 100; at_ms += 3) {
		struct counter c = {
			.period_ns = 100 * MS, .phase_ns = 20 * MS, .t_settled_ns = INT64_MAX};
		struct pace p;
		int64_t t = 30 * NS_PER_S + at_ms * MS, seen[3], first;
		size_t n = 0;

		pace_init(&p, NS_PER_S);
		follow(&p, &c, 0, 30 * NS_PER_S);
		pace_mark(&p);
		first = value_at(&c, t);
		for (int i = 0; i < 4 && n < 3; i++) {
			int64_t late_ns, value = value_at(&c, t + 3 * MS / 2);

			if (n == 0 || value != seen[n - 1])
				seen[n++] = value;
			t = pace_next(&p, t, t + 3 * MS, value);
			late_ns = (t - c.phase_ns) % c.period_ns;
			if (n < 3)
				assert_true(late_ns > 12 * MS && late_ns < 75 * MS);
		}
		assert_int_equal(n, 3);
		assert_true(seen[0] - first <= 1);
		assert_int_equal(seen[1], seen[0] + 1);
		assert_int_equal(seen[2], seen[0] + 2);
	}
	(void)state;
}

static void test_failures_back_off(void **state)
{
	struct counter c = {.period_ns = 100 * MS, .t_settled_ns = INT64_MAX};
	struct pace p;

	(void)state;
	pace_init(&p, 100 * MS);
	follow(&p, &c, 0, 5 * NS_PER_S);
	assert_int_equal(pace_failed(&p, 5 * NS_PER_S), 5 * NS_PER_S + 100 * MS);
	assert_int_equal(pace_failed(&p, 6 * NS_PER_S), 6 * NS_PER_S + 200 * MS);
	for (int i = 0; i < 100; i++)
		assert_true(pace_failed(&p, 0) <= NS_PER_S);
	follow(&p, &c, 120 * NS_PER_S, 140 * NS_PER_S);
	assert_int_equal(p.mode, PACE_LOCKED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_locks_on),
		cmocka_unit_test(test_lower_rate),
		cmocka_unit_test(test_phase_jump_is_found_again),
		cmocka_unit_test(test_fast_counter_is_left_alone),
		cmocka_unit_test(test_standing_counter_is_not_hammered),
		cmocka_unit_test(test_marks),
		cmocka_unit_test(test_failures_back_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
