/*
 * docker_run.h — one container of ours from the request to its removal: what docker.c makes a
 * runner of. Whatever was made here is removed again: a container whose answer was lost, one that
 * failed to start, one whose engine went away for a while.
 */
#ifndef LEM_RUNNER_DOCKER_RUN_H
#define LEM_RUNNER_DOCKER_RUN_H

#include "runner/docker_api.h"
#include "runner/docker_stream.h"
#include "runner/runner.h"

struct docker_run {
	struct docker *d;
	struct arena a;
	const char *id, *name; /* id NULL: nothing made */
	struct docker_image image;
	bool has_image; /* found or pulled */
	struct docker_stream *stream;
	int cancel_fd;

	bool ended; /* what follows is known */
	int64_t exit_code;
	bool oom_killed;
	char trouble[128]; /* the engine's own words on the end; "" none */
	char lost[160];    /* not "": why nothing more is known */
};

/* The container may have another command than the spec's. */
struct docker_run_options {
	const char *const *argv;  /* NULL: the spec's own; [0] replaces the entrypoint */
	const char *const *binds; /* beside the spec's; NULL none */
	const char *suffix;       /* of the name; "" none */
	bool with_stdin;
};

/* Is the image there, and made for this host? Pulls nothing. */
int docker_check_image(struct docker *d, const struct launch_spec *spec, struct arena *a,
		       struct docker_image *ret, struct lem_error *err);
/* What a spec must not ask of a container engine, or cannot. */
int docker_check_spec(const struct launch_spec *spec, struct lem_error *err);

/* Removes what dead lems left behind; how many. Never an error: the next run tries again. */
size_t docker_sweep(struct docker *d);

/* Pulls when asked, makes, attaches, starts; the streams are in *p. Until the image is there, what
 * goes wrong is LEM_E_IO (or LEM_E_NOT_FOUND, …), never LEM_E_ENGINE. */
int docker_run_start(const struct launch_spec *spec, const struct docker_run_options *o,
		     const struct runner_context *c, struct proc *p, struct docker_run **ret,
		     struct lem_error *err);
/* Asks the engine how it stands; bounded by until_ns. */
void docker_run_ask(struct docker_run *r, int cancel_fd, int64_t until_ns);
/* Waits for the end. */
void docker_run_wait(struct docker_run *r, int64_t until_ns);
/* "exit status 3", "killed by signal 9 (Killed)", "out of memory (…)", what was lost, or "still
 * running". */
char *docker_run_describe(const struct docker_run *r, char *buf, size_t size);
/* SIGTERM, SIGKILL after grace_ns, removed. Bounded even when the engine has gone; host_pid and
 * cgroup then serve to kill it directly. */
void docker_run_end(struct docker_run *r, int64_t grace_ns, int hurry_fd, pid_t host_pid);
void docker_run_free(struct docker_run *r); /* removes nothing */

#endif
