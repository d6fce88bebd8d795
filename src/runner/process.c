#include "runner/runner.h"
#include "sys/fs.h"

static int process_check(const struct launch_spec *spec, struct lem_error *err)
{
	const char *program = spec->argv[0];

	if (!strchr(program, '/') || fs_is_executable(program))
		return 0;
	lem_fail(err, LEM_E_REFUSED, "the engine's program %s %s", program,
		 fs_exists(program) ? "cannot be executed" : "does not exist");
	return lem_error_fix(err, "build it with 'make build', or name another one (%s.worker)",
			     spec->engine);
}

static int process_start(const struct launch_spec *spec, struct running *ret, struct lem_error *err)
{
	struct proc_spec p = {.argv = spec->argv, .env = spec->env, .cwd = spec->cwd};
	struct running r = {.ops = &runner_process, .proc = PROC_INIT};
	int rc = proc_spawn(&p, &r.proc, err);

	if (rc < 0)
		return rc;
	*ret = r;
	return 0;
}

static void process_stop(struct running *r, int64_t grace_ns, int hurry_fd)
{
	proc_stop(&r->proc, grace_ns, hurry_fd);
}

const struct runner_ops runner_process = {
	.kind = RUNNER_PROCESS,
	.name = "process",
	.check = process_check,
	.start = process_start,
	.stop = process_stop,
};
