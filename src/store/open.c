#include "base/clock.h"
#include "store/impl.h"
#include "sys/fs.h"

enum { PROBE_BYTES = 64 << 10 };

static int connect_db(const char *dir, const char *name, int flags, struct store **ret,
		      struct lem_error *err)
{
	struct store *s = lem_calloc(1, sizeof(*s));
	int r;

	s->dir = lem_strdup(dir);
	if (sqlite3_open_v2(name, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK) {
		r = store_fail(s, "open the results database", err);
		store_close(s);
		return r;
	}
	sqlite3_busy_timeout(s->db, STORE_BUSY_TIMEOUT_MS);
	*ret = s;
	return 0;
}

/* Two processes that switch a new file to WAL at the same moment: SQLite does not call the busy
 * handler there (sqlite.org/wal.html, section 8), so the loser tries again. Where WAL is not
 * possible (some network file systems) the file stays with a rollback journal, which is as safe. */
static int choose_journal(struct store *s, struct lem_error *err)
{
	int64_t deadline_ns = clock_now_ns() + STORE_BUSY_TIMEOUT_MS * NS_PER_MS;
	static const char sql[] =
		"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON";

	while (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
		if (sqlite3_errcode(s->db) != SQLITE_BUSY || clock_now_ns() > deadline_ns)
			return store_fail(s, "open the results database", err);
		clock_sleep_until_ns(clock_now_ns() + 10 * NS_PER_MS);
	}
	return 0;
}

static int read_only_file(struct store *s, struct lem_error *err)
{
	lem_fail(err, LEM_E_IO, "the results database %s/lem.sqlite cannot be written", s->dir);
	return lem_error_fix(err, "make the file writable, or use -o with another folder");
}

int store_open_db(const char *dir, struct store **ret, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(dir, "lem.sqlite");
	struct store *s = NULL;
	int r = connect_db(dir, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &s, err);

	if (r < 0)
		return r;
	/* SQLite opens a file without write permission for reading, and says nothing. */
	r = sqlite3_db_readonly(s->db, "main") == 1 ? read_only_file(s, err) : 0;
	if (r >= 0)
		r = choose_journal(s, err);
	if (r >= 0)
		r = store_migrate(s, err);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

/* What a run will need at its end is tried at its start. */
static int probe(const char *dir, struct lem_error *err)
{
	_cleanup_free_ char *path = lem_asprintf("%s/.probe-%d", dir, (int)getpid());
	_cleanup_free_ char *zeros = lem_calloc(1, PROBE_BYTES);
	int r = fs_write_atomic(path, zeros, PROBE_BYTES, err);

	unlink(path);
	if (r >= 0)
		return 0;
	lem_error_context(err, "the results folder %s cannot be written", dir);
	return lem_error_fix(err, "use -o with a folder that can be, or free some space");
}

int store_open(const char *results_dir, struct store **ret, struct lem_error *err)
{
	struct store *s = NULL;
	struct lem_error own;
	int r;

	if (!err)
		err = &own;
	r = fs_mkdirs(results_dir, err);
	if (r < 0)
		lem_error_fix(err, "use -o with a folder that can be created");
	if (r >= 0)
		r = probe(results_dir, err);
	if (r >= 0)
		r = store_open_db(results_dir, &s, err);
	if (r < 0) {
		err->code = LEM_E_REFUSED; /* known before anything was started */
		return -LEM_E_REFUSED;
	}
	(void)store_write_documents(s, NULL); /* tried again the next time */
	*ret = s;
	return 0;
}

/* A reader without write permission cannot make the shared memory that WAL needs. With no WAL file
 * left behind there is nothing to share, and the file may be read as it stands. */
static int open_immutable(const char *dir, const char *path, struct store **ret,
			  struct lem_error *err)
{
	_cleanup_free_ char *wal = lem_asprintf("%s-wal", path);
	_cleanup_str_ struct str uri = STR_INIT;

	if (fs_exists(wal))
		return connect_db(dir, path, SQLITE_OPEN_READONLY, ret, err);
	str_add(&uri, "file:");
	for (const char *p = path; *p; p++)
		if (strchr("?#%", *p))
			str_addf(&uri, "%%%02x", (unsigned)(unsigned char)*p);
		else
			str_addc(&uri, *p);
	str_add(&uri, "?immutable=1");
	return connect_db(dir, str_c(&uri), SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, ret, err);
}

static int no_results(const char *dir, struct lem_error *err)
{
	lem_fail(err, LEM_E_NOT_FOUND, "there are no results in %s", dir);
	return lem_error_fix(err, "run 'lem experiment CONFIG' first, or name the folder with -o");
}

int store_open_readonly(const char *results_dir, struct store **ret, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(results_dir, "lem.sqlite");
	struct store *s = NULL;
	int version = 0, r;

	if (!fs_exists(path))
		return no_results(results_dir, err);
	r = access(path, W_OK) == 0 && access(results_dir, W_OK) == 0
		    ? connect_db(results_dir, path, SQLITE_OPEN_READWRITE, &s, err)
		    : open_immutable(results_dir, path, &s, err);
	if (r < 0)
		return r;
	r = store_check_version(s, &version, err);
	if (r >= 0 && version == 0)
		r = no_results(results_dir, err);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	sqlite3_close(s->db);
	free(s->dir);
	free(s);
}
