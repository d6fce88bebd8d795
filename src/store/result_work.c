/* The object `work` of the document: where the requests came from, and how long they were. */
#include <math.h>

#include "store/impl.h"

static void put_histogram(struct jsonw *w, const struct length_stats *s)
{
	jsonw_array(w, "histogram");
	for (int k = 0; k < LENGTH_BINS; k++) {
		if (!s->bins[k])
			continue;
		jsonw_object(w, NULL);
		jsonw_i64(w, "low", INT64_C(1) << k);
		jsonw_i64(w, "high", (INT64_C(2) << k) - 1);
		jsonw_i64(w, "n", s->bins[k]);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void put_whole(struct jsonw *w, const char *key, bool known, int64_t v)
{
	if (known)
		jsonw_i64(w, key, v);
	else
		jsonw_null(w, key);
}

static void put_lengths(struct jsonw *w, const char *key, const struct length_stats *s)
{
	bool known = s->n > 0;

	jsonw_object(w, key);
	jsonw_u64(w, "n", s->n);
	put_whole(w, "total", known, s->total);
	jsonw_f64(w, "mean", known ? s->mean : NAN);
	put_whole(w, "min", known, s->min);
	jsonw_f64(w, "p50", known ? s->p50 : NAN);
	jsonw_f64(w, "p90", known ? s->p90 : NAN);
	jsonw_f64(w, "p99", known ? s->p99 : NAN);
	put_whole(w, "max", known, s->max);
	put_histogram(w, s);
	jsonw_end_object(w);
}

void result_put_work(struct jsonw *w, const struct run_record *r, const struct summary *s)
{
	bool file = r->work.file_sha256;

	jsonw_object(w, "work");
	jsonw_str(w, "source", r->work.source);
	jsonw_str(w, "file_sha256", r->work.file_sha256);
	jsonw_str(w, "prompts_sha256", r->prompts_hash);
	put_whole(w, "records", file, r->work.n_records);
	put_whole(w, "skipped", file, r->work.n_skipped);
	jsonw_i64(w, "inputs_differ", s->inputs_differ);
	put_lengths(w, "input_tokens", &s->input_lengths);
	put_lengths(w, "output_tokens", &s->output_lengths);
	jsonw_end_object(w);
}
