/*
 * runner.h — where an engine is started. A runner takes a launch spec and gives a running engine
 * whose whole tree of processes can be stopped; it knows nothing of what the engine does.
 */
#ifndef LEM_RUNNER_RUNNER_H
#define LEM_RUNNER_RUNNER_H

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"
#include "config/config.h"
#include "model/gpu_binding.h"
#include "model/launch_spec.h"
#include "sys/oom.h"
#include "sys/proc.h"

/* What a runner needs of the run it serves. Borrowed for the length of a call. */
struct runner_context {
	int cancel_fd; /* readable: give up with LEM_E_INTERRUPTED; -1: none */
	/* While an image is pulled; total 0: not known. May be NULL. */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
	void *arg;
};

struct running {
	const struct runner_ops *ops;
	struct proc proc; /* its streams carry CHANNEL_WORKER; in a container proc.pid is 0 */
	pid_t host_pid; /* root of the engine's tree of processes as this host counts; 0 unknown */
	char cgroup[512]; /* of the engine alone, as /proc/PID/cgroup says after the last ":"; ""
			     none */
	const char *image_digest; /* "sha256:…"; NULL for a process; until stop, which clears it */
	int port;                 /* on 127.0.0.1, of spec->port; 0 none */
	char end[160];            /* how it ended, once stopped; "" before */
	struct oom_watch oom;     /* of a process; a container's daemon tells by itself */
	void *state;              /* the runner's own */
};

struct runner_ops {
	enum runner_kind kind;
	const char *name;
	bool is_container; /* paths are those inside, devices come by a device request */

	/* Removes what runs of lems that are no more have left here: they would hold memory of the
	 * GPUs that is about to be judged. Never fails; does nothing where nobody answers. NULL:
	 * nothing is ever left. */
	void (*tidy)(const struct runner_context *c);
	/* What routing must know of the place. NULL: nothing (a process). May block for as long as
	 * a question to a daemon takes. Strings live in a. */
	int (*facts)(const struct runner_context *c, struct arena *a, struct gpu_engine_facts *ret,
		     struct lem_error *err);
	/* Whether this place can serve the spec at all: fills err with the reason and the way out.
	 * Starts nothing, changes nothing; may ask a daemon. */
	int (*check)(const struct launch_spec *spec, const struct runner_context *c,
		     struct lem_error *err);
	/* Runs argv to its end in the same place: same image, devices and environment (the proof).
	 * out gets its stdout, log its stderr, both bounded; ret_status 0 is success, negative that
	 * it could not be told. binds: more of them, beside the spec's; NULL: none. */
	int (*run_once)(const struct launch_spec *spec, const char *const *argv,
			const char *const *binds, int64_t timeout_ns,
			const struct runner_context *c, struct str *out, struct str *log,
			int *ret_status, struct lem_error *err);
	/* May block for as long as starting takes, pulling an image included (not for loading a
	 * model). One thread. Whatever fails here leaves nothing behind. */
	int (*start)(const struct launch_spec *spec, const struct runner_context *c,
		     struct running *ret, struct lem_error *err);
	/* Waits until the engine has ended or the time has come; true when it has ended. */
	bool (*wait_until)(struct running *r, int64_t t_ns);
	/* "exit status 3", "killed by signal 9 (Killed)", "killed by the kernel because memory ran
	 * out (…)", "still running"; buf of 320 bytes is enough. */
	char *(*describe_end)(struct running *r, char *buf, size_t size);
	/* Stops everything that was started: gently, then by force after the spec's grace.
	 * hurry_fd: no grace once it is readable. Never fails; safe to call twice. */
	void (*stop)(struct running *r, int64_t grace_ns, int hurry_fd);
};

/* AUTO is resolved by the caller (src/run/preflight.c). NULL: not in this version. */
const struct runner_ops *runner_find(enum runner_kind kind);
extern const struct runner_ops runner_process, runner_docker, runner_external;

/* Does a process of this host belong to the engine: in its own cgroup, or below host_pid?
 * Reads /proc; any thread; no malloc. false when it has already gone. */
bool runner_owns_pid(const struct running *r, pid_t pid);

/* ---- docker_body.h has the pure part: launch spec → create request and `docker run` line ---- */

#endif
