#include "sys/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/num.h"
#include "sys/fs.h"

extern char **environ;

/* Children that are running and have an owner: what kill_orphans must leave alone. */
enum { LIVE_MAX = 256 };

/* Tearing down many GPUs and the host memory pinned for them takes seconds, not half a minute. */
#define KILLED_PATIENCE_NS (30 * NS_PER_S)
static pid_t live[LIVE_MAX];

static void live_replace(pid_t from, pid_t to)
{
	for (size_t i = 0; i < LIVE_MAX; i++)
		if (live[i] == from) {
			live[i] = to;
			return;
		}
}

static bool is_live(pid_t pid)
{
	for (size_t i = 0; i < LIVE_MAX; i++)
		if (live[i] == pid)
			return true;
	return false;
}

static int pidfd_open_(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static const char *env_name_end(const char *entry)
{
	const char *eq = strchr(entry, '=');

	return eq ? eq : entry + strlen(entry);
}

static bool same_name(const char *a, const char *b)
{
	size_t n = (size_t)(env_name_end(a) - a);

	return n == (size_t)(env_name_end(b) - b) && memcmp(a, b, n) == 0;
}

/* The inherited environment with the additions on top; the array is malloc'ed, the strings are not.
 */
static const char **merge_env(const char *const *add)
{
	size_t n = 0, k = 0, out = 0;

	while (environ[n])
		n++;
	while (add && add[k])
		k++;
	const char **env = lem_calloc(n + k + 1, sizeof(*env));

	for (size_t i = 0; i < n; i++) {
		bool replaced = false;

		for (size_t j = 0; j < k && !replaced; j++)
			replaced = same_name(environ[i], add[j]);
		if (!replaced)
			env[out++] = environ[i];
	}
	for (size_t j = 0; j < k; j++)
		env[out++] = add[j];
	return env;
}

struct pipes {
	int in[2], out[2], err[2], exec[2];
};

static void pipes_close(struct pipes *p)
{
	int *all = (int *)p;

	for (size_t i = 0; i < sizeof(*p) / sizeof(int); i++)
		if (all[i] >= 0)
			close(all[i]);
}

static int pipes_open(struct pipes *p, struct lem_error *err)
{
	memset(p, 0xff, sizeof(*p));
	if (pipe2(p->in, O_CLOEXEC) < 0 || pipe2(p->out, O_CLOEXEC) < 0 ||
	    pipe2(p->err, O_CLOEXEC) < 0 || pipe2(p->exec, O_CLOEXEC) < 0) {
		int saved = errno;

		pipes_close(p);
		return lem_fail_errno(err, saved, "cannot create pipes");
	}
	return 0;
}

/* Only async-signal-safe calls from here to exec. */
static void child(const struct proc_spec *spec, const struct pipes *p, const char *const *env,
		  pid_t lem, int cgroup_fd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	/* If lem is killed outright, the child must not compute on for nobody. Survives exec. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (getppid() != lem)
		_exit(127);
	if (cgroup_fd >= 0)
		(void)!write(cgroup_fd, "0", 1); /* before exec: what it starts is born in it */
	if (dup2(p->in[0], 0) >= 0 && dup2(p->out[1], 1) >= 0 && dup2(p->err[1], 2) >= 0 &&
	    (!spec->cwd || chdir(spec->cwd) == 0))
		execvpe(spec->argv[0], (char *const *)(uintptr_t)spec->argv,
			(char *const *)(uintptr_t)env);
	int e = errno;

	while (write(p->exec[1], &e, sizeof(e)) < 0 && errno == EINTR)
		;
	_exit(127);
}

static int exec_errno(int fd)
{
	int e = 0;
	ssize_t n;

	do
		n = read(fd, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(e) ? e : 0;
}

static void take_ends(struct pipes *p, struct proc *ret)
{
	ret->in = steal_fd(&p->in[1]);
	ret->out = steal_fd(&p->out[0]);
	ret->err = steal_fd(&p->err[0]);
	fcntl(ret->in, F_SETFL, O_NONBLOCK);
	fcntl(ret->out, F_SETFL, O_NONBLOCK);
	fcntl(ret->err, F_SETFL, O_NONBLOCK);
}

/* Where none can be made the session and lem's being a subreaper have to do. */
static int open_cgroup(const struct proc_spec *spec, struct cgroup *ret)
{
	if (!spec->own_cgroup || cgroup_make(ret, NULL) < 0)
		return -1;
	return cgroup_open_procs(ret);
}

static int fail_start(struct proc *p, struct pipes *pipes, int errnum, const struct proc_spec *spec,
		      struct lem_error *err)
{
	pipes_close(pipes);
	if (p->pid > 0)
		waitpid(p->pid, NULL, 0);
	cgroup_destroy(&p->cgroup);
	return lem_fail_errno(err, errnum, "cannot start %s", spec->argv[0]);
}

int proc_spawn(const struct proc_spec *spec, struct proc *ret, struct lem_error *err)
{
	struct pipes p;
	struct proc started = PROC_INIT;
	_cleanup_free_ const char **env = merge_env(spec->env);
	pid_t lem = getpid();
	int e;

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	if (pipes_open(&p, err) < 0)
		return -LEM_E_IO;
	_cleanup_fd_ int cgroup_fd = open_cgroup(spec, &started.cgroup);

	started.pid = fork();
	if (started.pid == 0)
		child(spec, &p, env, lem, cgroup_fd);
	if (started.pid < 0)
		return fail_start(&started, &p, errno, spec, err);
	close(steal_fd(&p.exec[1]));
	e = exec_errno(p.exec[0]);
	if (e)
		return fail_start(&started, &p, e, spec, err);
	take_ends(&p, &started);
	pipes_close(&p);
	started.pidfd = pidfd_open_(started.pid);
	live_replace(0, started.pid);
	*ret = started;
	return 0;
}

static bool try_reap(struct proc *p)
{
	if (!p->reaped && p->pid > 0 && waitpid(p->pid, &p->status, WNOHANG) == p->pid) {
		p->reaped = true;
		live_replace(p->pid, 0);
	}
	return p->reaped || p->pid <= 0;
}

/* Keeps the child's output moving while we wait: a full pipe must not keep it from ending. */
static void discard(int fd)
{
	char buf[16384];

	for (int i = 0; i < 64 && fd >= 0 && read(fd, buf, sizeof(buf)) > 0; i++)
		;
}

/* false when hurry_fd became readable. Without pidfd (old kernels) this polls every 20 ms. */
static bool wait_until(struct proc *p, int64_t t_ns, int hurry_fd)
{
	while (!try_reap(p)) {
		int64_t left = t_ns - clock_now_ns();
		struct pollfd fds[4] = {
			{.fd = p->pidfd, .events = POLLIN},
			{.fd = hurry_fd, .events = POLLIN},
			{.fd = p->out, .events = POLLIN},
			{.fd = p->err, .events = POLLIN},
		};

		if (left <= 0)
			return true;
		int ms = (int)MIN(left / NS_PER_MS + 1, p->pidfd >= 0 ? INT64_C(200) : INT64_C(20));

		if (poll(fds, 4, ms) > 0 && (fds[1].revents & POLLIN))
			return false;
		discard(p->out);
		discard(p->err);
		if ((fds[2].revents | fds[3].revents) & POLLHUP)
			clock_sleep_until_ns(clock_now_ns() +
					     2 * NS_PER_MS); /* closed ends are always ready */
	}
	return true;
}

bool proc_wait_until(struct proc *p, int64_t t_ns)
{
	wait_until(p, t_ns, -1);
	return try_reap(p);
}

/* The parent pid of a process, from the fourth field of /proc/PID/stat, after the last ')'. */
static pid_t parent_of(const char *pid)
{
	char path[64], line[512];
	const char *p;
	int ppid;

	snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	if (!fs_read_line(path, line, sizeof(line)) || !(p = strrchr(line, ')')))
		return -1;
	return sscanf(p + 1, " %*c %d", &ppid) == 1 ? ppid : -1;
}

/* Reaps one that was killed; false when it has not gone by then. */
static bool reap_until(pid_t pid, int64_t t_ns)
{
	pid_t r;

	while ((r = waitpid(pid, NULL, WNOHANG)) == 0 && clock_now_ns() < t_ns)
		clock_sleep_until_ns(clock_now_ns() + NS_PER_MS);
	return r == pid;
}

/* Kills what was handed to us as subreaper, and its descendants as they surface. */
static void kill_orphans(pid_t session, int64_t t_end_ns)
{
	for (int round = 0; round < 50; round++) {
		DIR *d = opendir("/proc");
		struct dirent *e;
		bool any = false;

		while (d && (e = readdir(d))) {
			int64_t pid;

			if (!num_parse_i64(e->d_name, &pid) || parent_of(e->d_name) != getpid())
				continue;
			if (getsid((pid_t)pid) == getsid(0) || is_live((pid_t)pid))
				continue; /* not started by proc_spawn, or somebody else's child */
			kill((pid_t)pid, SIGKILL);
			any |= reap_until((pid_t)pid, t_end_ns);
		}
		if (d)
			closedir(d);
		if (!any && kill(-session, 0) < 0)
			return;
	}
}

static void close_fds(struct proc *p)
{
	int *fds[] = {&p->pidfd, &p->in, &p->out, &p->err};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(steal_fd(fds[i]));
}

void proc_stop(struct proc *p, int64_t grace_ns, int hurry_fd)
{
	int64_t patience_ns = p->killed_patience_ns ? p->killed_patience_ns : KILLED_PATIENCE_NS;
	pid_t session = p->pid;

	if (session <= 0 || p->stuck)
		return;
	if (p->in >= 0)
		close(steal_fd(&p->in));
	if (!try_reap(p)) {
		kill(-session, SIGTERM);
		kill(session, SIGTERM); /* in case it has not reached setsid yet */
		wait_until(p, clock_now_ns() + grace_ns, hurry_fd);
	}
	kill(-session, SIGKILL);
	if (!try_reap(p)) {
		kill(session, SIGKILL);
		wait_until(p, clock_now_ns() + patience_ns, -1);
		p->stuck = !try_reap(p); /* stays among the live: nobody waits for it again */
	}
	cgroup_destroy(&p->cgroup);
	kill_orphans(session, clock_now_ns() + patience_ns);
	close_fds(p);
}

void proc_release(struct proc *p)
{
	if (p->pid > 0 && !p->reaped)
		proc_stop(p, 0, -1);
	cgroup_destroy(&p->cgroup);
	close_fds(p);
}

bool proc_was_killed(const struct proc *p)
{
	return p->reaped && WIFSIGNALED(p->status) && WTERMSIG(p->status) == SIGKILL;
}

char *proc_describe_end(const struct proc *p, char *buf, size_t size)
{
	if (p->stuck)
		snprintf(buf, size, "killed, but stuck in the kernel (dmesg may say why)");
	else if (!p->reaped)
		snprintf(buf, size, "still running");
	else if (WIFSIGNALED(p->status))
		snprintf(buf, size, "killed by signal %d (%s)", WTERMSIG(p->status),
			 strsignal(WTERMSIG(p->status)));
	else
		snprintf(buf, size, "exit status %d", WEXITSTATUS(p->status));
	return buf;
}
