/*
 * session.h — a running worker: start it, load the model, give it runs, stop it. Used by run.c
 * only.
 */
#ifndef LEM_RUN_SESSION_H
#define LEM_RUN_SESSION_H

#include "load/worker_events.h"
#include "load/worker_io.h"
#include "model/launch_spec.h"
#include "runner/runner.h"

struct session {
	const struct runner_ops *runner;
	const struct launch_spec *spec;
	struct running running;
	struct worker_io io;
	bool started;
	struct runner_context context;
	int64_t silence_ns; /* how long a run may stay silent */
	int64_t next_run;   /* number of the next run, from 1 */
};

/* Starts the engine's process; nothing is loaded yet. */
int session_start(struct session *s, struct lem_error *err);
/* Sends `load` and waits for `loaded`; strings of ret live in a. */
int session_load(struct session *s, struct arena *a, struct worker_loaded *ret,
		 struct lem_error *err);
/* Sends one `run` request and waits for its `done`. The `tokens` lines are in s->io.tokens
 * afterwards, also after a failure. t_asked_ns is taken just before the request is written. */
int session_run(struct session *s, const char *request, size_t max_steps, size_t max_ids,
		struct arena *a, int64_t *ret_t_asked_ns, struct worker_done *ret,
		struct lem_error *err);
/* Asks to stop, waits, stops by force. Never fails; safe on a session that never started. */
void session_stop(struct session *s, bool in_a_hurry);
void session_release(struct session *s);

#endif
