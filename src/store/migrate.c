#include "store/impl.h"
#include "store/schema.h"

_Static_assert(ARRAY_LEN(store_migrations) == STORE_SCHEMA_VERSION, "one step a version");

struct marks {
	int version, tables, runs;
};

/* One statement, hence one snapshot: another process may be making the tables at this moment. */
static int read_marks(struct store *s, struct marks *m, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	static const char doing[] = "read the results database";
	static const char sql[] =
		"SELECT (SELECT user_version FROM pragma_user_version),"
		" (SELECT count(*) FROM sqlite_master WHERE type = 'table'),"
		" (SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'record')";
	int r = store_prepare(s, sql, doing, &q, err);

	if (r < 0)
		return r;
	if (sqlite3_step(q) != SQLITE_ROW)
		return store_fail(s, doing, err);
	m->version = sqlite3_column_int(q, 0);
	m->tables = sqlite3_column_int(q, 1);
	m->runs = sqlite3_column_int(q, 2);
	return 0;
}

static int foreign(struct store *s, struct lem_error *err)
{
	lem_fail(err, LEM_E_UNSUPPORTED, "%s/lem.sqlite is a database, but not one of lem", s->dir);
	return lem_error_fix(err, "move the file away, or use -o with another folder");
}

int store_check_version(struct store *s, int *ret, struct lem_error *err)
{
	struct marks m = {0};
	int r = read_marks(s, &m, err);

	if (r < 0)
		return r;
	if (m.version > STORE_SCHEMA_VERSION && m.runs) {
		lem_fail(err, LEM_E_UNSUPPORTED,
			 "the results database is of a newer lem (schema %d, this one knows %d)",
			 m.version, STORE_SCHEMA_VERSION);
		lem_error_where(err, "%s/lem.sqlite", s->dir);
		return lem_error_fix(err, "update lem, or use -o with another folder");
	}
	if (m.version < 0 || (m.version == 0 && m.tables) || (m.version > 0 && !m.runs))
		return foreign(s, err);
	*ret = m.version;
	return 0;
}

static int climb(struct store *s, int version, struct lem_error *err)
{
	char note[48];
	int r = 0;

	for (; version < STORE_SCHEMA_VERSION && r >= 0; version++)
		r = store_sql(s, store_migrations[version], "prepare the results database", err);
	snprintf(note, sizeof(note), "PRAGMA user_version = %d", STORE_SCHEMA_VERSION);
	return r < 0 ? r : store_sql(s, note, "prepare the results database", err);
}

/* Another process may be doing the same at this moment: the version is read again under the write
 * lock. */
int store_migrate(struct store *s, struct lem_error *err)
{
	int version = 0, r = store_check_version(s, &version, err);

	if (r < 0 || version == STORE_SCHEMA_VERSION)
		return r;
	r = store_sql(s, "BEGIN IMMEDIATE", "prepare the results database", err);
	if (r < 0)
		return r;
	r = store_check_version(s, &version, err);
	if (r >= 0)
		r = climb(s, version, err);
	if (r >= 0)
		r = store_sql(s, "COMMIT", "prepare the results database", err);
	if (r < 0)
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}
