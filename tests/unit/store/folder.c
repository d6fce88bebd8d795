
#include "folder.h"

#include <dirent.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

static char folder[64];

int folder_enter(void **state)
{
	(void)state;
	lem_strlcpy(folder, "/tmp/lem-store-XXXXXX", sizeof(folder));
	if (!mkdtemp(folder) || chmod(folder, 0777) < 0 || chdir(folder) < 0)
		return -1;
	return setenv("TMPDIR", folder, 1);
}

static void empty(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = lem_asprintf("%s/%s", dir, e->d_name);

		if (str_eq(e->d_name, ".") || str_eq(e->d_name, ".."))
			continue;
		if (unlink(path) < 0) {
			(void)chmod(path, 0700);
			empty(path);
			(void)rmdir(path);
		}
	}
	if (d)
		closedir(d);
}

int folder_leave(void **state)
{
	(void)state;
	empty(folder);
	return chdir("/") < 0 || rmdir(folder) < 0 ? -1 : 0;
}

struct store *open_here(void)
{
	struct store *s = NULL;
	struct lem_error err = LEM_ERROR_INIT;

	if (store_open("results", &s, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	return s;
}

void put_example(struct store *s, const char *id, int64_t wall_start_ns)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	example_record(&r, id);
	example_summary(sum);
	r.wall_start_ns = wall_start_ns;
	if (store_put(s, &r, sum, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	run_record_release(&r);
}

void expect_example(struct store *s, const char *id)
{
	struct run_record want, got;
	struct lem_error err = LEM_ERROR_INIT;
	const char *field;

	run_record_init(&got);
	if (store_get(s, id, &got, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	example_record(&want, got.run_id);
	want.wall_start_ns = got.wall_start_ns;
	if (!records_equal(&want, &got, &field))
		fail_msg("%s differs", field);
	run_record_release(&want);
	run_record_release(&got);
}

static sqlite3 *connect_here(void)
{
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open("results/lem.sqlite", &db), SQLITE_OK);
	return db;
}

void tamper(const char *sql)
{
	sqlite3 *db = connect_here();
	char *message = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
	sqlite3_close(db);
}

int count_of(const char *sql)
{
	sqlite3 *db = connect_here();
	sqlite3_stmt *q = NULL;
	int n;

	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(q), SQLITE_ROW);
	n = sqlite3_column_int(q, 0);
	sqlite3_finalize(q);
	sqlite3_close(db);
	return n;
}

bool integrity_ok(const char *database)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *q = NULL;
	bool ok = sqlite3_open(database, &db) == SQLITE_OK &&
		  sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &q, NULL) == SQLITE_OK &&
		  sqlite3_step(q) == SQLITE_ROW &&
		  str_eq((const char *)sqlite3_column_text(q, 0), "ok");

	sqlite3_finalize(q);
	sqlite3_close(db);
	return ok;
}
