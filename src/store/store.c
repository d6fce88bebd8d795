#include "store/store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <zstd.h>

#include "base/clock.h"
#include "store/codec.h"
#include "store/schema.h"
#include "sys/fs.h"

enum {
	BUSY_TIMEOUT_MS = 30000,
	RECORD_MAX_BYTES = 2000000000,
	ZSTD_LEVEL = 3,
	PROBE_BYTES = 64 << 10
};

struct store {
	sqlite3 *db;
	char *dir;
};

static void finalize(sqlite3_stmt **s)
{
	sqlite3_finalize(*s);
}
#define _cleanup_stmt_ _cleanup_(finalize)

static int fail_db(struct store *s, const char *doing, struct lem_error *err)
{
	int code = sqlite3_errcode(s->db);

	lem_fail(err, LEM_E_IO, "cannot %s: %s", doing, sqlite3_errmsg(s->db));
	lem_error_where(err, "%s/lem.sqlite", s->dir);
	if (code == SQLITE_FULL)
		return lem_error_fix(err, "the disk is full: free some space, or use -o with a "
					  "folder on another disk");
	if (code == SQLITE_READONLY || code == SQLITE_CANTOPEN)
		return lem_error_fix(
			err, "check the permissions of the folder, or use -o with another one");
	if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
		return lem_error_fix(err, "move the file away; the results in %s/*.json are whole",
				     s->dir);
	return -LEM_E_IO;
}

static int run_sql(struct store *s, const char *sql, const char *doing, struct lem_error *err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : fail_db(s, doing, err);
}

static int user_version(struct store *s, int *ret, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;

	if (sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK ||
	    sqlite3_step(q) != SQLITE_ROW)
		return fail_db(s, "read the results database", err);
	*ret = sqlite3_column_int(q, 0);
	return 0;
}

/* Another process may be creating the tables at this moment: the version is read again under the
 * write lock. */
static int migrate(struct store *s, struct lem_error *err)
{
	int version = 0, r = user_version(s, &version, err);

	if (r < 0 || version == STORE_SCHEMA_VERSION)
		return r;
	if (version > STORE_SCHEMA_VERSION) {
		lem_fail(err, LEM_E_UNSUPPORTED,
			 "the results database is of a newer lem (schema %d, this one knows %d)",
			 version, STORE_SCHEMA_VERSION);
		return lem_error_fix(err, "update lem, or use -o with another folder");
	}
	r = run_sql(s, "BEGIN IMMEDIATE", "create the results database", err);
	if (r < 0)
		return r;
	r = user_version(s, &version, err);
	if (r >= 0 && version == 0)
		r = run_sql(s, STORE_SCHEMA_SQL, "create the results database", err);
	if (r >= 0)
		return run_sql(s, "COMMIT", "create the results database", err);
	sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

/* Creating the database and turning on WAL ask for an exclusive lock that SQLite's busy timeout
 * does not wait for; two runs that begin at once take turns here. Released when the descriptor
 * closes. */
static int lock_folder(const char *dir)
{
	_cleanup_free_ char *path = fs_join(dir, ".lem.lock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

static int open_db(const char *dir, int flags, struct store **ret, struct lem_error *err)
{
	struct store *s = lem_calloc(1, sizeof(*s));
	_cleanup_free_ char *path = fs_join(dir, "lem.sqlite");
	_cleanup_fd_ _unused_ int lock = flags & SQLITE_OPEN_READWRITE ? lock_folder(dir) : -1;
	int r = 0;

	s->dir = lem_strdup(dir);
	if (sqlite3_open_v2(path, &s->db, flags | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		r = fail_db(s, "open the results database", err);
	sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
	if (r >= 0 && (flags & SQLITE_OPEN_READWRITE))
		r = run_sql(
			s,
			"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON",
			"open the results database", err);
	if (r >= 0)
		r = migrate(s, err);
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
	err->code = LEM_E_REFUSED;
	lem_error_context(err, "the results folder %s cannot be written", dir);
	return lem_error_fix(err, "use -o with a folder that can be, or free some space");
}

int store_open(const char *results_dir, struct store **ret, struct lem_error *err)
{
	struct lem_error own;
	int r;

	if (!err)
		err = &own;
	r = fs_mkdirs(results_dir, err);
	if (r < 0) {
		err->code = LEM_E_REFUSED;
		return lem_error_fix(err, "use -o with a folder that can be created");
	}
	r = probe(results_dir, err);
	return r < 0 ? r
		     : open_db(results_dir, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, ret, err);
}

int store_open_readonly(const char *results_dir, struct store **ret, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(results_dir, "lem.sqlite");

	if (!fs_exists(path)) {
		lem_fail(err, LEM_E_NOT_FOUND, "there are no results in %s", results_dir);
		return lem_error_fix(
			err, "run 'lem experiment CONFIG' first, or name the folder with -o");
	}
	return open_db(results_dir,
		       access(path, W_OK) == 0 ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY, ret,
		       err);
}

void store_close(struct store *s)
{
	if (!s)
		return;
	sqlite3_close(s->db);
	free(s->dir);
	free(s);
}

static void slug(const char *name, char *buf, size_t size)
{
	size_t n = 0;

	for (; *name && n + 1 < size; name++)
		if ((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
		    (*name >= '0' && *name <= '9') || strchr("._-", *name))
			buf[n++] = *name;
		else if (n && buf[n - 1] != '-')
			buf[n++] = '-';
	buf[n] = '\0';
}

int store_new_run_id(struct store *s, const char *config_name, char *buf, size_t size,
		     struct lem_error *err)
{
	char name[41], when[32];
	time_t now = (time_t)(clock_wall_ns() / NS_PER_S);
	struct tm tm;
	uint32_t random;

	slug(config_name, name, sizeof(name));
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%S", &tm);
	for (int tries = 0; tries < 100; tries++) {
		_cleanup_stmt_ sqlite3_stmt *q = NULL;

		if (getentropy(&random, sizeof(random)) < 0)
			random = (uint32_t)clock_now_ns();
		snprintf(buf, size, "%s-%s-%06x", when, name[0] ? name : "run", random & 0xffffff);
		if (sqlite3_prepare_v2(s->db, "SELECT 1 FROM runs WHERE run_id = ?", -1, &q,
				       NULL) != SQLITE_OK)
			return fail_db(s, "read the results database", err);
		sqlite3_bind_text(q, 1, buf, -1, SQLITE_STATIC);
		if (sqlite3_step(q) == SQLITE_DONE)
			return 0;
	}
	return lem_fail(err, LEM_E_INTERNAL, "no free run id was found");
}

static void compress(const struct str *in, struct str *out)
{
	size_t cap = ZSTD_compressBound(in->len);

	str_reserve(out, cap);
	size_t n = ZSTD_compress(out->buf, cap, str_c(in), in->len, ZSTD_LEVEL);

	if (ZSTD_isError(n))
		abort(); /* cannot happen with a bound-sized buffer */
	out->len = n;
}

static int decompress(const void *bytes, size_t n, struct str *out, struct lem_error *err)
{
	unsigned long long size = ZSTD_getFrameContentSize(bytes, n);

	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN ||
	    size > RECORD_MAX_BYTES)
		return lem_fail(err, LEM_E_PARSE, "the stored run is damaged");
	str_reserve(out, (size_t)size);
	size_t got = ZSTD_decompress(out->buf, (size_t)size, bytes, n);

	if (ZSTD_isError(got) || got != size)
		return lem_fail(err, LEM_E_PARSE, "the stored run is damaged");
	out->len = got;
	return 0;
}

static const char *weights_name(enum weights_kind k)
{
	return k == WEIGHTS_SYNTHETIC ? "synthetic" : k == WEIGHTS_REAL ? "real" : "unknown";
}

static int insert_run(struct store *s, const struct run_record *r, struct lem_error *err)
{
	_cleanup_str_ struct str plain = STR_INIT, packed = STR_INIT;
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char sql[] = "INSERT INTO runs(run_id, config_name, config_hash, engine, "
				  "model, weights, status, "
				  "wall_start_ns, record) VALUES(?,?,?,?,?,?,?,?,?)";

	record_encode(r, &plain);
	compress(&plain, &packed);
	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return fail_db(s, "store the run", err);
	const char *texts[] = {r->run_id,
			       r->config_name,
			       r->config_hash,
			       r->engine_name,
			       r->model_name,
			       weights_name(r->shape.weights),
			       run_status_name(r->status)};

	for (int i = 0; i < (int)ARRAY_LEN(texts); i++)
		sqlite3_bind_text(q, i + 1, texts[i], -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 8, r->wall_start_ns);
	sqlite3_bind_blob64(q, 9, packed.buf, packed.len, SQLITE_STATIC);
	return sqlite3_step(q) == SQLITE_DONE ? 0 : fail_db(s, "store the run", err);
}

static void bind_quantity(sqlite3_stmt *q, int at, const struct quantity *v)
{
	if (v->known)
		sqlite3_bind_double(q, at, v->value);
}

static int insert_summary(struct store *s, const struct run_record *r, const struct summary *sum,
			  const struct str *json, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char sql[] =
		"INSERT OR REPLACE INTO summaries(run_id, verdict, output_tokens_per_s, "
		"j_per_output_token, energy_scope, lem_version, result) VALUES(?,?,?,?,?,?,?)";

	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return fail_db(s, "store the summary", err);
	sqlite3_bind_text(q, 1, r->run_id, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 2, verdict_name(sum->verdict.level), -1, SQLITE_STATIC);
	bind_quantity(q, 3, &sum->output_tokens_per_s);
	bind_quantity(q, 4, &sum->j_per_output_token);
	sqlite3_bind_text(q, 5, sum->energy_scope, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 6, LEM_VERSION, -1, SQLITE_STATIC);
	sqlite3_bind_text64(q, 7, str_c(json), json->len, SQLITE_STATIC, SQLITE_UTF8);
	return sqlite3_step(q) == SQLITE_DONE ? 0 : fail_db(s, "store the summary", err);
}

static int write_document(const char *dir, const char *run_id, const struct str *json,
			  struct lem_error *err)
{
	_cleanup_free_ char *path = lem_asprintf("%s/%s.json", dir, run_id);

	return fs_write_atomic(path, str_c(json), json->len, err);
}

/* The last resort when the results folder fails at the end of a run: the document goes where it
 * still can. */
static void rescue(const struct run_record *r, const struct str *json, struct lem_error *err)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *path =
		lem_asprintf("%s/lem-rescue-%s.json", tmp && *tmp ? tmp : "/tmp", r->run_id);

	if (fs_write_atomic(path, str_c(json), json->len, NULL) >= 0)
		lem_error_fix(err,
			      "the result was saved as %s; free space, then move it to the results "
			      "folder",
			      path);
}

static int put(struct store *s, const struct run_record *r, const struct summary *sum,
	       const struct str *json, bool both, struct lem_error *err)
{
	int rc = run_sql(s, "BEGIN IMMEDIATE", "store the run", err);

	if (rc < 0)
		return rc;
	if (both)
		rc = insert_run(s, r, err);
	if (rc >= 0)
		rc = insert_summary(s, r, sum, json, err);
	if (rc >= 0)
		rc = run_sql(s, "COMMIT", "store the run", err);
	if (rc < 0)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

int store_put(struct store *s, const struct run_record *r, const struct summary *sum,
	      struct lem_error *err)
{
	_cleanup_str_ struct str json = STR_INIT;
	struct lem_error own;
	int rc;

	if (!err)
		err = &own;
	result_json(r, sum, &json);
	rc = put(s, r, sum, &json, true, err);
	if (rc >= 0)
		rc = write_document(s->dir, r->run_id, &json, err);
	if (rc < 0)
		rescue(r, &json, err);
	return rc;
}

int store_put_summary(struct store *s, const struct run_record *r, const struct summary *sum,
		      struct lem_error *err)
{
	_cleanup_str_ struct str json = STR_INIT;
	int rc;

	result_json(r, sum, &json);
	rc = put(s, r, sum, &json, false, err);
	return rc < 0 ? rc : write_document(s->dir, r->run_id, &json, err);
}

/* The full id of "last" or of a unique prefix. */
static int find_run(struct store *s, const char *wanted, char *buf, size_t size,
		    struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	bool last = str_eq(wanted, "last");
	const char *sql =
		last ? "SELECT run_id FROM runs ORDER BY wall_start_ns DESC, rowid DESC LIMIT 1"
		     : "SELECT run_id FROM runs WHERE substr(run_id, 1, length(?1)) = ?1 "
		       "ORDER BY run_id = ?1 DESC, run_id LIMIT 4";
	int n = 0;

	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return fail_db(s, "read the results database", err);
	if (!last)
		sqlite3_bind_text(q, 1, wanted, -1, SQLITE_STATIC);
	_cleanup_str_ struct str found = STR_INIT;

	while (sqlite3_step(q) == SQLITE_ROW) {
		const char *id = (const char *)sqlite3_column_text(q, 0);

		if (n++ == 0)
			lem_strlcpy(buf, id, size);
		str_addf(&found, "%s%s", n > 1 ? ", " : "", id);
	}
	if (n == 0) {
		lem_fail(err, LEM_E_NOT_FOUND,
			 last ? "no run is stored in %s%s" : "no run in %s begins with '%s'",
			 s->dir, last ? "" : wanted);
		return lem_error_fix(err, "'lem results list' shows what is stored");
	}
	if (n == 1 || str_eq(buf, wanted))
		return 0;
	lem_fail(err, LEM_E_USAGE, "'%s' begins the name of several runs", wanted);
	return lem_error_fix(err, "write more of it: %.300s", str_c(&found));
}

int store_get(struct store *s, const char *run_id, struct run_record *ret, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	_cleanup_str_ struct str plain = STR_INIT;
	char id[128];
	int r = find_run(s, run_id, id, sizeof(id), err);

	if (r < 0)
		return r;
	if (sqlite3_prepare_v2(s->db, "SELECT record FROM runs WHERE run_id = ?", -1, &q, NULL) !=
	    SQLITE_OK)
		return fail_db(s, "read the run", err);
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(q) != SQLITE_ROW)
		return fail_db(s, "read the run", err);
	r = decompress(sqlite3_column_blob(q, 0), (size_t)sqlite3_column_bytes(q, 0), &plain, err);
	if (r >= 0)
		r = record_decode(str_c(&plain), plain.len, ret, err);
	return r < 0 ? lem_error_where(err, "run %s", id) : 0;
}

int store_get_result_json(struct store *s, const char *run_id, struct str *out,
			  struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	char id[128];
	int r = find_run(s, run_id, id, sizeof(id), err);

	if (r < 0)
		return r;
	if (sqlite3_prepare_v2(s->db, "SELECT result FROM summaries WHERE run_id = ?", -1, &q,
			       NULL) != SQLITE_OK)
		return fail_db(s, "read the summary", err);
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(q) != SQLITE_ROW)
		return lem_fail(err, LEM_E_NOT_FOUND, "run %s has no summary", id);
	str_set(out, (const char *)sqlite3_column_text(q, 0));
	return 0;
}

static double column_or_nan(sqlite3_stmt *q, int at)
{
	return sqlite3_column_type(q, at) == SQLITE_NULL ? (double)__builtin_nan("")
							 : sqlite3_column_double(q, at);
}

static void copy_column(sqlite3_stmt *q, int at, char *buf, size_t size)
{
	const char *s = (const char *)sqlite3_column_text(q, at);

	lem_strlcpy(buf, s ? s : "", size);
}

int store_list(struct store *s, struct store_row **ret, size_t *ret_n, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char sql[] =
		"SELECT r.run_id, r.config_name, r.engine, r.model, r.status, m.verdict, "
		"r.weights, "
		"r.wall_start_ns, m.output_tokens_per_s, m.j_per_output_token, m.energy_scope FROM "
		"runs r "
		"LEFT JOIN summaries m USING(run_id) ORDER BY r.wall_start_ns DESC, r.rowid DESC";
	struct store_row *rows = NULL;
	size_t n = 0;
	int rc;

	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return fail_db(s, "list the runs", err);
	while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
		rows = lem_reallocarray(rows, n + 1, sizeof(*rows));
		struct store_row *w = &rows[n++];

		copy_column(q, 0, w->run_id, sizeof(w->run_id));
		copy_column(q, 1, w->config_name, sizeof(w->config_name));
		copy_column(q, 2, w->engine, sizeof(w->engine));
		copy_column(q, 3, w->model, sizeof(w->model));
		copy_column(q, 4, w->status, sizeof(w->status));
		copy_column(q, 5, w->verdict, sizeof(w->verdict));
		copy_column(q, 6, w->weights, sizeof(w->weights));
		w->wall_start_ns = sqlite3_column_int64(q, 7);
		w->output_tokens_per_s = column_or_nan(q, 8);
		w->j_per_output_token = column_or_nan(q, 9);
		copy_column(q, 10, w->energy_scope, sizeof(w->energy_scope));
	}
	if (rc != SQLITE_DONE) {
		free(rows);
		return fail_db(s, "list the runs", err);
	}
	*ret = rows;
	*ret_n = n;
	return 0;
}
