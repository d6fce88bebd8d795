/*
 * run.h — the life of one experiment: preflight → idle baseline → load → warm-up → resident
 * baseline → measured window → drain → stop. Gives a raw run record, whatever happened; judging it
 * is summarize.h.
 */
#ifndef LEM_RUN_RUN_H
#define LEM_RUN_RUN_H

#include "base/error.h"
#include "config/config.h"
#include "model/run_record.h"
#include "runner/runner.h"

struct run_progress {
	enum run_phase phase;
	const char *detail;     /* "making synthetic:llama-15m", "pass 2", …; may be "" */
	int64_t elapsed_ns;     /* in this phase */
	int64_t left_ns;        /* estimate; negative: not known */
	double tokens_per_s;    /* output tokens, NAN when not generating */
	double watts;           /* NAN when not measured */
	uint64_t done, total;   /* bytes or requests; total 0: not known */
	size_t level, n_levels; /* 0-based, of several loads; n_levels 0: there is one */
};

struct run_request {
	const struct experiment *exp;
	const char *run_id;
	const char *config_hash, *config_json, *provenance_json, *cli_overrides_json;
	const char *program_dir; /* where lem's workers lie */
	void (*progress)(void *arg,
			 const struct run_progress *p); /* any time, cheap; may be NULL */
	void *progress_arg;
	/* What is doubtful, a sentence each, before anything is started; may be NULL. */
	void (*warn)(void *arg, const char *note);
	void *warn_arg;
	int cancel_fd; /* readable: stop; -1: cannot be cancelled */

	/*
	 * Several loads in one launch (run_n_levels > 0): each is a run of its own, and so is its
	 * record. level_done is called as soon as one that is not the last was measured, while the
	 * engine runs on; the record is complete, and is used again when the call returns, so
	 * whatever is to be kept is stored or copied. level_id gives the run_id of the next one; a
	 * failure ends the launch. Both on the thread of run_experiment; may block.
	 */
	void (*level_done)(void *arg, const struct run_record *rec);
	int (*level_id)(void *arg, char *buf, size_t size, struct lem_error *err);
	void *level_arg;
};

/* How many loads the config lists (traffic.rates, traffic.concurrencies); 0: it asks for one. */
size_t run_n_levels(const struct experiment *e);

/*
 * Fills rec (initialised by the caller) as far as the run came. Returns 0 when it completed;
 * negative with the reason otherwise. rec->t_start_ns == 0 means that it was refused before
 * anything was started. Whatever the outcome, no process of the engine is left. One run at a time
 * per process.
 *
 * Of several loads rec is that of the last one that was begun (rec->level says which; t_start_ns 0:
 * none was since the last level_done): those before it went to level_done, and are valid whatever
 * became of this one. Those after it were not measured, because this one failed, or was overloaded
 * (traffic.stop_when_overloaded).
 */
int run_experiment(const struct run_request *req, struct run_record *rec, struct lem_error *err);

/*
 * What would be started, without starting anything (`--dry-run`): the launch spec with its binding,
 * as run_experiment would hand it to the runner. Asks a container engine when there is one; without
 * one CDI is assumed and binding->warnings say so. Strings live in rec->arena.
 */
struct run_plan {
	const struct launch_spec *spec;
	const struct gpu_binding *binding;
	const struct runner_ops *runner;
	bool rootless; /* the container engine is: it may not raise limits */
};
int run_plan(const struct run_request *req, struct run_record *rec, struct run_plan *ret,
	     struct lem_error *err);

#endif
