#include "store/impl.h"
#include "store/schema.h"

_Static_assert(ARRAY_LEN(store_migrations) == STORE_SCHEMA_VERSION, "one step a version");

static int one_int(struct store *s, const char *sql, int *ret, struct lem_error *err)
{
	_cleanup_stmt_ sqlite3_stmt *q = NULL;
	int r = store_prepare(s, sql, "read the results database", &q, err);

	if (r < 0)
		return r;
	if (sqlite3_step(q) != SQLITE_ROW)
		return store_fail(s, "read the results database", err);
	*ret = sqlite3_column_int(q, 0);
	return 0;
}

static int foreign(struct store *s, struct lem_error *err)
{
	lem_fail(err, LEM_E_UNSUPPORTED, "%s/lem.sqlite is a database, but not one of lem", s->dir);
	return lem_error_fix(err, "move the file away, or use -o with another folder");
}

int store_check_version(struct store *s, int *ret, struct lem_error *err)
{
	int version = 0, tables = 0, runs = 0;
	int r = one_int(s, "PRAGMA user_version", &version, err);

	if (r >= 0)
		r = one_int(s, "SELECT count(*) FROM sqlite_master WHERE type = 'table'", &tables,
			    err);
	if (r >= 0)
		r = one_int(s,
			    "SELECT count(*) FROM pragma_table_info('runs') WHERE name = 'record'",
			    &runs, err);
	if (r < 0)
		return r;
	if (version > STORE_SCHEMA_VERSION && runs) {
		lem_fail(err, LEM_E_UNSUPPORTED,
			 "the results database is of a newer lem (schema %d, this one knows %d)",
			 version, STORE_SCHEMA_VERSION);
		lem_error_where(err, "%s/lem.sqlite", s->dir);
		return lem_error_fix(err, "update lem, or use -o with another folder");
	}
	if (version < 0 || (version == 0 && tables) || (version > 0 && !runs))
		return foreign(s, err);
	*ret = version;
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
