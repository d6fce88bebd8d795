/* RAPL through powercap and perf: which domains, wrap-around, what is said when there is none. */
#include <math.h>
#include <setjmp.h>

#include "base/clock.h"
#include "base/rand.h"
#include "fake_sysfs.h"
#include "meter/rapl.h"

#include <cmocka.h>

#define MAX_UJ UINT64_C(262143328850) /* as an Intel server reports it */

struct bench {
	struct fake_sysfs fs;
	struct meter_request req;
	_Atomic pid_t nobody;
	struct meter_setup su;
};

static void bench_init(struct bench *b)
{
	*b = (struct bench){0};
	fake_sysfs_init(&b->fs);
	setenv("LEM_SYSFS_ROOT", b->fs.root, 1);
	meter_setup_init(&b->su, &b->req, &b->nobody);
}

static void bench_release(struct bench *b)
{
	meter_setup_release(&b->su);
	fake_sysfs_release(&b->fs);
	unsetenv("LEM_SYSFS_ROOT");
}

static struct series *series_of(struct bench *b, const char *device)
{
	vec_foreach (&b->su.columns, c) {
		if (str_eq((*c)->s.device, device)) {
			(*c)->s.n = (*c)->n;
			(*c)->s.failed = (*c)->failed;
			return &(*c)->s;
		}
	}
	return NULL;
}

static const struct meter_status *status_of(struct bench *b, const char *device)
{
	vec_foreach (&b->su.statuses, s)
		if (str_eq(s->device, device))
			return s;
	return NULL;
}

static void tick(struct bench *b)
{
	vec_foreach (&b->su.tasks, t)
		(void)t->read(t->arg, 0, METER_DUE);
}

/* -- wrap-around ------------------------------------------------------------------------------- */

static void test_unwrap_is_exact_over_many_wraps(void **state)
{
	struct rapl_unwrap u = {.modulus_uj = rapl_modulus_uj(MAX_UJ)};
	struct rand r;
	uint64_t truth = 12345, first = truth;
	int wraps = 0;

	(void)state;
	rand_seed(&r, 1);
	assert_true(rapl_unwrap_add(&u, truth % u.modulus_uj));
	while (wraps < 250) {
		uint64_t before = truth / u.modulus_uj;

		truth += rand_below(&r, u.modulus_uj); /* at least one reading a wrap */
		wraps += truth / u.modulus_uj != before;
		assert_true(rapl_unwrap_add(&u, truth % u.modulus_uj));
		assert_int_equal(u.total_uj, truth - first);
	}
}

static void test_unwrap_refuses_what_cannot_be(void **state)
{
	struct rapl_unwrap u = {.modulus_uj = 1000}, plain = {0};

	(void)state;
	assert_true(rapl_unwrap_add(&u, 900));
	assert_false(rapl_unwrap_add(&u, 1000));
	assert_false(rapl_unwrap_add(&u, UINT64_MAX));
	assert_true(rapl_unwrap_add(&u, 100));
	assert_int_equal(u.total_uj, 200);
	assert_true(rapl_unwrap_add(&plain, 900));
	assert_false(rapl_unwrap_add(&plain, 100)); /* nothing says where it wraps */
	assert_true(rapl_unwrap_add(&plain, 950));
	assert_int_equal(plain.total_uj, 50);
}

static void test_modulus(void **state)
{
	(void)state;
	assert_int_equal(rapl_modulus_uj(262143999938), 262143999999); /* one count of 61 µJ more */
	assert_int_equal(rapl_modulus_uj(999), 1000);
	assert_int_equal(rapl_modulus_uj(0), 0);
}

/* -- powercap ---------------------------------------------------------------------------------- */

/* Two packages with their core, uncore and DRAM, the platform, and the same package through MMIO.
 */
static void make_server(const struct fake_sysfs *fs)
{
	fake_sysfs_zone(fs, "intel-rapl:0", "package-0", 1000, MAX_UJ);
	fake_sysfs_zone(fs, "intel-rapl:0:0", "core", 1, MAX_UJ);
	fake_sysfs_zone(fs, "intel-rapl:0:1", "dram", 2000, 65712999613);
	fake_sysfs_zone(fs, "intel-rapl:1", "package-1", 3000, MAX_UJ);
	fake_sysfs_zone(fs, "intel-rapl:1:0", "uncore", 1, MAX_UJ);
	fake_sysfs_zone(fs, "intel-rapl:1:1", "dram", 4000, 65712999613);
	fake_sysfs_zone(fs, "intel-rapl:2", "psys", 5000, MAX_UJ);
	fake_sysfs_zone(fs, "intel-rapl-mmio:0", "package-0", 77, MAX_UJ);
	fake_sysfs_write(fs, "class/powercap/intel-rapl/enabled", "1");
}

static void test_powercap_takes_disjoint_domains_once(void **state)
{
	static const struct {
		const char *device;
		enum domain domain;
	} want[] = {
		{"package-0", DOMAIN_CPU_PACKAGE},
		{"package-1", DOMAIN_CPU_PACKAGE},
		{"dram-0", DOMAIN_DRAM},
		{"dram-1", DOMAIN_DRAM},
		{"psys", DOMAIN_PSYS},
	};
	struct bench b;
	void *m;

	(void)state;
	bench_init(&b);
	make_server(&b.fs);
	m = meter_rapl_powercap.open(&b.su);
	assert_non_null(m);
	assert_int_equal(b.su.columns.n, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		struct series *s = series_of(&b, want[i].device);

		assert_non_null(s);
		assert_int_equal(s->domain, want[i].domain);
		assert_true(status_of(&b, want[i].device)->usable);
	}
	assert_true(b.su.cpu_energy);
	assert_string_equal(series_of(&b, "package-0")->note, "intel-rapl:0");
	meter_rapl_powercap.close(m);
	bench_release(&b);
}

static void test_powercap_reads_and_wraps(void **state)
{
	struct bench b;
	struct series *s;
	void *m;

	(void)state;
	bench_init(&b);
	make_server(&b.fs);
	m = meter_rapl_powercap.open(&b.su);
	meter_setup_allocate(&b.su);
	fake_sysfs_zone(&b.fs, "intel-rapl:0", "package-0", MAX_UJ - 10, MAX_UJ);
	tick(&b);
	fake_sysfs_zone(&b.fs, "intel-rapl:0", "package-0", 20, MAX_UJ); /* wrapped, and shorter */
	tick(&b);
	fake_sysfs_write(&b.fs, "class/powercap/intel-rapl:0/energy_uj", "garbage");
	tick(&b);
	fake_sysfs_write(&b.fs, "class/powercap/intel-rapl:0/energy_uj", "%" PRIu64, MAX_UJ * 3);
	tick(&b);
	fake_sysfs_write(&b.fs, "class/powercap/intel-rapl:0/energy_uj", "120");
	tick(&b);
	s = series_of(&b, "package-0");
	assert_int_equal(s->n, 5);
	assert_int_equal(s->value[1] - s->value[0],
			 30 + (int64_t)(rapl_modulus_uj(MAX_UJ) - MAX_UJ));
	assert_true(s->ok[0] && s->ok[1] && !s->ok[2] && !s->ok[3] && s->ok[4]);
	assert_int_equal(s->failed, 2);
	assert_int_equal(s->value[4] - s->value[1], 100);
	assert_true(s->t_end_ns[0] >= s->t_begin_ns[0]);
	meter_rapl_powercap.close(m);
	bench_release(&b);
}

static void test_powercap_gives_way_to_perf(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	make_server(&b.fs);
	b.su.cpu_energy = true;
	assert_null(meter_rapl_powercap.open(&b.su));
	assert_int_equal(b.su.columns.n, 0);
	bench_release(&b);
}

static void test_powercap_absent(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	assert_null(meter_rapl_powercap.open(&b.su));
	assert_int_equal(b.su.statuses.n, 1);
	assert_false(b.su.statuses.at[0].usable);
	assert_true(str_starts(b.su.statuses.at[0].reason, "RAPL: "));
	assert_true(*b.su.statuses.at[0].fix);
	bench_release(&b);
}

/* As in a container: links into a folder that has been masked. */
static void test_powercap_masked(void **state)
{
	struct bench b;
	_cleanup_free_ char *link = NULL;

	(void)state;
	bench_init(&b);
	fake_sysfs_write(&b.fs, "class/powercap/intel-rapl/enabled", "1");
	link = lem_asprintf("%s/class/powercap/intel-rapl:0", b.fs.root);
	assert_int_equal(symlink("../../devices/virtual/powercap/intel-rapl/intel-rapl:0", link),
			 0);
	assert_null(meter_rapl_powercap.open(&b.su));
	assert_non_null(strstr(status_of(&b, "")->reason, "masked in this container"));
	bench_release(&b);
}

static void test_powercap_permission(void **state)
{
	struct bench b;
	const struct meter_status *st;

	(void)state;
	if (geteuid() == 0) { /* root may read everything; perf has a seam for this, see below */
		print_message("# SKIP: needs an ordinary user\n");
		return;
	}
	bench_init(&b);
	fake_sysfs_zone(&b.fs, "intel-rapl:0", "package-0", 1000, MAX_UJ);
	fake_sysfs_chmod(&b.fs, "class/powercap/intel-rapl:0/energy_uj", 0);
	assert_null(meter_rapl_powercap.open(&b.su));
	st = status_of(&b, "");
	assert_non_null(strstr(st->reason, "permission denied"));
	assert_non_null(strstr(st->fix, "root"));
	bench_release(&b);
}

/* -- perf -------------------------------------------------------------------------------------- */

static uint64_t counts[8];
static int opened[8], n_opened, fail_with;
static bool reads_fail;

static int fake_open(const struct rapl_event *e)
{
	if (fail_with)
		return -fail_with;
	opened[n_opened] = e->cpu;
	return 1000 + n_opened++; /* close() of it fails, which nobody minds */
}

static bool fake_read(int fd, uint64_t *count)
{
	*count = counts[fd - 1000];
	return !reads_fail;
}

static const struct rapl_perf_kernel fake_kernel = {fake_open, fake_read};

static void make_pmu(const struct fake_sysfs *fs, const char *cpumask, const char *vendor)
{
	n_opened = fail_with = 0;
	reads_fail = false;
	fake_sysfs_write(fs, "bus/event_source/devices/power/type", "21");
	fake_sysfs_write(fs, "bus/event_source/devices/power/cpumask", "%s", cpumask);
	fake_sysfs_write(fs, "bus/event_source/devices/power/events/energy-pkg", "event=0x02");
	fake_sysfs_write(fs, "bus/event_source/devices/power/events/energy-pkg.unit", "Joules");
	fake_sysfs_write(fs, "bus/event_source/devices/power/events/energy-pkg.scale",
			 "2.3283064365386962890625e-10");
	fake_sysfs_write(fs, "bus/event_source/devices/power/events/energy-cores", "event=0x01");
	fake_sysfs_write(fs, "bus/event_source/devices/power/events/energy-cores.scale",
			 "2.3283064365386962890625e-10");
	fake_sysfs_write(fs, "devices/system/cpu/modalias",
			 "cpu:type:x86,ven%sfam0006mod006A:feature:,0000", vendor);
}

static void make_cpu(const struct fake_sysfs *fs, int cpu, int package, int die)
{
	_cleanup_free_ char *p =
		lem_asprintf("devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
	_cleanup_free_ char *d = lem_asprintf("devices/system/cpu/cpu%d/topology/die_id", cpu);

	fake_sysfs_write(fs, p, "%d", package);
	fake_sysfs_write(fs, d, "%d", die);
}

static void test_perf_reads_joules(void **state)
{
	struct bench b;
	struct series *s;
	void *m;

	(void)state;
	bench_init(&b);
	make_pmu(&b.fs, "0,18", "0000");
	make_cpu(&b.fs, 0, 0, 0);
	make_cpu(&b.fs, 18, 1, 0);
	m = rapl_perf_open_with(&b.su, &fake_kernel);
	assert_non_null(m);
	assert_int_equal(n_opened, 2); /* energy-cores is part of energy-pkg */
	assert_int_equal(opened[1], 18);
	meter_setup_allocate(&b.su);
	counts[0] = UINT64_C(1) << 32; /* one joule */
	counts[1] = UINT64_C(123456) << 32;
	tick(&b);
	reads_fail = true;
	tick(&b);
	s = series_of(&b, "package-0");
	assert_int_equal(s->value[0], 1000000);
	assert_false(s->ok[1]);
	assert_int_equal(series_of(&b, "package-1")->value[0], INT64_C(123456000000));
	assert_true(b.su.cpu_energy);
	meter_rapl_perf.close(m);
	bench_release(&b);
}

static void test_perf_counts_a_package_once(void **state)
{
	struct bench b;
	struct rapl_event e[16];

	(void)state;
	bench_init(&b);
	make_pmu(&b.fs, "0-3", "0002"); /* AMD, an older kernel: every die listed */
	for (int cpu = 0; cpu < 4; cpu++)
		make_cpu(&b.fs, cpu, cpu / 2, cpu % 2);
	assert_int_equal(rapl_perf_discover(b.fs.root, e, 16), 2);
	assert_string_equal(e[0].device, "package-0");
	assert_string_equal(e[1].device, "package-1");
	make_pmu(&b.fs, "0-3", "0000"); /* Intel: each die has its own counter */
	assert_int_equal(rapl_perf_discover(b.fs.root, e, 16), 4);
	assert_string_equal(e[1].device, "package-0-die-1");
	bench_release(&b);
}

/* As in some virtual machines: the event is there and never counts. */
static void test_perf_that_stands_still_is_said(void **state)
{
	struct bench b;
	void *m;

	(void)state;
	bench_init(&b);
	make_pmu(&b.fs, "0", "0000");
	m = rapl_perf_open_with(&b.su, &fake_kernel);
	meter_setup_allocate(&b.su);
	counts[0] = 0;
	tick(&b);
	clock_sleep_until_ns(clock_now_ns() + 1050 * NS_PER_MS);
	tick(&b);
	meter_rapl_perf.report(m, &b.su);
	assert_int_equal(b.su.statuses.n, 2);
	assert_non_null(
		strstr(b.su.statuses.at[1].reason, "the counter of package-0 stands still"));
	assert_false(b.su.statuses.at[1].usable);
	counts[0] = 1ull << 32;
	tick(&b);
	meter_rapl_perf.report(m, &b.su);
	assert_int_equal(b.su.statuses.n, 2);
	meter_rapl_perf.close(m);
	bench_release(&b);
}

static void test_perf_refuses_bad_files(void **state)
{
	static const struct {
		const char *file, *text;
	} bad[] = {
		{"type", "x"},
		{"events/energy-pkg", "event="},
		{"events/energy-pkg", "event=0x02,umask=1"},
		{"events/energy-pkg", "config=2"},
		{"events/energy-pkg.scale", "nan"},
		{"events/energy-pkg.scale", "0"},
		{"events/energy-pkg.unit", "Wh"},
		{"cpumask", ""},
		{"cpumask", "x-y"},
	};
	struct bench b;
	struct rapl_event e[4];

	(void)state;
	bench_init(&b);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		_cleanup_free_ char *path =
			lem_asprintf("bus/event_source/devices/power/%s", bad[i].file);

		make_pmu(&b.fs, "0", "0000");
		assert_int_equal(rapl_perf_discover(b.fs.root, e, 4), 1);
		fake_sysfs_write(&b.fs, path, "%s", bad[i].text);
		assert_int_equal(rapl_perf_discover(b.fs.root, e, 4), 0);
	}
	bench_release(&b);
}

static void test_perf_permission(void **state)
{
	struct bench b;
	const struct meter_status *st;

	(void)state;
	bench_init(&b);
	make_pmu(&b.fs, "0", "0000");
	fail_with = EACCES;
	assert_null(rapl_perf_open_with(&b.su, &fake_kernel));
	st = status_of(&b, "");
	assert_non_null(strstr(st->reason, "permission denied"));
	assert_non_null(strstr(st->fix, "perf_event_paranoid"));
	assert_false(b.su.cpu_energy);
	bench_release(&b);
}

static void test_perf_absent(void **state)
{
	struct bench b;

	(void)state;
	bench_init(&b);
	assert_null(rapl_perf_open_with(&b.su, &fake_kernel));
	assert_true(str_starts(status_of(&b, "")->reason, "RAPL: "));
	assert_non_null(strstr(status_of(&b, "")->reason, "power PMU"));
	bench_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_unwrap_is_exact_over_many_wraps),
		cmocka_unit_test(test_unwrap_refuses_what_cannot_be),
		cmocka_unit_test(test_modulus),
		cmocka_unit_test(test_powercap_takes_disjoint_domains_once),
		cmocka_unit_test(test_powercap_reads_and_wraps),
		cmocka_unit_test(test_powercap_gives_way_to_perf),
		cmocka_unit_test(test_powercap_absent),
		cmocka_unit_test(test_powercap_masked),
		cmocka_unit_test(test_powercap_permission),
		cmocka_unit_test(test_perf_reads_joules),
		cmocka_unit_test(test_perf_counts_a_package_once),
		cmocka_unit_test(test_perf_that_stands_still_is_said),
		cmocka_unit_test(test_perf_refuses_bad_files),
		cmocka_unit_test(test_perf_permission),
		cmocka_unit_test(test_perf_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
