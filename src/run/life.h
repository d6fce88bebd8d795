/*
 * life.h — the state of the run in progress, shared by the files of this folder.
 */
#ifndef LEM_RUN_LIFE_H
#define LEM_RUN_LIFE_H

#include "engine/engine.h"
#include "gpu/inventory.h"
#include "gpu/place.h"
#include "load/prompts.h"
#include "meter/meter.h"
#include "run/assemble.h"
#include "run/run.h"
#include "run/server.h"
#include "run/session.h"
#include "run/watch.h"
#include "sys/host.h"

struct life {
	const struct run_request *req;
	const struct experiment *e;
	struct run_record *rec;
	const struct engine_ops *engine;
	struct host_facts host;
	struct prompt_set prompts;
	char *model_path;
	const char *hf_home; /* NULL: none */
	bool model_cached;
	bool planning; /* only what would be started is asked for: nothing is made or fetched */
	struct gpu_place place;
	struct gpu_inventory inventory;
	const struct runner_ops *runner;
	bool rootless; /* of the container engine */
	struct launch_spec spec;
	struct session session;
	struct server server;    /* of an engine that speaks HTTP */
	struct str *bodies;      /* a request of each prompt; NULL: not yet made */
	struct sampler *sampler; /* NULL: nothing is metered */
	struct watch *watch;     /* NULL: no GPUs, or nobody can look */
	bool energy_readable;    /* some measured joules can be had here: baselines make sense */
	size_t batch;            /* requests computed together */
	int64_t forced_tokens;   /* output tokens every request must have; 0: not forced */
	size_t faults;           /* lies found while assembling */
	struct worker_count counts[64]; /* what the worker counted in the window */
	size_t n_counts;

	/* Several loads in one launch (levels.c); n_levels 0: one load. */
	size_t n_levels, level;
	struct experiment level_exp; /* the config with the load of the level: e points here */
	size_t most_in_flight;       /* of all levels that are closed loops: the warm-up's */
	size_t launch_phases, launch_notes; /* of the record: they belong to every level */
	size_t late_before;                 /* ticks of the sampler before the level */

	/* progress */
	enum run_phase phase;
	int64_t t_phase_ns, t_end_hint_ns; /* 0: unknown */
	const char *detail;
	char runner_detail[120];
	int64_t tokens_before; /* of earlier passes in this phase */
	uint64_t done, total;
	int64_t t_rate_ns, tokens_rate; /* last point of the rate shown */
	double rate;
};

void life_phase(struct life *l, enum run_phase p,
		int64_t expected_ns); /* closes the phase before */
void life_end_phase(struct life *l);
void life_report(struct life *l); /* calls the progress hook */
bool life_is_cancelled(const struct life *l);
/* Sleeps until then with progress; LEM_E_INTERRUPTED when cancelled. */
int life_idle(struct life *l, int64_t until_ns, struct lem_error *err);

/* Cleans up whatever a life holds, on every way out. */
void life_release(struct life *l);

int life_preflight(struct life *l, struct lem_error *err);
/* The launch spec anew, on another free port. */
int life_launch_elsewhere(struct life *l, struct lem_error *err);
/* model.c: finds, fetches or makes the model; a plan only finds it. */
void life_draw_prompts(struct life *l, int64_t n_vocab);
int life_find_model(struct life *l, struct lem_error *err);
void life_look_at_model(struct life *l);
void life_remove_files(struct life *l); /* those of the launch spec */
/* bind.c: the runner for this engine here, and gpus: → the record's binding, once. */
int life_bind(struct life *l, struct lem_error *err);
/* check_gpus.c: R26, R27 and R28, on the GPUs as they are now. */
int life_check_gpus(struct life *l, struct lem_error *err);
/* prove.c. life_can_prove looks for the probe before time is spent; life_prove runs it where the
 * engine will run: LEM_E_ROUTING unless CUDA shows there what gpus lists, in that order. */
int life_can_prove(struct life *l, struct lem_error *err);
int life_prove(struct life *l, struct lem_error *err);
/* The devices that the engine itself names, against the binding. */
int life_check_loaded(struct life *l, const struct worker_loaded *w, struct lem_error *err);
/* certify.c: what lem's own load client can do on this host, into the record. Takes about 0.2 s,
 * at most 0.3; that it could not be measured is a note, not an error. */
void life_certify(struct life *l);
/* blame.c: known lines of the engine's log or the daemon's message → rule, cause and fix. */
void life_blame(const struct life *l, struct lem_error *err);
/* What was doubtful about the way the GPUs go in (R21), once the start has failed. */
void life_recall(const struct life *l, struct lem_error *err);
/* Does the engine's log say that its port is another's? */
bool life_port_was_taken(const struct life *l);
/* scrub.c: the values of secrets, wherever an engine repeats them. err may be NULL. */
void life_scrub(const struct life *l, struct lem_error *err, char *log);
/* Watching the process lists, with an engine that runs already or NULL; what was seen goes into
 * the record, and may end a run that went well until then. */
void life_start_watch(struct life *l, const struct running *engine);
int life_end_watch(struct life *l, int rc, struct lem_error *err);
/* The record's last words: log, status, error, end. */
void life_conclude(struct life *l, int rc, struct lem_error *err);
/* counts.c: sums what the worker counted in its passes; puts it into what the engine said of itself
 * (`counts`), and notes what should not have happened in a window. */
void life_count(struct life *l, const struct worker_done *done);
void life_tell_counts(struct life *l);
int life_warm_up(struct life *l, struct lem_error *err);
int life_measure(struct life *l, struct lem_error *err);

#endif
