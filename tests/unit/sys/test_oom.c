/* What the kernel's counters of out-of-memory kills say: made-up ones, and a real one where a
 * memory group can be made. */
#include "sys/oom.h"

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/str.h"
#include "sys/fs.h"

static void test_counts(void **state)
{
	int64_t n = -7;

	(void)state;
	assert_true(
		oom_parse_count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 3\noom_group_kill 0\n", &n));
	assert_int_equal(n, 3);
	assert_true(oom_parse_count("oom_kill_disable 0\nunder_oom 0\noom_kill 0", &n));
	assert_int_equal(n, 0);
	assert_false(oom_parse_count("", &n));
	assert_false(oom_parse_count("oom_kill_disable 0\n", &n));
	assert_false(oom_parse_count("oom_kill \n", &n));
	assert_false(oom_parse_count("oom_kill -1\n", &n));
	assert_false(oom_parse_count("oom_kill 99999999999999999999\n", &n));
}

#define V1   "30 24 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
#define CPU  "29 24 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
#define PART "30 24 0:27 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"

static void test_version_1(void **state)
{
	static const struct {
		const char *mounts, *groups, *folder;
	} cases[] = {
		{CPU V1, "1:cpu:/z\n4:memory:/a/b\n0::/\n", "/sys/fs/cgroup/memory/a/b"},
		{V1, "4:memory:/\n", "/sys/fs/cgroup/memory/"},
		{PART, "4:memory:/docker/ab/c\n", "/sys/fs/cgroup/memory/c"},
		{V1, "4:hugetlb,memory:/a\n", "/sys/fs/cgroup/memory/a"},
		{V1, "0::/a\n", NULL},        /* version 2 alone */
		{CPU, "4:memory:/a\n", NULL}, /* not mounted */
		{V1, "4:memory\n", NULL},     /* cut */
		{"", "", NULL},
		{" - cgroup \n", "4:memory:/a\n", NULL},
		{V1, "4:memories:/a\n", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char folder[64] = "";
		size_t n = 0;
		bool found =
			oom_parse_v1(cases[i].mounts, cases[i].groups, folder, sizeof(folder), &n);

		assert_int_equal(found, cases[i].folder != NULL);
		if (found)
			assert_string_equal(folder, cases[i].folder);
	}
}

static void write_count(const char *path, const char *text)
{
	assert_return_code(fs_write_atomic(path, text, strlen(text), NULL), 0);
}

static const char *explained(const struct oom_watch *w, bool killed, const char *text)
{
	static char buf[320];

	oom_watch_explain(w, killed, text, buf, sizeof(buf));
	return buf;
}

static void test_words(void **state)
{
	char path[] = "/tmp/lem-oom-XXXXXX";
	int fd = mkstemp(path);
	struct oom_watch w = {.before = 1};
	const char *killed = "killed by signal 9 (Killed)";

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	lem_strlcpy(w.file, path, sizeof(w.file));
	lem_strlcpy(w.name, "memory.events.local of /a/b", sizeof(w.name));
	write_count(path, "oom_kill 1\n");
	assert_int_equal(oom_watch_kills(&w), 0);
	assert_string_equal(explained(&w, false, "exit status 3"), "exit status 3");
	assert_string_equal(explained(&w, true, killed),
			    "killed by signal 9 (Killed), not by the kernel for lack of memory "
			    "(memory.events.local of /a/b: oom_kill is still 1)");
	write_count(path, "oom 4\noom_kill 3\n");
	assert_int_equal(oom_watch_kills(&w), 2);
	assert_string_equal(explained(&w, true, killed),
			    "killed by the kernel because memory ran out (memory.events.local of "
			    "/a/b: oom_kill 1 → 3)");
	assert_string_equal(
		explained(&w, false, "exit status 1"),
		"exit status 1, and processes in its memory group were killed by the "
		"kernel because memory ran out (memory.events.local of /a/b: oom_kill 1 "
		"→ 3)");
	w.machine = true;
	assert_non_null(strstr(explained(&w, false, "exit status 1"), "processes of this machine"));
	unlink(path); /* the group is gone: nothing more is known */
	assert_int_equal(oom_watch_kills(&w), 0);
	w.file[0] = '\0';
	assert_string_equal(explained(&w, true, killed), killed);
}

static void test_long_names_are_cut(void **state)
{
	struct oom_watch w = {.before = 0, .file = "/proc/vmstat"};
	char buf[320];

	(void)state;
	memset(w.name, 'x', sizeof(w.name) - 1);
	oom_watch_explain(&w, true, "killed by signal 9 (Killed)", buf, sizeof(buf));
	assert_true(strlen(buf) < sizeof(buf) - 1);
}

/* Whatever this machine has, a watch of this very process counts from what is there now. */
static void test_here(void **state)
{
	struct oom_watch w;

	(void)state;
	oom_watch_begin(getpid(), &w);
	assert_int_equal(oom_watch_kills(&w), 0);
	assert_true(!w.file[0] || w.before >= 0);
	assert_true(!w.file[0] || w.name[0]);
	oom_watch_begin((pid_t)0x7ffffff0, &w); /* a process that is not: the machine's */
	assert_true(!w.file[0] || w.machine);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counts), cmocka_unit_test(test_version_1),
		cmocka_unit_test(test_words),  cmocka_unit_test(test_long_names_are_cut),
		cmocka_unit_test(test_here),
	};

	return cmocka_run_group_tests_name("oom", tests, NULL, NULL);
}
