/*
 * life.h — the state of the run in progress, shared by the files of this folder.
 */
#ifndef LEM_RUN_LIFE_H
#define LEM_RUN_LIFE_H

#include "engine/engine.h"
#include "load/prompts.h"
#include "meter/meter.h"
#include "run/assemble.h"
#include "run/run.h"
#include "run/session.h"
#include "sys/host.h"

struct life {
	const struct run_request *req;
	const struct experiment *e;
	struct run_record *rec;
	const struct engine_ops *engine;
	struct host_facts host;
	struct prompt_set prompts;
	char *model_path;
	struct launch_spec spec;
	struct session session;
	struct sampler *sampler; /* NULL: nothing is metered */
	bool energy_readable;    /* some measured joules can be had here: baselines make sense */
	size_t batch;            /* requests computed together */
	int64_t forced_tokens;   /* output tokens every request must have; 0: not forced */
	size_t faults;           /* lies found while assembling */

	/* progress */
	enum run_phase phase;
	int64_t t_phase_ns, t_end_hint_ns; /* 0: unknown */
	const char *detail;
	int64_t tokens_before; /* of earlier passes in this phase */
	uint64_t done, total;
	int64_t t_rate_ns, tokens_rate; /* last point of the rate shown */
	double rate;
};

void life_phase(struct life *l, enum run_phase p,
		int64_t expected_ns); /* closes the phase before */
void life_end_phase(struct life *l);
void life_report(struct life *l); /* calls the progress hook */
/* Sleeps until then with progress; LEM_E_INTERRUPTED when cancelled. */
int life_idle(struct life *l, int64_t until_ns, struct lem_error *err);

int life_preflight(struct life *l, struct lem_error *err);
int life_warm_up(struct life *l, struct lem_error *err);
int life_measure(struct life *l, struct lem_error *err);

#endif
