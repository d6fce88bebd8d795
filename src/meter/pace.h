/*
 * pace.h — when to read a counter that moves in steps, so that few reads tell when it stepped.
 * Pure.
 *
 * A GPU's energy counter is refreshed on a grid of its own (100 ms on H100, phase locked to within
 * 1.4 ms: energy.md section 2). Reads at any other phase leave the time of each step unknown by up
 * to a whole period, which at the edge of a window is up to 70 J. So:
 *
 *   hunt    polls every 10 ms until three steps were seen: period and phase known to about 6 ms
 *   locked  one read 8 ms after every step; now and then one more just before a step, so that
 *           the pair brackets it anew and the estimate sharpens (after 2, 4, 8, …, then every
 *           50 steps: 10.2 reads a second)
 *   free    the counter moves with every poll, or not at all: plain periodic reads
 *
 * Only the order of reads comes from here; the pure energy code finds the grid in the data again.
 */
#ifndef LEM_METER_PACE_H
#define LEM_METER_PACE_H

#include "base/base.h"

enum pace_mode { PACE_HUNT, PACE_LOCKED, PACE_FREE };

struct pace {
	enum pace_mode mode;
	int64_t every_ns; /* wanted distance of reads */
	bool has_last;    /* last_* hold a reading */
	int64_t last_value, last_begin_ns;
	bool dense; /* since the latest step seen no other can have been missed */
	int64_t hunt_start_ns, free_since_ns;
	int polls, changes;            /* of this hunt */
	int64_t lo_ns, hi_ns, step_ns; /* the latest step seen lies between; its middle; 0: none */
	int64_t first_step_ns, steps;  /* the first, and how many steps ago: anchor the period */
	double period_ns;              /* 0: unknown */
	int64_t until_check;           /* steps */
	bool early;                    /* the read to come lies just before a step ... */
	bool close_early;              /* which side of the checks comes close to the step */
	int64_t late_ns;               /* ... and the one after it this long after it */
	bool came_before; /* the read before this one shows that the step awaited has been */
	int misses;       /* polls in a row that saw no step where one was due */
	int failures;     /* failed readings in a row */
};

void pace_init(struct pace *p, int64_t every_ns);
/* After a reading: when to read next. */
int64_t pace_next(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, int64_t value);
/* After a failed reading. */
int64_t pace_failed(struct pace *p, int64_t t_end_ns);

#endif
