#include "sys/proc.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/num.h"
#include "base/str.h"

static void spawn_sh(const char *script, const char *const *env, struct proc *p)
{
	const char *argv[] = {"sh", "-c", script, NULL};
	struct proc_spec spec = {.argv = argv, .env = env};
	struct lem_error err;

	assert_int_equal(proc_spawn(&spec, p, &err), 0);
}

/* Reads stdout until `until` has come or 5 s have passed. */
static void read_until(struct proc *p, struct str *out, const char *until)
{
	int64_t deadline = clock_now_ns() + 5 * NS_PER_S;

	while (!strstr(str_c(out), until) && clock_now_ns() < deadline) {
		struct pollfd fd = {.fd = p->out, .events = POLLIN};
		char buf[4096];

		poll(&fd, 1, 100);
		ssize_t n = read(p->out, buf, sizeof(buf));

		if (n > 0)
			str_addn(out, buf, (size_t)n);
		else if (n == 0)
			break;
	}
}

static void test_runs_and_reports(void **state)
{
	_cleanup_proc_ struct proc p = PROC_INIT;
	_cleanup_str_ struct str out = STR_INIT;
	const char *env[] = {"LEM_T=hello", NULL};
	char buf[64];

	(void)state;
	spawn_sh("read x; echo $LEM_T $x; exit 7", env, &p);
	assert_string_equal(proc_describe_end(&p, buf, sizeof(buf)), "still running");
	assert_int_equal(write(p.in, "there\n", 6), 6);
	read_until(&p, &out, "\n");
	assert_string_equal(str_c(&out), "hello there\n");
	assert_true(proc_wait_until(&p, clock_now_ns() + 5 * NS_PER_S));
	assert_string_equal(proc_describe_end(&p, buf, sizeof(buf)), "exit status 7");
}

static void test_exec_failure_says_why(void **state)
{
	const char *argv[] = {"/nonexistent/program", NULL};
	struct proc_spec spec = {.argv = argv};
	struct proc p = PROC_INIT;
	struct lem_error err;

	(void)state;
	assert_int_equal(proc_spawn(&spec, &p, &err), -LEM_E_IO);
	assert_string_equal(err.what, "cannot start /nonexistent/program");
	assert_string_equal(err.why, strerror(ENOENT));
	assert_int_equal(p.pid, 0);
}

static void test_stop_is_gentle_first(void **state)
{
	struct proc p = PROC_INIT;
	_cleanup_str_ struct str out = STR_INIT;

	(void)state;
	spawn_sh("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", NULL, &p);
	read_until(&p, &out, "ready");
	proc_stop(&p, 5 * NS_PER_S, -1);
	assert_true(p.reaped && WIFEXITED(p.status));
	assert_int_equal(WEXITSTATUS(p.status), 5);
}

static void test_stop_kills_the_deaf(void **state)
{
	struct proc p = PROC_INIT;
	_cleanup_str_ struct str out = STR_INIT;
	int64_t t0;

	(void)state;
	spawn_sh("trap '' TERM; echo ready; while :; do sleep 0.05; done", NULL, &p);
	read_until(&p, &out, "ready");
	t0 = clock_now_ns();
	proc_stop(&p, 300 * NS_PER_MS, -1);
	assert_true(clock_now_ns() - t0 >= 290 * NS_PER_MS);
	assert_true(p.reaped && WIFSIGNALED(p.status));
	assert_int_equal(WTERMSIG(p.status), SIGKILL);
}

static void test_stop_hurries(void **state)
{
	struct proc p = PROC_INIT;
	_cleanup_str_ struct str out = STR_INIT;
	int pipe_fds[2];
	int64_t t0;

	(void)state;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(write(pipe_fds[1], "x", 1), 1);
	spawn_sh("trap '' TERM; echo ready; while :; do sleep 0.05; done", NULL, &p);
	read_until(&p, &out, "ready");
	t0 = clock_now_ns();
	proc_stop(&p, 60 * NS_PER_S, pipe_fds[0]);
	assert_true(clock_now_ns() - t0 < 5 * NS_PER_S);
	assert_true(p.reaped);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}

/* A grandchild in a session of its own survives signals to the child's; it must be found all the
 * same. */
static void test_nothing_is_orphaned(void **state)
{
	struct proc p = PROC_INIT;
	_cleanup_str_ struct str out = STR_INIT;
	int64_t pid = 0;

	(void)state;
	spawn_sh("setsid sh -c 'trap \"\" TERM HUP; echo $$; exec sleep 300' & sleep 300", NULL,
		 &p);
	read_until(&p, &out, "\n");
	assert_non_null(out.buf);
	out.buf[strcspn(out.buf, "\n")] = '\0';
	assert_true(num_parse_i64(out.buf, &pid) && pid > 1);
	assert_int_equal(kill((pid_t)pid, 0), 0);
	proc_stop(&p, 100 * NS_PER_MS, -1);
	assert_int_equal(kill((pid_t)pid, 0), -1);
	assert_int_equal(errno, ESRCH);
}

/* Holds a process by ptrace, so that it does not go when it is killed: as one does that is stuck in
 * a driver. 0 when that is not allowed here. */
static pid_t hold(pid_t target)
{
	int ready[2];
	char ok = 0;
	pid_t holder;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	holder = fork();
	if (holder == 0) {
		ok = ptrace(PTRACE_SEIZE, target, NULL, NULL) == 0;
		_exit(write(ready[1], &ok, 1) == 1 && ok ? pause() : 1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &ok, 1), 1);
	close(ready[0]);
	if (ok)
		return holder;
	waitpid(holder, NULL, 0);
	return 0;
}

static void test_stop_does_not_wait_for_ever(void **state)
{
	struct proc p = PROC_INIT;
	int64_t t0 = clock_now_ns();
	char buf[64];
	pid_t holder;

	(void)state;
	spawn_sh("exec sleep 300", NULL, &p);
	holder = hold(p.pid);
	if (!holder) {
		proc_stop(&p, 0, -1);
		print_message("# not run: ptrace is not allowed here, nothing can be made to "
			      "hang\n"); /* skip() is a failure to meson */
		return;
	}
	pid_t pid = p.pid;

	p.killed_patience_ns = 300 * NS_PER_MS;
	proc_stop(&p, 0, -1);
	proc_release(&p); /* nor a second time */
	assert_true(clock_now_ns() - t0 < 5 * NS_PER_S);
	assert_false(p.reaped);
	assert_non_null(strstr(proc_describe_end(&p, buf, sizeof(buf)), "stuck"));
	kill(holder, SIGKILL);
	assert_int_equal(waitpid(holder, NULL, 0), holder);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Stopping one child leaves another one's process alone. */
static void test_siblings_live_on(void **state)
{
	struct proc a = PROC_INIT, b = PROC_INIT;

	(void)state;
	spawn_sh("sleep 300", NULL, &a);
	spawn_sh("sleep 300", NULL, &b);
	proc_stop(&a, 100 * NS_PER_MS, -1);
	assert_false(proc_wait_until(&b, clock_now_ns() + 50 * NS_PER_MS));
	proc_stop(&b, NS_PER_S, -1);
	assert_true(b.reaped);
}

/* A child that floods its output must still be able to end when told to. */
static void test_flood_does_not_block_stop(void **state)
{
	struct proc p = PROC_INIT;

	(void)state;
	spawn_sh("trap 'echo bye; exit 0' TERM; while :; do echo "
		 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
		 NULL, &p);
	clock_sleep_until_ns(clock_now_ns() + 200 * NS_PER_MS);
	proc_stop(&p, 5 * NS_PER_S, -1);
	assert_true(p.reaped && WIFEXITED(p.status));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs_and_reports),
		cmocka_unit_test(test_exec_failure_says_why),
		cmocka_unit_test(test_stop_is_gentle_first),
		cmocka_unit_test(test_stop_kills_the_deaf),
		cmocka_unit_test(test_stop_hurries),
		cmocka_unit_test(test_nothing_is_orphaned),
		cmocka_unit_test(test_stop_does_not_wait_for_ever),
		cmocka_unit_test(test_siblings_live_on),
		cmocka_unit_test(test_flood_does_not_block_stop),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
