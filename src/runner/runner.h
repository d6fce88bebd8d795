/*
 * runner.h — where an engine is started. A runner takes a launch spec and gives a running engine
 * whose whole tree of processes can be stopped; it knows nothing of what the engine does.
 */
#ifndef LEM_RUNNER_RUNNER_H
#define LEM_RUNNER_RUNNER_H

#include "base/error.h"
#include "config/config.h"
#include "model/launch_spec.h"
#include "sys/proc.h"

struct running {
	const struct runner_ops *ops;
	struct proc proc;         /* its streams carry CHANNEL_WORKER */
	const char *image_digest; /* NULL for a process */
};

struct runner_ops {
	enum runner_kind kind;
	const char *name;
	/* Whether this place can serve the spec at all; fills err with the reason and the way out.
	 */
	int (*check)(const struct launch_spec *spec, struct lem_error *err);
	/* May block for as long as starting takes (not for loading a model). One thread. */
	int (*start)(const struct launch_spec *spec, struct running *ret, struct lem_error *err);
	/* Stops everything that was started: gently, then by force after the spec's grace.
	 * hurry_fd: no grace once it is readable. Never fails; safe to call twice. */
	void (*stop)(struct running *r, int64_t grace_ns, int hurry_fd);
};

const struct runner_ops *runner_find(enum runner_kind kind); /* NULL: not in this version */
extern const struct runner_ops runner_process;

#endif
