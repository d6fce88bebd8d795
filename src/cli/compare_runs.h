/*
 * compare_runs.h — `lem results compare`: two stored runs side by side, as text or as the document
 * `lem.compare/1`.
 */
#ifndef LEM_CLI_COMPARE_RUNS_H
#define LEM_CLI_COMPARE_RUNS_H

#include "store/store.h"

/* CLI_OK: the same work; CLI_FAILED: not the same, or a run cannot be read. */
int compare_stored_runs(struct store *st, const char *a, const char *b, bool json);

#endif
