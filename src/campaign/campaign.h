/*
 * campaign.h — several experiments, one after the other, each in its own place: image by its
 * engine, its own GPUs. Loaded and checked together before the first starts; one that fails does
 * not stop the rest.
 *
 *   campaign_load   files → cells, all findings of all files at once
 *   campaign_plan   where each would run and on which GPUs; what is absent is refused here
 *   campaign_run    the loop; the caller's function runs and stores one experiment
 *   campaign_json   the document `lem.campaign/1`
 *
 * The order is that of the files. A cell is one experiment to be run once; grids and other orders
 * belong to src/plan and produce cells, repetition and resumption work on the list of cells.
 */
#ifndef LEM_CAMPAIGN_CAMPAIGN_H
#define LEM_CAMPAIGN_CAMPAIGN_H

#include "base/arena.h"
#include "config/cells.h"
#include "model/run_record.h"
#include "model/summary.h"

enum cell_status {
	CELL_READY,       /* loaded; nothing was started (yet) */
	CELL_COMPLETED,   /* measured; see verdict */
	CELL_FAILED,      /* ended with an error after its start */
	CELL_REFUSED,     /* refused before anything of it was started */
	CELL_INTERRUPTED, /* by a signal */
	CELL_NOT_STARTED, /* the campaign was interrupted before its turn */
};

struct cell_gpu {
	char requested[64], uuid[96];
	int index; /* on the host */
};

/* One load of a cell that measures several in one launch: a run of its own. */
struct campaign_level {
	char run_id[128];
	struct level_record level; /* launch_id is the cell's run_id */
	int exit_code;
	struct verdict verdict;
	struct quantity output_tokens_per_s, j_per_output_token;
};

struct campaign_cell {
	const char *file;            /* as given on the command line */
	const char *campaign;        /* campaign_name of that file; NULL: none */
	size_t item;                 /* 1-based among the cells of its file; 0: the file is one */
	const struct config *config; /* checked */
	const char *name;            /* config_name; "-2" and so on when a name repeats */
	char config_hash[17];

	/* campaign_plan */
	const char *where, *path; /* runner and path of routing; NULL: not planned */
	const char *image;        /* NULL: a process */
	const struct cell_gpu *gpus;
	size_t n_gpus;
	const char *const *warnings; /* NULL-terminated; NULL: none */

	/* the runner's function */
	enum cell_status status;
	int exit_code;
	char run_id[128]; /* "": none */
	const char *results_dir;
	struct verdict verdict; /* of CELL_COMPLETED, FAILED and INTERRUPTED */
	struct quantity output_tokens_per_s, j_per_output_token;
	char energy_scope[40];
	struct lem_error err; /* LEM_E_NONE: none */
	/* Several loads: status and verdict are the worst of them, run_id the first one's, and the
	 * figures stand with each. malloc'ed; NULL: there was one. */
	struct campaign_level *levels;
	size_t n_levels;
};

struct campaign_request {
	const char *const *files;
	size_t n_files;
	const struct config_override *overrides; /* for every cell */
	size_t n_overrides;
	config_shape_fn shape;
};

struct campaign {
	struct arena arena;
	struct campaign_cell *cells;
	size_t n;
	/* Of all files, in their order, each once. With an error nothing may be started. */
	struct finding_list findings;
	struct campaign_source *sources; /* what the cells point into */
	size_t n_sources;
};

/* Fills ret, which the caller releases whatever comes back. Negative only when nothing can be said
 * (LEM_E_INTERNAL); what is wrong with a file is a finding. */
int campaign_load(const struct campaign_request *q, struct campaign *ret, struct lem_error *err);
void campaign_release(struct campaign *c);
bool campaign_ok(const struct campaign *c);

/* Routes every cell without starting anything (run_plan). Returns how many were refused; each of
 * these has status CELL_REFUSED and err. */
size_t campaign_plan(struct campaign *c, const char *program_dir);

/* Runs one cell: sets everything from `status` on. Must not leave anything running. */
typedef void (*campaign_cell_fn)(void *arg, struct campaign_cell *cell, size_t position);

/* In order. Before each cell cancel_fd is looked at; once it is readable, or a cell was
 * interrupted, the rest becomes CELL_NOT_STARTED. */
void campaign_run(struct campaign *c, campaign_cell_fn run, void *arg, int cancel_fd);

/*
 * The exit code of `lem campaign`, by the worst cell:
 *   0    all measured, valid or suspect
 *   4    a verdict is invalid
 *   1    a cell failed, or was refused when its turn came although others ran
 *   3    the routing of a cell's GPUs was not proved: the machine itself is not as it says
 *   130  interrupted: the rest was not started
 *   2    nothing was started at all
 * each worse than those above it, but 2 only where it is the whole truth.
 */
int campaign_exit_code(const struct campaign *c);

const char *cell_status_name(enum cell_status s); /* "ready", "completed", … "not_started" */
/* {schema: "lem.campaign/1", status, exit_code, cells: […], findings: […]}. status: "refused",
 * "ready" (a dry run), "interrupted" or "finished". */
void campaign_json(const struct campaign *c, struct str *out);

#endif
