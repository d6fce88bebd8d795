/* A launch of several loads is cut into the runs it is made of: each has the joules that the whole
 * recording gives for its window and its baselines. */
#include <math.h>
#include <setjmp.h>

#include "energy/energy.h"
#include "sim_sampler.h"

#include <cmocka.h>

#define S(x) ((int64_t)((x)*1e9))

enum { LEVELS = 4 };

/* 10 s idle, 10 s with the engine, then four loads of 40 s, 60 s apart. */
static const struct energy_span idle = {S(1), S(10)}, resident = {S(20), S(30)};

static struct energy_span window_of(int level)
{
	return (struct energy_span){S(40.3) + level * S(60), S(80.7) + level * S(60)};
}

/* A CPU counter that runs on, read ten times a second, beside a GPU. */
static void add_rapl(struct sample_set *set, int64_t t1_ns)
{
	size_t cap = (size_t)(t1_ns / (100 * NS_PER_MS)) + 2;
	struct series *s;

	set->series = lem_reallocarray(set->series, set->n_series + 1, sizeof(*set->series));
	s = &set->series[set->n_series++];
	sim_series_init(s, SIGNAL_ENERGY_COUNTER_UJ, DOMAIN_CPU_PACKAGE, "package-0", cap);
	for (int64_t t = NS_PER_MS; t < t1_ns; t += 100 * NS_PER_MS)
		sim_push(s, t, t + 20000, t / 25, true); /* 40 W */
}

/* Idle, then loads of 40 s that swing between 150 and 450 W. */
static void record(uint64_t seed, struct sample_set *ret)
{
	int64_t marks[2 * LEVELS];
	struct power_law law;
	struct sim sim = {.law = &law,
			  .t1_ns = window_of(LEVELS - 1).t1_ns + S(5),
			  .period_ns = S(0.1),
			  .phase_ns = S(0.013),
			  .delay_ns = 5 * NS_PER_MS,
			  .jitter_ns = 4 * NS_PER_MS,
			  .marks_ns = marks,
			  .n_marks = ARRAY_LEN(marks),
			  .seed = seed};

	assert_true(power_law_parse("square:150,450,1.7s,0.4", &law));
	for (int i = 0; i < LEVELS; i++) {
		marks[2 * i] = window_of(i).t0_ns;
		marks[2 * i + 1] = window_of(i).t1_ns;
	}
	sim_record(&sim, ret);
	add_rapl(ret, sim.t1_ns);
	power_law_release(&law);
}

static size_t count(const struct sample_set *set, enum signal signal)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n_series; i++)
		n += set->series[i].signal == signal ? set->series[i].n : 0;
	return n;
}

/* The grid of a counter's steps is fitted to what was recorded until then, so that of the first
 * levels is a little less sharp; the values agree far within their intervals. */
static void same(struct quantity a, struct quantity b)
{
	if (!a.known || !b.known)
		fail_msg("unknown: %s %s", a.reason, b.reason);
	assert_string_equal(a.method, b.method);
	assert_float_equal(a.value, b.value, fabs(a.value) * 1e-3);
	assert_float_equal(a.value, b.value, (a.high - a.low) / 4);
	assert_true((b.high - b.low) / (a.high - a.low) < 1.5);
}

static void compare(const struct sample_set *whole, const struct sample_set *cut,
		    struct energy_span span)
{
	struct energy_fault faults[4];

	same(energy_of_device(whole, DOMAIN_GPU, SIM_DEVICE, span.t0_ns, span.t1_ns),
	     energy_of_device(cut, DOMAIN_GPU, SIM_DEVICE, span.t0_ns, span.t1_ns));
	same(energy_of_domain(whole, DOMAIN_CPU_PACKAGE, span.t0_ns, span.t1_ns),
	     energy_of_domain(cut, DOMAIN_CPU_PACKAGE, span.t0_ns, span.t1_ns));
	assert_int_equal(energy_faults(cut, span.t0_ns, span.t1_ns, faults, 4), 0);
}

/* The recording as it was when the level had just been measured, which is what is cut. */
static void test_each_level_has_its_joules(void **state)
{
	struct sample_set whole;

	(void)state;
	record(5, &whole);
	for (int i = 0; i < LEVELS; i++) {
		const struct energy_span spans[] = {idle, resident, window_of(i)};
		struct sample_set cut;

		record(5, &cut);
		energy_cut(&cut, spans, ARRAY_LEN(spans));
		for (size_t k = 0; k < ARRAY_LEN(spans); k++)
			compare(&whole, &cut, spans[k]);
		/* 60 s a level in the whole; the level's own 40 s, the baselines and the 30 s
		 * around each in which the ring's lag is found */
		assert_true(count(&cut, SIGNAL_POWER_RING_MW) <
			    count(&whole, SIGNAL_POWER_RING_MW) * 3 / 4);
		assert_true(count(&cut, SIGNAL_POWER_INSTANT_MW) <
			    count(&whole, SIGNAL_POWER_INSTANT_MW) / 3);
		sample_set_release(&cut);
	}
	sample_set_release(&whole);
}

/* What is read once, long before, is still in force: the power limit stays. */
static void test_the_last_reading_before_is_kept(void **state)
{
	const struct energy_span span = window_of(2);
	struct sample_set cut;

	(void)state;
	record(6, &cut);
	energy_cut(&cut, &span, 1);
	assert_int_equal(count(&cut, SIGNAL_POWER_LIMIT_MW), 1);
	sample_set_release(&cut);
}

/* Nothing later than the level: its record does not know of the next one. */
static void test_nothing_later_is_kept(void **state)
{
	const struct energy_span span = window_of(0);
	struct sample_set cut;

	(void)state;
	record(7, &cut);
	energy_cut(&cut, &span, 1);
	for (size_t i = 0; i < cut.n_series; i++) {
		const struct series *s = &cut.series[i];
		int64_t far_ns = s->signal == SIGNAL_POWER_RING_MW ? S(30) : S(3);

		assert_true(s->n > 0 && s->t_begin_ns[s->n - 1] <= span.t1_ns + far_ns);
	}
	sample_set_release(&cut);
}

static void test_empty_and_odd_input(void **state)
{
	const struct energy_span far = {S(1e6), S(2e6)}, turned = {S(20), S(10)};
	struct sample_set none = {0}, cut;

	(void)state;
	energy_cut(&none, &far, 1);
	record(8, &cut);
	energy_cut(&cut, &turned, 1); /* an end before its start is no reason to crash */
	energy_cut(&cut, NULL, 0);
	for (size_t i = 0; i < cut.n_series; i++)
		assert_int_equal(cut.series[i].n, 0);
	energy_cut(&cut, &far, 1);
	sample_set_release(&cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_level_has_its_joules),
		cmocka_unit_test(test_the_last_reading_before_is_kept),
		cmocka_unit_test(test_nothing_later_is_kept),
		cmocka_unit_test(test_empty_and_odd_input),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
