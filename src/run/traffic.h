/*
 * traffic.h — the section traffic of a config as a schedule for the load client.
 */
#ifndef LEM_RUN_TRAFFIC_H
#define LEM_RUN_TRAFFIC_H

#include "config/config.h"
#include "load/http_load.h"

struct traffic_plan {
	/* given */
	size_t n_prompts;
	double batch_ms; /* the quickest answer to batch_n requests at once; NAN unknown */
	size_t batch_n;  /* 0: as many as are in flight */
	const double *recorded_ns; /* n_prompts arrivals of the prompts' own trace; NULL: none */

	/* made */
	struct http_load_plan plan;
	double *at_ns;                /* malloc'ed, n entries; NULL: a closed loop */
	size_t n;                     /* requests; job i asks prompt i modulo n_prompts */
	int64_t ramp_ns, duration_ns; /* of the window's edges after the start; 0: none */
};

/* Without duration_sec each prompt is sent once. LEM_E_REFUSED for a trace that cannot be read, or
 * more than 10 million requests. */
int traffic_make(const struct experiment *e, struct traffic_plan *t, struct lem_error *err);
void traffic_release(struct traffic_plan *t);

#endif
