/*
 * store.h — the results folder: `lem.sqlite` (WAL; raw records and summaries apart) and one
 * RUN_ID.json (`lem.result/1`) per run, written atomically. A run is stored in one transaction, so
 * a crash leaves it whole or absent; what is stored is never changed, only summaries are rebuilt.
 */
#ifndef LEM_STORE_STORE_H
#define LEM_STORE_STORE_H

#include "base/error.h"
#include "base/str.h"
#include "model/run_record.h"
#include "model/summary.h"

struct store;

/* Creates the folder and the database when absent. Before a run: fails early (LEM_E_REFUSED) on a
 * read-only or full disk (writes and removes a probe of 64 KiB), on a file that is not ours or of a
 * newer lem. Two processes may have it open at once. Writes documents that a crash left out. */
int store_open(const char *results_dir, struct store **ret, struct lem_error *err);
/* For looking at results: creates nothing, and works on a medium that cannot be written. */
int store_open_readonly(const char *results_dir, struct store **ret, struct lem_error *err);
void store_close(struct store *s); /* NULL is fine */

/* A new id, unique in this store and across processes: "20261124T133812-quickstart-3f9a07". */
int store_new_run_id(struct store *s, const char *config_name, char *buf, size_t size,
		     struct lem_error *err);

/* Record and summary in one transaction, then RUN_ID.json. When the transaction fails, the run is
 * stored in a results folder of its own, $TMPDIR/lem-rescue-RUN_ID, if possible, and the error says
 * so. When only the file fails, the run is stored; the file is written by a later call. */
int store_put(struct store *s, const struct run_record *r, const struct summary *sum,
	      struct lem_error *err);
/* Replaces the summary of a stored run. */
int store_put_summary(struct store *s, const struct run_record *r, const struct summary *sum,
		      struct lem_error *err);

/* Copies the runs of another results folder that are not here yet; *ret_n counts them. */
int store_import(struct store *s, const char *other_dir, size_t *ret_n, struct lem_error *err);

/* run_id may be a unique prefix, or "last". */
int store_get(struct store *s, const char *run_id, struct run_record *ret, struct lem_error *err);
int store_get_result_json(struct store *s, const char *run_id, struct str *out,
			  struct lem_error *err);

struct store_row {
	char run_id[96], config_name[96], engine[24], model[160], status[16], verdict[16];
	char weights[16];
	int64_t wall_start_ns;
	double output_tokens_per_s, j_per_output_token; /* NAN when unknown */
	char energy_scope[40];
	/* Of several loads in one launch; launch_id "": there was one. As in level_record. */
	char launch_id[96];
	int64_t level_index, level_n, in_flight;
	double rate_hz;
};
int store_list(struct store *s, struct store_row **ret, size_t *ret_n,
	       struct lem_error *err); /* newest first */

/* The `lem.result/1` document. */
void result_json(const struct run_record *r, const struct summary *sum, struct str *out);

#endif
