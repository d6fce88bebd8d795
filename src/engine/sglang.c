/* SGLang's server. Option names: its server_arguments.md at v0.5.9. */
#include "engine/common.h"

#define IMAGE "lmsysorg/sglang:v0.5.9"

enum { PORT = 30000 };

/* SGLang asserts this after its parser, when the model is found already. */
static int check(const struct sglang_config *s, struct lem_error *err)
{
	for (size_t i = 0; i < s->extra_args.n && s->pp_size > 1; i++) {
		const struct kv *kv = &s->extra_args.at[i];

		if (!str_eq(kv->json, "true") || (!str_eq(kv->key, "enable_mixed_chunk") &&
						  !str_eq(kv->key, "enable-mixed-chunk")))
			continue;
		lem_fail(err, LEM_E_REFUSED,
			 "sglang.pp_size is %" PRId64
			 ", but SGLang computes no mixed chunks (%s) across a pipeline",
			 s->pp_size, kv->key);
		return lem_error_fix(err, "remove it from extra_args, or write pp_size: 1");
	}
	return 0;
}

static int options(struct launch_draft *d)
{
	const struct experiment *e = d->req->exp;
	const struct sglang_config *s = &e->sglang;
	struct words *w = &d->argv;
	bool dummy = engine_dummy_weights(d->req);

	if (dummy && str_eq(s->load_format, "safetensors")) {
		lem_fail(d->err, LEM_E_REFUSED,
			 "sglang.load_format is safetensors, but '%s' has no weights",
			 e->model_name);
		return lem_error_fix(d->err, "write load_format: dummy, or remove it");
	}
	words_opt(w, "--tp-size", "%" PRId64, s->tp_size);
	words_opt(w, "--pp-size", "%" PRId64, s->pp_size);
	words_opt(w, "--dp-size", "%" PRId64, s->dp_size);
	words_opt(w, "--ep-size", "%" PRId64, s->ep_size);
	words_flag(w, "--enable-dp-attention", s->enable_dp_attention);
	words_opt(w, "--mem-fraction-static", "%.10g", s->mem_fraction_static);
	words_flag(w, "--disable-radix-cache", s->disable_radix_cache);
	words_opt(w, "--load-format", "%s", dummy ? "dummy" : s->load_format);
	words_opt(w, "--dtype", "%s", precision_name(e->fp_precision));
	if (s->quantization)
		words_opt(w, "--quantization", "%s", s->quantization);
	words_opt(w, "--context-length", "%" PRId64, e->max_input_tokens + e->max_output_tokens);
	words_flag(w, "--trust-remote-code", e->trust_remote_code);
	if (e->random_seed.set)
		words_opt(w, "--random-seed", "%" PRId64, e->random_seed.v);
	/* sampling comes with each request; its metrics are off unless asked for */
	words_opt(w, "--sampling-defaults", "openai");
	words_add(w, "--enable-metrics");
	return engine_extra_args(d, &s->extra_args, '-', false);
}

static int sglang_launch(const struct engine_request *req, struct arena *a, struct launch_spec *ret,
			 struct lem_error *err)
{
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	struct launch_spec s = {0};
	int rc = check(&req->exp->sglang, err);

	if (rc < 0)
		return rc;
	words_add(&d.argv, req->exp->sglang.python);
	words_add(&d.argv, "-m");
	words_add(&d.argv, "sglang.launch_server");
	words_opt(&d.argv, "--model-path", "%s", engine_model(&d));
	engine_listen(&d, PORT, req->exp->sglang.load_timeout_sec,
		      req->exp->sglang.request_timeout_sec, &s);
	rc = options(&d);
	if (rc >= 0)
		rc = engine_finish(&d, IMAGE, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
}

static const struct engine_http http = {
	.health = "/health",
	.version = "/get_server_info",
	.metrics = "/metrics",
	.options = "/get_server_info",
	.tokenize = TOKENIZE_VLLM,
};

const struct engine_ops engine_sglang = {
	.backend = BACKEND_SGLANG,
	.name = "sglang",
	.model = MODEL_HF,
	.launch = sglang_launch,
	.mode = engine_http_mode,
	.needs_container = true,
	.http = &http,
};
