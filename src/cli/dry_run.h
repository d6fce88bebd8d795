/*
 * dry_run.h — `lem experiment … --dry-run`: what would be started, and where, without starting it.
 */
#ifndef LEM_CLI_DRY_RUN_H
#define LEM_CLI_DRY_RUN_H

#include "config/config.h"

/* Prints the plan to stdout (json: one document {"dry_run": {…}}) and gives the exit code: 2 when
 * the run would be refused. Starts, pulls, makes and stores nothing. */
int dry_run(const struct experiment *e, bool json);

#endif
