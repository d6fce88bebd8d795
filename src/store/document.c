#include "base/vec.h"
#include "store/impl.h"
#include "sys/fs.h"

struct pending {
	VEC(char *) ids;
};

static void pending_release(struct pending *p)
{
	vec_foreach (&p->ids, id)
		free(*id);
	vec_release(&p->ids);
}

static int find_pending(struct store *s, struct pending *p, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char doing[] = "list the runs without a document";
	int rc =
		store_prepare(s, "SELECT run_id FROM summaries WHERE document = 0", doing, &q, err);

	if (rc < 0)
		return rc;
	while ((rc = sqlite3_step(q)) == SQLITE_ROW)
		*vec_push(&p->ids) = lem_strdup((const char *)sqlite3_column_text(q, 0));
	return rc == SQLITE_DONE ? 0 : store_fail(s, doing, err);
}

/* Only a note: without it the same file is written again the next time. */
static void mark_written(struct store *s, const char *id)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;

	if (store_prepare(s, "UPDATE summaries SET document = 1 WHERE run_id = ?", "", &q, NULL) <
	    0)
		return;
	sqlite3_bind_text(q, 1, id, -1, SQLITE_STATIC);
	(void)sqlite3_step(q);
}

static int write_one(struct store *s, const char *id, struct lem_error *err)
{
	_cleanup_free_ char *path = lem_asprintf("%s/%s.json", s->dir, id);
	_cleanup_str_ struct str json = STR_INIT;
	int rc;

	if (!store_valid_id(id))
		return 0; /* not a file name of ours; the database keeps it */
	rc = store_get_result_json(s, id, &json, err);
	if (rc >= 0)
		rc = fs_write_atomic(path, str_c(&json), json.len, err);
	if (rc >= 0) {
		mark_written(s, id);
		return 0;
	}
	lem_error_context(err, "run %s is stored, but its document is not yet", id);
	return lem_error_fix(err,
			     "'lem results show %s --json' prints it; the file is written when lem "
			     "next stores something here",
			     id);
}

/* Under the write lock, so that nobody replaces a summary while its old document is being written.
 */
int store_write_documents(struct store *s, struct lem_error *err)
{
	_cleanup_(pending_release) struct pending p = {VEC_INIT};
	int rc = find_pending(s, &p, err);

	if (rc < 0 || p.ids.n == 0)
		return rc;
	rc = store_sql(s, "BEGIN IMMEDIATE", "write the result documents", err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < p.ids.n && rc >= 0; i++)
		rc = write_one(s, p.ids.at[i], err);
	if (sqlite3_exec(s->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}
