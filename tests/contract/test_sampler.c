/* The sampler against the fake driver: what it records, and what it does when the driver
 * misbehaves. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "energy/energy.h"
#include "gpu/id.h"
#include "meter/meter.h"
#include "use_fake.h"

#include <cmocka.h>

#define RUN_NS (2500 * NS_PER_MS)

struct run {
	struct arena arena;
	struct gpu_binding binding;
	struct sample_set set;
	int64_t mark_ns; /* when sampler_mark was called */
	int64_t stop_ns; /* how long sampler_stop took */
	double watts;
};

static const char *const only_nvml[] = {"nvml", NULL};

/* Samples n GPUs of the fake for that long, with a mark after mark_ns (0: none). */
static void run_with(struct run *r, const char *script, int n, int64_t ns, double counter_hz,
		     int64_t mark_ns)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	static const char *const items[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
	struct meter_request req = {.binding = &r->binding,
				    .meters = only_nvml,
				    .counter_hz = counter_hz,
				    .max_duration_ns = 60 * NS_PER_S};
	struct sampler *s = NULL;
	int64_t t0;

	*r = (struct run){0};
	use_fake(script);
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_int_equal(gpu_resolve(&inv, items, (size_t)n, NULL, &r->arena, &r->binding, NULL),
			 0);
	assert_int_equal(sampler_start(&req, &s, NULL), 0);
	t0 = clock_now_ns();
	if (mark_ns) {
		clock_sleep_until_ns(t0 + mark_ns);
		r->mark_ns = clock_now_ns();
		sampler_mark(s);
	}
	clock_sleep_until_ns(t0 + ns);
	r->watts = sampler_watts_now(s);
	t0 = clock_now_ns();
	sampler_stop(s, &r->set);
	r->stop_ns = clock_now_ns() - t0;
}

static void run_for(struct run *r, const char *script, int n, int64_t ns)
{
	run_with(r, script, n, ns, 10, 0);
}

static void run_release(struct run *r)
{
	sample_set_release(&r->set);
	arena_release(&r->arena);
}

static const struct series *find(const struct run *r, enum signal signal, int gpu)
{
	for (size_t i = 0; i < r->set.n_series; i++)
		if (r->set.series[i].signal == signal &&
		    str_eq(r->set.series[i].device, gpu < 0 ? "self" : r->binding.gpus[gpu].uuid))
			return &r->set.series[i];
	return NULL;
}

static const struct meter_status *status(const struct run *r, const char *meter, const char *text)
{
	for (size_t i = 0; i < r->set.n_status; i++)
		if (str_eq(r->set.status[i].meter, meter) && strstr(r->set.status[i].reason, text))
			return &r->set.status[i];
	return NULL;
}

static void in_order(const struct series *s)
{
	for (size_t i = 0; i < s->n; i++) {
		assert_true(s->t_end_ns[i] >= s->t_begin_ns[i]);
		if (i)
			assert_true(s->t_end_ns[i] >= s->t_end_ns[i - 1]);
	}
}

static void test_every_signal_of_every_gpu(void **state)
{
	struct run r;

	(void)state;
	run_for(&r, "gpus=2;power0=const:300;power1=const:150;limit=650000", 2, RUN_NS);
	for (int g = 0; g < 2; g++) {
		static const enum signal signals[] = {
			SIGNAL_ENERGY_COUNTER_UJ, SIGNAL_POWER_AVERAGE_MW, SIGNAL_POWER_INSTANT_MW,
			SIGNAL_POWER_RING_MW,     SIGNAL_TEMPERATURE_C,    SIGNAL_CLOCK_SM_MHZ,
			SIGNAL_CLOCK_MEM_MHZ,     SIGNAL_CLOCK_REASONS,    SIGNAL_UTIL_GPU_PCT,
			SIGNAL_MEMORY_USED_BYTES, SIGNAL_POWER_LIMIT_MW,
		};
		for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
			const struct series *s = find(&r, signals[i], g);

			if (!s)
				fail_msg("no %s", signal_name(signals[i]));
			assert_true(s->n >= 3);
			assert_int_equal(s->failed, 0);
			assert_int_equal(s->dropped, 0);
			in_order(s);
		}
		assert_int_equal(find(&r, SIGNAL_POWER_AVERAGE_MW, g)->value[1],
				 g ? 150000 : 300000);
		assert_int_equal(find(&r, SIGNAL_POWER_INSTANT_MW, g)->value[1],
				 g ? 150000 : 300000);
		assert_int_equal(find(&r, SIGNAL_TEMPERATURE_C, g)->value[0], 40 + g);
		assert_int_equal(find(&r, SIGNAL_CLOCK_SM_MHZ, g)->value[0], 1980);
		assert_int_equal(find(&r, SIGNAL_CLOCK_MEM_MHZ, g)->value[0], 2619);
		assert_int_equal(find(&r, SIGNAL_CLOCK_REASONS, g)->value[0], 1);
		assert_int_equal(find(&r, SIGNAL_UTIL_GPU_PCT, g)->value[0], 97);
		assert_int_equal(find(&r, SIGNAL_MEMORY_USED_BYTES, g)->value[0], 10ll << 30);
		assert_int_equal(find(&r, SIGNAL_POWER_LIMIT_MW, g)->value[0], 650000);
	}
	assert_true(fabs(r.watts - 450) < 1);
	assert_non_null(find(&r, SIGNAL_CPU_TIME_NS, -1));
	assert_true(status(&r, "nvml", "")->usable);
	run_release(&r);
}

/* Ring: each entry once, stamps on this process's clock, about 50 a second. */
static void test_ring(void **state)
{
	struct run r;
	const struct series *s;

	(void)state;
	run_for(&r, "power=const:300", 1, RUN_NS);
	s = find(&r, SIGNAL_POWER_RING_MW, 0);
	assert_true(s->n >= 110 && s->n <= 135);
	for (size_t i = 0; i < s->n; i++) {
		assert_true(s->t_end_ns[i] >= r.set.t_start_ns - 500 * NS_PER_MS);
		assert_true(s->t_end_ns[i] <= r.set.t_stop_ns + NS_PER_MS);
		assert_true(llabs(s->value[i] - 300000) < 10);
		if (i)
			assert_true(llabs(s->t_end_ns[i] - s->t_end_ns[i - 1] - 20 * NS_PER_MS) <
				    NS_PER_MS);
	}
	run_release(&r);
}

/* About ten reads a second, no matter how long the hunt for the phase took, and their lateness. */
static void test_rates_and_lateness(void **state)
{
	struct run r;
	const struct series *s;
	int64_t worst = 0;

	(void)state;
	run_for(&r, "gpus=4", 4, 4 * NS_PER_S);
	for (int g = 0; g < 4; g++) {
		s = find(&r, SIGNAL_ENERGY_COUNTER_UJ, g);
		assert_true(s->n >= 40 && s->n <= 110);
		s = find(&r, SIGNAL_TEMPERATURE_C, g);
		assert_true(s->n >= 4 && s->n <= 8);
		s = find(&r, SIGNAL_POWER_AVERAGE_MW, g);
		assert_true(s->n >= 8 && s->n <= 16);
	}
	assert_true(r.set.n_late > 30);
	for (size_t i = 0; i < r.set.n_late; i++) {
		assert_true(r.set.late_ns[i] >= 0);
		worst = MAX(worst, r.set.late_ns[i]);
	}
	print_message("# worst lateness %.2f ms of %zu ticks\n", (double)worst / 1e6, r.set.n_late);
	assert_true(r.set.cpu_ns > 0);
	assert_true(r.set.t_stop_ns - r.set.t_start_ns >= 4 * NS_PER_S);
	run_release(&r);
}

/* One read a second but for the hunt, the first checks, and the mark: at once and after two steps.
 */
static void test_default_rate_and_marks(void **state)
{
	struct run r;
	const struct series *s;
	size_t before = 0, after = 0;
	int64_t first_ns = INT64_MAX;

	(void)state;
	run_with(&r, "gpus=2", 2, 9 * NS_PER_S, 0, 7500 * NS_PER_MS);
	for (int g = 0; g < 2; g++) {
		s = find(&r, SIGNAL_ENERGY_COUNTER_UJ, g);
		for (size_t i = 0; i < s->n; i++) {
			int64_t t = s->t_begin_ns[i] - r.mark_ns;

			before += t < 0 && t >= -3 * NS_PER_S;
			after += t >= 0 && t < 350 * NS_PER_MS;
			if (t >= 0)
				first_ns = MIN(first_ns, t);
		}
		assert_true(before <= 2 * 8);
		/* A check of the phase may fall into this time, with its polls. */
		assert_true(after >= 3 && after <= 20);
		assert_true(first_ns < 30 * NS_PER_MS);
		before = after = 0;
		first_ns = INT64_MAX;
	}
	run_release(&r);
}

/* The whole way: a fake of known energy, really sampled, integrated. */
static void test_energy_is_the_fakes(void **state)
{
	struct run r;
	struct quantity q;
	int64_t a, b;

	(void)state;
	run_for(&r, "power=const:420;start=123456", 1, RUN_NS);
	a = r.set.t_start_ns + 700 * NS_PER_MS;
	b = r.set.t_start_ns + 2300 * NS_PER_MS;
	q = energy_of_domain(&r.set, DOMAIN_GPU, a, b);
	if (!q.known)
		fail_msg("%s", q.reason);
	print_message("# %.2f J [%.2f, %.2f] of %.2f, %s\n", q.value, q.low, q.high, 420 * 1.6,
		      q.method);
	assert_true(fabs(q.value / (420 * 1.6) - 1) < 0.02); /* this machine may be busy */
	assert_true(q.low <= 420 * 1.6 && 420 * 1.6 <= q.high);
	run_release(&r);
}

static void test_unsupported_signals_are_named(void **state)
{
	struct run r;
	const struct meter_status *st;

	(void)state;
	run_for(&r, "unsupported=samples,field186,clock;permission=utilization", 1, NS_PER_S);
	st = status(&r, "nvml", "not supported");
	assert_non_null(st);
	assert_true(st->usable);
	assert_non_null(strstr(st->reason, "sample ring"));
	assert_non_null(strstr(st->reason, "instant power"));
	assert_non_null(strstr(st->reason, "SM clock"));
	assert_non_null(strstr(st->reason, "utilisation"));
	assert_null(strstr(st->reason, "energy counter"));
	assert_null(find(&r, SIGNAL_POWER_RING_MW, 0));
	assert_null(find(&r, SIGNAL_POWER_INSTANT_MW, 0));
	assert_non_null(find(&r, SIGNAL_POWER_AVERAGE_MW, 0));
	run_release(&r);
}

/* No counter: the power field serves, read faster, and the interval is wide. */
static void test_without_a_counter(void **state)
{
	struct run r;
	struct quantity q;

	(void)state;
	run_for(&r, "unsupported=energy,field185;power=const:200", 1, RUN_NS);
	assert_null(find(&r, SIGNAL_ENERGY_COUNTER_UJ, 0));
	assert_string_equal(find(&r, SIGNAL_POWER_AVERAGE_MW, 0)->note, "nvmlDeviceGetPowerUsage");
	assert_true(find(&r, SIGNAL_POWER_AVERAGE_MW, 0)->n >= 20);
	q = energy_of_domain(&r.set, DOMAIN_GPU, r.set.t_start_ns + NS_PER_S,
			     r.set.t_start_ns + 2 * NS_PER_S);
	assert_true(q.known && fabs(q.value - 200) < 2);
	assert_true(q.high - q.low > 15);
	assert_non_null(strstr(q.method, "average power"));
	run_release(&r);
}

static void test_nothing_supported(void **state)
{
	struct run r;
	struct quantity q;

	(void)state;
	run_for(&r, "unsupported=energy,field185,field186,usage", 1, 300 * NS_PER_MS);
	assert_false(status(&r, "nvml", "energy counter")->usable);
	q = energy_of_domain(&r.set, DOMAIN_GPU, r.set.t_start_ns, r.set.t_stop_ns);
	assert_false(q.known);
	assert_non_null(strstr(q.reason, "not supported: energy counter, average power"));
	assert_true(isnan(r.watts));
	run_release(&r);
}

static void test_gpu_lost(void **state)
{
	struct run r;
	struct energy_fault f[4];
	struct quantity q;

	(void)state;
	run_for(&r, "gpus=2;lost=1s;lostgpu=1", 2, 4 * NS_PER_S);
	assert_non_null(status(&r, "nvml", "fallen off the bus"));
	assert_non_null(strstr(status(&r, "nvml", "fallen off the bus")->fix, "Xid"));
	assert_true(find(&r, SIGNAL_ENERGY_COUNTER_UJ, 1)->failed > 0);
	assert_true(find(&r, SIGNAL_ENERGY_COUNTER_UJ, 1)->failed < 12); /* not hammered */
	assert_int_equal(find(&r, SIGNAL_ENERGY_COUNTER_UJ, 0)->failed, 0);
	q = energy_of_domain(&r.set, DOMAIN_GPU, r.set.t_start_ns + 500 * NS_PER_MS,
			     r.set.t_stop_ns);
	assert_false(q.known);
	assert_true(energy_faults(&r.set, r.set.t_start_ns + 500 * NS_PER_MS, r.set.t_stop_ns, f,
				  4) >= 1);
	assert_string_equal(f[0].device, r.binding.gpus[1].uuid);
	run_release(&r);
}

static void test_reset_and_stuck_counters(void **state)
{
	struct run r;
	struct energy_fault f[4];

	(void)state;
	run_for(&r, "reset=1200ms", 1, RUN_NS);
	assert_int_equal(energy_faults(&r.set, r.set.t_start_ns, r.set.t_stop_ns, f, 4), 1);
	assert_non_null(strstr(f[0].text, "was reset"));
	run_release(&r);
	run_for(&r, "stuck=1s", 1, RUN_NS);
	assert_true(energy_faults(&r.set, r.set.t_start_ns, r.set.t_stop_ns, f, 4) >= 1);
	assert_non_null(strstr(f[0].text, "stood still"));
	run_release(&r);
}

static void test_flaky_calls_cost_their_reading_only(void **state)
{
	struct run r;
	const struct series *s;
	struct quantity q;

	(void)state;
	run_for(&r, "flaky=5;power=const:300", 1, 4 * NS_PER_S);
	s = find(&r, SIGNAL_ENERGY_COUNTER_UJ, 0);
	assert_true(s->failed > 3);
	assert_true(s->n > 20);
	q = energy_of_domain(&r.set, DOMAIN_GPU, r.set.t_start_ns + NS_PER_S,
			     r.set.t_start_ns + 3 * NS_PER_S);
	assert_true(q.known && q.low <= 600 && 600 <= q.high);
	run_release(&r);
}

/* Each counter call takes 50 ms, as the slowest seen on H100: brackets are wide, nothing is lost.
 */
static void test_slow_calls(void **state)
{
	struct run r;
	const struct series *s;

	(void)state;
	run_for(&r, "gpus=2;slow=50ms", 2, RUN_NS);
	for (int g = 0; g < 2; g++) {
		s = find(&r, SIGNAL_ENERGY_COUNTER_UJ, g);
		assert_true(s->n >= 15);
		assert_true(s->t_end_ns[0] - s->t_begin_ns[0] >= 50 * NS_PER_MS);
		assert_int_equal(s->failed, 0);
	}
	assert_true(r.stop_ns < 500 * NS_PER_MS);
	run_release(&r);
}

/* A call hangs: stopping gives up the thread, keeps what was read, and says so. */
static void test_stop_while_a_call_hangs(void **state)
{
	struct run r;
	const struct series *s;

	(void)state;
	run_for(&r, "hang=1s;hangfor=4s", 1, RUN_NS);
	assert_true(r.stop_ns > 900 * NS_PER_MS && r.stop_ns < 1800 * NS_PER_MS);
	assert_non_null(status(&r, "sampler", "had not returned"));
	s = find(&r, SIGNAL_ENERGY_COUNTER_UJ, 0);
	assert_true(s->n >= 5);
	in_order(s);
	run_release(&r);
	clock_sleep_until_ns(clock_now_ns() +
			     3500 * NS_PER_MS); /* let the thread end before the library goes */
}

static void test_stop_is_prompt(void **state)
{
	struct run r;

	(void)state;
	run_for(&r, "gpus=1", 1, 30 * NS_PER_MS);
	assert_true(r.stop_ns < 200 * NS_PER_MS);
	assert_true(find(&r, SIGNAL_ENERGY_COUNTER_UJ, 0)->n >= 2); /* the first and the last */
	run_release(&r);
}

/* Columns full: what comes later is counted, not written. */
static void test_full_columns_count_what_they_drop(void **state)
{
	struct arena arena = ARENA_INIT;
	struct gpu_binding binding;
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	struct meter_request req = {
		.binding = &binding, .meters = only_nvml, .max_duration_ns = NS_PER_MS};
	struct sampler *s = NULL;
	struct sample_set set;
	const char *item = "0";
	uint64_t dropped = 0;

	(void)state;
	use_fake("period=20ms");
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_int_equal(gpu_resolve(&inv, &item, 1, NULL, &arena, &binding, NULL), 0);
	assert_int_equal(sampler_start(&req, &s, NULL), 0);
	clock_sleep_until_ns(clock_now_ns() + 6 * NS_PER_S); /* 300 ring entries */
	sampler_stop(s, &set);
	for (size_t i = 0; i < set.n_series; i++) {
		assert_true(set.series[i].n <= set.series[i].cap);
		dropped += set.series[i].dropped;
	}
	assert_true(dropped > 0);
	sample_set_release(&set);
	arena_release(&arena);
}

static void test_old_driver(void **state)
{
	struct arena arena = ARENA_INIT;
	struct gpu_ref ref = {.uuid = "GPU-1a2b3c40-fa4e-4000-8000-000000abcdef"};
	struct gpu_binding binding = {.gpus = &ref, .n = 1};
	struct meter_request req = {
		.binding = &binding, .meters = only_nvml, .max_duration_ns = NS_PER_S};
	struct sampler *s = NULL;
	struct run r = {.binding = binding};

	(void)state;
	use_fake_library("libnvml_fake_old.so", "power=const:222");
	assert_int_equal(sampler_start(&req, &s, NULL), 0);
	clock_sleep_until_ns(clock_now_ns() + 600 * NS_PER_MS);
	sampler_stop(s, &r.set);
	assert_non_null(status(&r, "nvml", "instant power"));
	assert_non_null(strstr(status(&r, "nvml", "not supported")->reason, "sample ring"));
	assert_int_equal(find(&r, SIGNAL_POWER_AVERAGE_MW, 0)->value[0], 222000);
	assert_int_equal(find(&r, SIGNAL_CLOCK_REASONS, 0)->value[0], 4); /* by the older name */
	sample_set_release(&r.set);
	arena_release(&arena);
}

static void probe_says(const struct meter_request *req, const char *meter, const char *reason,
		       const char *fix)
{
	struct meter_status *st = NULL;
	size_t n = 0;
	bool found = false;

	assert_int_equal(meter_probe(req, &st, &n, NULL), 0);
	for (size_t i = 0; i < n; i++)
		found |= str_eq(st[i].meter, meter) && strstr(st[i].reason, reason) &&
			 strstr(st[i].fix, fix) && !st[i].usable;
	for (size_t i = 0; i < n && !found; i++)
		print_message("# %s: %s / %s\n", st[i].meter, st[i].reason, st[i].fix);
	free(st);
	assert_true(found);
}

static void test_reasons(void **state)
{
	struct gpu_ref ref = {.index = 3, .uuid = "GPU-99999999-0000-0000-0000-000000000000"};
	struct gpu_binding binding = {.gpus = &ref, .n = 1};
	struct meter_request gpu = {.binding = &binding, .meters = only_nvml};
	static const char *const nonsense[] = {"nvml", "rapl", NULL}, *const estimate[] = {
									      "estimate", NULL};

	(void)state;
	use_fake("gpus=1");
	probe_says(&gpu, "nvml", "GPU 3 cannot be read: not found", "nvidia-smi");
	use_fake("init=18");
	probe_says(&gpu, "nvml", "different versions", "reboot");
	use_fake_library("absent.so", "");
	probe_says(&gpu, "nvml", "cannot load", "LEM_NVML_LIBRARY");
	probe_says(&(struct meter_request){.meters = only_nvml}, "nvml", "no GPU", "");
	probe_says(&(struct meter_request){.meters = nonsense}, "rapl", "no meter `rapl`",
		   "rapl_perf");
	probe_says(&(struct meter_request){.meters = estimate}, "estimate", "no watts",
		   "estimate_watts_per_core");
}

static void spin(int64_t ns)
{
	int64_t until = clock_process_cpu_ns() + ns;

	while (clock_process_cpu_ns() < until)
		;
}

/* A tree of two busy processes; the estimate counts both, and keeps what the dead one used. */
static pid_t spawn_busy(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pid_t child;

		setpgid(0, 0);
		child = fork();

		if (child == 0) {
			spin(700 * NS_PER_MS);
			pause();
		}
		spin(700 * NS_PER_MS);
		pause();
		_exit(0);
	}
	return pid;
}

static void test_estimate_follows_the_tree(void **state)
{
	static const char *const names[] = {"estimate", NULL};
	struct meter_request req = {
		.meters = names, .estimate_watts_per_core = 10, .max_duration_ns = NS_PER_S * 60};
	struct sampler *s = NULL;
	struct sample_set set;
	const struct series *energy = NULL;
	pid_t pid;

	(void)state;
	assert_int_equal(sampler_start(&req, &s, NULL), 0);
	pid = spawn_busy();
	assert_true(pid > 0);
	sampler_watch_pid(s, pid);
	clock_sleep_until_ns(clock_now_ns() + 3500 * NS_PER_MS);
	sampler_stop(s, &set);
	for (size_t i = 0; i < set.n_series; i++)
		if (set.series[i].signal == SIGNAL_ENERGY_COUNTER_UJ)
			energy = &set.series[i];
	assert_non_null(energy);
	assert_int_equal(energy->domain, DOMAIN_CPU_ESTIMATE);
	assert_string_equal(energy->note, "estimated, 10 W per busy core");
	for (size_t i = 1; i < energy->n; i++)
		assert_true(energy->value[i] >= energy->value[i - 1]);
	/* Two processes of 0.7 s at 10 W. */
	print_message("# estimate: %.2f J\n", (double)energy->value[energy->n - 1] / 1e6);
	assert_true(energy->value[energy->n - 1] > 13000000 &&
		    energy->value[energy->n - 1] < 17000000);
	sample_set_release(&set);
	kill(-pid, SIGKILL); /* the group: parent and child */
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_signal_of_every_gpu),
		cmocka_unit_test(test_ring),
		cmocka_unit_test(test_rates_and_lateness),
		cmocka_unit_test(test_default_rate_and_marks),
		cmocka_unit_test(test_energy_is_the_fakes),
		cmocka_unit_test(test_unsupported_signals_are_named),
		cmocka_unit_test(test_without_a_counter),
		cmocka_unit_test(test_nothing_supported),
		cmocka_unit_test(test_gpu_lost),
		cmocka_unit_test(test_reset_and_stuck_counters),
		cmocka_unit_test(test_flaky_calls_cost_their_reading_only),
		cmocka_unit_test(test_slow_calls),
		cmocka_unit_test(test_stop_while_a_call_hangs),
		cmocka_unit_test(test_stop_is_prompt),
		cmocka_unit_test(test_full_columns_count_what_they_drop),
		cmocka_unit_test(test_old_driver),
		cmocka_unit_test(test_reasons),
		cmocka_unit_test(test_estimate_follows_the_tree),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
