/*
 * proc.h — child processes that cannot be leaked.
 *
 * A child gets a session of its own and pipes for its standard streams. lem makes itself a
 * subreaper, so whatever a child leaves behind becomes lem's own child and is found by proc_stop;
 * with own_cgroup its whole tree is one group of the kernel's as well. Nothing that was started
 * here outlives it. One thread only.
 */
#ifndef LEM_SYS_PROC_H
#define LEM_SYS_PROC_H

#include <sys/types.h>

#include "base/error.h"
#include "sys/cgroup.h"

struct proc_spec {
	const char *const *argv; /* NULL-terminated; argv[0] by PATH unless it has a slash */
	const char *const
		*env;    /* NULL-terminated "NAME=value", replace or add; NULL: inherit all */
	const char *cwd; /* NULL: inherit */
	bool own_cgroup; /* in a cgroup of its own, where one can be made; without, silently not */
};

struct proc {
	pid_t pid;
	int pidfd; /* readable when the child has ended */
	int in, out,
		err; /* our ends: write to its stdin, read its stdout and stderr; non-blocking */
	bool reaped;
	int status;           /* as waitpid gives it, once reaped */
	struct cgroup cgroup; /* "" none; what is in it is killed by proc_stop too */
	bool stuck; /* killed, and it did not go: it hangs in the kernel, as beside a lost GPU */
	int64_t killed_patience_ns; /* how long it may take to go once killed; 0: 30 s */
};

#define PROC_INIT                                                     \
	{                                                             \
		.pid = 0, .pidfd = -1, .in = -1, .out = -1, .err = -1 \
	}

/* Fails with the child's own errno when exec fails (not found, not executable). */
int proc_spawn(const struct proc_spec *spec, struct proc *ret, struct lem_error *err);

/* Waits until the child has ended or the time has come; true when it has been reaped. */
bool proc_wait_until(struct proc *p, int64_t t_ns);

/* SIGTERM to the whole session, SIGKILL after grace_ns, then everything the child left behind.
 * Leaves p reaped (or stuck) and its descriptors closed. hurry_fd (or -1): readable means do not
 * wait. */
void proc_stop(struct proc *p, int64_t grace_ns, int hurry_fd);

/* Closes descriptors; kills and reaps if still alive. For the cleanup attribute. */
void proc_release(struct proc *p);
#define _cleanup_proc_ _cleanup_(proc_release)

/* Ended by SIGKILL. */
bool proc_was_killed(const struct proc *p);

/* "exit status 3", "killed by signal 9 (Killed)", "still running", that it is stuck; buf of 64
 * bytes is enough. */
char *proc_describe_end(const struct proc *p, char *buf, size_t size);

#endif
