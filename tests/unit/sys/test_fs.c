#include "base/clock.h"
#include "sys/fs.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static char dir[64];
static struct lem_error err;

static int start(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/lem-test-fs-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static void remove_tree(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *inside = fs_join(path, e->d_name);

		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		if (fs_is_dir(inside))
			remove_tree(inside);
		else
			unlink(inside);
	}
	if (d)
		closedir(d);
	rmdir(path);
}

static int stop(void **state)
{
	(void)state;
	remove_tree(dir);
	return 0;
}

static char *in_dir(const char *name)
{
	return fs_join(dir, name);
}

static size_t entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void test_write_then_read(void **state)
{
	_cleanup_free_ char *path = in_dir("file");
	_cleanup_str_ struct str s = STR_INIT;
	struct stat st;

	(void)state;
	assert_int_equal(fs_write_atomic(path, "a\0b", 3, &err), 0);
	assert_int_equal(fs_read_file(path, 3, &s, &err), 0);
	assert_int_equal(s.len, 3);
	assert_memory_equal(s.buf, "a\0b", 4);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(fs_write_atomic(path, "", 0, &err), 0);
	assert_int_equal(fs_read_file(path, 3, &s, &err), 0);
	assert_int_equal(s.len, 0);
}

static void test_read_is_bounded(void **state)
{
	_cleanup_free_ char *path = in_dir("big");
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	str_set(&s, "before");
	assert_int_equal(fs_write_atomic(path, "12345", 5, &err), 0);
	assert_int_equal(fs_read_file(path, 4, &s, &err), -LEM_E_PARSE);
	assert_non_null(strstr(err.what, "larger than 4 bytes"));
	assert_int_equal(fs_read_file("/dev/zero", 1 << 20, &s, &err), -LEM_E_PARSE);
	assert_string_equal(str_c(&s), "before");
}

static void test_read_fails(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	_cleanup_free_ char *missing = in_dir("missing");

	(void)state;
	assert_int_equal(fs_read_file(missing, 10, &s, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, missing));
	assert_non_null(strstr(err.why, "No such file"));
	assert_int_equal(fs_read_file(dir, 10, &s, &err), -LEM_E_IO);
	assert_non_null(strstr(err.why, "directory"));
	assert_int_equal(fs_read_file(missing, 10, &s, NULL), -LEM_E_IO);
}

/* A failed write leaves the old content and nothing beside it. */
static void test_full_disk_keeps_the_old_file(void **state)
{
	_cleanup_free_ char *folder = in_dir("full"), *path = fs_join(folder, "file");
	_cleanup_str_ struct str s = STR_INIT;
	struct rlimit no_more = {.rlim_cur = 1000, .rlim_max = RLIM_INFINITY}, old;
	char big[5000] = {0};
	int r;

	(void)state;
	assert_int_equal(fs_mkdirs(folder, &err), 0);
	assert_int_equal(fs_write_atomic(path, "old", 3, &err), 0);
	/* the same as a full disk for a writer: write(2) fails in the middle (EFBIG) */
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	setrlimit(RLIMIT_FSIZE, &no_more);
	r = fs_write_atomic(path, big, sizeof(big), &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -LEM_E_IO);
	assert_non_null(strstr(err.what, "cannot write"));
	assert_int_equal(entries(folder), 1);
	assert_int_equal(fs_read_file(path, 100, &s, &err), 0);
	assert_string_equal(str_c(&s), "old");
}

static void test_write_where_nobody_can(void **state)
{
	(void)state;
	assert_int_equal(fs_write_atomic("/proc/lem", "x", 1, &err), -LEM_E_IO);
	assert_int_equal(fs_write_atomic("/nonexistent/x", "x", 1, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "/nonexistent/x"));
	assert_int_equal(fs_write_atomic(dir, "x", 1, &err), -LEM_E_IO); /* a folder */
}

static void test_mkdirs(void **state)
{
	_cleanup_free_ char *deep = in_dir("a/b//c/"), *file = in_dir("f"), *below = in_dir("f/x");

	(void)state;
	assert_int_equal(fs_mkdirs(deep, &err), 0);
	assert_true(fs_is_dir(deep));
	assert_int_equal(fs_mkdirs(deep, &err), 0);
	assert_int_equal(fs_write_atomic(file, "", 0, &err), 0);
	assert_int_equal(fs_mkdirs(file, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "not a folder"));
	assert_int_equal(fs_mkdirs(below, &err), -LEM_E_IO);
	assert_int_equal(fs_mkdirs("/proc/x/y", &err), -LEM_E_IO);
}

static void test_predicates(void **state)
{
	_cleanup_free_ char *file = in_dir("script");

	(void)state;
	assert_int_equal(fs_write_atomic(file, "#!/bin/sh\n", 10, &err), 0);
	assert_true(fs_exists(file) && !fs_is_dir(file) && !fs_is_executable(file));
	assert_int_equal(chmod(file, 0755), 0);
	assert_true(fs_is_executable(file));
	assert_true(fs_is_dir(dir) && !fs_is_executable(dir));
	assert_false(fs_exists("/nonexistent") || fs_is_dir("/nonexistent"));
}

static void test_read_line(void **state)
{
	_cleanup_free_ char *path = in_dir("line"), *empty = in_dir("empty");
	char buf[6] = "keep";

	(void)state;
	assert_false(fs_read_line("/nonexistent", buf, sizeof(buf)));
	assert_string_equal(buf, "keep");
	assert_int_equal(fs_write_atomic(path, "one\ntwo\n", 8, &err), 0);
	assert_true(fs_read_line(path, buf, sizeof(buf)));
	assert_string_equal(buf, "one");
	assert_int_equal(fs_write_atomic(path, "longer than that", 16, &err), 0);
	assert_true(fs_read_line(path, buf, sizeof(buf)));
	assert_string_equal(buf, "longe");
	assert_int_equal(fs_write_atomic(empty, "", 0, &err), 0);
	assert_false(fs_read_line(empty, buf, sizeof(buf)));
}

static void test_cache_dir(void **state)
{
	static const struct {
		const char *lem, *xdg, *home, *expected;
	} cases[] = {{"/l", "/x", "/h", "/l"},
		     {"", "/x", "/h", "/x/lem"},
		     {NULL, "/x/", "/h", "/x/lem"},
		     {NULL, "", "/h", "/h/.cache/lem"},
		     {NULL, NULL, "/h", "/h/.cache/lem"}};
	_cleanup_free_ char *last = NULL, *expected = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		cases[i].lem ? setenv("LEM_CACHE_DIR", cases[i].lem, 1) : unsetenv("LEM_CACHE_DIR");
		cases[i].xdg ? setenv("XDG_CACHE_HOME", cases[i].xdg, 1)
			     : unsetenv("XDG_CACHE_HOME");
		setenv("HOME", cases[i].home, 1);
		_cleanup_free_ char *got = fs_cache_dir();

		assert_string_equal(got, cases[i].expected);
	}
	unsetenv("HOME");
	last = fs_cache_dir();
	expected = lem_asprintf("/tmp/lem-cache-%u", (unsigned)getuid());
	assert_string_equal(last, expected);
}

static void test_join(void **state)
{
	static const struct {
		const char *dir, *name, *expected;
	} cases[] = {{"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"}, {"/a", "/b", "/b"},
		     {NULL, "b", "b"},    {"", "b", "b"},       {"a", "", "a/"}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_free_ char *got = fs_join(cases[i].dir, cases[i].name);

		assert_string_equal(got, cases[i].expected);
	}
}

static void test_program_dir(void **state)
{
	_cleanup_free_ char *d = fs_program_dir(), *me = fs_join(d, "test_fs");

	(void)state;
	assert_true(fs_is_executable(me));
}

static bool no(void *arg)
{
	++*(int *)arg;
	return false;
}

static bool until_the_third(void *arg)
{
	return ++*(int *)arg < 3;
}

static void test_lock(void **state)
{
	_cleanup_free_ char *path = in_dir("locks/deep/lock");
	int asked = 0, first = fs_lock(path, no, &asked, &err), second;
	int64_t t = clock_now_ns();

	(void)state;
	assert_true(first >= 0 && asked == 0);
	assert_int_equal(fs_lock(path, no, &asked, &err), -LEM_E_INTERRUPTED);
	assert_int_equal(asked, 1);
	asked = 0;
	assert_int_equal(fs_lock(path, until_the_third, &asked, &err), -LEM_E_INTERRUPTED);
	assert_true(clock_now_ns() - t >= 2 * NS_PER_S / 10); /* asked ten times a second */
	close(first);
	second = fs_lock(path, NULL, NULL, &err);
	assert_true(second >= 0);
	close(second);
	assert_int_equal(fs_lock("/proc/lem/lock", NULL, NULL, &err), -LEM_E_IO);
	assert_int_equal(fs_lock(dir, NULL, NULL, &err), -LEM_E_IO);
}

/* A process that dies lets go. */
static void test_lock_of_the_dead(void **state)
{
	_cleanup_free_ char *path = in_dir("lock");
	int ready[2], fd;
	char c;
	pid_t pid;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		if (fs_lock(path, NULL, NULL, NULL) >= 0 && write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	kill(pid, SIGKILL);
	fd = fs_lock(path, NULL, NULL, &err);
	assert_true(fd >= 0);
	close(fd);
	waitpid(pid, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_write_then_read),
		cmocka_unit_test(test_read_is_bounded),
		cmocka_unit_test(test_read_fails),
		cmocka_unit_test(test_full_disk_keeps_the_old_file),
		cmocka_unit_test(test_write_where_nobody_can),
		cmocka_unit_test(test_mkdirs),
		cmocka_unit_test(test_predicates),
		cmocka_unit_test(test_read_line),
		cmocka_unit_test(test_cache_dir),
		cmocka_unit_test(test_join),
		cmocka_unit_test(test_program_dir),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_lock_of_the_dead),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
