#include "engine/llamacpp.h"

#define WORKER "lem-worker-llama"

/* All layers: llama.cpp takes any number above the model's as "all". */
enum { ALL_LAYERS = 9999, STOP_GRACE_S = 10 };

int64_t llamacpp_gpu_layers(const struct engine_request *req)
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

int64_t llamacpp_threads(const struct engine_request *req)
{
	return or_default(req->exp->llamacpp.threads, req->threads_default);
}

int64_t llamacpp_threads_batch(const struct engine_request *req)
{
	return or_default(req->exp->llamacpp.threads_batch, llamacpp_threads(req));
}

int64_t llamacpp_sequences(const struct experiment *e)
{
	return e->streaming ? 1 : e->llamacpp.batch_size;
}

static char *load_request(const struct engine_request *req, const char *model, struct arena *a)
{
	const struct experiment *e = req->exp;
	const struct llamacpp_config *c = &e->llamacpp;
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "op", "load");
	jsonw_i64(&w, "protocol", 1);
	jsonw_str(&w, "model", model);
	jsonw_i64(&w, "batch_size", llamacpp_sequences(e));
	jsonw_i64(&w, "n_ctx", or_default(c->n_ctx, 0));
	jsonw_i64(&w, "n_batch", c->n_batch);
	jsonw_i64(&w, "n_ubatch", c->n_ubatch);
	jsonw_i64(&w, "threads", llamacpp_threads(req));
	jsonw_i64(&w, "threads_batch", llamacpp_threads_batch(req));
	jsonw_i64(&w, "n_gpu_layers", llamacpp_gpu_layers(req));
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

/* The worker and the model file, where the engine finds them. */
static const char *show_file(struct launch_draft *d, const char *path, const char *inside)
{
	if (!d->req->in_container)
		return path;
	words_addf(&d->binds, "%s:%s:ro", path, inside);
	return inside;
}

const char *llamacpp_model(struct launch_draft *d)
{
	const char *path = d->req->model_path, *slash = strrchr(path, '/');

	if (!str_ends(path, ".gguf")) {
		lem_fail(d->err, LEM_E_REFUSED, "llama.cpp reads GGUF files, and '%s' is not one",
			 d->req->exp->model_name);
		lem_error_fix(d->err, "name a .gguf file, hf:ORG/REPO:FILE.gguf, or "
				      "synthetic:llama-15m");
		return NULL;
	}
	return show_file(d, path, arena_printf(d->a, IN_MODELS "/%s", slash ? slash + 1 : path));
}

static const char *worker_file(struct launch_draft *d)
{
	const struct experiment *e = d->req->exp;
	const char *path = e->llamacpp.worker;

	if (!path)
		path = arena_printf(d->a, "%s/" WORKER, d->req->program_dir);
	else if (d->req->in_container) /* a bind needs the whole path */
		path = engine_host_path(d, path);
	if (!path)
		return NULL;
	return show_file(d, path, IN_LEM "/" WORKER);
}

static int llamacpp_launch(const struct engine_request *req, struct arena *a,
			   struct launch_spec *ret, struct lem_error *err)
{
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	struct launch_spec s = {
		.channel = CHANNEL_WORKER,
		.load_timeout_ns = (int64_t)(req->exp->llamacpp.load_timeout_sec * 1e9),
		.silence_ns = (int64_t)(req->exp->llamacpp.request_timeout_sec * 1e9),
		.stop_grace_ns = STOP_GRACE_S * NS_PER_S,
	};
	const char *worker = worker_file(&d), *model = worker ? llamacpp_model(&d) : NULL;
	int rc;

	if (!model)
		return -(int)err->code;
	s.load_json = load_request(req, model, a);
	/* the images of llama.cpp have an entrypoint of their own */
	if (req->in_container)
		s.entrypoint = worker;
	else
		words_add(&d.argv, worker);
	rc = engine_finish(&d, NULL, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
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
	.model = MODEL_GGUF,
	.launch = llamacpp_launch,
	.mode = llamacpp_mode,
};
