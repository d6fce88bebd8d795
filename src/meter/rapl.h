/*
 * rapl.h — what the two readers of Intel's and AMD's energy counters share, and the seams at which
 * tests put their own kernel.
 *
 * Domains nest: psys contains package, package contains core and uncore; DRAM lies outside
 * (energy.md section 4). Only package, DRAM and psys are read, each as a domain of its own, so that
 * a sum never holds the same joule twice.
 */
#ifndef LEM_METER_RAPL_H
#define LEM_METER_RAPL_H

#include "meter/ops.h"

enum { RAPL_MAX_DOMAINS = 64 };

/* A read costs microseconds; refreshed about every millisecond, at most 20 reads a second are
 * advised for an error below 5 % (energy.md section 4). */
#define RAPL_PERIOD_NS (100 * NS_PER_MS)

/* Adds reading to a running total across wrap-arounds. */
struct rapl_unwrap {
	uint64_t modulus_uj; /* 0: never wraps */
	uint64_t last_uj;
	bool has_last;
	int64_t total_uj;
};

/* Exact over any number of wraps as long as one reading falls into each. A value the counter cannot
 * hold is refused (false) and changes nothing; so does a reading that the caller did not get. */
bool rapl_unwrap_add(struct rapl_unwrap *u, uint64_t value_uj);
/* The counter's modulus from powercap's max_energy_range_uj, its largest value. */
uint64_t rapl_modulus_uj(uint64_t max_energy_range_uj);

/* A counter of the perf `power` PMU on one CPU. */
struct rapl_event {
	enum domain domain;
	char device[64]; /* "package-0", "package-0-die-1", "dram-0", "psys" */
	uint32_t type;
	uint64_t config;
	int cpu;
	double joules_per_count;
};

/* What perf_event_open and read(2) do; `open` gives a descriptor or -errno. */
struct rapl_perf_kernel {
	int (*open)(const struct rapl_event *e);
	bool (*read)(int fd, uint64_t *count);
};

/* The events below ROOT/bus/event_source/devices/power; 0 when there is no such PMU. */
size_t rapl_perf_discover(const char *sysfs_root, struct rapl_event *out, size_t cap);
void *rapl_perf_open_with(struct meter_setup *su, const struct rapl_perf_kernel *kernel);

/* A counter that never moved while it was read (virtual machines have such): says so in a status.
 * For meter_ops.report. */
void rapl_report_still(struct meter_setup *su, const struct column *c);

/* Why RAPL cannot be here at all (virtual machine, container, other CPU), for a reason text. */
void rapl_explain_absence(const char *what, char *reason, size_t reason_size, char *fix,
			  size_t fix_size);

#endif
