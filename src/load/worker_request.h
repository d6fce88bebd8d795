/*
 * worker_request.h — the `run` request of workers/PROTOCOL.md from prompts and a config. Pure.
 */
#ifndef LEM_LOAD_WORKER_REQUEST_H
#define LEM_LOAD_WORKER_REQUEST_H

#include "base/str.h"
#include "config/config.h"
#include "load/prompts.h"

/* Requests for prompts [from, from + n) of the set, wrapping around; ids are first_id, first_id +
 * 1, … */
struct run_slice {
	int64_t run; /* number of the run in the worker's life */
	int64_t first_id;
	size_t from, n;
	bool save_text;
};

void worker_run_request(const struct experiment *e, const struct prompt_set *p,
			const struct run_slice *slice, struct str *out);

/* Longest line a worker takes (PROTOCOL.md, rule 2). */
enum { WORKER_LINE_MAX = 16 << 20 };

/* Whether all prompts fit one request of `bytes` bytes. LEM_E_REFUSED: they do not. */
int worker_run_fits(const struct prompt_set *p, size_t bytes, struct lem_error *err);
/* At least so many bytes, before the ids are drawn: an id and its comma take four or more. */
size_t worker_run_least_bytes(const struct prompt_set *p);

/* A bound on the steps a run can take: every output token a step of its own, prompts in pieces. */
size_t worker_run_max_steps(const struct experiment *e, const struct prompt_set *p, size_t n);

#endif
