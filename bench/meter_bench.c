/*
 * meter_bench.c — the program behind bench/meter.
 *
 * Without arguments: 8 fake GPUs at default periods for 25 s; CPU of the sampler thread, CPU a GPU
 * sample (one visit of one GPU: its counter, its power fields, its slow signals or its ring),
 * resident memory that the meter adds. The fake driver's own work is inside all three.
 *
 * --real [SECONDS]: every GPU of this machine, a mark at the beginning and the end; what each
 * signal's read takes, and the energy by counter, by ring and by average power. No bars.
 */
#include <math.h>

#include "base/clock.h"
#include "base/num.h"
#include "energy/energy.h"
#include "energy/integrate.h"
#include "gpu/id.h"
#include "meter/meter.h"
#include "sys/fs.h"

enum { GPUS = 8, MAX_GPUS = 64 };

static const char *const only_nvml[] = {"nvml", NULL};

static int64_t resident_bytes(void)
{
	char line[128], *save = NULL;
	int64_t pages = 0;

	if (fs_read_line("/proc/self/statm", line, sizeof(line)) && strtok_r(line, " ", &save))
		(void)num_parse_i64(strtok_r(NULL, " ", &save), &pages);
	return pages * sysconf(_SC_PAGESIZE);
}

static bool bind_all(struct arena *a, struct gpu_binding *b)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	struct lem_error err = LEM_ERROR_INIT;
	char text[MAX_GPUS][24];
	const char *items[MAX_GPUS];
	size_t n = 0;

	if (gpu_inventory_read(&inv, &err) < 0) {
		fprintf(stderr, "meter: %s\n", err.what);
		return false;
	}
	for (; n < MIN(inv.n, (size_t)MAX_GPUS); n++) {
		(void)snprintf(text[n], sizeof(text[n]), "%zu", n);
		items[n] = text[n];
	}
	if (n && gpu_resolve(&inv, items, n, NULL, a, b, &err) == 0)
		return true;
	fprintf(stderr, "meter: %s\n", n ? err.what : "no GPU");
	return false;
}

static bool line(const char *figure, double value, const char *unit, double bar)
{
	bool ok = value <= bar;

	printf("meter %s: %.4g %s (bar %g %s) %s\n", figure, value, unit, bar, unit,
	       ok ? "ok" : "short");
	return ok;
}

/* Visits of a GPU: the signals of one visit are read together, so one of each group stands for it.
 */
static size_t count_visits(const struct sample_set *set)
{
	size_t n = 0;

	for (size_t i = 0; i < set->n_series; i++) {
		const struct series *s = &set->series[i];

		if (s->signal == SIGNAL_ENERGY_COUNTER_UJ || s->signal == SIGNAL_POWER_AVERAGE_MW ||
		    s->signal == SIGNAL_TEMPERATURE_C)
			n += s->n;
		else if (s->signal == SIGNAL_POWER_RING_MW) /* drained once a second */
			n += (size_t)((set->t_stop_ns - set->t_start_ns) / NS_PER_S);
	}
	return n;
}

static int bench_fake(int64_t seconds)
{
	_cleanup_free_ char *dir = fs_program_dir();
	_cleanup_free_ char *lib = fs_join(dir, "libnvml_fake_bench.so");
	struct arena a = ARENA_INIT;
	struct gpu_binding b = {0};
	struct meter_request req = {
		.binding = &b, .meters = only_nvml, .max_duration_ns = 3600 * NS_PER_S};
	struct sampler *s = NULL;
	struct sample_set set;
	int64_t before, after;
	double wall_ns;
	bool ok;

	setenv("LEM_NVML_LIBRARY", lib, 1);
	setenv("LEM_FAKE_NVML", "gpus=8;power=square:120,700,0.7s", 1);
	if (!bind_all(&a, &b))
		return 77;
	before = resident_bytes();
	if (sampler_start(&req, &s, NULL) < 0)
		return 1;
	clock_sleep_until_ns(clock_now_ns() + seconds * NS_PER_S);
	after = resident_bytes();
	sampler_stop(s, &set);
	wall_ns = (double)(set.t_stop_ns - set.t_start_ns);
	ok = line("cpu", 100.0 * (double)set.cpu_ns / wall_ns, "% of a core", 0.1);
	ok &= line("sample", (double)set.cpu_ns / 1e3 / (double)count_visits(&set),
		   "us CPU per GPU sample", 10);
	ok &= line("memory", (double)(after - before) / (1 << 20), "MB resident", 4);
	printf("meter peers: CodeCarbon 1 %% of a core and 1.0 ms a sample, 92 to 104 MB (facts of "
	       "the "
	       "project, not measured here)\n");
	sample_set_release(&set);
	arena_release(&a);
	return ok ? 0 : 1;
}

static int by_value(const void *x, const void *y)
{
	int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

	return (a > b) - (a < b);
}

static void print_series(const struct series *s)
{
	_cleanup_free_ int64_t *took = lem_calloc(s->n + 1, sizeof(*took));
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++)
		if (s->ok[i])
			took[n++] = s->t_end_ns[i] - s->t_begin_ns[i];
	if (n == 0)
		return;
	qsort(took, n, sizeof(*took), by_value);
	printf("  %-20s %6zu reads, %" PRIu64
	       " failed; a read p50 %.1f us, p99 %.1f us, max %.1f us\n",
	       signal_name(s->signal), s->n, s->failed, (double)took[n / 2] / 1e3,
	       (double)took[n * 99 / 100] / 1e3, (double)took[n - 1] / 1e3);
}

static void print_energy(const struct sample_set *set, const char *uuid, int64_t t0, int64_t t1)
{
	for (size_t i = 0; i < set->n_series; i++) {
		const struct series *s = &set->series[i];
		struct quantity q;

		if (!str_eq(s->device, uuid))
			continue;
		if (s->signal == SIGNAL_ENERGY_COUNTER_UJ)
			q = energy_of_device(set, DOMAIN_GPU, uuid, t0, t1);
		else if (s->signal == SIGNAL_POWER_RING_MW || s->signal == SIGNAL_POWER_AVERAGE_MW)
			q = integrate_power(s, t0, t1);
		else
			continue;
		if (q.known)
			printf("  by %-17s %.1f J [%.1f, %.1f]\n", signal_name(s->signal), q.value,
			       q.low, q.high);
		else
			printf("  by %-17s unknown: %s\n", signal_name(s->signal), q.reason);
	}
}

static int bench_real(int64_t seconds)
{
	struct arena a = ARENA_INIT;
	struct gpu_binding b = {0};
	struct meter_request req = {.binding = &b, .meters = only_nvml};
	struct sampler *s = NULL;
	struct sample_set set;
	int64_t t0, t1;

	if (!bind_all(&a, &b))
		return 77;
	if (sampler_start(&req, &s, NULL) < 0)
		return 1;
	clock_sleep_until_ns(clock_now_ns() +
			     4 * NS_PER_S); /* the counter's phase, and the 1 s average */
	t0 = clock_now_ns();
	sampler_mark(s);
	clock_sleep_until_ns(t0 + seconds * NS_PER_S);
	t1 = clock_now_ns();
	sampler_mark(s);
	clock_sleep_until_ns(t1 + 1500 * NS_PER_MS);
	sampler_stop(s, &set);
	for (size_t g = 0; g < b.n; g++) {
		printf("%s %s\n", b.gpus[g].uuid, b.gpus[g].name);
		for (size_t i = 0; i < set.n_series; i++)
			if (str_eq(set.series[i].device, b.gpus[g].uuid))
				print_series(&set.series[i]);
		print_energy(&set, b.gpus[g].uuid, t0, t1);
	}
	for (size_t i = 0; i < set.n_status; i++)
		if (*set.status[i].reason)
			printf("%s %s: %s\n", set.status[i].meter, set.status[i].device,
			       set.status[i].reason);
	printf("sampler: %.2f %% of a core\n",
	       100.0 * (double)set.cpu_ns / (double)(set.t_stop_ns - set.t_start_ns));
	sample_set_release(&set);
	arena_release(&a);
	return 0;
}

int main(int argc, char **argv)
{
	bool real = argc > 1 && str_eq(argv[1], "--real");
	int64_t seconds = 25;

	if (argc > 1 + real && (!num_parse_i64(argv[1 + real], &seconds) || seconds < 1)) {
		fprintf(stderr, "usage: meter [--real] [SECONDS]\n");
		return 2;
	}
	return real ? bench_real(seconds) : bench_fake(seconds);
}
