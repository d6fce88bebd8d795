/*
 * vLLM's OpenAI server. Option names: vLLM 0.32.0, engine/arg_utils.py and config/speculative.py.
 * min_p, logprobs and logit_bias belong to the requests.
 */
#include "engine/common.h"

#define IMAGE "vllm/vllm-openai:v0.32.0"

enum { PORT = 8000 };

static void parallelism(struct words *w, const struct vllm_config *v)
{
	words_opt(w, "--tensor-parallel-size", "%" PRId64,
		  v->tensor_parallel_size.set ? v->tensor_parallel_size.v : 1);
	words_opt(w, "--pipeline-parallel-size", "%" PRId64, v->pipeline_parallel_size);
	words_opt(w, "--data-parallel-size", "%" PRId64, v->data_parallel_size);
	words_flag(w, "--enable-expert-parallel", v->enable_expert_parallel);
	words_opt(w, "--distributed-executor-backend", "%s", v->distributed_backend);
	words_flag(w, "--disable-custom-all-reduce", v->disable_custom_all_reduce);
}

/* What vLLM's own default decides differently from version to version is always said. */
static void scheduling(struct words *w, const struct experiment *e)
{
	const struct vllm_config *v = &e->vllm;

	words_opt(w, "--max-num-seqs", "%" PRId64, v->max_num_seqs);
	if (v->max_num_batched_tokens.set)
		words_opt(w, "--max-num-batched-tokens", "%" PRId64, v->max_num_batched_tokens.v);
	words_opt(w, "--max-model-len", "%" PRId64,
		  v->max_model_len.set ? v->max_model_len.v
				       : e->max_input_tokens + e->max_output_tokens);
	words_add(w, v->enable_prefix_caching ? "--enable-prefix-caching"
					      : "--no-enable-prefix-caching");
	words_add(w, v->enable_chunked_prefill ? "--enable-chunked-prefill"
					       : "--no-enable-chunked-prefill");
	words_flag(w, "--enforce-eager", v->enforce_eager);
	if (v->logprobs.set)
		words_opt(w, "--max-logprobs", "%" PRId64, v->logprobs.v);
}

static void memory(struct words *w, const struct vllm_config *v)
{
	words_opt(w, "--gpu-memory-utilization", "%.10g", v->gpu_memory_utilization);
	if (v->cpu_offload_gb > 0)
		words_opt(w, "--cpu-offload-gb", "%.10g", v->cpu_offload_gb);
	words_opt(w, "--kv-cache-dtype", "%s", v->kv_cache_dtype);
	if (v->block_size.set)
		words_opt(w, "--block-size", "%" PRId64, v->block_size.v);
}

static void attention(struct words *w, const struct vllm_config *v)
{
	if (!str_eq(v->attention_backend, "auto"))
		words_opt(w, "--attention-backend", "%s", v->attention_backend);
	if (v->attention_flash_version.set)
		words_addf(w, "--attention-config.flash_attn_version=%" PRId64,
			   v->attention_flash_version.v);
	words_flag(w, "--disable-sliding-window", v->attention_disable_sliding_window);
}

static int weights(struct launch_draft *d)
{
	const struct vllm_config *v = &d->req->exp->vllm;
	bool dummy = engine_dummy_weights(d->req);

	if (dummy && str_eq(v->load_format, "safetensors")) {
		lem_fail(d->err, LEM_E_REFUSED,
			 "vllm.load_format is safetensors, but '%s' has no weights",
			 d->req->exp->model_name);
		return lem_error_fix(d->err, "write load_format: dummy, or remove it");
	}
	words_opt(&d->argv, "--load-format", "%s", dummy ? "dummy" : v->load_format);
	words_opt(&d->argv, "--dtype", "%s", precision_name(d->req->exp->fp_precision));
	if (v->quantization)
		words_opt(&d->argv, "--quantization", "%s", v->quantization);
	words_flag(&d->argv, "--trust-remote-code", d->req->exp->trust_remote_code);
	if (d->req->exp->random_seed.set)
		words_opt(&d->argv, "--seed", "%" PRId64, d->req->exp->random_seed.v);
	/* sampling comes with each request, never from a file beside the model */
	words_opt(&d->argv, "--generation-config", "vllm");
	return 0;
}

/* The config's names for what vLLM calls otherwise. */
static const char *draft_method(const struct vllm_speculative_config *s)
{
	if (s->model && str_eq(s->method, "ngram"))
		return "draft_model";
	return str_eq(s->method, "mlp") ? "mlp_speculator" : s->method;
}

static int speculative(struct launch_draft *d)
{
	const struct vllm_speculative_config *s = &d->req->exp->vllm.speculative;
	_cleanup_str_ struct str json = STR_INIT;
	const char *model = NULL;
	struct jsonw w;

	if (!s->present)
		return 0;
	if (s->model && !(model = engine_second_model(d, s->model, "draft")))
		return -d->err->code;
	jsonw_init(&w, &json, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "method", draft_method(s));
	jsonw_i64(&w, "num_speculative_tokens", s->num_tokens);
	if (model) {
		jsonw_str(&w, "model", model);
		jsonw_i64(&w, "draft_tensor_parallel_size", s->draft_tp_size);
	} else {
		jsonw_i64(&w, "prompt_lookup_min", s->prompt_lookup_min);
		jsonw_i64(&w, "prompt_lookup_max",
			  s->prompt_lookup_max.set ? s->prompt_lookup_max.v
						   : MAX(s->prompt_lookup_min, s->num_tokens));
	}
	jsonw_end_object(&w);
	words_opt(&d->argv, "--speculative-config", "%s", str_c(&json));
	return 0;
}

static int lora(struct launch_draft *d)
{
	const struct experiment *e = d->req->exp;
	const char *adapter;

	if (!e->adapter && !e->vllm.lora_enabled)
		return 0;
	words_add(&d->argv, "--enable-lora");
	words_opt(&d->argv, "--max-loras", "%" PRId64, e->vllm.lora_max_loras);
	words_opt(&d->argv, "--max-lora-rank", "%" PRId64, e->vllm.lora_max_rank);
	if (!e->adapter)
		return 0;
	adapter = engine_second_model(d, e->adapter, "adapter");
	if (!adapter)
		return -d->err->code;
	words_opt(&d->argv, "--lora-modules", "adapter=%s", adapter);
	return 0;
}

/* `vllm serve MODEL`, or the module behind it in an environment that lacks the program. */
static void program(struct launch_draft *d, struct launch_spec *s)
{
	const char *python = d->req->exp->vllm.python;

	if (d->req->in_container)
		s->entrypoint = python ? python : "vllm"; /* also for images that are not its own */
	else
		words_add(&d->argv, python ? python : "vllm");
	if (python) {
		words_opt(&d->argv, "-m", "vllm.entrypoints.openai.api_server");
		words_opt(&d->argv, "--model", "%s", engine_model(d));
		return;
	}
	words_add(&d->argv, "serve");
	words_add(&d->argv, engine_model(d));
}

static int vllm_launch(const struct engine_request *req, struct arena *a, struct launch_spec *ret,
		       struct lem_error *err)
{
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	struct launch_spec s = {0};
	int rc;

	program(&d, &s);
	engine_listen(&d, PORT, req->exp->vllm.load_timeout_sec, req->exp->vllm.request_timeout_sec,
		      &s);
	parallelism(&d.argv, &req->exp->vllm);
	scheduling(&d.argv, req->exp);
	memory(&d.argv, &req->exp->vllm);
	attention(&d.argv, &req->exp->vllm);
	if ((rc = weights(&d)) < 0 || (rc = speculative(&d)) < 0 || (rc = lora(&d)) < 0 ||
	    (rc = engine_extra_args(&d, &req->exp->vllm.extra_args, '-', true)) < 0)
		return rc;
	words_add(&d.env, "VLLM_NO_USAGE_STATS=1");
	words_add(&d.env, "DO_NOT_TRACK=1");
	rc = engine_finish(&d, IMAGE, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
}

static const struct engine_http http = {
	.health = "/health",
	.version = "/version",
	.metrics = "/metrics",
	.tokenize = TOKENIZE_VLLM,
};

const struct engine_ops engine_vllm = {
	.backend = BACKEND_VLLM,
	.name = "vllm",
	.model = MODEL_HF,
	.launch = vllm_launch,
	.mode = engine_http_mode,
	.needs_container = true,
	.http = &http,
};
