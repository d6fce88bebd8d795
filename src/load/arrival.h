/*
 * arrival.h — when requests arrive: an absolute schedule in double ns from the start. Pure; the
 * same spec gives the same schedule on every machine.
 *
 *   constant  the k-th at k / rate, the first at 0
 *   poisson   independent exponential gaps, one before the first
 *   gamma     gaps of mean 1 / rate and shape `burstiness`: coefficient of variation
 *             1 / √burstiness; 1 is Poisson, < 1 bursts, large is nearly constant (as vLLM's
 *             `--burstiness` has it)
 *   trace     times of a recording, from its first, stretched by trace_scale; when more are asked
 *             than it has it repeats, one mean gap after its last
 *
 * A ramp lets the rate change linearly from rate_hz to ramp_to_hz over ramp_ns and keep that value:
 * the arrivals of rate 1 are mapped through the inverse of the cumulated rate, so their statistics
 * stay those of the kind.
 */
#ifndef LEM_LOAD_ARRIVAL_H
#define LEM_LOAD_ARRIVAL_H

#include "base/error.h"

enum arrival_kind { ARRIVAL_CONSTANT, ARRIVAL_POISSON, ARRIVAL_GAMMA, ARRIVAL_TRACE };

struct arrival_spec {
	enum arrival_kind kind;
	double rate_hz;         /* > 0; with a ramp ≥ 0 */
	double ramp_ns;         /* 0: no ramp */
	double ramp_to_hz;      /* > 0 with a ramp */
	double burstiness;      /* gamma: > 0 */
	const double *trace_ns; /* trace: ascending, n_trace ≥ 1 of them */
	size_t n_trace;
	double trace_scale; /* trace: > 0; 0.5 is twice as fast */
	uint64_t seed;
};

/* Fills at_ns[0, n) ascending. LEM_E_USAGE names the number that makes no sense. */
int arrival_schedule(const struct arrival_spec *s, double *at_ns, size_t n, struct lem_error *err);

const char *arrival_kind_name(enum arrival_kind k); /* "constant", "poisson", "gamma", "trace" */

#endif
