/* Writers that are killed at any moment, and many at once: what was reported as stored is there. */
#include "folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/vec.h"
#include "sys/fs.h"

enum { KILLS = 25, WRITERS = 4, RUNS_EACH = 50 };

static int put_one(struct store *s, const char *id)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct run_record r;
	int rc;

	example_record(&r, id);
	example_summary(sum);
	rc = store_put(s, &r, sum, NULL);
	run_record_release(&r);
	return rc;
}

/* Stores without end; says each id on fd once store_put has returned. */
static void write_forever(int fd)
{
	struct store *s = NULL;
	char id[96];

	for (;;) {
		if (!s && store_open("results", &s, NULL) < 0)
			_exit(1);
		if (store_new_run_id(s, "torture", id, sizeof(id), NULL) < 0 || put_one(s, id) < 0)
			_exit(2);
		if (write(fd, id, sizeof(id)) != (ssize_t)sizeof(id))
			_exit(3);
	}
}

struct told {
	VEC(char *) ids;
};

/* Starts a writer, kills it after some milliseconds, keeps what it had said. */
static void kill_a_writer(struct told *told, int64_t after_ns)
{
	int ends[2], status = 0;
	char id[96];
	pid_t pid;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		write_forever(ends[1]);
		_exit(0);
	}
	close(ends[1]);
	clock_sleep_until_ns(clock_now_ns() + after_ns);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status)); /* and not ended by an error of its own */
	while (read(ends[0], id, sizeof(id)) == (ssize_t)sizeof(id))
		*vec_push(&told->ids) = lem_strdup(id);
	close(ends[0]);
}

static void expect_all_whole(struct store *s)
{
	_cleanup_free_ struct store_row *rows = NULL;
	size_t n = 0;

	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *file = lem_asprintf("results/%s.json", rows[i].run_id);

		expect_example(s, rows[i].run_id);
		assert_string_equal(rows[i].verdict, "suspect");
		assert_true(fs_exists(file));
	}
}

static void test_killed_writers(void **state)
{
	struct told told = {VEC_INIT};
	struct store *s;
	struct rand rnd;

	(void)state;
	rand_seed(&rnd, (uint64_t)clock_now_ns());
	for (int i = 0; i < KILLS; i++)
		kill_a_writer(&told, (int64_t)rand_below(&rnd, 120) * NS_PER_MS);
	print_message("# %zu runs reported as stored\n", told.ids.n);
	assert_true(told.ids.n > 0);
	s = open_here();
	vec_foreach (&told.ids, id) {
		expect_example(s, *id);
		free(*id);
	}
	vec_release(&told.ids);
	expect_all_whole(s);
	store_close(s);
	assert_true(integrity_ok("results/lem.sqlite"));
}

static int write_some(void)
{
	struct store *s = NULL;
	char id[96];

	if (store_open("results", &s, NULL) < 0)
		return 1;
	for (int i = 0; i < RUNS_EACH; i++)
		if (store_new_run_id(s, "many", id, sizeof(id), NULL) < 0 || put_one(s, id) < 0)
			return 2;
	store_close(s);
	return 0;
}

/* All begin in a folder that does not exist yet, so that they also meet while making the tables. */
static void test_many_at_once(void **state)
{
	pid_t pids[WRITERS];
	struct store *s;

	(void)state;
	for (int i = 0; i < WRITERS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(write_some());
	}
	for (int i = 0; i < WRITERS; i++) {
		int status = 0;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count_of("SELECT count(*) FROM runs"), WRITERS * RUNS_EACH);
	assert_int_equal(count_of("SELECT count(*) FROM summaries"), WRITERS * RUNS_EACH);
	s = open_here();
	expect_all_whole(s);
	store_close(s);
	assert_true(integrity_ok("results/lem.sqlite"));
}

/* Waits until the other end of the pipe closes, so that all begin together. */
static int open_and_close(int gate)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;
	char c;
	int rc;

	if (read(gate, &c, 1) != 0)
		return 2;
	rc = store_open("results", &s, &err);
	if (rc < 0)
		fprintf(stderr, "%s: %s (%s)\n", err.what, err.why, err.where);
	store_close(s);
	return rc < 0;
}

static void race(void)
{
	pid_t pids[2 * WRITERS];
	int gate[2];

	assert_int_equal(pipe2(gate, O_CLOEXEC), 0);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		if (pids[i] != 0)
			continue;
		close(gate[1]);
		_exit(open_and_close(gate[0]));
	}
	close(gate[0]);
	close(gate[1]);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		int status = 0;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
}

/* The very first moment of a results folder, again and again. */
static void test_first_opening_races(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		_cleanup_free_ char *old = lem_asprintf("old-%d", round);

		race();
		assert_int_equal(rename("results", old), 0);
	}
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_enter, folder_leave)
	const struct CMUnitTest tests[] = {
		TEST(test_killed_writers),
		TEST(test_many_at_once),
		TEST(test_first_opening_races),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
