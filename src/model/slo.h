/*
 * slo.h — goals for one request, and how many requests of a run met them. What the figures are
 * made of says run/goodput.h.
 */
#ifndef LEM_MODEL_SLO_H
#define LEM_MODEL_SLO_H

#include "model/quantity.h"

/* Goals for one request, all to be met together; NAN: none. */
struct slo_limits {
	double ttft_ms, tpot_ms, e2e_ms;
};

static inline bool slo_is_set(double limit_ms)
{
	return limit_ms > 0; /* neither NAN nor a zero that nobody wrote */
}

static inline bool slo_any(const struct slo_limits *l)
{
	return slo_is_set(l->ttft_ms) || slo_is_set(l->tpot_ms) || slo_is_set(l->e2e_ms);
}

struct slo_summary {
	struct slo_limits limits; /* what was judged by; none: the run has no goals */
	bool later;               /* given after the run, not its own */
	int64_t judged, good;     /* requests */
	/* Requests that missed each limit; one may miss several. A failed one misses none, but is
	 * not good. */
	int64_t missed_ttft, missed_tpot, missed_e2e;
	int64_t failed; /* not answered, or never sent */
	int64_t untold; /* answered, but without the token count that the TPOT limit needs */
	int64_t good_output_tokens;
	/* What 99 % of the requests judged stayed within, a failed one being endless; NAN: no
	 * limit. */
	struct slo_limits met_by_99;
	struct quantity share, requests_per_s, output_tokens_per_s;
	struct quantity j_per_request, j_per_output_token;
};

#endif
