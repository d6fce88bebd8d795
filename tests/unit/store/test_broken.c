/* What can be wrong with a results folder: each is said clearly, and nothing stored is lost. */
#include "folder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "store/schema.h"
#include "sys/fs.h"

#define T0 (INT64_C(1795527600) * NS_PER_S)

static void write_file(const char *path, const char *text)
{
	assert_int_equal(fs_write_atomic(path, text, strlen(text), NULL), 0);
}

static void expect_refused(const char *dir, const char *what, const char *fix)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	assert_int_equal(store_open(dir, &s, &err), -LEM_E_REFUSED);
	assert_null(s);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	if (!strstr(err.fix, fix))
		fail_msg("'%s' does not say '%s'", err.fix, fix);
}

static void test_not_a_folder(void **state)
{
	(void)state;
	write_file("file", "a file in the way");
	expect_refused("file", "exists and is not a folder", "-o");
	expect_refused("file/below", "cannot create the folder", "-o");
	expect_refused("/proc/results", "cannot create the folder", "-o");
}

static void test_not_a_database(void **state)
{
	_cleanup_str_ struct str after = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	(void)state;
	assert_int_equal(fs_mkdirs("results", NULL), 0);
	write_file("results/lem.sqlite", "this is a text, long enough to be read as a header, and "
					 "it is not a database of any kind whatsoever ......");
	expect_refused("results", "not a database", "move the file away");
	assert_int_equal(store_open_readonly("results", &s, &err), -LEM_E_IO);
	assert_int_equal(fs_read_file("results/lem.sqlite", 4096, &after, NULL), 0);
	assert_true(str_starts(after.buf, "this is a text"));
}

static void test_foreign_database(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	(void)state;
	assert_int_equal(fs_mkdirs("results", NULL), 0);
	tamper("CREATE TABLE runs(name TEXT); INSERT INTO runs VALUES('mine')");
	expect_refused("results", "not one of lem", "move the file away");
	tamper("PRAGMA user_version = 7");
	expect_refused("results", "not one of lem", "move the file away");
	assert_int_equal(store_open_readonly("results", &s, &err), -LEM_E_UNSUPPORTED);
	assert_int_equal(count_of("SELECT count(*) FROM runs WHERE name = 'mine'"), 1);
}

static void test_newer_schema(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();

	(void)state;
	put_example(s, "x", T0);
	store_close(s);
	tamper("PRAGMA user_version = 77");
	expect_refused("results", "newer lem (schema 77", "update lem");
	assert_int_equal(store_open_readonly("results", &s, &err), -LEM_E_UNSUPPORTED);
	assert_int_equal(count_of("SELECT count(*) FROM runs"), 1);
}

/* A file that the first schema made, with a run in it, is brought up to date and keeps the run. */
static void test_older_schema(void **state)
{
	struct store *s = open_here();

	(void)state;
	put_example(s, "x", T0);
	store_close(s);
	assert_int_equal(rename("results", "new"), 0);
	assert_int_equal(fs_mkdirs("results", NULL), 0);
	tamper(STORE_SCHEMA_1 "PRAGMA user_version = 1;"
			      "ATTACH 'new/lem.sqlite' AS new;"
			      "INSERT INTO runs SELECT * FROM new.runs;"
			      "INSERT INTO summaries SELECT run_id, verdict, output_tokens_per_s, "
			      "j_per_output_token, energy_scope, lem_version, result "
			      "FROM new.summaries");
	assert_int_equal(store_open_readonly("results", &s, NULL), 0);
	expect_example(s, "x"); /* readable as it stands */
	store_close(s);
	assert_int_equal(count_of("PRAGMA user_version"), 1);
	s = open_here();
	expect_example(s, "x");
	put_example(s, "y", T0);
	store_close(s);
	assert_int_equal(count_of("PRAGMA user_version"), STORE_SCHEMA_VERSION);
	assert_true(integrity_ok("results/lem.sqlite"));
}

static void test_looking_creates_nothing(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	(void)state;
	assert_int_equal(store_open_readonly("nowhere", &s, &err), -LEM_E_NOT_FOUND);
	assert_false(fs_exists("nowhere"));
	assert_int_equal(fs_mkdirs("results", NULL), 0);
	write_file("results/lem.sqlite", "");
	assert_int_equal(store_open_readonly("results", &s, &err), -LEM_E_NOT_FOUND);
	assert_non_null(strstr(err.what, "no results in results"));
	assert_int_equal(count_of("SELECT count(*) FROM sqlite_master"), 0);
}

/* Damage is found when the run is read; the other runs are not touched by it. */
static void test_damaged_record(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();
	struct run_record r;

	(void)state;
	put_example(s, "x", T0);
	put_example(s, "y", T0);
	store_close(s);
	tamper("UPDATE runs SET record = substr(record, 1, length(record) / 2) WHERE run_id = 'x'");
	s = open_here();
	run_record_init(&r);
	assert_int_equal(store_get(s, "x", &r, &err), -LEM_E_PARSE);
	assert_non_null(strstr(err.where, "run x"));
	assert_non_null(strstr(err.fix, "results/x.json"));
	expect_example(s, "y");
	store_close(s);
	tamper("UPDATE runs SET record = x'' WHERE run_id = 'x'");
	s = open_here();
	assert_int_equal(store_get(s, "x", &r, &err), -LEM_E_PARSE);
	store_close(s);
	tamper("UPDATE runs SET record = 'text' WHERE run_id = 'x'");
	s = open_here();
	assert_int_equal(store_get(s, "x", &r, &err), -LEM_E_PARSE);
	store_close(s);
}

static void test_locked_by_another(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();
	sqlite3 *other = NULL;
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	assert_int_equal(sqlite3_open("results/lem.sqlite", &other), SQLITE_OK);
	assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_busy_timeout(s->db, 50);
	assert_int_equal(store_put(s, &r, sum, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "locked"));
	assert_non_null(strstr(err.fix, "lem-rescue-x"));
	sqlite3_close(other);
	run_record_release(&r);
	store_close(s);
}

/* The disk fills up at the end of a run: the run goes elsewhere, the stored ones stay, and import
 * brings it home. */
static void test_full_database(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();
	struct run_record r;
	size_t n = 0;

	(void)state;
	put_example(s, "old", T0);
	example_record(&r, "x");
	assert_int_equal(sqlite3_exec(s->db, "PRAGMA max_page_count = 1", NULL, NULL, NULL),
			 SQLITE_OK); /* is raised to what the file has */
	assert_int_equal(store_put(s, &r, sum, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "full"));
	assert_non_null(strstr(err.fix, "lem results import"));
	assert_false(fs_exists("results/x.json"));
	expect_example(s, "old");
	store_close(s);
	s = open_here();
	assert_int_equal(store_import(s, "lem-rescue-x", &n, NULL), 0);
	assert_int_equal(n, 1);
	expect_example(s, "x");
	run_record_release(&r);
	store_close(s);
}

/* Neither the folder nor TMPDIR has room: said, without a claim that it was saved. */
static void test_nowhere_to_go(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	setenv("TMPDIR", "/proc/nothing", 1);
	sqlite3_exec(s->db, "PRAGMA max_page_count = 1", NULL, NULL, NULL);
	assert_true(store_put(s, &r, sum, &err) < 0);
	assert_non_null(strstr(err.fix, "could not be saved in /proc/nothing"));
	run_record_release(&r);
	store_close(s);
}

/* The document's place is taken: the run itself is stored all the same. */
static void test_document_cannot_be_written(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = open_here();
	struct run_record r;

	(void)state;
	example_record(&r, "x");
	example_summary(sum);
	assert_int_equal(fs_mkdirs("results/x.json/in-the-way", NULL), 0);
	assert_int_equal(store_put(s, &r, sum, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "run x is stored, but its document is not yet"));
	expect_example(s, "x");
	store_close(s);
	assert_int_equal(rmdir("results/x.json/in-the-way"), 0);
	assert_int_equal(rmdir("results/x.json"), 0);
	store_close(open_here());
	assert_true(fs_exists("results/x.json"));
	run_record_release(&r);
}

/* Runs f in a child and returns its exit status: limits and user ids are not taken back. */
static int in_child(int (*f)(void))
{
	int status = 0;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(f());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* A limit on the size of files is hit in the middle of a write. */
static int put_until_limit(void)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct rlimit limit = {256 << 10, 256 << 10};
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || store_open("results", &s, NULL) < 0)
		return 2;
	for (int i = 0; i < 200; i++) {
		_cleanup_free_ char *id = lem_asprintf("run-%03d", i);
		struct run_record r;
		int rc;

		example_record(&r, id);
		example_summary(sum);
		rc = store_put(s, &r, sum, &err);
		run_record_release(&r);
		if (rc < 0) {
			store_close(s);
			return err.fix[0] ? 0 : 3;
		}
	}
	return 4; /* never hit */
}

static void test_file_size_limit(void **state)
{
	struct store *s;
	int n;

	(void)state;
	assert_int_equal(in_child(put_until_limit), 0);
	assert_true(integrity_ok("results/lem.sqlite"));
	n = count_of("SELECT count(*) FROM runs");
	assert_in_range(n, 1, 199);
	s = open_here();
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *id = lem_asprintf("run-%03d", i);
		_cleanup_free_ char *file = lem_asprintf("results/%s.json", id);

		expect_example(s, id);
		assert_true(fs_exists(file));
	}
	store_close(s);
}

static int open_as_nobody(void)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;

	if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
		return 2;
	if (store_open("results", &s, &err) != -LEM_E_REFUSED || !err.fix[0])
		return 3;
	if (store_open_readonly("results", &s, &err) < 0)
		return 4;
	expect_example(s, "x");
	store_close(s);
	return 0;
}

/* Without the right to write, a run is refused before it starts, and results can still be read. */
static void test_folder_of_someone_else(void **state)
{
	struct store *s = open_here();

	(void)state;
	put_example(s, "x", T0);
	store_close(s);
	assert_int_equal(chmod("results", 0555), 0);
	assert_int_equal(in_child(open_as_nobody), 0);
	assert_int_equal(chmod("results", 0777), 0);
	assert_int_equal(chmod("results/lem.sqlite", 0444), 0);
	assert_int_equal(in_child(open_as_nobody), 0); /* the folder may be written, not the file */
}

/* A real file system without room, where this may be mounted. */
static void test_full_disk(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s = NULL;
	struct run_record r;
	int fd;

	(void)state;
	assert_int_equal(fs_mkdirs("small", NULL), 0);
	if (mount("tmpfs", "small", "tmpfs", 0, "size=400k") < 0) {
		print_message(
			"# not run: no mount is allowed here\n"); /* skip() is a failure to meson */
		return;
	}
	assert_int_equal(store_open("small", &s, NULL), 0);
	example_record(&r, "before");
	example_summary(sum);
	assert_int_equal(store_put(s, &r, sum, NULL), 0);
	run_record_release(&r);
	fd = open("small/filler", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	for (char page[4096] = ""; write(fd, page, sizeof(page)) > 0;)
		;
	close(fd);
	example_record(&r, "x");
	assert_int_equal(store_put(s, &r, sum, &err), -LEM_E_IO);
	assert_non_null(strstr(err.fix, "lem-rescue-x"));
	run_record_release(&r);
	expect_example(s, "before");
	store_close(s);
	expect_refused("small", "cannot be written", "free some space");
	assert_true(integrity_ok("small/lem.sqlite"));
	assert_true(integrity_ok("lem-rescue-x/lem.sqlite"));
	assert_int_equal(umount("small"), 0);
}

/* Results on a medium that nobody can write. */
static void test_read_only_medium(void **state)
{
	struct store *s = open_here();

	(void)state;
	put_example(s, "x", T0);
	store_close(s);
	if (mount("results", "results", NULL, MS_BIND, NULL) < 0) {
		print_message("# not run: no mount is allowed here\n");
		return;
	}
	assert_int_equal(mount(NULL, "results", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
	expect_refused("results", "cannot be written", "-o");
	assert_int_equal(store_open_readonly("results", &s, NULL), 0);
	expect_example(s, "x");
	store_close(s);
	assert_int_equal(umount("results"), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_enter, folder_leave)
	const struct CMUnitTest tests[] = {
		TEST(test_not_a_folder),
		TEST(test_not_a_database),
		TEST(test_foreign_database),
		TEST(test_newer_schema),
		TEST(test_older_schema),
		TEST(test_looking_creates_nothing),
		TEST(test_damaged_record),
		TEST(test_locked_by_another),
		TEST(test_full_database),
		TEST(test_nowhere_to_go),
		TEST(test_document_cannot_be_written),
		TEST(test_file_size_limit),
		TEST(test_folder_of_someone_else),
		TEST(test_full_disk),
		TEST(test_read_only_medium),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
