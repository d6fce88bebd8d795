/*
 * progress.h — one line on a terminal that says what a run is doing; silent elsewhere except for
 * the start of phases.
 */
#ifndef LEM_CLI_PROGRESS_H
#define LEM_CLI_PROGRESS_H

#include "run/run.h"

struct progress_line {
	bool terminal, quiet;
	enum run_phase phase;
	size_t level;
	bool started;
	int64_t t_shown_ns;
};

void progress_show(void *arg, const struct run_progress *p); /* arg: struct progress_line */
void progress_clear(struct progress_line *l);

#endif
