#include <sys/random.h>

#include "base/clock.h"
#include "store/codec.h"
#include "store/impl.h"
#include "store/pack.h"
#include "sys/fs.h"

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

static int is_taken(struct store *s, const char *id, bool *ret, struct lem_error *err)
{
	_cleanup_free_ char *file = lem_asprintf("%s/%s.json", s->dir, id);
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char doing[] = "read the results database";
	int r = store_prepare(s, "SELECT 1 FROM runs WHERE run_id = ?", doing, &q, err);

	if (r < 0)
		return r;
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	r = sqlite3_step(q);
	if (r != SQLITE_ROW && r != SQLITE_DONE)
		return store_fail(s, doing, err);
	*ret = r == SQLITE_ROW || fs_exists(file);
	return 0;
}

int store_new_run_id(struct store *s, const char *config_name, char *buf, size_t size,
		     struct lem_error *err)
{
	char name[41], when[32], id[128];
	time_t now = (time_t)(clock_wall_ns() / NS_PER_S);
	struct tm tm;

	slug(config_name, name, sizeof(name));
	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%S", &tm);
	for (int tries = 0; tries < 100; tries++) {
		bool taken = false;
		uint32_t random;
		int r;

		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			random = (uint32_t)clock_now_ns() ^ (uint32_t)getpid() << 12;
		snprintf(id, sizeof(id), "%s-%s-%06x", when, name[0] ? name : "run",
			 random & 0xffffff);
		r = is_taken(s, id, &taken, err);
		if (r < 0)
			return r;
		if (!taken)
			return lem_strlcpy(buf, id, size) < size
				       ? 0
				       : lem_fail(err, LEM_E_INTERNAL, "no room for a run id");
	}
	return lem_fail(err, LEM_E_INTERNAL, "no free run id was found");
}

static const char *weights_name(enum weights_kind k)
{
	return k == WEIGHTS_SYNTHETIC ? "synthetic" : k == WEIGHTS_REAL ? "real" : "unknown";
}

static int insert_run(struct store *s, const struct run_record *r, struct lem_error *err)
{
	_cleanup_str_ struct str plain = STR_INIT, packed = STR_INIT;
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char sql[] =
		"INSERT INTO runs(run_id, config_name, config_hash, engine, model, weights, "
		"status, wall_start_ns, record) VALUES(?,?,?,?,?,?,?,?,?)";
	const char *texts[] = {r->run_id,
			       r->config_name ? r->config_name : "",
			       r->config_hash,
			       r->engine_name,
			       r->model_name,
			       weights_name(r->shape.weights),
			       run_status_name(r->status)};
	int rc;

	record_encode(r, &plain);
	rc = pack(&plain, &packed, err);
	if (rc >= 0)
		rc = store_prepare(s, sql, "store the run", &q, err);
	if (rc < 0)
		return rc;
	for (int i = 0; i < (int)ARRAY_LEN(texts); i++)
		sqlite3_bind_text(q, i + 1, texts[i], -1, SQLITE_STATIC);
	sqlite3_bind_int64(q, 8, r->wall_start_ns);
	sqlite3_bind_blob64(q, 9, packed.buf, packed.len, SQLITE_STATIC);
	return sqlite3_step(q) == SQLITE_DONE ? 0 : store_fail(s, "store the run", err);
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
	static const char doing[] = "store the summary";
	static const char sql[] = "INSERT OR REPLACE INTO summaries(run_id, verdict, "
				  "output_tokens_per_s, j_per_output_token, energy_scope, "
				  "lem_version, result, document) VALUES(?,?,?,?,?,?,?,0)";
	int rc = store_prepare(s, sql, doing, &q, err);

	if (rc < 0)
		return rc;
	sqlite3_bind_text(q, 1, r->run_id, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 2, verdict_name(sum->verdict.level), -1, SQLITE_STATIC);
	bind_quantity(q, 3, &sum->output_tokens_per_s);
	bind_quantity(q, 4, &sum->j_per_output_token);
	sqlite3_bind_text(q, 5, sum->energy_scope, -1, SQLITE_STATIC);
	sqlite3_bind_text(q, 6, LEM_VERSION, -1, SQLITE_STATIC);
	sqlite3_bind_text64(q, 7, str_c(json), json->len, SQLITE_STATIC, SQLITE_UTF8);
	return sqlite3_step(q) == SQLITE_DONE ? 0 : store_fail(s, doing, err);
}

static int put(struct store *s, const struct run_record *r, const struct summary *sum,
	       const struct str *json, bool both, struct lem_error *err)
{
	int rc;

	if (!store_valid_id(r->run_id))
		return lem_fail(err, LEM_E_INTERNAL, "'%s' cannot be the id of a run",
				r->run_id ? r->run_id : "");
	rc = store_sql(s, "BEGIN IMMEDIATE", "store the run", err);
	if (rc < 0)
		return rc;
	if (both)
		rc = insert_run(s, r, err);
	if (rc >= 0)
		rc = insert_summary(s, r, sum, json, err);
	if (rc >= 0)
		rc = store_sql(s, "COMMIT", "store the run", err);
	if (rc < 0)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* The last resort when the results folder fails at the end of a run: a results folder of its own
 * where there is still room. `lem results import` brings it home. */
static int rescue_whole(const char *dir, const struct run_record *r, const struct summary *sum,
			const struct str *json)
{
	struct store *s = NULL;
	int rc = fs_mkdirs(dir, NULL);

	if (rc >= 0)
		rc = store_open_db(dir, &s, NULL);
	if (rc >= 0)
		rc = put(s, r, sum, json, true, NULL);
	if (rc >= 0)
		(void)store_write_documents(s, NULL);
	store_close(s);
	return rc;
}

static int rescue(const struct run_record *r, const struct summary *sum, const struct str *json,
		  struct lem_error *err)
{
	const char *tmp = getenv("TMPDIR");
	_cleanup_free_ char *dir =
		lem_asprintf("%s/lem-rescue-%s", tmp && *tmp ? tmp : "/tmp", r->run_id);
	_cleanup_free_ char *file = lem_asprintf("%s/%s.json", dir, r->run_id);

	if (rescue_whole(dir, r, sum, json) >= 0)
		return lem_error_fix(err,
				     "the run was saved in %s instead; once the results folder can "
				     "be written again, 'lem results import %s' adds it",
				     dir, dir);
	if (fs_write_atomic(file, str_c(json), json->len, NULL) >= 0)
		return lem_error_fix(
			err,
			"only its result document could be saved, as %s; set TMPDIR to "
			"a folder with more room",
			file);
	return lem_error_fix(err,
			     "it could not be saved in %s either; set TMPDIR to a folder "
			     "with room",
			     dir);
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
	return rc < 0 ? rescue(r, sum, &json, err) : store_write_documents(s, err);
}

int store_put_summary(struct store *s, const struct run_record *r, const struct summary *sum,
		      struct lem_error *err)
{
	_cleanup_str_ struct str json = STR_INIT;
	int rc;

	result_json(r, sum, &json);
	rc = put(s, r, sum, &json, false, err);
	return rc < 0 ? rc : store_write_documents(s, err);
}
