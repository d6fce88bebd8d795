#include "base/clock.h"
#include "runner/collect.h"
#include "runner/runner.h"
#include "sys/fs.h"

/* As execvpe will look it up: in lem's own PATH, whatever the engine's environment says. */
static bool is_in_path(const char *program)
{
	const char *path = getenv("PATH");

	for (; path && *path; path += strspn(path, ":")) {
		size_t n = strcspn(path, ":");
		_cleanup_free_ char *file = lem_asprintf("%.*s/%s", (int)n, path, program);

		if (fs_is_executable(file))
			return true;
		path += n;
	}
	return false;
}

static int fail_program(const struct launch_spec *spec, struct lem_error *err)
{
	const char *program = spec->argv[0];

	if (!strchr(program, '/'))
		lem_fail(err, LEM_E_REFUSED, "the engine's program %s is not in PATH", program);
	else
		lem_fail(err, LEM_E_REFUSED, "the engine's program %s %s", program,
			 fs_exists(program) ? "cannot be executed" : "does not exist");
	if (spec->program_option)
		return lem_error_fix(err,
				     "install it, write where it is (%s), or use runner: docker",
				     spec->program_option);
	return lem_error_fix(err, "build it with 'make build', or name another one (%s.worker)",
			     spec->engine);
}

static int process_check(const struct launch_spec *spec, const struct runner_context *c,
			 struct lem_error *err)
{
	const char *program = spec->argv[0];

	(void)c;
	if (strchr(program, '/') ? fs_is_executable(program)
				 : !spec->program_option || is_in_path(program))
		return 0;
	return fail_program(spec, err);
}

static int process_run_once(const struct launch_spec *spec, const char *const *argv,
			    const char *const *binds, int64_t timeout_ns,
			    const struct runner_context *c, struct str *out, struct str *log,
			    int *ret_status, struct lem_error *err)
{
	const struct proc_spec q = {.argv = argv, .env = spec->env, .cwd = spec->cwd};
	_cleanup_proc_ struct proc p = PROC_INIT;
	int64_t t_end_ns = clock_now_ns() + timeout_ns;
	int rc = proc_spawn(&q, &p, err);

	(void)binds; /* the same file system */
	if (rc >= 0)
		rc = collect_output(&p, t_end_ns, c->cancel_fd, out, log, err);
	if (rc >= 0 && !proc_wait_until(&p, t_end_ns))
		rc = lem_fail(err, LEM_E_TIMEOUT, "it did not end in time");
	if (rc < 0)
		return lem_error_context(err, "%s", argv[0]);
	*ret_status = p.status;
	return 0;
}

static int process_start(const struct launch_spec *spec, const struct runner_context *c,
			 struct running *ret, struct lem_error *err)
{
	struct proc_spec p = {
		.argv = spec->argv, .env = spec->env, .cwd = spec->cwd, .own_cgroup = true};
	struct running r = {.ops = &runner_process, .proc = PROC_INIT, .port = spec->port};
	int rc = proc_spawn(&p, &r.proc, err);

	(void)c;
	if (rc < 0)
		return rc;
	r.host_pid = r.proc.pid;
	lem_strlcpy(r.cgroup, r.proc.cgroup.name, sizeof(r.cgroup));
	oom_watch_begin(r.proc.pid, &r.oom);
	*ret = r;
	return 0;
}

static bool process_wait_until(struct running *r, int64_t t_ns)
{
	return proc_wait_until(&r->proc, t_ns);
}

static char *process_describe_end(struct running *r, char *buf, size_t size)
{
	char how[64];

	proc_describe_end(&r->proc, how, sizeof(how));
	oom_watch_explain(&r->oom, proc_was_killed(&r->proc), how, buf, size);
	return buf;
}

static void process_stop(struct running *r, int64_t grace_ns, int hurry_fd)
{
	proc_stop(&r->proc, grace_ns, hurry_fd);
}

const struct runner_ops runner_process = {
	.kind = RUNNER_PROCESS,
	.name = "process",
	.check = process_check,
	.run_once = process_run_once,
	.start = process_start,
	.wait_until = process_wait_until,
	.describe_end = process_describe_end,
	.stop = process_stop,
};
