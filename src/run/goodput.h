/*
 * goodput.h — which requests of a run met its goals (`slo`), and what a good one cost. Pure, so a
 * stored run can be judged by other limits at any time.
 *
 * Judged are all counted requests that the window should have served. One is good when it was
 * answered and every limit that is set holds:
 *
 *   ttft, e2e  from the time it was scheduled, not from its send: in an open loop what waited in
 *              the client has waited, and a user's clock runs from there. In a closed loop that is
 *              when its turn came, offline when the whole batch was asked for.
 *   tpot       time per output token after the first, (last - first) / (tokens - 1); with a single
 *              token it holds. When tokens were not told it is not known to hold: not good.
 *
 * A limit that is met exactly holds. A request that failed, was never answered, or was due and
 * never sent is not good, whatever the limits.
 */
#ifndef LEM_RUN_GOODPUT_H
#define LEM_RUN_GOODPUT_H

#include "model/run_record.h"
#include "model/summary.h"

/* NAN where it cannot be told; 0 for the TPOT of a single token. */
struct goodput_times {
	double ttft_ms, tpot_ms, e2e_ms;
};
struct goodput_times goodput_times(const struct request_record *q);

enum goodput_miss {
	GOODPUT_FAILED = 1 << 0, /* alone: the limits say nothing then */
	GOODPUT_TTFT = 1 << 1,
	GOODPUT_TPOT = 1 << 2,
	GOODPUT_E2E = 1 << 3,
	GOODPUT_UNTOLD = 1 << 4,
};
/* Or'ed; 0: good. Loosening a limit never adds one. */
unsigned goodput_misses(const struct request_record *q, const struct slo_limits *l);

/* Fills s->slo. Of s it takes window_ns, requests_asked and scope_j. Without any limit every
 * answered request is good. Rates are good requests, and their output tokens, by the window's
 * length; the interval comes from ten slices of it, in which a request stands by its schedule
 * (traffic), else by its end. */
void goodput(const struct run_record *r, const struct slo_limits *l, struct summary *s);

#endif
