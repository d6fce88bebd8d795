#include "store/impl.h"

static const char *advice(int code)
{
	switch (code) {
	case SQLITE_FULL:
		return "the disk is full: free some space, or use -o with a folder on another disk";
	case SQLITE_READONLY:
	case SQLITE_CANTOPEN:
	case SQLITE_PERM:
		return "check the permissions of the folder and its files, or use -o with another "
		       "one";
	case SQLITE_BUSY:
	case SQLITE_LOCKED: return "another program keeps it locked: end that one, then try again";
	case SQLITE_IOERR:
		return "check the disk (space, limits on file sizes, faults), or use -o with "
		       "another folder";
	default: return NULL;
	}
}

int store_fail(struct store *s, const char *doing, struct lem_error *err)
{
	int code = sqlite3_errcode(s->db) & 0xff;
	const char *fix = advice(code);

	lem_fail(err, LEM_E_IO, "cannot %s: %s", doing, sqlite3_errmsg(s->db));
	lem_error_where(err, "%s/lem.sqlite", s->dir);
	if (code == SQLITE_NOTADB || code == SQLITE_CORRUPT)
		return lem_error_fix(err, "move the file away; the results in %s/*.json are whole",
				     s->dir);
	return fix ? lem_error_fix(err, "%s", fix) : -LEM_E_IO;
}

int store_sql(struct store *s, const char *sql, const char *doing, struct lem_error *err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0
								       : store_fail(s, doing, err);
}

int store_prepare(struct store *s, const char *sql, const char *doing, sqlite3_stmt **ret,
		  struct lem_error *err)
{
	return sqlite3_prepare_v2(s->db, sql, -1, ret, NULL) == SQLITE_OK
		       ? 0
		       : store_fail(s, doing, err);
}

bool store_valid_id(const char *id)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789._-";

	return id && id[0] && id[0] != '.' && strlen(id) < 128 && id[strspn(id, letters)] == '\0';
}
