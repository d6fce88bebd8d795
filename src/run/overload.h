/*
 * overload.h — did a server keep up with an open loop? Pure.
 *
 * An open loop asks at its rate whatever the server does, so one that serves less has a queue that
 * grows for as long as the window lasts; its latencies then say how long the window was. Judged by
 * what is seen of the requests, not by the rate alone: of a server that answers within W, the
 * requests of the last W before the window's end cannot be finished in it, and of Poisson arrivals
 * some windows hold more than others.
 *
 *   turned away   more than 5 % of the counted requests got status 429, or no answer in time
 *   backlog       of the requests that were due in the second half of the time of arrivals, at
 *                 least a tenth is missing at its end: so many more are waiting or in work then
 *                 than at half time; in both its quarters the number rose, and by more than three
 *                 times the root of it, which chance does not do. Only where early requests were
 *                 answered within a quarter of the time, because a queue fills before it is full
 *   latency       of three thirds of the requests after the first quarter, the medians from the
 *                 scheduled time to the end rise one after the other, by at least 5 % of the time
 *                 between the outer two (a queue served in order at μ of λ adds λ/μ − 1 a second),
 *                 and the last median is beyond nine tenths of the first third
 *
 * Fewer than 20 requests (24 for latency) tell nothing. A closed loop cannot be overloaded;
 * of a run that did not complete nothing is said.
 */
#ifndef LEM_RUN_OVERLOAD_H
#define LEM_RUN_OVERLOAD_H

#include "model/run_record.h"

/* why: one clause, "… requests/s were asked for …"; set only when true is returned. */
bool overload_seen(const struct run_record *r, char *why, size_t size);

#endif
