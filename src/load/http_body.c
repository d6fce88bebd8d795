#include "load/http_body.h"

#include "base/jsonw.h"

size_t http_body_input_tokens(const struct experiment *e, const struct prompt *p)
{
	return p->tokens ? MIN(p->n_tokens, (size_t)e->max_input_tokens) : 0;
}

/* A field that extra_body of the config sets instead. */
static bool is_theirs(const struct experiment *e, const char *name)
{
	const struct kv_list *extra = &e->openai.extra_body;

	for (size_t i = 0; i < extra->n && e->backend == BACKEND_OPENAI; i++)
		if (str_eq(extra->at[i].key, name))
			return true;
	return false;
}

static void put_i64(struct jsonw *w, const struct experiment *e, const char *name, int64_t v)
{
	if (!is_theirs(e, name))
		jsonw_i64(w, name, v);
}

static void put_f64(struct jsonw *w, const struct experiment *e, const char *name, double v)
{
	if (!is_theirs(e, name))
		jsonw_f64(w, name, v);
}

static void put_prompt(struct jsonw *w, const struct http_body_request *q)
{
	size_t n = http_body_input_tokens(q->exp, q->prompt);

	if (q->chat) {
		jsonw_array(w, "messages");
		jsonw_object(w, NULL);
		jsonw_str(w, "role", "user");
		jsonw_str(w, "content", q->prompt->text);
		jsonw_end_object(w);
		jsonw_end_array(w);
	} else if (q->prompt->tokens) {
		jsonw_array(w, "prompt");
		for (size_t i = 0; i < n; i++)
			jsonw_i64(w, NULL, q->prompt->tokens[i]);
		jsonw_end_array(w);
	} else {
		jsonw_str(w, "prompt", q->prompt->text);
	}
}

static void put_length(struct jsonw *w, const struct http_body_request *q)
{
	const struct experiment *e = q->exp;
	bool forced = e->min_output_tokens == e->max_output_tokens;
	int64_t most = q->max_output_tokens ? q->max_output_tokens : e->max_output_tokens;

	if (!is_theirs(e, "max_completion_tokens"))
		put_i64(w, e, "max_tokens", most);
	if (e->min_output_tokens)
		put_i64(w, e, "min_tokens", MIN(e->min_output_tokens, most));
	if (forced && !is_theirs(e, "ignore_eos"))
		jsonw_bool(w, "ignore_eos", true);
}

static double min_p(const struct experiment *e)
{
	return e->backend == BACKEND_VLLM ? e->vllm.min_p : 0;
}

/* What is at its neutral value is left out: not every server knows every name. */
static void put_sampling(struct jsonw *w, const struct experiment *e)
{
	const struct decoder_config *d = &e->decoder;

	put_f64(w, e, "temperature", d->do_sample ? d->temperature : 0);
	if (d->do_sample && d->top_p < 1)
		put_f64(w, e, "top_p", d->top_p);
	if (d->do_sample && d->top_k > 0)
		put_i64(w, e, "top_k", d->top_k);
	if (d->do_sample && min_p(e) > 0)
		jsonw_f64(w, "min_p", min_p(e));
	if (d->repetition_penalty > 0 && (d->repetition_penalty < 1 || d->repetition_penalty > 1))
		put_f64(w, e, "repetition_penalty", d->repetition_penalty);
	if (e->random_seed.set)
		put_i64(w, e, "seed", e->random_seed.v);
	if (e->backend == BACKEND_VLLM && e->vllm.logprobs.set)
		jsonw_i64(w, "logprobs", e->vllm.logprobs.v);
}

static void put_map(struct jsonw *w, const struct kv_list *map)
{
	for (size_t i = 0; i < map->n; i++)
		jsonw_raw(w, map->at[i].key, map->at[i].json);
}

static void put_stream_options(struct jsonw *w, const struct experiment *e)
{
	jsonw_object(w, "stream_options");
	jsonw_bool(w, "include_usage", true);
	if (e->backend == BACKEND_VLLM || e->backend == BACKEND_SGLANG)
		jsonw_bool(w, "continuous_usage_stats", true);
	jsonw_end_object(w);
}

void http_body(const struct http_body_request *q, struct str *out)
{
	const struct experiment *e = q->exp;
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "model", q->model);
	put_prompt(&w, q);
	put_length(&w, q);
	put_sampling(&w, e);
	if (e->backend == BACKEND_VLLM && e->vllm.logit_bias.n) {
		jsonw_object(&w, "logit_bias");
		put_map(&w, &e->vllm.logit_bias);
		jsonw_end_object(&w);
	}
	jsonw_bool(&w, "stream", true);
	if (!is_theirs(e, "stream_options"))
		put_stream_options(&w, e);
	if (e->backend == BACKEND_OPENAI)
		put_map(&w, &e->openai.extra_body);
	jsonw_end_object(&w);
}
