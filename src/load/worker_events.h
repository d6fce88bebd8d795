/*
 * worker_events.h — from the text of worker events to structs. Pure; bytes come from outside and
 * may lie in any way, so every number is range-checked and every array bounded.
 */
#ifndef LEM_LOAD_WORKER_EVENTS_H
#define LEM_LOAD_WORKER_EVENTS_H

#include "base/arena.h"
#include "base/error.h"
#include "model/model_shape.h"

enum worker_event { WORKER_LOADED, WORKER_DONE, WORKER_ERROR, WORKER_STOPPED, WORKER_OTHER };

/* The kind of an event line; LEM_E_PARSE when it is not a JSON object with an event name. */
int worker_event_kind(const char *line, enum worker_event *ret, struct lem_error *err);

struct worker_device {
	const char *name, *uuid; /* uuid NULL for a CPU */
};

struct worker_loaded {
	int64_t t_start_ns, t_ns;
	const char *engine_name, *engine_version,
		*engine_json; /* engine_json: the whole `engine` object */
	struct model_shape shape;
	struct worker_device *devices;
	size_t n_devices;
};
int worker_parse_loaded(const char *line, struct arena *a, struct worker_loaded *ret,
			struct lem_error *err);

struct worker_result {
	int64_t id, input_tokens, output_tokens;
	char finish[16];
	bool truncated;
	const char *text; /* NULL without */
};
/* What the worker counted in a run beside tokens: batches, drafts, graphs it compiled, … */
struct worker_count {
	const char *name;
	int64_t n;
};
struct worker_done {
	int64_t run, t_start_ns, t_ns;
	struct worker_result *results;
	size_t n_results;
	struct worker_count *counts;
	size_t n_counts;
};
int worker_parse_done(const char *line, struct arena *a, struct worker_done *ret,
		      struct lem_error *err);

/* Turns an `error` event into an error of ours: LEM_E_ENGINE with the worker's code and message. */
int worker_parse_error(const char *line, struct lem_error *err);

/* One `tokens` line. ids and started point to arrays of the caller, each with room for cap entries.
 */
struct worker_step {
	int64_t run, start_ns, end_ns, prefill, out;
	int64_t replica;        /* of the model that made the step; 0 when there is one */
	int64_t *ids, *started; /* requests that got a token, once for each token; that had their
				   first prompt token computed */
	size_t n_ids, n_started, cap;
};
int worker_parse_tokens(const char *line, size_t n, struct worker_step *ret, struct lem_error *err);

#endif
