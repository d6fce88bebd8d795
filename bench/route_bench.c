/*
 * route_bench.c — the program behind bench/route: what routing one request costs, 4 of 16 GPUs out
 * of order, in forms that need all of the resolving. Figures are medians over batches; the worst is
 * the 99th percentile of single calls of the slower way.
 */
#include "base/clock.h"
#include "gpu/route.h"

enum { GPUS = 16, BATCHES = 200, PER_BATCH = 500, SINGLES = 50000 };

#define BAR_US 5.0

static struct gpu_device devices[GPUS];
static char names[GPUS][128];
static const char *cdi[GPUS + 1];
static char by_uuid[96];
static const char *items[4] = {"13", by_uuid, "0000:17:00.0", "host:2"};

static void make_host(void)
{
	for (int i = 0; i < GPUS; i++) {
		devices[i] = (struct gpu_device){.index = i, .minor = i};
		(void)snprintf(devices[i].uuid, sizeof(devices[i].uuid),
			       "GPU-%08x-1111-2222-3333-44445555%04d",
			       0x9e3779b9u * (unsigned)(i + 1), i);
		(void)snprintf(devices[i].pci_bus_id, sizeof(devices[i].pci_bus_id),
			       "00000000:%02X:00.0", 0x10 + i);
		lem_strlcpy(devices[i].name, "NVIDIA H100 80GB HBM3", sizeof(devices[i].name));
		(void)snprintf(names[i], sizeof(names[i]), "nvidia.com/gpu=%s", devices[i].uuid);
		cdi[i] = names[i];
	}
	lem_strlcpy(by_uuid, devices[9].uuid, sizeof(by_uuid));
}

static bool route_once(enum gpu_target target)
{
	static const struct gpu_place place;
	static const struct gpu_engine_facts facts = {
		.asked = true, .cdi_on = true, .cdi_listed = true, .cdi_devices = cdi};
	static const struct gpu_inventory inv = {.gpus = devices, .n = GPUS};
	const struct gpu_route_request q = {.items = items,
					    .n = ARRAY_LEN(items),
					    .target = target,
					    .place = &place,
					    .engine = &facts};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;
	struct lem_error err;

	return gpu_route(&q, &inv, &a, &b, &err) >= 0 && b.gpus[1].index == 9;
}

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

/* Microseconds a call: median over batches. Negative when routing fails. */
static double median_us(enum gpu_target target)
{
	double us[BATCHES];

	for (int i = 0; i < BATCHES; i++) {
		int64_t t0 = clock_now_ns();

		for (int k = 0; k < PER_BATCH; k++)
			if (!route_once(target))
				return -1;
		us[i] = (double)(clock_now_ns() - t0) / 1e3 / PER_BATCH;
	}
	qsort(us, BATCHES, sizeof(us[0]), by_value);
	return us[BATCHES / 2];
}

static double p99_us(enum gpu_target target)
{
	static double us[SINGLES];

	for (int i = 0; i < SINGLES; i++) {
		int64_t t0 = clock_now_ns();

		(void)route_once(target);
		us[i] = (double)(clock_now_ns() - t0) / 1e3;
	}
	qsort(us, SINGLES, sizeof(us[0]), by_value);
	return us[SINGLES * 99 / 100];
}

static bool line(const char *figure, double us)
{
	bool ok = us >= 0 && us <= BAR_US;

	printf("route %s: %.2f us (bar %g us) %s\n", figure, us, BAR_US, ok ? "ok" : "short");
	return ok;
}

int main(void)
{
	double process, container;
	bool ok;

	make_host();
	process = median_us(GPU_TO_PROCESS);
	container = median_us(GPU_TO_CONTAINER);
	if (process < 0 || container < 0) {
		fprintf(stderr, "route: the request was refused\n");
		return 1;
	}
	ok = line("process", process);
	ok &= line("container by CDI", container);
	ok &= line("worst (99th percentile)",
		   MAX(p99_us(GPU_TO_PROCESS), p99_us(GPU_TO_CONTAINER)));
	return ok ? 0 : 1;
}
