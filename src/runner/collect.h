/*
 * collect.h — reads a short-lived program's two streams to their ends: what a run_once gives back.
 */
#ifndef LEM_RUNNER_COLLECT_H
#define LEM_RUNNER_COLLECT_H

#include "base/error.h"
#include "base/str.h"
#include "sys/proc.h"

enum { ONCE_MAX_BYTES = 256 << 10 }; /* of each stream; the rest is swallowed */

/* Until both have ended; they are closed then. LEM_E_TIMEOUT after t_end_ns, LEM_E_INTERRUPTED when
 * cancel_fd (or -1) is readable. */
int collect_output(struct proc *p, int64_t t_end_ns, int cancel_fd, struct str *out,
		   struct str *log, struct lem_error *err);

#endif
