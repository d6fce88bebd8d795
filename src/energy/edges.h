/*
 * edges.h — when a cumulative counter held which value. Pure.
 *
 * A GPU's counter moves in steps on a grid of its own; a read tells its value at some moment
 * between t_begin and t_end, and two reads with different values bracket at least one step.
 * Brackets narrower than TIGHT give the grid's period and phase (the sampler makes some on purpose:
 * meter/pace.h); with the grid known, every read belongs to one step whose time is known to a few
 * milliseconds, and without it the bracket's middle serves and its width says how well. A counter
 * that is refreshed about every millisecond (RAPL: energy.md section 4) needs none of this: the
 * read's middle serves.
 */
#ifndef LEM_ENERGY_EDGES_H
#define LEM_ENERGY_EDGES_H

#include "model/sample.h"

/* The counter held `value` from t_ns on, give or take half_ns. */
struct knot {
	int64_t t_ns;
	int64_t half_ns;
	int64_t value;
};

struct edges {
	struct knot *knots; /* malloc'ed, t_ns and value ascending */
	size_t n;
	bool stepping;    /* moves in steps that a read can miss; else continuous */
	double period_ns; /* of the steps; 0: not known */
	bool grid; /* step times come from a fitted grid: this much of their error is common */
	int64_t common_ns;
	double tilt; /* and grows by this share of the time between two of them */
	int64_t first_read_ns, last_read_ns; /* middles of the first and last good read */
};

/* Does a counter of this domain move in steps long enough to matter? */
bool edges_is_stepping(enum domain d);

/* False when there are fewer than two knots. A value that falls ends the knots before it begins. */
bool edges_find(const struct series *s, struct edges *ret);
void edges_release(struct edges *e);
#define _cleanup_edges_ _cleanup_(edges_release)

/* Index of the segment [i, i + 1] that holds t, clamped to the first and last. */
size_t edges_segment(const struct edges *e, int64_t t_ns);

#endif
