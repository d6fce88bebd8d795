/*
 * TensorRT-LLM's trtllm-serve. What its command line lacks goes into a YAML file, which overwrites
 * the command line (commands/serve.py, --extra_llm_api_options; JSON is YAML too). Names: its LLM
 * API at 1.2.
 */
#include "engine/common.h"

#define IMAGE     "nvcr.io/nvidia/tensorrt-llm/release:1.2.0"
#define FILE_NAME "trtllm.yaml"
#define IN_ENGINE IN_MODELS "/engine"
#define IN_CACHE  IN_LEM "/tensorrt-engines"

enum { PORT = 8000 };

static bool is_built(const struct tensorrt_config *t)
{
	return str_eq(t->backend, "tensorrt");
}

/* AutoDeploy: told how many GPUs there are, and no other size (its LlmArgs refuses them). */
static bool splits_itself(const struct tensorrt_config *t)
{
	return str_eq(t->backend, "_autodeploy");
}

static int64_t longest_input(const struct experiment *e)
{
	return e->tensorrt.max_input_len.set ? e->tensorrt.max_input_len.v : e->max_input_tokens;
}

static int64_t longest(const struct experiment *e)
{
	const struct tensorrt_config *t = &e->tensorrt;

	return longest_input(e) +
	       (t->max_output_len.set ? t->max_output_len.v : e->max_output_tokens);
}

static void options(struct words *w, const struct experiment *e)
{
	const struct tensorrt_config *t = &e->tensorrt;

	words_opt(w, "--backend", "%s", t->backend);
	if (!splits_itself(t)) {
		words_opt(w, "--tp_size", "%" PRId64, t->tp_size);
		words_opt(w, "--pp_size", "%" PRId64, t->pp_size);
	}
	if (t->moe_ep_size.set)
		words_opt(w, "--ep_size", "%" PRId64, t->moe_ep_size.v);
	words_opt(w, "--max_batch_size", "%" PRId64, t->max_batch_size);
	if (t->max_num_tokens.set)
		words_opt(w, "--max_num_tokens", "%" PRId64, t->max_num_tokens.v);
	words_opt(w, "--max_seq_len", "%" PRId64, longest(e));
	words_opt(w, "--kv_cache_free_gpu_memory_fraction", "%.10g", t->kv_cache_fraction);
	words_flag(w, "--trust_remote_code", e->trust_remote_code);
}

/* Its builder's names. NULL: none of them. */
static const char *quant_algo(const char *name)
{
	static const char *const names[][2] = {
		{"fp8", "FP8"},
		{"int8_sq", "W8A8_SQ_PER_CHANNEL_PER_TOKEN_PLUGIN"},
		{"int8_weight_only", "W8A16"},
		{"int4_awq", "W4A16_AWQ"},
		{"int4_gptq", "W4A16_GPTQ"},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(names[i][0], name))
			return names[i][1];
	return NULL;
}

/* NULL: no cache of engines. */
static int cache_dir(struct launch_draft *d, const char **ret)
{
	const struct tensorrt_config *t = &d->req->exp->tensorrt;
	const char *dir = t->engine_cache_dir;

	*ret = NULL;
	if (t->force_rebuild || (!dir && !d->req->home_dir))
		return 0;
	dir = engine_host_path(d, dir ? dir : "~/.cache/lem/tensorrt-engines");
	if (!dir)
		return -(int)d->err->code;
	if (d->req->in_container)
		words_addf(&d->binds, "%s:" IN_CACHE, dir);
	*ret = d->req->in_container ? IN_CACHE : dir;
	return 0;
}

/* Only its own tensorrt backend builds; an engine that was built before needs none of this. */
static int build(struct jsonw *w, struct launch_draft *d)
{
	const struct experiment *e = d->req->exp;
	const struct tensorrt_config *t = &e->tensorrt;
	const char *dir;
	int rc;

	if (!is_built(t) || t->engine_path)
		return 0;
	jsonw_object(w, "build_config");
	jsonw_i64(w, "max_batch_size", t->max_batch_size);
	jsonw_i64(w, "max_input_len", longest_input(e));
	jsonw_i64(w, "max_seq_len", longest(e));
	if (t->max_num_tokens.set)
		jsonw_i64(w, "max_num_tokens", t->max_num_tokens.v);
	jsonw_bool(w, "strongly_typed", t->strongly_typed);
	if (t->multiple_profiles) {
		jsonw_object(w, "plugin_config");
		jsonw_bool(w, "multiple_profiles", true);
		jsonw_end_object(w);
	}
	for (size_t i = 0; i < t->extra_build_args.n; i++)
		jsonw_raw(w, t->extra_build_args.at[i].key, t->extra_build_args.at[i].json);
	jsonw_end_object(w);
	rc = cache_dir(d, &dir);
	if (dir) {
		jsonw_object(w, "enable_build_cache");
		jsonw_str(w, "cache_root", dir);
		jsonw_end_object(w);
	}
	if (quant_algo(t->quantization)) {
		jsonw_object(w, "quant_config");
		jsonw_str(w, "quant_algo", quant_algo(t->quantization));
		jsonw_end_object(w);
	}
	return rc;
}

static int speculative(struct jsonw *w, struct launch_draft *d)
{
	const struct tensorrt_config *t = &d->req->exp->tensorrt;
	const char *model;

	if (!t->draft_model)
		return 0;
	model = engine_second_model(d, t->draft_model, "draft");
	if (!model)
		return -d->err->code;
	jsonw_object(w, "speculative_config");
	/* the key of its table; the class's own name, Draft_Target, is refused in a file */
	jsonw_str(w, "decoding_type", "DraftTarget");
	jsonw_i64(w, "max_draft_len", t->num_draft_tokens);
	jsonw_str(w, "speculative_model_dir", model);
	jsonw_end_object(w);
	return 0;
}

static int file_text(struct launch_draft *d, struct str *out)
{
	const struct experiment *e = d->req->exp;
	const struct tensorrt_config *t = &e->tensorrt;
	struct jsonw w;
	int rc;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "dtype", precision_name(e->fp_precision));
	jsonw_object(&w, "kv_cache_config");
	jsonw_bool(&w, "enable_block_reuse", t->enable_kv_cache_reuse);
	jsonw_f64(&w, "free_gpu_memory_fraction", t->kv_cache_fraction);
	jsonw_end_object(&w);
	jsonw_bool(&w, "enable_chunked_prefill", t->enable_chunked_context);
	if (splits_itself(t))
		jsonw_i64(&w, "world_size", t->tp_size);
	if (t->cp_size > 1)
		jsonw_i64(&w, "context_parallel_size", t->cp_size);
	if (t->moe_tp_size.set)
		jsonw_i64(&w, "moe_tensor_parallel_size", t->moe_tp_size.v);
	if (engine_dummy_weights(d->req))
		jsonw_str(&w, "load_format", "dummy");
	if (str_eq(t->backend, "pytorch"))
		jsonw_bool(&w, "return_perf_metrics", true);
	rc = build(&w, d);
	if (rc >= 0)
		rc = speculative(&w, d);
	jsonw_end_object(&w);
	str_addc(out, '\n');
	return rc;
}

static int add_file(struct launch_draft *d, struct launch_spec *s)
{
	const char *dir = d->req->scratch_dir ? d->req->scratch_dir : "/tmp/lem";
	struct launch_file *files = arena_array(d->a, 2, sizeof(*files));
	_cleanup_str_ struct str text = STR_INIT;
	int rc = file_text(d, &text);

	if (rc < 0)
		return rc;
	files[0].host_path = arena_printf(d->a, "%s/" FILE_NAME, dir);
	files[0].contents = arena_strdup(d->a, str_c(&text));
	s->files = files;
	if (d->req->in_container)
		words_addf(&d->binds, "%s:" IN_LEM "/" FILE_NAME ":ro", files[0].host_path);
	words_opt(&d->argv, "--extra_llm_api_options", "%s",
		  d->req->in_container ? IN_LEM "/" FILE_NAME : files[0].host_path);
	return 0;
}

static int refuse(struct lem_error *err, const char *what, const char *fix)
{
	lem_fail(err, LEM_E_REFUSED, "%s", what);
	return lem_error_fix(err, "%s", fix);
}

static int check(const struct engine_request *q, struct lem_error *err)
{
	const struct tensorrt_config *t = &q->exp->tensorrt;

	if (t->builder_opt_level.set)
		return refuse(
			err,
			"tensorrt.builder_opt_level is not an option of TensorRT-LLM 1.2: its "
			"builder chooses by itself",
			"remove it");
	if (!is_built(t) && !str_eq(t->quantization, "none"))
		return refuse(
			err,
			"tensorrt.quantization has no effect with TensorRT-LLM's pytorch backend, "
			"which takes it from the checkpoint",
			"name a quantised checkpoint in model_name and write quantization: "
			"none, or write backend: tensorrt");
	if (splits_itself(t) &&
	    (t->pp_size > 1 || t->cp_size > 1 || t->moe_tp_size.set || t->moe_ep_size.set))
		return refuse(
			err,
			"TensorRT-LLM's backend _autodeploy splits a model by itself: it takes "
			"no pp_size, cp_size, moe_tp_size or moe_ep_size",
			"remove them and write the number of GPUs as tp_size, or write "
			"backend: pytorch in the section");
	if (is_built(t) && t->draft_model)
		return refuse(err, "tensorrt.draft_model needs TensorRT-LLM's pytorch backend",
			      "write backend: pytorch in the section, or remove draft_model");
	if (is_built(t) && engine_dummy_weights(q))
		return refuse(err, "an engine cannot be built from a model without weights",
			      "write backend: pytorch in the section tensorrt");
	return 0;
}

/* The built engine takes the model's place; the model is then only its tokenizer. */
static const char *built_engine(struct launch_draft *d)
{
	const char *path = engine_host_path(d, d->req->exp->tensorrt.engine_path);

	if (!path || !d->req->in_container)
		return path;
	words_addf(&d->binds, "%s:" IN_ENGINE ":ro", path);
	return IN_ENGINE;
}

static int tensorrt_launch(const struct engine_request *req, struct arena *a,
			   struct launch_spec *ret, struct lem_error *err)
{
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	struct launch_spec s = {0};
	int rc = check(req, err);
	const char *model, *engine;

	if (rc < 0)
		return rc;
	model = engine_model(&d);
	engine = req->exp->tensorrt.engine_path ? built_engine(&d) : model;
	if (!engine)
		return -(int)err->code;
	words_add(&d.argv, "trtllm-serve");
	words_add(&d.argv, engine);
	if (engine != model)
		words_opt(&d.argv, "--tokenizer", "%s", model);
	engine_listen(&d, PORT, req->exp->tensorrt.load_timeout_sec,
		      req->exp->tensorrt.request_timeout_sec, &s);
	options(&d.argv, req->exp);
	if ((rc = add_file(&d, &s)) < 0 ||
	    (rc = engine_extra_args(&d, &req->exp->tensorrt.extra_runtime_args, '_', false)) < 0)
		return rc;
	/* Open MPI refuses to start its ranks as root without both (R16) */
	words_add(&d.env, "OMPI_ALLOW_RUN_AS_ROOT=1");
	words_add(&d.env, "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1");
	rc = engine_finish(&d, IMAGE, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
}

static const struct engine_http http = {
	.health = "/health",
	.version = "/version",
	.metrics = "/prometheus/metrics",
};

const struct engine_ops engine_tensorrt = {
	.backend = BACKEND_TENSORRT,
	.name = "tensorrt",
	.model = MODEL_HF,
	.launch = tensorrt_launch,
	.mode = engine_http_mode,
	.needs_container = true,
	.http = &http,
};
