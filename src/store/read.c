#include <math.h>

#include "base/vec.h"
#include "store/codec.h"
#include "store/impl.h"
#include "store/pack.h"

static const char reading[] = "read the results database";

static int none_found(struct store *s, const char *wanted, bool last, struct lem_error *err)
{
	if (last)
		lem_fail(err, LEM_E_NOT_FOUND, "no run is stored in %s", s->dir);
	else
		lem_fail(err, LEM_E_NOT_FOUND, "no run in %s begins with '%.100s'", s->dir, wanted);
	return lem_error_fix(err, "'lem results list' shows what is stored");
}

/* The full id of "last" or of a unique prefix; a whole id wins over longer ones. */
static int find_run(struct store *s, const char *wanted, char *buf, size_t size,
		    struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	_cleanup_str_ struct str found = STR_INIT;
	bool last = str_eq(wanted, "last");
	const char *sql =
		last ? "SELECT run_id FROM runs ORDER BY wall_start_ns DESC, rowid DESC LIMIT 1"
		     : "SELECT run_id FROM runs WHERE substr(run_id, 1, length(?1)) = ?1 "
		       "ORDER BY run_id = ?1 DESC, run_id LIMIT 5";
	int n = 0, rc = store_prepare(s, sql, reading, &q, err);

	if (rc < 0)
		return rc;
	if (!last)
		sqlite3_bind_text(q, 1, wanted, -1, SQLITE_STATIC);
	while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
		const char *id = (const char *)sqlite3_column_text(q, 0);

		if (n++ == 0)
			lem_strlcpy(buf, id, size);
		str_addf(&found, "%s%s", n > 1 ? ", " : "", n == 5 ? "and more" : id);
	}
	if (rc != SQLITE_DONE)
		return store_fail(s, reading, err);
	if (n == 0)
		return none_found(s, wanted, last, err);
	if (n == 1 || str_eq(buf, wanted))
		return 0;
	lem_fail(err, LEM_E_USAGE, "'%s' begins the names of several runs", wanted);
	return lem_error_fix(err, "write more of it: %s", str_c(&found));
}

int store_get(struct store *s, const char *run_id, struct run_record *ret, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	_cleanup_str_ struct str plain = STR_INIT;
	char id[128];
	int rc = find_run(s, run_id, id, sizeof(id), err);

	if (rc >= 0)
		rc = store_prepare(s, "SELECT record FROM runs WHERE run_id = ?", reading, &q, err);
	if (rc < 0)
		return rc;
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(q) != SQLITE_ROW)
		return store_fail(s, reading, err);
	const void *blob = sqlite3_column_blob(q, 0);

	rc = unpack(blob, (size_t)sqlite3_column_bytes(q, 0), PACK_MAX_BYTES, &plain, err);
	if (rc >= 0)
		rc = record_decode(str_c(&plain), plain.len, ret, err);
	if (rc >= 0)
		return 0;
	lem_error_where(err, "run %s in %s/lem.sqlite", id, s->dir);
	return lem_error_fix(err, "its result document %s/%s.json is a file of its own", s->dir,
			     id);
}

int store_get_result_json(struct store *s, const char *run_id, struct str *out,
			  struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	char id[128];
	int rc = find_run(s, run_id, id, sizeof(id), err);

	if (rc >= 0)
		rc = store_prepare(s, "SELECT result FROM summaries WHERE run_id = ?", reading, &q,
				   err);
	if (rc < 0)
		return rc;
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	rc = sqlite3_step(q);
	if (rc == SQLITE_DONE)
		return lem_fail(err, LEM_E_NOT_FOUND, "run %s has no summary", id);
	if (rc != SQLITE_ROW)
		return store_fail(s, reading, err);
	const char *text = (const char *)sqlite3_column_text(q, 0);

	str_set(out, text ? text : "");
	return 0;
}

static double column_or_nan(sqlite3_stmt *q, int at)
{
	return sqlite3_column_type(q, at) == SQLITE_NULL ? (double)NAN
							 : sqlite3_column_double(q, at);
}

static void copy_column(sqlite3_stmt *q, int at, char *buf, size_t size)
{
	const char *s = (const char *)sqlite3_column_text(q, at);

	lem_strlcpy(buf, s ? s : "", size);
}

/* A document that is damaged, or of an older lem, tells nothing of levels. */
#define LEVEL(key) \
	"CASE WHEN json_valid(m.result) THEN json_extract(m.result, '$.level." key "') END"
#define LEVEL_COLUMNS      \
	LEVEL("launch_id") \
	"," LEVEL("index") "," LEVEL("n") "," LEVEL("in_flight") "," LEVEL("rate_hz")

static void read_row(sqlite3_stmt *q, struct store_row *w)
{
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
	copy_column(q, 11, w->launch_id, sizeof(w->launch_id));
	w->level_index = sqlite3_column_int64(q, 12);
	w->level_n = sqlite3_column_int64(q, 13);
	w->in_flight = sqlite3_column_int64(q, 14);
	w->rate_hz = column_or_nan(q, 15);
}

int store_list(struct store *s, struct store_row **ret, size_t *ret_n, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char sql[] =
		"SELECT r.run_id, r.config_name, r.engine, r.model, r.status, m.verdict, "
		"r.weights, r.wall_start_ns, m.output_tokens_per_s, m.j_per_output_token, "
		"m.energy_scope, " LEVEL_COLUMNS " FROM runs r LEFT JOIN summaries m USING(run_id) "
		"ORDER BY r.wall_start_ns DESC, r.rowid DESC";
	VEC(struct store_row) rows = VEC_INIT;
	int rc = store_prepare(s, sql, "list the runs", &q, err);

	if (rc < 0)
		return rc;
	while ((rc = sqlite3_step(q)) == SQLITE_ROW)
		read_row(q, vec_push(&rows));
	if (rc != SQLITE_DONE) {
		vec_release(&rows);
		return store_fail(s, "list the runs", err);
	}
	*ret = rows.at;
	*ret_n = rows.n;
	return 0;
}
