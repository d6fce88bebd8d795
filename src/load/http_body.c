#include "load/http_body.h"

#include "base/jsonw.h"

size_t http_body_input_tokens(const struct experiment *e, const struct prompt *p)
{
	return p->tokens ? MIN(p->n_tokens, (size_t)e->max_input_tokens) : 0;
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

	jsonw_i64(w, "max_tokens", most);
	if (e->min_output_tokens)
		jsonw_i64(w, "min_tokens", MIN(e->min_output_tokens, most));
	if (forced)
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

	jsonw_f64(w, "temperature", d->do_sample ? d->temperature : 0);
	if (d->do_sample && d->top_p < 1)
		jsonw_f64(w, "top_p", d->top_p);
	if (d->do_sample && d->top_k > 0)
		jsonw_i64(w, "top_k", d->top_k);
	if (d->do_sample && min_p(e) > 0)
		jsonw_f64(w, "min_p", min_p(e));
	if (d->repetition_penalty > 0 && (d->repetition_penalty < 1 || d->repetition_penalty > 1))
		jsonw_f64(w, "repetition_penalty", d->repetition_penalty);
	if (e->random_seed.set)
		jsonw_i64(w, "seed", e->random_seed.v);
	if (e->backend == BACKEND_VLLM && e->vllm.logprobs.set)
		jsonw_i64(w, "logprobs", e->vllm.logprobs.v);
}

static void put_map(struct jsonw *w, const struct kv_list *map)
{
	for (size_t i = 0; i < map->n; i++)
		jsonw_raw(w, map->at[i].key, map->at[i].json);
}

void http_body(const struct http_body_request *q, struct str *out)
{
	const struct experiment *e = q->exp;
	bool tells_more = e->backend == BACKEND_VLLM || e->backend == BACKEND_SGLANG;
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
	jsonw_object(&w, "stream_options");
	jsonw_bool(&w, "include_usage", true);
	if (tells_more)
		jsonw_bool(&w, "continuous_usage_stats", true);
	jsonw_end_object(&w);
	if (e->backend == BACKEND_OPENAI)
		put_map(&w, &e->openai.extra_body);
	jsonw_end_object(&w);
}
