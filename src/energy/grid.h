/*
 * grid.h — the clock on which a counter steps: step k happens at t0 + k × period. Pure.
 */
#ifndef LEM_ENERGY_GRID_H
#define LEM_ENERGY_GRID_H

#include "model/sample.h"

/* At least one step lies between the two; *reads* are the numbers of the good reads around it. */
struct bracket {
	int64_t lo_ns,
		hi_ns; /* begin of the last read of the old value, end of the first of the new */
	bool adjacent; /* nothing else can have happened since the previous tight bracket */
};

struct grid {
	bool known;
	double t0_ns, period_ns;
	double spread_ns; /* root of the sum of squares of the brackets' distances from their middle
			   */
	int64_t half_ns;  /* how far a step may lie from its predicted time */
	double tilt;      /* how far the period may be off, as a share of it (95 %) */
};

#define GRID_TIGHT_NS (30 * NS_PER_MS)

/*
 * Fits the grid to the tight ones among n brackets in order of time. Not known when too few are
 * tight or when they do not agree on one period and phase over the whole time.
 */
struct grid grid_fit(const struct bracket *b, size_t n);

/* Number of the last step at or before t. */
int64_t grid_floor(const struct grid *g, int64_t t_ns);
int64_t grid_time_ns(const struct grid *g, int64_t k);

#endif
