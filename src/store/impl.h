/*
 * impl.h — what the files of src/store share.
 */
#ifndef LEM_STORE_IMPL_H
#define LEM_STORE_IMPL_H

#include <sqlite3.h>

#include "base/jsonw.h"
#include "store/store.h"

enum { STORE_BUSY_TIMEOUT_MS = 30000 };

struct store {
	sqlite3 *db;
	char *dir;
};

static inline void store_finalize(sqlite3_stmt **q)
{
	sqlite3_finalize(*q);
}
#define _cleanup_stmt_ _cleanup_(store_finalize)

/* Says what the database said, where it is and what to do; `doing` is a verb phrase. */
int store_fail(struct store *s, const char *doing, struct lem_error *err);
int store_sql(struct store *s, const char *sql, const char *doing, struct lem_error *err);
int store_prepare(struct store *s, const char *sql, const char *doing, sqlite3_stmt **ret,
		  struct lem_error *err);

/* An id becomes a file name, so one from outside is held against [A-Za-z0-9._-], no dot first. */
bool store_valid_id(const char *id);

/* Brings a database of an older lem (or an empty one) to STORE_SCHEMA_VERSION. */
int store_migrate(struct store *s, struct lem_error *err);
/* Refuses what is not ours or of a newer lem; *ret is the version, 0 for an empty database. */
int store_check_version(struct store *s, int *ret, struct lem_error *err);

/* Writes the RUN_ID.json of every run that still lacks one: a crash, or a full disk, may have come
 * between the commit and the file. */
int store_write_documents(struct store *s, struct lem_error *err);

/* result_work.c: the object `work` of the document. */
void result_put_work(struct jsonw *w, const struct run_record *r, const struct summary *s);

/* Opens and migrates lem.sqlite in an existing folder, for writing. */
int store_open_db(const char *dir, struct store **ret, struct lem_error *err);

#endif
