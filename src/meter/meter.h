/*
 * meter.h — sources of readings and the sampler that reads them.
 *
 * A meter is one file and one line in registry.c. The sampler owns one thread, ticks on absolute
 * CLOCK_MONOTONIC deadlines, reads what is due into preallocated columns and records its own
 * lateness; while it runs there is no allocation, lock, log or JSON on its path.
 */
#ifndef LEM_METER_METER_H
#define LEM_METER_METER_H

#include "base/error.h"
#include "model/gpu_binding.h"
#include "model/sample.h"

struct meter_request {
	const struct gpu_binding *binding; /* GPUs to read, by UUID; NULL or n 0: none */
	const char *const *meters;         /* names, NULL-terminated; NULL: "auto" = all that are readable */
	double estimate_watts_per_core;    /* > 0 asks for the estimate meter */
	double counter_hz;                 /* 0: default (10 Hz), at most 10 */
	int64_t max_duration_ns;           /* columns are sized for this; afterwards `dropped` counts */
};

struct sampler;

/*
 * Opens every meter asked for. A meter that cannot be read is not a failure: it appears in
 * sample_set.status with its reason. Negative only when the sampler itself cannot run.
 */
int sampler_start(const struct meter_request *req, struct sampler **ret, struct lem_error *err);

/* The process (tree root) whose CPU time `estimate` reads; may be called once, any time. */
void sampler_watch_pid(struct sampler *s, pid_t pid);

/* Latest power over all metered GPUs (or CPU packages when there is no GPU); NAN when not known.
 * Safe from another thread, lock-free; for the progress line only. */
double sampler_watts_now(const struct sampler *s);

/* Stops the thread, reads every counter a last time, hands over the columns. Frees s. */
void sampler_stop(struct sampler *s, struct sample_set *ret);

/* For `lem doctor` and preflight: what could be read here, without starting a thread. */
int meter_probe(const struct meter_request *req, struct meter_status **ret, size_t *ret_n,
		struct lem_error *err);

#endif
