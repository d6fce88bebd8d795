/*
 * sample.h — what meters read: columns of raw readings with the bracket of each read.
 */
#ifndef LEM_MODEL_SAMPLE_H
#define LEM_MODEL_SAMPLE_H

#include "base/base.h"

/* What a series holds; the unit is part of the kind, values are integers in that unit. */
enum signal {
	SIGNAL_ENERGY_COUNTER_UJ, /* cumulative energy, unwrapped, microjoule */
	SIGNAL_POWER_AVERAGE_MW,  /* the device's own average (1 s boxcar on Hopper) */
	SIGNAL_POWER_INSTANT_MW,  /* aliases under modulated load: never integrated */
	SIGNAL_POWER_RING_MW, /* the driver's time-stamped sample ring; t_end is the sample's stamp
			       */
	SIGNAL_TEMPERATURE_C,
	SIGNAL_CLOCK_SM_MHZ,
	SIGNAL_CLOCK_MEM_MHZ,
	SIGNAL_CLOCK_REASONS, /* clock event reasons bitmask, energy.md section 1 */
	SIGNAL_UTIL_GPU_PCT,
	SIGNAL_MEMORY_USED_BYTES,
	SIGNAL_CPU_TIME_NS, /* cumulative CPU time of `device` (lem itself, or the engine's tree) */
	SIGNAL_POWER_LIMIT_MW, /* enforced limit; a power far above it cannot be true */
	SIGNAL_COUNT
};

enum domain {
	DOMAIN_GPU,
	DOMAIN_CPU_PACKAGE,
	DOMAIN_DRAM,
	DOMAIN_PSYS,
	DOMAIN_CPU_ESTIMATE,
	DOMAIN_SELF
};

struct series {
	enum signal signal;
	enum domain domain;
	char device[64]; /* GPU UUID, "package-0", "dram-1", "self"; unique with signal */
	char meter[24];  /* "nvml", "rapl_perf", "rapl_powercap", "self", "estimate", "replay" */
	char note[64];   /* e.g. "estimated", or the sysfs path; may be empty */
	size_t n, cap;   /* columns are preallocated; a full series counts `dropped` */
	int64_t *t_begin_ns; /* CLOCK_MONOTONIC before the read */
	int64_t *t_end_ns;   /* and after it */
	int64_t *value;
	uint8_t *ok; /* 0: the read failed, value is meaningless */
	uint64_t dropped, failed;
};

/* A source that could not be read, and why; becomes the reason of every null that follows from it.
 */
struct meter_status {
	char meter[24];
	char device[64];
	bool usable;
	char reason[160];
	char fix[160];
};

/* All that the sampler recorded during one run. */
struct sample_set {
	struct series *series;
	size_t n_series;
	struct meter_status *status;
	size_t n_status;
	int64_t *late_ns; /* how late each sampler tick began, ns, in order */
	size_t n_late;
	int64_t cpu_ns; /* CPU time of the sampler thread */
	int64_t t_start_ns, t_stop_ns;
};

const char *signal_name(enum signal s); /* "energy_counter_uj", … */
const char *domain_name(enum domain d); /* "gpu", "cpu_package", … */
void sample_set_release(struct sample_set *s);

#endif
