/*
 * sim_sampler.h — what the sampler would have recorded of a GPU, in simulated time: the same pacing
 * (meter/pace.h), calls as long and as irregular as on the H100 (energy.md section 2), and a
 * counter that follows a power law or a recording.
 */
#ifndef LEM_TESTS_SIM_SAMPLER_H
#define LEM_TESTS_SIM_SAMPLER_H

#include "base/rand.h"
#include "model/sample.h"
#include "power_law.h"
#include "trace.h"

#define SIM_DEVICE "GPU-sim"

struct sim {
	const struct power_law *law; /* or */
	const struct trace *trace;
	int64_t t0_ns, t1_ns; /* simulated CLOCK_MONOTONIC */
	int64_t period_ns, phase_ns, delay_ns, jitter_ns;
	int64_t every_ns;        /* of the reads; 0: 1 s, the sampler's default */
	const int64_t *marks_ns; /* ascending: where the run would call sampler_mark */
	size_t n_marks;
	bool unpaced; /* plain periodic reads, no hunting for the phase */
	uint64_t seed;
};

/* Series: energy counter, the 20 ms ring (a recording may have none), instant power at 2 Hz, power
 * limit. */
void sim_record(const struct sim *sim, struct sample_set *ret);
/* Truth of the law in J. */
double sim_joules(const struct sim *sim, int64_t t0_ns, int64_t t1_ns);

/* An empty series with room for cap readings, and one more reading in it. */
void sim_series_init(struct series *s, enum signal signal, enum domain d, const char *device,
		     size_t cap);
void sim_push(struct series *s, int64_t t_begin_ns, int64_t t_end_ns, int64_t value, bool ok);

#endif
