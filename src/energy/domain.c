#include <math.h>

#include "energy/edges.h"
#include "energy/energy.h"
#include "energy/integrate.h"

/* An estimate of watts a core is nobody's measurement: half to twice is claimed, no more. */
#define ESTIMATE_FACTOR 2.0

enum { MAX_DEVICES = 256 };

static const struct series *find(const struct sample_set *s, enum signal signal, enum domain d,
				 const char *device)
{
	for (size_t i = 0; i < s->n_series; i++)
		if (s->series[i].signal == signal && s->series[i].domain == d &&
		    str_eq(s->series[i].device, device))
			return &s->series[i];
	return NULL;
}

static bool meter_serves(const char *meter, enum domain d)
{
	switch (d) {
	case DOMAIN_GPU: return str_eq(meter, "nvml");
	case DOMAIN_CPU_PACKAGE:
	case DOMAIN_DRAM:
	case DOMAIN_PSYS: return str_starts(meter, "rapl");
	case DOMAIN_CPU_ESTIMATE: return str_eq(meter, "estimate");
	case DOMAIN_SELF:
	default: return false;
	}
}

/* Why nothing is known of a device (NULL: of the whole domain), as the meters said. */
static struct quantity unknown(const struct sample_set *s, enum domain d, const char *device)
{
	struct quantity q = {0};

	for (size_t i = 0; i < s->n_status; i++) {
		const struct meter_status *st = &s->status[i];
		bool fits = !device || !*st->device || str_eq(st->device, device);

		if (!st->usable && *st->reason && meter_serves(st->meter, d) && fits)
			return quantity_unknown(st->reason);
	}
	(void)snprintf(q.reason, sizeof(q.reason), "no meter read the energy of %.80s",
		       device ? device : domain_name(d));
	return q;
}

/* What a meter said of the device at the end (lost, stands still) is the better reason. */
static bool says_unusable(const struct sample_set *s, const char *device, struct quantity *q)
{
	for (size_t i = 0; i < s->n_status; i++) {
		if (s->status[i].usable || !*device || !str_eq(s->status[i].device, device))
			continue;
		*q = quantity_unknown(s->status[i].reason);
		return true;
	}
	return false;
}

/* What shows the swing of power best: the ring of 20 ms samples, else the instant readings. */
static const struct series *levels_of(const struct sample_set *s, enum domain d, const char *device)
{
	const struct series *ring = find(s, SIGNAL_POWER_RING_MW, d, device);

	return ring && ring->n ? ring : find(s, SIGNAL_POWER_INSTANT_MW, d, device);
}

static void label_estimate(const struct series *counter, struct quantity *q)
{
	q->low = q->value / ESTIMATE_FACTOR;
	q->high = q->value * ESTIMATE_FACTOR;
	lem_strlcpy(q->method, *counter->note ? counter->note : "estimated", sizeof(q->method));
}

struct quantity energy_of_device(const struct sample_set *s, enum domain d, const char *device,
				 int64_t t0_ns, int64_t t1_ns)
{
	const struct series *counter = find(s, SIGNAL_ENERGY_COUNTER_UJ, d, device);
	const struct series *average = find(s, SIGNAL_POWER_AVERAGE_MW, d, device);
	struct quantity q;

	if (counter) {
		q = integrate_counter(counter, levels_of(s, d, device), t0_ns, t1_ns);
		if (!q.known && says_unusable(s, device, &q))
			return q;
		if (q.known && d == DOMAIN_CPU_ESTIMATE)
			label_estimate(counter, &q);
		return q;
	}
	return average ? integrate_power(average, t0_ns, t1_ns) : unknown(s, d, device);
}

static void add_device(const char *devices[MAX_DEVICES], size_t *n, const char *device)
{
	for (size_t i = 0; i < *n; i++)
		if (str_eq(devices[i], device))
			return;
	if (*device && *n < MAX_DEVICES)
		devices[(*n)++] = device;
}

/* Every device of the domain that was read or should have been: none may be missing from a sum. */
static size_t list_devices(const struct sample_set *s, enum domain d,
			   const char *devices[MAX_DEVICES])
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_series; i++)
		if (s->series[i].domain == d)
			add_device(devices, &n, s->series[i].device);
	for (size_t i = 0; d == DOMAIN_GPU && i < s->n_status; i++)
		if (meter_serves(s->status[i].meter, d))
			add_device(devices, &n, s->status[i].device);
	return n;
}

struct quantity energy_of_domain(const struct sample_set *s, enum domain d, int64_t t0_ns,
				 int64_t t1_ns)
{
	const char *devices[MAX_DEVICES];
	size_t n = list_devices(s, d, devices);
	_cleanup_free_ struct quantity *q = lem_calloc(n + 1, sizeof(*q));

	if (n == 0)
		return unknown(s, d, NULL);
	for (size_t i = 0; i < n; i++) {
		q[i] = energy_of_device(s, d, devices[i], t0_ns, t1_ns);
		if (!q[i].known)
			return q[i];
	}
	return energy_sum(q, n, q[0].method);
}

struct quantity energy_mean_power_w(const struct sample_set *s, enum domain d, const char *device,
				    int64_t t0_ns, int64_t t1_ns)
{
	struct quantity q = device ? energy_of_device(s, d, device, t0_ns, t1_ns)
				   : energy_of_domain(s, d, t0_ns, t1_ns);

	return quantity_per(q, (double)(t1_ns - t0_ns) / (double)NS_PER_S, "the window is empty");
}

struct quantity energy_cpu_share(const struct sample_set *s, enum domain d, int64_t t0_ns,
				 int64_t t1_ns)
{
	for (size_t i = 0; i < s->n_series; i++) {
		struct series cpu = s->series[i];
		struct quantity q;

		if (cpu.domain != d || cpu.signal != SIGNAL_CPU_TIME_NS)
			continue;
		/* The same arithmetic with ns for µJ: a cumulative count at two edges. */
		q = integrate_counter(&cpu, NULL, t0_ns, t1_ns);
		if (!q.known)
			return quantity_unknown("CPU time was not read around the window");
		q = quantity_per(q, (double)(t1_ns - t0_ns) / 1e6, "the window is empty");
		q.low = fmax(0, q.low);
		lem_strlcpy(q.method, "CPU time", sizeof(q.method));
		return q;
	}
	return quantity_unknown("no CPU time was read");
}
