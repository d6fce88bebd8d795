/* What is copied from a sampler while its thread goes on: against the fake driver, with real
 * threads that take the processor away. It is clean under the thread sanitizer:
 *   tools/configure build-tsan -Dtests=true -Db_sanitize=thread -Db_lundef=false
 *   ninja -C build-tsan tests/contract/test_snapshot tests/fakes/libnvml_fake.so
 *   LEM_BUILD_ROOT=$PWD/build-tsan build-tsan/tests/contract/test_snapshot */
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "energy/energy.h"
#include "gpu/id.h"
#include "meter/meter.h"
#include "use_fake.h"

#include <cmocka.h>

enum { SNAPSHOTS = 60, SPINNERS = 3 };

struct bench {
	struct arena arena;
	struct gpu_binding binding;
	struct sampler *s;
};

static void bench_start(struct bench *b, const char *script, int n, int64_t max_ns)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	static const char *const items[] = {"0", "1"}, *const nvml[] = {"nvml", NULL};
	struct meter_request req = {.binding = &b->binding,
				    .meters = nvml,
				    .counter_hz = 10,
				    .max_duration_ns = max_ns};

	*b = (struct bench){0};
	use_fake(script);
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_int_equal(gpu_resolve(&inv, items, (size_t)n, NULL, &b->arena, &b->binding, NULL),
			 0);
	assert_int_equal(sampler_start(&req, &b->s, NULL), 0);
}

static void bench_stop(struct bench *b, struct sample_set *ret)
{
	sampler_stop(b->s, ret);
	arena_release(&b->arena);
}

/* Every entry is whole: a stamp or value of 0 would be one that was not written yet. */
static void is_whole(const struct sample_set *set)
{
	for (size_t i = 0; i < set->n_series; i++) {
		const struct series *s = &set->series[i];

		for (size_t k = 0; k < s->n; k++) {
			assert_true(s->t_begin_ns[k] > 0 && s->t_end_ns[k] >= s->t_begin_ns[k]);
			assert_true(s->ok[k] <= 1);
			if (s->signal == SIGNAL_ENERGY_COUNTER_UJ && s->ok[k])
				assert_true(s->value[k] > 0);
		}
	}
	for (size_t i = 0; i < set->n_late; i++)
		assert_true(set->late_ns[i] >= 0);
}

/* What was copied stays true: a later copy begins with all of it. */
static void continues(const struct sample_set *before, const struct sample_set *after)
{
	assert_int_equal(before->n_series, after->n_series);
	assert_true(after->n_late >= before->n_late);
	for (size_t i = 0; i < before->n_series; i++) {
		const struct series *a = &before->series[i], *b = &after->series[i];

		assert_string_equal(a->device, b->device);
		assert_int_equal(a->signal, b->signal);
		assert_true(b->n >= a->n && b->failed >= a->failed && b->dropped >= a->dropped);
		assert_memory_equal(a->t_begin_ns, b->t_begin_ns, a->n * sizeof(*a->t_begin_ns));
		assert_memory_equal(a->t_end_ns, b->t_end_ns, a->n * sizeof(*a->t_end_ns));
		assert_memory_equal(a->value, b->value, a->n * sizeof(*a->value));
		assert_memory_equal(a->ok, b->ok, a->n);
	}
}

static void *spin(void *stop)
{
	while (!atomic_load_explicit((_Atomic bool *)stop, memory_order_relaxed))
		;
	return NULL;
}

static size_t count(const struct sample_set *set)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n_series; i++)
		n += set->series[i].n;
	return n;
}

static void snapshots(struct bench *b, struct sample_set *ret_last)
{
	struct sample_set before = {0}, now;

	for (int i = 0; i < SNAPSHOTS; i++) {
		sampler_snapshot(b->s, &now);
		is_whole(&now);
		assert_true(now.t_stop_ns >= now.t_start_ns && now.cpu_ns >= 0);
		if (i)
			continues(&before, &now);
		sample_set_release(&before);
		before = now;
		if (i % 7 == 0)
			sampler_mark(b->s);
		clock_sleep_until_ns(clock_now_ns() + 30 * NS_PER_MS);
	}
	*ret_last = before;
}

static void test_snapshots_under_load(void **state)
{
	_Atomic bool stop = false;
	pthread_t spinners[SPINNERS];
	struct sample_set last, all;
	struct bench b;

	(void)state;
	bench_start(&b, "gpus=2;period=20ms;flaky=7", 2, 60 * NS_PER_S);
	for (int i = 0; i < SPINNERS; i++)
		assert_int_equal(pthread_create(&spinners[i], NULL, spin, &stop), 0);
	snapshots(&b, &last);
	atomic_store(&stop, true);
	for (int i = 0; i < SPINNERS; i++)
		pthread_join(spinners[i], NULL);
	bench_stop(&b, &all);
	continues(&last, &all);
	assert_true(count(&last) > 100 && count(&all) > count(&last));
	assert_true(all.cpu_ns >= last.cpu_ns && last.cpu_ns > 0);
	sample_set_release(&last);
	sample_set_release(&all);
}

/* Columns that are full count on, and the count is copied with them. */
static void test_full_columns(void **state)
{
	struct sample_set now, all;
	struct bench b;
	uint64_t dropped = 0;

	(void)state;
	bench_start(&b, "period=20ms", 1, NS_PER_MS);
	clock_sleep_until_ns(clock_now_ns() + 6500 * NS_PER_MS); /* the ring has 256 entries */
	sampler_snapshot(b.s, &now);
	bench_stop(&b, &all);
	for (size_t i = 0; i < now.n_series; i++)
		dropped += now.series[i].dropped;
	assert_true(dropped > 0);
	continues(&now, &all);
	sample_set_release(&now);
	sample_set_release(&all);
}

/* The joules of a stretch are those of the fake, though the sampler still runs. */
static void test_energy_of_a_snapshot(void **state)
{
	struct sample_set now, all;
	struct bench b;
	struct quantity q;
	int64_t t0;

	(void)state;
	bench_start(&b, "power=const:420;start=123456", 1, 60 * NS_PER_S);
	clock_sleep_until_ns(clock_now_ns() + 2800 * NS_PER_MS);
	sampler_snapshot(b.s, &now);
	t0 = now.t_start_ns + 700 * NS_PER_MS;
	q = energy_of_domain(&now, DOMAIN_GPU, t0, t0 + 1600 * NS_PER_MS);
	bench_stop(&b, &all);
	if (!q.known)
		fail_msg("%s", q.reason);
	assert_true(q.low <= 420 * 1.6 && 420 * 1.6 <= q.high);
	sample_set_release(&now);
	sample_set_release(&all);
}

/* A call that hangs holds up neither the copy nor what was read before it. */
static void test_snapshot_while_a_call_hangs(void **state)
{
	struct sample_set now, all;
	struct bench b;
	int64_t t0;

	(void)state;
	bench_start(&b, "hang=500ms;hangfor=2s", 1, 60 * NS_PER_S);
	clock_sleep_until_ns(clock_now_ns() + NS_PER_S);
	t0 = clock_now_ns();
	sampler_snapshot(b.s, &now);
	assert_true(clock_now_ns() - t0 < NS_PER_S);
	is_whole(&now);
	assert_true(count(&now) > 0);
	clock_sleep_until_ns(clock_now_ns() + 2 * NS_PER_S); /* the call comes back */
	bench_stop(&b, &all);
	continues(&now, &all);
	sample_set_release(&now);
	sample_set_release(&all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshots_under_load),
		cmocka_unit_test(test_full_columns),
		cmocka_unit_test(test_energy_of_a_snapshot),
		cmocka_unit_test(test_snapshot_while_a_call_hangs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
