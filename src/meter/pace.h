/*
 * pace.h — when to read a counter that moves in steps, so that few reads tell when it stepped.
 * Pure.
 *
 * A GPU's energy counter is refreshed on a grid of its own (100 ms on H100, phase locked to within
 * 1.4 ms: energy.md section 2), and each read costs 3 to 15 ms of CPU. Once the grid is known, a
 * read at any moment between two steps gives the counter's value at the step before, whose time the
 * grid tells; unknown, the time of a step is uncertain by up to a period, at the edge of a window
 * 70 J. So:
 *
 *   hunt    polls every 10 ms until three steps were seen: period and phase known to about 6 ms
 *   locked  reads every so often, away from the steps; now and then one read just before a step and
 *           one just after, which bracket it anew and sharpen the estimate (after 2, 4, 8, … and
 * then every 100 steps) free    the counter moves with every poll, or not at all: plain periodic
 * reads
 *
 * A mark, at the edge of a phase, asks for a read at once and one after each of the next two steps:
 * the edge then lies between two known steps. Only the order of reads comes from here; the pure
 * energy code finds the grid in the data again.
 */
#ifndef LEM_METER_PACE_H
#define LEM_METER_PACE_H

#include "base/base.h"

enum pace_mode { PACE_HUNT, PACE_LOCKED, PACE_FREE };
/* What the read to come is for, while locked. */
enum pace_read { PACE_SAFE, PACE_EARLY, PACE_LATE, PACE_POLL };

struct pace {
	enum pace_mode mode;
	enum pace_read expect;
	int64_t every_ns; /* wanted distance of reads */
	int64_t slack_ns; /* the read to come may be this much early */
	bool has_last;    /* last_* hold a reading */
	int64_t last_value, last_begin_ns;
	bool dense; /* since the latest step seen no other can have been missed */
	int64_t hunt_start_ns, free_since_ns;
	bool tight;                    /* the latest two readings were close together */
	int tries;                     /* of a check */
	int polls;                     /* of this hunt, or since a step was missed */
	int changes;                   /* of this hunt */
	int failures;                  /* failed readings in a row */
	bool at_mark;                  /* the read to come is at a mark */
	int mark_reads;                /* still to come */
	int64_t lo_ns, hi_ns, step_ns; /* the latest step seen lies between; its middle; 0: none */
	int64_t first_step_ns, steps;  /* the first, and how many steps ago: anchor the period */
	double period_ns;              /* 0: unknown */
	int64_t until_check;           /* steps */
	bool close_early;              /* which side of the checks comes close to the step */
	int64_t late_ns;               /* the late read of a check this long after it */
};

void pace_init(struct pace *p, int64_t every_ns);
/* After a reading: when to read next. */
int64_t pace_next(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, int64_t value);
/* After a failed reading. */
int64_t pace_failed(struct pace *p, int64_t t_end_ns);
/* Before the reading at a mark, which the caller makes at once. */
void pace_mark(struct pace *p);

#endif
