/*
 * meter.h — sources of readings and the sampler that reads them.
 *
 * A meter is one file and one line in registry.c. The sampler owns one thread, ticks on absolute
 * CLOCK_MONOTONIC deadlines, reads what is due into preallocated columns and records its own
 * lateness; while it runs there is no allocation, lock, log or JSON on its path.
 *
 * Default periods (energy.md section 5.9): energy counters 10 Hz, GPU power 2 Hz (10 Hz when there
 * is no counter), the driver's sample ring 1 Hz, temperature, clocks, reasons, utilisation and
 * memory 1 Hz. A GPU's counter is read just after it stepped: see pace.h.
 *
 * Memory: columns are reserved for max_duration_ns but cost nothing until they are written, so what
 * is resident is what was recorded: about 1.7 KB a second and GPU, of which the 20 ms sample ring
 * is 1.3 KB. All columns together reserve at most METER_BUDGET_BYTES; a run too long for that keeps
 * its counters whole and loses the end of the others (`dropped` counts).
 */
#ifndef LEM_METER_METER_H
#define LEM_METER_METER_H

#include "base/error.h"
#include "model/gpu_binding.h"
#include "model/sample.h"

enum { METER_BUDGET_BYTES = 128 << 20 };

struct meter_request {
	const struct gpu_binding *binding; /* GPUs to read, by UUID; NULL or n 0: none */
	const char *const
		*meters; /* names, NULL-terminated; NULL: "auto" = all that are readable */
	double estimate_watts_per_core; /* > 0 asks for the estimate meter */
	double counter_hz;       /* of a GPU's energy counter; 0: default (1 Hz), at most 10 */
	int64_t max_duration_ns; /* columns are sized for this; afterwards `dropped` counts; 0: 1 h
				  */
};

struct sampler;

/*
 * Opens every meter asked for. A meter that cannot be read is not a failure: it appears in
 * sample_set.status with its reason. A status is one line a meter and device; `usable` says that
 * energy comes from it, and a usable one may still list in `reason` what the device does not
 * support. Negative only when the sampler itself cannot run.
 */
int sampler_start(const struct meter_request *req, struct sampler **ret, struct lem_error *err);

/* The process (tree root) whose CPU time `estimate` reads; may be called once, any time. */
void sampler_watch_pid(struct sampler *s, pid_t pid);

/* A phase begins or ends now: the energy counters are read at once and after their next steps, so
 * that the edge is sharp. Any thread; returns at once. */
void sampler_mark(struct sampler *s);

/* Latest power over all metered GPUs (or CPU packages when there is no GPU); NAN when not known.
 * Safe from another thread, lock-free; for the progress line only. */
double sampler_watts_now(const struct sampler *s);

/*
 * Copies what has been read until now, while the thread goes on; it is neither stopped nor slowed.
 * Of each column the entries that were complete when it was looked at; of two columns one may be a
 * reading ahead. Statuses are those of the start: what a meter has to say of the whole time (lost,
 * never moved) comes with sampler_stop. Caller's thread: the one that will call sampler_stop.
 */
void sampler_snapshot(struct sampler *s, struct sample_set *ret);

/*
 * Stops the thread, reads every counter a last time, hands over the columns. Frees s. Returns
 * within about a second even while a driver call hangs: the thread is then left behind with its
 * memory, what had been read is handed over, and a status says so.
 */
void sampler_stop(struct sampler *s, struct sample_set *ret);

/* For `lem doctor` and preflight: what could be read here, without starting a thread. The array is
 * malloc'ed. */
int meter_probe(const struct meter_request *req, struct meter_status **ret, size_t *ret_n,
		struct lem_error *err);

/* Is it a name that `meters` may hold? "auto" is not one. For checking a configuration. */
bool meter_known(const char *name);

#endif
