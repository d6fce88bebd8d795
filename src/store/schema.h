/*
 * schema.h — the tables of lem.sqlite. Raw records and what is computed from them stand apart: a
 * summary can be rebuilt from its record at any time, a record is never changed.
 */
#ifndef LEM_STORE_SCHEMA_H
#define LEM_STORE_SCHEMA_H

#define STORE_SCHEMA_1                                            \
	"CREATE TABLE runs("                                      \
	" run_id TEXT PRIMARY KEY,"                               \
	" config_name TEXT NOT NULL, config_hash TEXT,"           \
	" engine TEXT, model TEXT, weights TEXT,"                 \
	" status TEXT NOT NULL,"                                  \
	" wall_start_ns INTEGER NOT NULL,"                        \
	" record BLOB NOT NULL);" /* zstd of codec.c's bytes */   \
	"CREATE TABLE summaries("                                 \
	" run_id TEXT PRIMARY KEY REFERENCES runs(run_id),"       \
	" verdict TEXT NOT NULL,"                                 \
	" output_tokens_per_s REAL, j_per_output_token REAL,"     \
	" energy_scope TEXT, lem_version TEXT NOT NULL,"          \
	" result TEXT NOT NULL);" /* the lem.result/1 document */ \
	"CREATE INDEX runs_by_time ON runs(wall_start_ns);"

/* document: 1 once RUN_ID.json was written; version 1 wrote it without keeping a note of that. */
#define STORE_SCHEMA_2                                                          \
	"ALTER TABLE summaries ADD COLUMN document INTEGER NOT NULL DEFAULT 1;" \
	"CREATE INDEX summaries_to_write ON summaries(run_id) WHERE document = 0;"

/* Step i leads from version i to version i + 1; a step that was ever released is never changed. */
static const char *const store_migrations[] = {STORE_SCHEMA_1, STORE_SCHEMA_2};

enum { STORE_SCHEMA_VERSION = 2 };

#endif
