/*
 * answers.h — from what the HTTP load client saw to the requests and stamps of a record. Pure.
 */
#ifndef LEM_RUN_ANSWERS_H
#define LEM_RUN_ANSWERS_H

#include "load/http_load.h"
#include "load/prompts.h"
#include "model/run_record.h"

struct answers {
	const struct http_load_result *result;
	const struct prompt_set *prompts; /* job i asked for prompt i modulo their number */
	int64_t pass;
	int64_t forced;         /* output tokens of prompts that say no length; 0: not forced */
	int64_t uncounted_ns;   /* requests scheduled earlier than this after the start only fill */
	int64_t counted_end_ns; /* and those from here on; 0: no such end */
	bool closed;            /* a closed loop: what it did not send nobody asked for */
};

/* Appends the jobs that were sent, or should have been, to the record; what is odd is noted.
 * *ret_faults counts answers that contradict themselves. Jobs whose
 * time never came are left out, and those that a closed loop did not come to; one that was due and
 * not sent is a request that failed (not_sent). */
void answers_take(struct run_record *r, const struct answers *a, size_t *ret_faults);

#endif
