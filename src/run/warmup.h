/*
 * warmup.h — when has an engine settled? Pure.
 *
 * Rule (config.md section 5): after at least min_prompts iterations the population standard
 * deviation over the mean of the last window_size latencies is strictly below cv_threshold;
 * max_prompts ends it without.
 */
#ifndef LEM_RUN_WARMUP_H
#define LEM_RUN_WARMUP_H

#include "config/config.h"

enum warmup_state { WARMUP_MORE, WARMUP_CONVERGED, WARMUP_GAVE_UP };

/* latency_ms: one entry per iteration so far. *ret_cv is NAN until the window is full. */
enum warmup_state warmup_judge(const struct warmup_config *c, const double *latency_ms, size_t n,
			       double *ret_cv);

#endif
