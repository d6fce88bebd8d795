/* Whose a process is: by cgroup text of every kind, and by real processes. */
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "runner/owns.h"

#include <cmocka.h>

#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_cgroup_text(void **state)
{
	static const struct {
		const char *text, *top;
		bool owned;
	} rows[] = {
		{"0::/system.slice/docker-" ID ".scope\n", "/system.slice/docker-" ID ".scope",
		 true},
		{"0::/docker/" ID "/sub\n", "/docker/" ID, true},
		{"0::/docker/" ID "x\n", "/docker/" ID, false},
		{"0::/docker\n", "/docker/" ID, false},
		{"0::/other\n", "/docker/" ID, false},
		{"12:memory:/docker/" ID "\n11:cpu,cpuacct:/\n0::/\n", "/docker/" ID, true},
		{"12:memory:/\n1:name=systemd:/docker/" ID, "/docker/" ID, true},
		{"", "/docker/" ID, false},
		{"no colon at all\n::\n:", "/docker/" ID, false},
		{"0::/../" ID "\n", "/../" ID, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (owns_cgroup_text(rows[i].text, rows[i].top) != rows[i].owned)
			fail_msg("row %zu: %s", i, rows[i].text);
}

static void test_container_cgroup(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"0::/system.slice/docker-" ID ".scope\n", "/system.slice/docker-" ID ".scope"},
		{"0::/docker/" ID "\n", "/docker/" ID},
		{"0::/user.slice/libpod-" ID ".scope/container\n",
		 "/user.slice/libpod-" ID ".scope"},
		{"5:devices:/docker/" ID "/init\n0::/\n", "/docker/" ID},
		{"0::/\n", NULL},
		{"0::/docker/other\n", NULL},
		{"0::" ID "\n", NULL}, /* no path */
		{ID, NULL},
		{"", NULL},
	};
	char buf[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		bool found = owns_container_cgroup(rows[i].text, ID, buf, sizeof(buf));

		assert_int_equal(found, rows[i].want != NULL);
		if (found)
			assert_string_equal(buf, rows[i].want);
	}
	assert_false(owns_container_cgroup("0::/docker/" ID "\n", ID, buf, 70)); /* no room */
	assert_false(owns_container_cgroup("0::/docker\n", "", buf, sizeof(buf)));
}

/* A child that makes a grandchild and waits; the grandchild's pid is told. */
static pid_t family(pid_t *ret_grandchild)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	pid_t child = fork();

	if (child == 0) {
		setsid();
		pid_t own = fork();

		if (own == 0)
			for (;;)
				pause();
		if (write(fds[1], &own, sizeof(own)) != sizeof(own))
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(fds[0], ret_grandchild, sizeof(pid_t)), sizeof(pid_t));
	close(fds[0]);
	close(fds[1]);
	return child;
}

static void test_tree(void **state)
{
	pid_t grandchild, child = family(&grandchild);
	struct running r = {.host_pid = child};

	(void)state;
	assert_true(runner_owns_pid(&r, child));
	assert_true(runner_owns_pid(&r, grandchild));
	assert_false(runner_owns_pid(&r, getpid()));
	assert_false(runner_owns_pid(&r, 1));
	assert_false(runner_owns_pid(&r, 0));
	assert_false(runner_owns_pid(&r, -1));
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_true(runner_owns_pid(&r, grandchild)); /* orphaned, the session stays */
	kill(grandchild, SIGKILL);
	r.host_pid = 0;
	assert_false(runner_owns_pid(&r, getpid()));
	r.host_pid = 1; /* everything is below it: never a container's root */
	assert_false(runner_owns_pid(&r, getpid()));
}

/* A root cgroup would own the whole machine. */
static void test_root_cgroup(void **state)
{
	struct running r = {.cgroup = "/"};

	(void)state;
	assert_false(runner_owns_pid(&r, getpid()));
}

static void test_own_cgroup(void **state)
{
	struct running r = {.host_pid = 0};
	char line[512];
	FILE *f = fopen("/proc/self/cgroup", "re");
	const char *path = NULL;

	(void)state;
	if (!f || !fgets(line, sizeof(line), f) || !(path = strrchr(line, ':')) ||
	    strlen(path) < 4) {
		if (f)
			(void)fclose(f);
		print_message("# skipped: this process is in the root cgroup\n");
		return;
	}
	(void)fclose(f);
	line[strcspn(line, "\n")] = '\0';
	lem_strlcpy(r.cgroup, path + 1, sizeof(r.cgroup));
	assert_true(runner_owns_pid(&r, getpid()));
}

static void test_gone(void **state)
{
	struct running r = {.host_pid = getpid()};
	uint64_t ticks;
	pid_t pid = fork();

	(void)state;
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	assert_false(runner_owns_pid(&r, pid));
	assert_false(owns_start_time(pid, &ticks));
}

/* Two clocks: what /proc tells of us lies before now, and not before the machine's start. */
static void test_start_time(void **state)
{
	uint64_t mine, parents;
	struct timespec up;

	(void)state;
	assert_true(owns_start_time(getpid(), &mine));
	assert_true(owns_start_time(getppid(), &parents));
	assert_true(parents <= mine);
	assert_int_equal(clock_gettime(CLOCK_BOOTTIME, &up), 0);
	assert_true(mine / (uint64_t)sysconf(_SC_CLK_TCK) <= (uint64_t)up.tv_sec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cgroup_text), cmocka_unit_test(test_container_cgroup),
		cmocka_unit_test(test_tree),        cmocka_unit_test(test_root_cgroup),
		cmocka_unit_test(test_own_cgroup),  cmocka_unit_test(test_gone),
		cmocka_unit_test(test_start_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
