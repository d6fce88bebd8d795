#include "load/openai.h"

#include "base/jsonw.h"

static const struct {
	const char *engine;
	enum openai_dialect dialect;
} dialects[] = {
	{"vllm", OPENAI_VLLM},
	{"sglang", OPENAI_SGLANG},
	{"tensorrt", OPENAI_TENSORRT},
	{"llamacpp", OPENAI_LLAMACPP},
	{"pytorch", OPENAI_TRANSFORMERS},
	{"transformers", OPENAI_TRANSFORMERS},
};

enum openai_dialect openai_dialect_of(const char *engine)
{
	for (size_t i = 0; i < ARRAY_LEN(dialects); i++)
		if (str_eq(dialects[i].engine, engine))
			return dialects[i].dialect;
	return OPENAI_GENERIC;
}

const char *openai_path(enum openai_endpoint e)
{
	return e == OPENAI_CHAT ? "/v1/chat/completions" : "/v1/completions";
}

bool openai_forces_length(enum openai_dialect d)
{
	return d != OPENAI_GENERIC;
}

static bool takes_ids(enum openai_dialect d)
{
	return d != OPENAI_TRANSFORMERS;
}

static void prompt(const struct openai_ask *a, struct jsonw *w)
{
	if (a->endpoint == OPENAI_CHAT) {
		jsonw_array(w, "messages");
		jsonw_object(w, NULL);
		jsonw_str(w, "role", "user");
		jsonw_str(w, "content", a->text);
		jsonw_end_object(w);
		jsonw_end_array(w);
		return;
	}
	if (a->text) {
		jsonw_str(w, "prompt", a->text);
		return;
	}
	jsonw_array(w, "prompt");
	for (size_t i = 0; i < a->n_tokens; i++)
		jsonw_i64(w, NULL, a->tokens[i]);
	jsonw_end_array(w);
}

/* Its own options, as JSON within a JSON string; what it is not told comes from the model. */
static void generation_config(const struct openai_ask *a, struct jsonw *w)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct jsonw g;

	jsonw_init(&g, &text, 0);
	jsonw_object(&g, NULL);
	if (a->exact)
		jsonw_i64(&g, "min_new_tokens", a->max_tokens);
	jsonw_i64(&g, "max_new_tokens", a->max_tokens);
	jsonw_bool(&g, "do_sample", a->temperature > 0);
	if (a->temperature > 0)
		jsonw_f64(&g, "temperature", a->temperature);
	jsonw_end_object(&g);
	jsonw_str(w, "generation_config", str_c(&text));
}

static void length(const struct openai_ask *a, struct jsonw *w)
{
	bool chat = a->endpoint == OPENAI_CHAT;
	bool minimum = a->dialect == OPENAI_VLLM || a->dialect == OPENAI_SGLANG ||
		       a->dialect == OPENAI_TENSORRT;

	jsonw_i64(w, chat && a->dialect == OPENAI_TENSORRT ? "max_completion_tokens" : "max_tokens",
		  a->max_tokens);
	if (a->exact && minimum)
		jsonw_i64(w, "min_tokens", a->max_tokens);
	if (a->exact && (minimum || a->dialect == OPENAI_LLAMACPP))
		jsonw_bool(w, "ignore_eos", true);
}

static void streaming(const struct openai_ask *a, struct jsonw *w)
{
	bool in_chunks =
		a->usage_in_chunks && (a->dialect == OPENAI_VLLM || a->dialect == OPENAI_SGLANG);

	jsonw_bool(w, "stream", a->stream);
	if (!a->stream || a->dialect == OPENAI_TRANSFORMERS) /* which tells usage anyway */
		return;
	jsonw_object(w, "stream_options");
	jsonw_bool(w, "include_usage", true);
	if (in_chunks)
		jsonw_bool(w, "continuous_usage_stats", true);
	jsonw_end_object(w);
	if (a->usage_in_chunks && a->dialect == OPENAI_LLAMACPP)
		jsonw_bool(w, "timings_per_token", true);
}

static int check(const struct openai_ask *a, struct lem_error *err)
{
	assert(a->model && (a->text || a->tokens));
	if (a->max_tokens < 1)
		return lem_fail(err, LEM_E_REFUSED, "a request for %d output tokens",
				a->max_tokens);
	if (a->text || (a->endpoint == OPENAI_COMPLETIONS && takes_ids(a->dialect)))
		return 0;
	if (a->endpoint == OPENAI_CHAT) {
		lem_fail(err, LEM_E_REFUSED, "token ids cannot be sent to the chat endpoint");
		lem_error_why(err, "its template would add tokens of its own");
		return lem_error_fix(err, "use the completions endpoint, or prompts that are text");
	}
	lem_fail(err, LEM_E_REFUSED, "transformers serve takes text, not token ids");
	return lem_error_fix(err, "use prompts that are text");
}

int openai_body(const struct openai_ask *a, struct str *out, struct lem_error *err)
{
	struct jsonw w;
	int r = check(a, err);

	if (r < 0)
		return r;
	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "model", a->model);
	prompt(a, &w);
	length(a, &w);
	if (a->dialect == OPENAI_TRANSFORMERS)
		generation_config(a, &w);
	else
		jsonw_f64(&w, "temperature", a->temperature);
	if (a->has_seed)
		jsonw_i64(&w, "seed", a->seed);
	if (a->dialect == OPENAI_LLAMACPP) /* its slots reuse what they remember otherwise */
		jsonw_bool(&w, "cache_prompt", a->cache_prompt);
	streaming(a, &w);
	jsonw_end_object(&w);
	return 0;
}
