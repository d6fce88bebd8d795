/* The runner for Docker and Podman: what a struct docker_run can do, as runner.h wants it. */
#include <sys/socket.h>

#include "base/clock.h"
#include "runner/collect.h"
#include "runner/docker_run.h"
#include "runner/owns.h"

enum { PEEK_S = 2 };

/* ---- before anything is started ---- */

static bool names(const char *const *list, const char *name)
{
	for (; *list; list++)
		if (str_eq(*list, name))
			return true;
	return false;
}

static int docker_facts(const struct runner_context *c, struct arena *a,
			struct gpu_engine_facts *ret, struct lem_error *err)
{
	_cleanup_docker_ struct docker *d = NULL;
	struct docker_info i;
	int rc = docker_open(NULL, c->cancel_fd, &d, err);

	if (rc >= 0)
		rc = docker_info(d, a, &i, err);
	if (rc < 0)
		return rc;
	*ret = (struct gpu_engine_facts){
		.asked = true,
		.rootless = i.rootless,
		.podman = i.podman,
		.drops_requests = !docker_drops_requests(&i) ? NULL
				  : i.server_version         ? i.server_version
							     : "of unknown version",
		.nvidia_runtime = names(i.runtimes, "nvidia"),
		/* Podman reads specifications always and tells no folders */
		.cdi_on = i.podman || i.cdi_spec_dirs[0],
		.cdi_listed = i.cdi_listed,
		.cdi_devices = i.cdi_listed ? i.cdi_devices : NULL,
		.cdi_spec_dirs = i.cdi_spec_dirs[0] ? i.cdi_spec_dirs : NULL,
		.systemd_cgroups = str_eq(i.cgroup_driver, "systemd"),
	};
	return 0;
}

static void docker_tidy(const struct runner_context *c)
{
	_cleanup_docker_ struct docker *d = NULL;

	if (docker_open(NULL, c->cancel_fd, &d, NULL) >= 0)
		(void)docker_sweep(d);
}

static int docker_check(const struct launch_spec *spec, const struct runner_context *c,
			struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_docker_ struct docker *d = NULL;
	struct docker_image image;
	int rc = docker_check_spec(spec, err);

	if (rc >= 0)
		rc = docker_open(NULL, c->cancel_fd, &d, err);
	if (rc >= 0)
		rc = docker_check_image(d, spec, &a, &image, err);
	return rc;
}

/* ---- a short life ---- */

static int docker_run_once(const struct launch_spec *spec, const char *const *argv,
			   const char *const *binds, int64_t timeout_ns,
			   const struct runner_context *c, struct str *out, struct str *log,
			   int *ret_status, struct lem_error *err)
{
	const struct docker_run_options o = {.argv = argv, .binds = binds, .suffix = "-once"};
	struct proc p = PROC_INIT;
	struct docker_run *r = NULL;
	int rc = docker_run_start(spec, &o, c, &p, &r, err);
	int64_t t_end_ns = clock_now_ns() + timeout_ns; /* a pull takes what it takes */

	if (rc < 0)
		return rc;
	rc = collect_output(&p, t_end_ns, c->cancel_fd, out, log, err);
	if (rc >= 0) {
		docker_run_wait(r, t_end_ns);
		if (r->lost[0])
			rc = lem_fail(err, LEM_E_ENGINE, "%s", r->lost);
		else if (!r->ended)
			rc = lem_fail(err, LEM_E_TIMEOUT, "it did not end in time");
	}
	if (rc >= 0)
		*ret_status = (int)r->exit_code;
	docker_run_end(r, 0, -1, 0);
	docker_run_free(r);
	proc_release(&p);
	return rc < 0 ? lem_error_context(err, "%s in a container of %s", argv[0], spec->image) : 0;
}

/* ---- the engine's life ---- */

static int fill(struct running *r, const struct launch_spec *spec, const struct docker_state *s,
		struct lem_error *err)
{
	struct docker_run *run = r->state;

	r->host_pid = s->pid > 0 && s->pid == (pid_t)s->pid ? (pid_t)s->pid : 0;
	if (r->host_pid)
		(void)owns_read_container_cgroup(r->host_pid, run->id, r->cgroup,
						 sizeof(r->cgroup));
	r->image_digest = run->image.digest ? run->image.digest : run->image.id;
	if (spec->port <= 0 || str_eq(spec->network, "none"))
		return 0;
	r->port = str_eq(spec->network, "host") ? spec->port : s->host_port;
	if (!r->port && str_eq(s->status, "running"))
		return lem_fail(err, LEM_E_ENGINE,
				"the container engine did not publish the server's port %d",
				spec->port);
	return 0;
}

static int docker_start_engine(const struct launch_spec *spec, const struct runner_context *c,
			       struct running *ret, struct lem_error *err)
{
	const struct docker_run_options o = {.suffix = "",
					     .with_stdin = spec->channel == CHANNEL_WORKER};
	struct running r = {.ops = &runner_docker, .proc = PROC_INIT};
	struct docker_run *run = NULL;
	struct docker_state s;
	int rc = docker_run_start(spec, &o, c, &r.proc, &run, err);

	if (rc < 0)
		return rc;
	r.state = run;
	rc = docker_inspect(run->d, run->id, &run->a, &s, err);
	if (rc >= 0)
		rc = fill(&r, spec, &s, err);
	if (rc < 0) {
		docker_run_end(run, 0, -1, r.host_pid);
		docker_run_free(run);
		proc_release(&r.proc);
		return rc;
	}
	*ret = r;
	return 0;
}

static bool docker_wait_until(struct running *r, int64_t t_ns)
{
	struct docker_run *run = r->state;

	if (!run)
		return true;
	if (!run->ended && !run->lost[0])
		docker_run_wait(run, t_ns);
	return run->ended || run->lost[0];
}

static char *docker_describe_end(struct running *r, char *buf, size_t size)
{
	struct docker_run *run = r->state;

	if (!run) {
		lem_strlcpy(buf, r->end, size);
		return buf;
	}
	docker_run_ask(run, -1, clock_now_ns() + PEEK_S * NS_PER_S);
	return docker_run_describe(run, buf, size);
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(steal_fd(fd));
}

/* Its stdin ends as a pipe's would, and nobody reads its streams any more: what it still writes is
 * swallowed and cannot keep it from ending. */
static void docker_stop_engine(struct running *r, int64_t grace_ns, int hurry_fd)
{
	struct docker_run *run = r->state;

	if (!run)
		return;
	if (r->proc.in >= 0)
		(void)shutdown(r->proc.in, SHUT_WR);
	close_end(&r->proc.in);
	close_end(&r->proc.out);
	close_end(&r->proc.err);
	docker_run_end(run, grace_ns, hurry_fd, r->host_pid);
	docker_run_describe(run, r->end, sizeof(r->end));
	docker_run_free(run);
	r->state = NULL;
	r->image_digest = NULL;
}

const struct runner_ops runner_docker = {
	.kind = RUNNER_DOCKER,
	.name = "docker",
	.is_container = true,
	.tidy = docker_tidy,
	.facts = docker_facts,
	.check = docker_check,
	.run_once = docker_run_once,
	.start = docker_start_engine,
	.wait_until = docker_wait_until,
	.describe_end = docker_describe_end,
	.stop = docker_stop_engine,
};
