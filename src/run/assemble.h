/*
 * assemble.h — from a worker's events to the requests, stamps and steps of a record. Pure.
 *
 * Steps of one replica follow each other; those of several overlap, so each is held against the
 * steps of its own replica, and the record has them all in the order of their ends.
 */
#ifndef LEM_RUN_ASSEMBLE_H
#define LEM_RUN_ASSEMBLE_H

#include "base/error.h"
#include "load/prompts.h"
#include "load/worker_events.h"
#include "model/run_record.h"

/* One `run` of the worker inside the measured window. */
struct pass {
	int64_t run;      /* number of the run */
	int64_t first_id; /* ids first_id … first_id + n - 1 */
	size_t from, n;   /* of the prompt set, wrapping around n_prompts */
	size_t n_prompts;
	const struct prompt_set *prompts; /* that was sent; NULL: not known, so not checked */
	int64_t pass;                     /* which repetition of the prompt list */
	int64_t t_asked_ns;               /* when lem sent the request */
	const char *tokens;               /* raw `tokens` lines */
	size_t tokens_len;
	const struct worker_done *done; /* NULL: the run did not end */
};

/* Appends one pass to the record. forced_output_tokens is for prompts without a length of their
 * own; 0: they are not forced. Lines that cannot be read or contradict themselves are counted and
 * described with run_record_note and make the result invalid: see *ret_faults. */
void assemble_pass(struct run_record *r, const struct pass *p, int64_t forced_output_tokens,
		   size_t *ret_faults);

#endif
