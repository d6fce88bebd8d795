/* A server that is already running, started by somebody else: nothing to start, nothing to stop,
 * and nothing known of its processes. */
#include <time.h>

#include "base/clock.h"
#include "runner/runner.h"

static int external_start(const struct launch_spec *spec, const struct runner_context *c,
			  struct running *ret, struct lem_error *err)
{
	(void)spec, (void)c, (void)err;
	*ret = (struct running){.ops = &runner_external, .proc = PROC_INIT};
	return 0;
}

/* Its end is never seen. */
static bool external_wait_until(struct running *r, int64_t t_ns)
{
	const struct timespec ts = {.tv_sec = t_ns / NS_PER_S, .tv_nsec = t_ns % NS_PER_S};

	(void)r;
	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
	return false;
}

static char *external_describe_end(struct running *r, char *buf, size_t size)
{
	(void)r;
	lem_strlcpy(buf, "not known: lem did not start it", size);
	return buf;
}

static void external_stop(struct running *r, int64_t grace_ns, int hurry_fd)
{
	(void)r, (void)grace_ns, (void)hurry_fd;
}

const struct runner_ops runner_external = {
	.kind = RUNNER_EXTERNAL,
	.name = "external",
	.start = external_start,
	.wait_until = external_wait_until,
	.describe_end = external_describe_end,
	.stop = external_stop,
};
