#include "store/impl.h"
#include "sys/fs.h"

static const char importing[] = "import the runs";

static int attach(struct store *s, const char *path, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int rc = store_prepare(s, "ATTACH ? AS other", importing, &q, err);

	if (rc < 0)
		return rc;
	sqlite3_bind_text(q, 1, path, -1, SQLITE_STATIC);
	return sqlite3_step(q) == SQLITE_DONE ? 0 : store_fail(s, importing, err);
}

/* Rows are taken as they are; what is here already stays. Ids become file names, so a strange one
 * stays outside (store_valid_id says the same of one id). */
static int copy_rows(struct store *s, size_t *ret_n, struct lem_error *err)
{
	static const char runs[] =
		"INSERT OR IGNORE INTO main.runs(run_id, config_name, config_hash, engine, model, "
		"weights, status, wall_start_ns, record) "
		"SELECT run_id, config_name, config_hash, engine, model, weights, status, "
		"wall_start_ns, record FROM other.runs "
		"WHERE length(run_id) < 128 AND run_id NOT GLOB '*[^A-Za-z0-9._-]*' "
		"AND run_id GLOB '[^.]*'";
	static const char summaries[] =
		"INSERT OR IGNORE INTO main.summaries(run_id, verdict, output_tokens_per_s, "
		"j_per_output_token, energy_scope, lem_version, result, document) "
		"SELECT run_id, verdict, output_tokens_per_s, j_per_output_token, energy_scope, "
		"lem_version, result, 0 FROM other.summaries "
		"WHERE run_id IN (SELECT run_id FROM main.runs)";
	int rc = store_sql(s, runs, importing, err);

	if (rc < 0)
		return rc;
	*ret_n = (size_t)sqlite3_changes64(s->db);
	return store_sql(s, summaries, importing, err);
}

static int copy(struct store *s, size_t *ret_n, struct lem_error *err)
{
	int rc = store_sql(s, "BEGIN IMMEDIATE", importing, err);

	if (rc < 0)
		return rc;
	rc = copy_rows(s, ret_n, err);
	if (rc >= 0)
		rc = store_sql(s, "COMMIT", importing, err);
	if (rc < 0)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

int store_import(struct store *s, const char *other_dir, size_t *ret_n, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(other_dir, "lem.sqlite");
	struct store *other = NULL;
	size_t n = 0;
	int rc = store_open_readonly(other_dir, &other, err); /* it is ours, and not newer */

	if (rc < 0)
		return rc;
	store_close(other);
	rc = attach(s, path, err);
	if (rc < 0)
		return rc;
	rc = copy(s, &n, err);
	sqlite3_exec(s->db, "DETACH other", NULL, NULL, NULL);
	if (rc < 0)
		return rc;
	*ret_n = n;
	return store_write_documents(s, err);
}
