/*
 * levels.h — several loads measured one after the other in one launch of the engine: traffic.rates
 * or traffic.concurrencies. What stands before the window (baselines, load, warm-up) is done once;
 * then, load by load: the window with its own ramp, until nothing is in flight; the readings around
 * its end; the record of this level is complete and handed out (run_request.level_done); a pause,
 * so that nothing of one load is in the next.
 *
 * The one record of the life serves all of them in turn: a level's own part is dropped once it was
 * handed out. With one load all of this does nothing.
 */
#ifndef LEM_RUN_LEVELS_H
#define LEM_RUN_LEVELS_H

#include "base/error.h"

struct life;

/* Before preflight: l->e becomes a copy of the config with the first load. */
void levels_begin(struct life *l);
/* What can be known to be wrong with a later load is told before anything is started. */
int levels_check(struct life *l, struct lem_error *err);
/* Into the record that was just described. */
void levels_describe(struct life *l);
/* How long all of them may take, for the meters' memory; 0: one load. */
int64_t levels_duration_ns(const struct life *l);

/* All windows, instead of life_measure. Returns when the last one is over, as life_measure does:
 * its record is the caller's to conclude. Negative: the level at hand could not be measured. */
int levels_measure(struct life *l, struct lem_error *err);
/* After the sampler was stopped: only what belongs to the last level stays. */
void levels_cut(struct life *l);

#endif
