/*
 * ring.h — the driver's ring of 20 ms power samples, as the shape of power inside a counter's step.
 * Pure.
 *
 * The ring alone is not trusted with a total (it parts from the counter by up to 4 %, energy.md 2)
 * but it knows when inside a step power changed. Its stamps lag the counter's steps by an amount
 * that has to be found in the data: the one at which the ring's energy between two steps fits the
 * counter's best.
 */
#ifndef LEM_ENERGY_RING_H
#define LEM_ENERGY_RING_H

#include "energy/edges.h"

struct ring {
	int64_t *t_ns; /* malloc'ed: stamps, ascending */
	double *uj;    /* energy up to each stamp, not rescaled */
	size_t n;
	bool aligned;
	int64_t lag_ns, lag_half_ns; /* the ring's stamp minus the counter's time */
};

/* Takes the samples within [t0, t1] and aligns them to the counter's steps there. `aligned` is
 * false when there are too few, or when power hardly moved so that the lag cannot be told. */
void ring_align(const struct series *samples, const struct edges *e, int64_t t0_ns, int64_t t1_ns,
		struct ring *ret);
void ring_release(struct ring *r);
#define _cleanup_ring_ _cleanup_(ring_release)

/* Share of the energy between a and b that came before t, in the counter's time; false where
 * samples are missing. */
bool ring_share(const struct ring *r, int64_t a_ns, int64_t t_ns, int64_t b_ns, double *ret);

#endif
