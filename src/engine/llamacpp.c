#include <jansson.h>

#include "base/jsonw.h"
#include "engine/engine.h"

/* All layers: llama.cpp takes any number above the model's as "all". */
enum { ALL_LAYERS = 9999, STOP_GRACE_S = 10 };

static int64_t gpu_layers(const struct engine_request *req)
{
	const struct llamacpp_config *c = &req->exp->llamacpp;

	if (c->n_gpu_layers.set)
		return c->n_gpu_layers.v;
	return req->binding->n ? ALL_LAYERS : 0;
}

static int64_t or_default(struct maybe_i64 v, int64_t otherwise)
{
	return v.set ? v.v : otherwise;
}

static int64_t batch_size(const struct experiment *e)
{
	return e->streaming ? 1 : e->llamacpp.batch_size;
}

static char *load_request(const struct engine_request *req, struct arena *a)
{
	const struct experiment *e = req->exp;
	const struct llamacpp_config *c = &e->llamacpp;
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "op", "load");
	jsonw_i64(&w, "protocol", 1);
	jsonw_str(&w, "model", req->model_path);
	jsonw_i64(&w, "batch_size", batch_size(e));
	jsonw_i64(&w, "n_ctx", or_default(c->n_ctx, 0));
	jsonw_i64(&w, "n_batch", c->n_batch);
	jsonw_i64(&w, "n_ubatch", c->n_ubatch);
	jsonw_i64(&w, "threads", or_default(c->threads, req->threads_default));
	jsonw_i64(&w, "threads_batch",
		  or_default(c->threads_batch, or_default(c->threads, req->threads_default)));
	jsonw_i64(&w, "n_gpu_layers", gpu_layers(req));
	jsonw_i64(&w, "main_gpu", c->main_gpu);
	jsonw_str(&w, "split_mode", c->split_mode);
	jsonw_array(&w, "tensor_split");
	for (size_t i = 0; i < c->tensor_split.n; i++)
		jsonw_f64(&w, NULL, c->tensor_split.at[i]);
	jsonw_end_array(&w);
	jsonw_str(&w, "flash_attn", c->flash_attn);
	jsonw_str(&w, "cache_type_k", c->cache_type_k);
	jsonw_str(&w, "cache_type_v", c->cache_type_v);
	jsonw_bool(&w, "mmap", c->mmap);
	jsonw_bool(&w, "mlock", c->mlock);
	jsonw_i64(&w, "max_total_tokens", e->max_input_tokens + e->max_output_tokens);
	jsonw_end_object(&w);
	return arena_strdup(a, str_c(&s));
}

/* A string without its JSON quoting; numbers and booleans as they are written. */
static const char *plain_text(const char *json, struct arena *a)
{
	json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
	const char *text = arena_strdup(a, json_is_string(j) ? json_string_value(j) : json);

	json_decref(j);
	return text;
}

/* The config's own variables; what routes the GPUs is added after them (src/run). */
static const char *const *environment(const struct engine_request *req, struct arena *a)
{
	const struct kv_list *user = &req->exp->env;
	const char **env = arena_array(a, user->n + 1, sizeof(*env));

	for (size_t i = 0; i < user->n; i++)
		env[i] = arena_printf(a, "%s=%s", user->at[i].key, plain_text(user->at[i].json, a));
	return env;
}

static int llamacpp_launch(const struct engine_request *req, struct arena *a,
			   struct launch_spec *ret, struct lem_error *err)
{
	const struct llamacpp_config *c = &req->exp->llamacpp;
	const char **argv = arena_array(a, 2, sizeof(*argv));

	if (!str_ends(req->model_path, ".gguf")) {
		lem_fail(err, LEM_E_REFUSED, "llama.cpp reads GGUF files, and '%s' is not one",
			 req->exp->model_name);
		return lem_error_fix(
			err, "name a .gguf file, hf:ORG/REPO:FILE.gguf, or synthetic:llama-15m");
	}
	argv[0] = c->worker ? arena_strdup(a, c->worker)
			    : arena_printf(a, "%s/lem-worker-llama", req->program_dir);
	*ret = (struct launch_spec){
		.engine = "llamacpp",
		.channel = CHANNEL_WORKER,
		.argv = argv,
		.env = environment(req, a),
		.load_json = load_request(req, a),
		.load_timeout_ns = (int64_t)(c->load_timeout_sec * 1e9),
		.stop_grace_ns = STOP_GRACE_S * NS_PER_S,
		.gpus_needed = req->binding->n,
	};
	return 0;
}

static const char *llamacpp_mode(const struct experiment *e)
{
	if (e->streaming)
		return "offline/streaming";
	return e->llamacpp.batching == LLAMA_CONTINUOUS ? "offline/continuous" : "offline/static";
}

const struct engine_ops engine_llamacpp = {
	.backend = BACKEND_LLAMACPP,
	.name = "llamacpp",
	.launch = llamacpp_launch,
	.mode = llamacpp_mode,
};
