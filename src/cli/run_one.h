/*
 * run_one.h — runs one checked experiment and stores what came of it: what `lem experiment` and
 * every cell of `lem campaign` do. Shows warnings and progress on stderr; prints nothing else.
 */
#ifndef LEM_CLI_RUN_ONE_H
#define LEM_CLI_RUN_ONE_H

#include "config/load.h"
#include "model/summary.h"
#include "run/run.h"

struct run_one_request {
	const struct config *config; /* checked: config_ok */
	const char *results_dir;     /* as cli_results_dir gives it */
	int cancel_fd;               /* of cli_signals_fd */
	bool quiet;                  /* no progress, no warnings */
	const char *const *told;     /* warnings that were shown already; NULL: none */
};

/* One load of several: a run of its own. */
struct level_outcome {
	int exit_code;
	char run_id[128];
	enum run_status status;
	struct level_record level; /* without launch_id */
	struct summary *summary;
	char *result; /* its result document */
};

struct run_outcome {
	int exit_code;
	char run_id[128];           /* "": none was given */
	struct run_record record;   /* t_start_ns == 0: refused before anything was started */
	struct summary *summary;    /* NULL: nothing was started */
	struct lem_error err;       /* what ended it; LEM_E_NONE: completed */
	struct lem_error store_err; /* why it could not be stored; LEM_E_NONE: it is */

	/* Several loads in one launch; record, summary and err are those of the last one that was
	 * begun, exit_code and store_err the worst and the first of all. */
	size_t n_asked; /* 0: one load */
	struct level_outcome *levels;
	size_t n_levels;     /* of which there is a run, in order */
	char launch_id[128]; /* the first one's run_id */
};

/* Fills *ret, whatever happened; returns its exit code. */
int run_one(const struct run_one_request *q, struct run_outcome *ret);
void run_outcome_release(struct run_outcome *o);

/* levels_view.c: of several loads, {schema: "lem.levels/1", launch_id, exit_code, levels: [result
 * documents], not_measured: [{index, rate_hz, in_flight}], why}; the table for people; and why the
 * rest was not measured, "" when nothing is missing. */
void cli_levels_json(const struct config *c, const struct run_outcome *o, struct str *out);
void cli_levels_text(const struct config *c, const struct run_outcome *o, struct str *out);
void cli_level_line(const struct level_outcome *v, struct str *out);

/* For config_request.shape. */
int cli_local_shape(const char *model_name, const char *base_dir, struct model_shape *ret);
/* Warnings and errors for people on stderr, without the mere information that 'lem config
 * validate' gives. */
void cli_print_findings(const struct finding_list *all);
/* SIGINT, SIGTERM and SIGHUP from now on: a descriptor that becomes and stays readable. */
int cli_signals_fd(void);
/* SIGPIPE and SIGXFSZ become errors to report, not an end. */
void cli_ignore_signals(void);

#endif
