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

struct run_outcome {
	int exit_code;
	char run_id[128];           /* "": none was given */
	struct run_record record;   /* t_start_ns == 0: refused before anything was started */
	struct summary *summary;    /* NULL: nothing was started */
	struct lem_error err;       /* what ended it; LEM_E_NONE: completed */
	struct lem_error store_err; /* why it could not be stored; LEM_E_NONE: it is */
};

/* Fills *ret, whatever happened; returns its exit code. */
int run_one(const struct run_one_request *q, struct run_outcome *ret);
void run_outcome_release(struct run_outcome *o);

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
