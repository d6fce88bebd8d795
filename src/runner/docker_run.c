#include "runner/docker_run.h"

#include <poll.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "model/gpu_binding.h"
#include "runner/docker_body.h"
#include "runner/docker_explain.h"
#include "runner/lease.h"
#include "runner/owns.h"
#include "sys/fs.h"

enum { NAMES_MAX = 9, NAME_SIZE = 96, REMOVE_S = 10, RETRY_MS = 200, PEEK_MS = 50, ASK_S = 5 };

/* ---- what others left, and what an answer that never came may have left ---- */

size_t docker_sweep(struct docker *d)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_listed *at;
	size_t n, removed = 0;

	if (docker_list(d, &a, &at, &n, NULL) < 0)
		return 0;
	for (size_t i = 0; i < n; i++)
		if (lease_is_dead(at[i].lease) && docker_remove(d, at[i].id, NULL) >= 0)
			removed++;
	return removed;
}

/* Removes the container of that name when a dead lem made it, or this one did and never heard so:
 * a name is asked for once in a process. True when it is gone. */
static bool free_name(struct docker *d, const char *name)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_listed *at;
	size_t n;

	if (docker_list(d, &a, &at, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++)
		if (str_eq(at[i].name, name) &&
		    (lease_is_dead(at[i].lease) || lease_is_own(at[i].lease)))
			return docker_remove(d, at[i].id, NULL) >= 0;
	return false;
}

/* ---- the image ---- */

struct pull_arg {
	const struct runner_context *c;
	char what[128];
};

static void on_pull(void *arg, const char *status, uint64_t done, uint64_t total)
{
	const struct pull_arg *p = arg;

	(void)status;
	if (p->c->progress)
		p->c->progress(p->c->arg, p->what, done, total);
}

static int pull(struct docker_run *r, const struct launch_spec *spec,
		const struct runner_context *c, struct lem_error *err)
{
	struct pull_arg arg = {.c = c};
	int rc;

	(void)snprintf(arg.what, sizeof(arg.what), "pulling %.100s", spec->image);
	rc = docker_pull(r->d, spec->image, on_pull, &arg, err);
	if (rc < 0)
		return lem_error_context(err, "%.150s", spec->image);
	return 0;
}

static int ensure_image(struct docker_run *r, const struct launch_spec *spec,
			const struct runner_context *c, struct lem_error *err)
{
	int rc = 0;

	if (!str_eq(spec->pull, "always"))
		rc = docker_check_image(r->d, spec, &r->a, &r->image, err);
	if (rc < 0 || r->image.id)
		return rc;
	rc = pull(r, spec, c, err);
	if (rc >= 0)
		rc = docker_check_image(r->d, spec, &r->a, &r->image, err);
	if (rc >= 0 && !r->image.id)
		rc = lem_fail(err, LEM_E_ENGINE, "the image %.200s was pulled, but is not there",
			      spec->image);
	return rc;
}

/* ---- making it ---- */

/* What may be written is made here, as the user: the engine would make it as root. */
static int make_folders(const char *const *binds, struct lem_error *err)
{
	for (; binds && *binds; binds++) {
		const char *inside = strstr(*binds, ":/");
		_cleanup_free_ char *host =
			inside ? lem_strndup(*binds, (size_t)(inside - *binds)) : NULL;
		int rc;

		if (!host || *host != '/' || fs_exists(host))
			continue;
		rc = fs_mkdirs(host, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static size_t count(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static const char *const *join(const char *const *x, const char *const *y, struct arena *a)
{
	size_t n = count(x), k = count(y);
	const char **all = arena_array(a, n + k + 1, sizeof(*all));

	for (size_t i = 0; i < n; i++)
		all[i] = x[i];
	for (size_t i = 0; i < k; i++)
		all[n + i] = y[i];
	return all;
}

/* A rootless engine may not raise limits. Its socket is its user's; asking /info takes longer. */
static bool is_rootless(const struct docker *d)
{
	struct stat st;

	return stat(docker_socket(d), &st) == 0 && st.st_uid != 0;
}

/* "lem-RUN", with what names may not hold replaced (moby: [a-zA-Z0-9][a-zA-Z0-9_.-]+). */
static void make_name(const struct launch_spec *spec, const char *suffix, int n, char *buf,
		      size_t size)
{
	char more[16] = "";
	char pid[24];

	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	if (n > 1)
		(void)snprintf(more, sizeof(more), "-%d", n);
	(void)snprintf(buf, size, "lem-%.60s%.16s%s", spec->run_id ? spec->run_id : pid, suffix,
		       more);
	for (char *p = buf; *p; p++)
		if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-",
			    *p))
			*p = '-';
}

static void make_body(const struct docker_run *r, const struct launch_spec *spec,
		      const struct docker_run_options *o, struct str *out)
{
	char owner[LEASE_SIZE];
	const struct docker_body_options b = {
		.owner = lease_own(owner, sizeof(owner)),
		.show_secrets = true,
		.open_stdin = o->with_stdin,
		.rootless = is_rootless(r->d),
	};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct launch_spec s = *spec;

	if (o->argv) {
		s.entrypoint = o->argv[0];
		s.argv = o->argv + 1;
		s.port = 0; /* it serves nothing */
	}
	s.binds = join(spec->binds, o->binds, &a);
	docker_body_json(&s, &b, out);
}

static bool lost_answer(int rc)
{
	return rc == -LEM_E_IO || rc == -LEM_E_TIMEOUT || rc == -LEM_E_PARSE ||
	       rc == -LEM_E_INTERRUPTED;
}

static int create_named(struct docker_run *r, const char *name, const char *body, bool *ret_taken,
			struct lem_error *err)
{
	int rc = docker_create(r->d, name, body, &r->a, &r->id, err);

	*ret_taken = rc < 0 && docker_last_status(r->d) == 409;
	return rc;
}

/* Under the first name that is free. */
static int create(struct docker_run *r, const char *body, const struct launch_spec *spec,
		  const char *suffix, struct lem_error *err)
{
	char name[NAME_SIZE];
	int rc = -LEM_E_INTERNAL;
	bool taken = true;

	for (int n = 1; n <= NAMES_MAX && taken; n++) {
		make_name(spec, suffix, n, name, sizeof(name));
		rc = create_named(r, name, body, &taken, err);
		if (taken && free_name(r->d, name))
			rc = create_named(r, name, body, &taken, err);
	}
	if (lost_answer(rc)) {
		docker_limit(r->d, -1, clock_now_ns() + REMOVE_S * NS_PER_S);
		(void)free_name(r->d, name);
	}
	if (rc >= 0)
		r->name = arena_strdup(&r->a, name);
	return rc;
}

/* ---- starting it ---- */

static int connect_streams(struct docker_run *r, bool with_stdin, struct proc *p,
			   struct lem_error *err)
{
	_cleanup_str_ struct str first = STR_INIT;
	int fd = -1, rc = docker_attach(r->d, r->id, with_stdin, &fd, &first, err);

	if (rc >= 0)
		rc = docker_stream_start(fd, str_c(&first), first.len, p, &r->stream, err);
	return rc;
}

/* Without an image there is nothing that could have the wrong GPUs: what ails an engine that starts
 * is one thing (LEM_E_ENGINE, and in a proof LEM_E_ROUTING), getting the image another. */
static int fail_before_image(struct lem_error *err)
{
	if (err->code == LEM_E_ENGINE || err->code == LEM_E_TIMEOUT || err->code == LEM_E_PARSE)
		err->code = LEM_E_IO;
	return -(int)err->code;
}

static int launch(struct docker_run *r, const struct launch_spec *spec,
		  const struct docker_run_options *o, const struct runner_context *c,
		  struct proc *p, struct lem_error *err)
{
	_cleanup_str_ struct str body = STR_INIT;
	int rc;

	(void)docker_sweep(r->d);
	if ((rc = ensure_image(r, spec, c, err)) < 0)
		return rc;
	r->has_image = true;
	if ((rc = make_folders(spec->binds, err)) < 0)
		return rc;
	make_body(r, spec, o, &body);
	rc = create(r, str_c(&body), spec, o->suffix, err);
	if (rc >= 0)
		rc = connect_streams(r, o->with_stdin, p, err);
	if (rc >= 0)
		rc = docker_start(r->d, r->id, err);
	return rc;
}

int docker_run_start(const struct launch_spec *spec, const struct docker_run_options *o,
		     const struct runner_context *c, struct proc *p, struct docker_run **ret,
		     struct lem_error *err)
{
	struct docker_run *r = lem_calloc(1, sizeof(*r));
	struct lem_error own;
	struct lem_error *e = err ? err : &own;
	bool has_image;
	int rc;

	r->cancel_fd = c->cancel_fd;
	rc = docker_open(NULL, c->cancel_fd, &r->d, e);
	if (rc >= 0)
		rc = launch(r, spec, o, c, p, e);
	if (rc >= 0) {
		*ret = r;
		return 0;
	}
	has_image = r->has_image;
	docker_run_end(r, 0, -1, 0);
	docker_run_free(r);
	proc_release(p);
	rc = docker_explain(e);
	docker_scrub(spec, e);
	return has_image ? rc : fail_before_image(e);
}

/* ---- how it stands ---- */

static bool is_over(const char *status)
{
	static const char *const alive[] = {"created",    "running",     "paused",  "restarting",
					    "configured", "initialized", "stopping"};

	for (size_t i = 0; i < ARRAY_LEN(alive); i++)
		if (str_eq(status, alive[i]))
			return false;
	return true;
}

static void note_lost(struct docker_run *r, const struct lem_error *err)
{
	if (docker_last_status(r->d) == 404)
		lem_strlcpy(r->lost, "the container was removed by someone else", sizeof(r->lost));
	else
		(void)snprintf(r->lost, sizeof(r->lost), "the container engine went away (%.110s)",
			       err->what);
}

void docker_run_ask(struct docker_run *r, int cancel_fd, int64_t until_ns)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_state s;
	int rc;

	if (r->ended || r->lost[0])
		return;
	docker_limit(r->d, cancel_fd, until_ns);
	rc = docker_inspect(r->d, r->id, &a, &s, &err);
	if (rc == -LEM_E_INTERRUPTED || rc == -LEM_E_TIMEOUT)
		return;
	if (rc < 0) {
		note_lost(r, &err);
		return;
	}
	r->ended = is_over(s.status);
	r->exit_code = s.exit_code;
	r->oom_killed = s.oom_killed;
	lem_strlcpy(r->trouble, s.error ? s.error : "", sizeof(r->trouble));
}

/* A long wait is one call, which the engine answers when the container has ended. */
void docker_run_wait(struct docker_run *r, int64_t until_ns)
{
	struct lem_error err = LEM_ERROR_INIT;
	int64_t left = until_ns - clock_now_ns(), code;
	int rc;

	if (left > PEEK_MS * NS_PER_MS) {
		docker_limit(r->d, r->cancel_fd, until_ns);
		rc = docker_wait(r->d, r->id, left, &code, &err);
		if (rc == -LEM_E_INTERRUPTED || rc == -LEM_E_TIMEOUT)
			return;
		if (rc < 0) {
			note_lost(r, &err);
			return;
		}
		docker_run_ask(r, -1, clock_now_ns() + ASK_S * NS_PER_S);
		r->ended = true;
		r->exit_code = code;
		return;
	}
	docker_run_ask(r, r->cancel_fd, clock_now_ns() + ASK_S * NS_PER_S);
}

/* Shells and init report the signal that killed a program as 128 + its number, and 127 and 126 when
 * it could not be started: with an init of its own a container without the program starts well. */
char *docker_run_describe(const struct docker_run *r, char *buf, size_t size)
{
	int64_t signal_no = r->exit_code - 128;

	if (r->lost[0])
		(void)snprintf(buf, size, "%s", r->lost);
	else if (!r->ended)
		(void)snprintf(buf, size, "still running");
	else if (r->oom_killed)
		(void)snprintf(buf, size,
			       "killed by the kernel because memory ran out (the "
			       "container engine says OOMKilled)");
	else if (r->trouble[0])
		(void)snprintf(buf, size, "exit status %" PRId64 " (%s)", r->exit_code, r->trouble);
	else if (signal_no > 0 && signal_no < 65)
		(void)snprintf(buf, size, "killed by signal %" PRId64 " (%s)", signal_no,
			       strsignal((int)signal_no));
	else
		(void)snprintf(buf, size, "exit status %" PRId64 "%s", r->exit_code,
			       r->exit_code == 127   ? " (no such program)"
			       : r->exit_code == 126 ? " (a program that cannot be executed)"
						     : "");
	return buf;
}

/* ---- the end ---- */

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, 0) > 0;
}

/* The engine may be restarting: it is asked again until the time is up. */
static bool remove_patiently(struct docker_run *r)
{
	int64_t until = clock_now_ns() + REMOVE_S * NS_PER_S;

	docker_limit(r->d, -1, until);
	while (docker_remove(r->d, r->id, NULL) < 0) {
		int64_t next = clock_now_ns() + RETRY_MS * NS_PER_MS;

		if (next >= until)
			return false;
		clock_sleep_until_ns(next);
	}
	return true;
}

/* Without an engine the container's processes may go on and hold the GPUs. Only what is still in
 * its cgroup: the number may be another's by now. */
static void kill_directly(const struct docker_run *r, pid_t host_pid)
{
	char cgroup[512];

	if (host_pid > 1 && owns_read_container_cgroup(host_pid, r->id, cgroup, sizeof(cgroup)))
		(void)kill(host_pid, SIGKILL);
}

void docker_run_end(struct docker_run *r, int64_t grace_ns, int hurry_fd, pid_t host_pid)
{
	int64_t now = clock_now_ns();

	if (!r->id)
		return;
	docker_run_ask(r, -1, now + ASK_S * NS_PER_S);
	if (!r->ended && !r->lost[0] && grace_ns > 0 && !is_readable(hurry_fd)) {
		docker_limit(r->d, hurry_fd, now + grace_ns + ASK_S * NS_PER_S);
		(void)docker_stop(r->d, r->id, grace_ns, NULL);
		docker_run_ask(r, -1, clock_now_ns() + ASK_S * NS_PER_S);
	}
	if (!r->ended && !r->lost[0]) {
		docker_limit(r->d, -1, clock_now_ns() + ASK_S * NS_PER_S);
		(void)docker_kill(r->d, r->id, NULL); /* 409: it has just ended */
		docker_run_ask(r, -1, clock_now_ns() + ASK_S * NS_PER_S);
	}
	if (r->lost[0])
		kill_directly(r, host_pid);
	if (!remove_patiently(r))
		kill_directly(r, host_pid);
	r->id = NULL;
}

void docker_run_free(struct docker_run *r)
{
	if (!r)
		return;
	docker_stream_stop(r->stream);
	docker_close(r->d);
	arena_release(&r->a);
	free(r);
}
