#include "load/http_body.h"

#include <jansson.h>

#include "load/openai.h"

size_t http_body_input_tokens(const struct experiment *e, const struct prompt *p)
{
	return p->tokens ? MIN(p->n_tokens, (size_t)e->max_input_tokens) : 0;
}

/* Beyond what every dialect has. Of a server of unknown kind the first answer shows whether it
 * honours the length. */
static void add_length(json_t *body, const struct http_body_request *q, int64_t most)
{
	int64_t forced = prompt_forced(q->prompt, q->exp),
		least = forced ? forced : q->exp->min_output_tokens;

	if (least && q->exp->backend != BACKEND_LLAMACPP) /* which has no such thing */
		json_object_set_new(body, "min_tokens", json_integer(MIN(least, most)));
	if (forced)
		json_object_set_new(body, "ignore_eos", json_true());
}

static void add_map(json_t *body, const struct kv_list *map)
{
	for (size_t i = 0; i < map->n; i++)
		json_object_set_new(body, map->at[i].key,
				    json_loads(map->at[i].json, JSON_DECODE_ANY, NULL));
}

/* What is at its neutral value is left out: not every server knows every name. */
static void add_sampling(json_t *body, const struct experiment *e)
{
	const struct decoder_config *d = &e->decoder;
	double min_p = e->backend == BACKEND_VLLM ? e->vllm.min_p : 0;

	if (d->do_sample && d->top_p < 1)
		json_object_set_new(body, "top_p", json_real(d->top_p));
	if (d->do_sample && d->top_k > 0)
		json_object_set_new(body, "top_k", json_integer(d->top_k));
	if (d->do_sample && min_p > 0)
		json_object_set_new(body, "min_p", json_real(min_p));
	if (d->repetition_penalty > 0 && (d->repetition_penalty < 1 || d->repetition_penalty > 1))
		json_object_set_new(body, "repetition_penalty", json_real(d->repetition_penalty));
}

static void add_vllm(json_t *body, const struct vllm_config *v)
{
	json_t *bias;

	if (v->logprobs.set)
		json_object_set_new(body, "logprobs", json_integer(v->logprobs.v));
	if (!v->logit_bias.n)
		return;
	bias = json_object();
	add_map(bias, &v->logit_bias);
	json_object_set_new(body, "logit_bias", bias);
}

static void add_f64(json_t *body, const char *key, double v)
{
	json_object_set_new(body, key, json_real(v));
}

/* llama-server has defaults of its own for all of them (top_k 40, top_p 0.95, min_p 0.05), and runs
 * its whole chain over the vocabulary for each token. So the chain is said, in the embedded
 * worker's order, with what this config asks for and nothing else. Of one candidate nothing is
 * drawn: the cheapest form of greedy that it has. */
static void add_llamacpp(json_t *body, const struct experiment *e)
{
	const struct decoder_config *d = &e->decoder;
	bool greedy = !d->do_sample || d->temperature <= 0;
	bool penalty = d->repetition_penalty > 0 &&
		       (d->repetition_penalty < 1 || d->repetition_penalty > 1);
	json_t *chain = json_array();
	int64_t top_k = greedy ? 1 : d->top_k;

	if (penalty) {
		json_array_append_new(chain, json_string("penalties"));
		add_f64(body, "repeat_penalty", d->repetition_penalty);
		/* the whole of what was said, as for the other engines */
		json_object_set_new(body, "repeat_last_n",
				    json_integer(e->max_input_tokens + e->max_output_tokens));
	}
	if (top_k > 0) {
		json_array_append_new(chain, json_string("top_k"));
		json_object_set_new(body, "top_k", json_integer(top_k));
	}
	if (!greedy && d->top_p < 1) {
		json_array_append_new(chain, json_string("top_p"));
		add_f64(body, "top_p", d->top_p);
	}
	if (!greedy && e->llamacpp.min_p > 0) {
		json_array_append_new(chain, json_string("min_p"));
		add_f64(body, "min_p", e->llamacpp.min_p);
	}
	if (!greedy)
		json_array_append_new(chain, json_string("temperature"));
	json_object_set_new(body, "samplers", chain);
}

/* Fields of the config come over those of the dialect, extra_body over both. */
static int add_fields(const struct http_body_request *q, int64_t most, const struct str *base,
		      struct str *out, struct lem_error *err)
{
	const struct experiment *e = q->exp;
	json_t *body = json_loadb(str_c(base), base->len, 0, NULL);
	char *text;

	if (!body)
		return lem_fail(err, LEM_E_REFUSED,
				"a prompt cannot be sent as JSON: it is no UTF-8, or holds a NUL");
	add_length(body, q, most);
	if (e->backend == BACKEND_LLAMACPP)
		add_llamacpp(body, e);
	else
		add_sampling(body, e);
	if (e->backend == BACKEND_VLLM)
		add_vllm(body, &e->vllm);
	if (e->backend == BACKEND_OPENAI)
		add_map(body, &e->openai.extra_body);
	text = json_dumps(body, JSON_COMPACT);
	json_decref(body);
	if (!text)
		return lem_fail(err, LEM_E_INTERNAL, "a request cannot be written");
	str_add(out, text);
	free(text);
	return 0;
}

int http_body(const struct http_body_request *q, struct str *out, struct lem_error *err)
{
	const struct experiment *e = q->exp;
	int64_t forced = prompt_forced(q->prompt, e), most = q->max_output_tokens
								     ? q->max_output_tokens
							     : forced ? forced
								      : e->max_output_tokens;
	_cleanup_str_ struct str base = STR_INIT;
	const struct openai_ask a = {
		.dialect = openai_dialect_of(backend_name(e->backend)),
		.endpoint = q->chat ? OPENAI_CHAT : OPENAI_COMPLETIONS,
		.model = q->model,
		.text = q->prompt->text,
		.tokens = q->prompt->tokens,
		.n_tokens = http_body_input_tokens(e, q->prompt),
		.max_tokens = (int32_t)MIN(most, (int64_t)INT32_MAX),
		.exact = forced > 0,
		.stream = true,
		.usage_in_chunks = true,
		.cache_prompt = e->backend == BACKEND_LLAMACPP && e->llamacpp.cache_prompt,
		.temperature = e->decoder.do_sample ? e->decoder.temperature : 0,
		.has_seed = e->random_seed.set,
		.seed = e->random_seed.v,
	};
	int rc = openai_body(&a, &base, err);

	return rc < 0 ? rc : add_fields(q, most, &base, out, err);
}
