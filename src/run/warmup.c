#include "run/warmup.h"

#include <math.h>

#include "stats/stats.h"

enum warmup_state warmup_judge(const struct warmup_config *c, const double *latency_ms, size_t n,
			       double *ret_cv)
{
	size_t window = (size_t)c->window_size;

	*ret_cv = NAN;
	if (n >= window && window > 0) {
		const double *last = latency_ms + n - window;

		*ret_cv = stats_sd_population(last, window) / stats_mean(last, window);
	}
	if (c->requests.set || !c->convergence_detection) {
		int64_t wanted = c->requests.set ? c->requests.v : c->max_prompts;

		return (int64_t)n >= wanted ? WARMUP_CONVERGED : WARMUP_MORE;
	}
	if ((int64_t)n >= c->min_prompts && *ret_cv < c->cv_threshold)
		return WARMUP_CONVERGED;
	return (int64_t)n >= c->max_prompts ? WARMUP_GAVE_UP : WARMUP_MORE;
}
