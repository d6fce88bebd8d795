#include "load/worker_request.h"

#include "base/jsonw.h"

static void put_sampling(struct jsonw *w, const struct experiment *e)
{
	const struct decoder_config *d = &e->decoder;

	jsonw_object(w, "sampling");
	jsonw_f64(w, "temperature", d->do_sample ? d->temperature : 0);
	jsonw_i64(w, "top_k", d->top_k);
	jsonw_f64(w, "top_p", d->top_p);
	jsonw_f64(w, "min_p", e->backend == BACKEND_PYTORCH ? e->pytorch.min_p : e->llamacpp.min_p);
	jsonw_f64(w, "repetition_penalty", d->repetition_penalty);
	jsonw_i64(w, "seed", e->random_seed.set ? e->random_seed.v : 0);
	jsonw_end_object(w);
}

static void put_request(struct jsonw *w, const struct experiment *e, const struct prompt *p,
			int64_t id)
{
	int64_t forced = prompt_forced(p, e);

	jsonw_object(w, NULL);
	jsonw_i64(w, "id", id);
	if (p->text) {
		jsonw_str(w, "text", p->text);
	} else {
		jsonw_array(w, "tokens");
		for (size_t i = 0; i < p->n_tokens; i++)
			jsonw_i64(w, NULL, p->tokens[i]);
		jsonw_end_array(w);
	}
	jsonw_i64(w, "max_output_tokens", forced ? forced : e->max_output_tokens);
	jsonw_i64(w, "min_output_tokens", forced ? forced : e->min_output_tokens);
	jsonw_end_object(w);
}

void worker_run_request(const struct experiment *e, const struct prompt_set *p,
			const struct run_slice *slice, struct str *out)
{
	bool continuous = e->llamacpp.batching == LLAMA_CONTINUOUS && !e->streaming;
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "op", "run");
	jsonw_i64(&w, "run", slice->run);
	jsonw_str(&w, "batching", continuous ? "continuous" : "static");
	jsonw_i64(&w, "max_input_tokens", e->max_input_tokens);
	jsonw_bool(&w, "save_text", slice->save_text);
	put_sampling(&w, e);
	jsonw_array(&w, "requests");
	for (size_t i = 0; i < slice->n; i++)
		put_request(&w, e, &p->at[(slice->from + i) % p->n], slice->first_id + (int64_t)i);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
}

int worker_run_fits(const struct prompt_set *p, size_t bytes, struct lem_error *err)
{
	if (bytes <= WORKER_LINE_MAX)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED,
		       "the %zu prompts are %zu MiB as one request; a worker takes %d MiB", p->n,
		       bytes >> 20, WORKER_LINE_MAX >> 20);
	return lem_error_fix(err,
			     "write num_input_prompts: %zu, or fewer; window.min_duration_sec "
			     "repeats them",
			     MAX(p->n * (size_t)WORKER_LINE_MAX / bytes * 3 / 4, (size_t)1));
}

size_t worker_run_least_bytes(const struct prompt_set *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += p->at[i].text ? strlen(p->at[i].text) : 4 * p->at[i].n_tokens;
	return n;
}

size_t worker_run_max_steps(const struct experiment *e, const struct prompt_set *p, size_t n)
{
	size_t pieces = (size_t)((e->max_input_tokens + e->llamacpp.n_ubatch - 1) /
				 MAX(e->llamacpp.n_ubatch, INT64_C(1)));

	(void)p;
	return n * ((size_t)e->max_output_tokens + pieces + 1);
}
