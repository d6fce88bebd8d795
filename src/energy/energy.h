/*
 * energy.h — joules of a window from raw series. Pure: no I/O, no clock.
 *
 * Source of the methods and of the error terms: energy.md sections 1, 2, 5. The primary figure is
 * the energy counter at both window edges, interpolated between two time-stamped steps; the
 * interval combines the width of the reads' brackets, the step period and the counter's own delay.
 * Gain error of the device (± 5 %) is systematic and stated separately, never inside the interval.
 */
#ifndef LEM_ENERGY_ENERGY_H
#define LEM_ENERGY_ENERGY_H

#include "model/quantity.h"
#include "model/sample.h"

/* Energy of one device in [t0, t1]. Unknown with the reason when it cannot be told. */
struct quantity energy_of_device(const struct sample_set *s, enum domain d, const char *device,
				 int64_t t0_ns, int64_t t1_ns);
/* Sum over the disjoint devices of a domain; unknown when any device of it is unknown. */
struct quantity energy_of_domain(const struct sample_set *s, enum domain d, int64_t t0_ns,
				 int64_t t1_ns);
/* Mean power of one device or domain (device NULL) in the window, watts. */
struct quantity energy_mean_power_w(const struct sample_set *s, enum domain d, const char *device,
				    int64_t t0_ns, int64_t t1_ns);
/* total − idle_w × duration; intervals combined as independent; negative values are kept. */
struct quantity energy_above_idle(struct quantity total_j, struct quantity idle_w,
				  int64_t duration_ns);
/* Sum of independent quantities; unknown when one is. */
struct quantity energy_sum(const struct quantity *q, size_t n, const char *method);

/* CPU seconds of a SIGNAL_CPU_TIME_NS series per wall second of the window. */
struct quantity energy_cpu_share(const struct sample_set *s, enum domain d, int64_t t0_ns,
				 int64_t t1_ns);

/* Faults that make a window's figure worthless: counter reset, zero delta, implausible power, gaps.
 */
struct energy_fault {
	char device[64];
	char text[160];
};
size_t energy_faults(const struct sample_set *s, int64_t t0_ns, int64_t t1_ns,
		     struct energy_fault *out, size_t cap);

/*
 * Leaves of a set what figures of these spans are made of, and as good: all readings in them and a
 * little around them, with the last before and the first after each. The sample ring is kept 30 s
 * around, where its lag is found. A GPU's energy counter is kept from the set's beginning to the
 * last span's end: its steps lie on one grid, whose phase would be lost across a gap (and it is
 * small: one or two readings a second). Spans in any order; n 0 leaves nothing.
 */
struct energy_span {
	int64_t t0_ns, t1_ns;
};
void energy_cut(struct sample_set *s, const struct energy_span *spans, size_t n);

#endif
