/*
 * llama-server, llama.cpp's own HTTP server: `llamacpp.server: true`. Option names: its
 * tools/server/README.md, as in the pinned sources (tools/build-llama). The dialect of its requests
 * stands in load/openai.c and load/http_body.c.
 */
#include "engine/llamacpp.h"

#define PROGRAM    "llama-server"
#define IMAGE      "ghcr.io/ggml-org/llama.cpp:server"
#define IMAGE_CUDA "ghcr.io/ggml-org/llama.cpp:server-cuda"

/* CONTEXT_STEP: what the library rounds a sequence's context up to. */
enum { PORT = 8080, CONTEXT_STEP = 256 };

static bool takes(const struct experiment *e)
{
	return e->llamacpp.server;
}

static void size(struct words *w, const struct experiment *e)
{
	const struct llamacpp_config *c = &e->llamacpp;
	int64_t slots = llamacpp_sequences(e);
	int64_t each = (e->max_input_tokens + e->max_output_tokens + CONTEXT_STEP - 1) /
		       CONTEXT_STEP * CONTEXT_STEP;

	words_opt(w, "--parallel", "%" PRId64, slots);
	words_add(w, "--cont-batching");
	/* of all slots together, each of which has its own part */
	words_opt(w, "--ctx-size", "%" PRId64, c->n_ctx.set ? c->n_ctx.v : slots * each);
	words_add(w, "--no-kv-unified");
	words_opt(w, "--batch-size", "%" PRId64, MAX(c->n_batch, slots));
	words_opt(w, "--ubatch-size", "%" PRId64, c->n_ubatch);
}

static void compute(struct words *w, const struct engine_request *q)
{
	const struct llamacpp_config *c = &q->exp->llamacpp;

	words_opt(w, "--threads", "%" PRId64, llamacpp_threads(q));
	words_opt(w, "--threads-batch", "%" PRId64, llamacpp_threads_batch(q));
	words_opt(w, "--flash-attn", "%s", c->flash_attn);
	words_opt(w, "--cache-type-k", "%s", c->cache_type_k);
	words_opt(w, "--cache-type-v", "%s", c->cache_type_v);
	if (!c->mmap || c->mlock) /* its default is mmap alone */
		words_opt(w, "--load-mode", "%s",
			  c->mmap    ? "mmap+mlock"
			  : c->mlock ? "mlock"
				     : "none");
}

static void devices(struct words *w, const struct engine_request *q)
{
	const struct llamacpp_config *c = &q->exp->llamacpp;
	_cleanup_str_ struct str shares = STR_INIT;

	words_opt(w, "--fit", "off"); /* else it changes what does not fit, unasked */
	if (!q->binding->n) {
		/* with no layer on it a GPU would still be given large multiplications */
		words_opt(w, "--device", "none");
		return;
	}
	words_opt(w, "--n-gpu-layers", "%" PRId64, llamacpp_gpu_layers(q));
	words_opt(w, "--split-mode", "%s", c->split_mode);
	words_opt(w, "--main-gpu", "%" PRId64, c->main_gpu);
	for (size_t i = 0; i < c->tensor_split.n; i++)
		str_addf(&shares, "%s%.10g", i ? "," : "", c->tensor_split.at[i]);
	if (shares.len)
		words_opt(w, "--tensor-split", "%s", str_c(&shares));
}

/* Its default is to keep prompts: in their slots, in memory, and as checkpoints on the way. All of
 * it costs time, and makes a prompt that comes again partly free. */
static void prompt_cache(struct words *w, const struct llamacpp_config *c)
{
	words_add(w, c->cache_prompt ? "--cache-prompt" : "--no-cache-prompt");
	if (c->cache_prompt)
		return;
	words_opt(w, "--cache-reuse", "0");
	words_opt(w, "--cache-ram", "0");
	words_opt(w, "--ctx-checkpoints", "0");
	words_opt(w, "--slot-prompt-similarity", "0");
}

/* It aborts on the first token of one. A synthetic model gets its vocabulary before it is made. */
static int check_vocabulary(const struct engine_request *q, struct lem_error *err)
{
	if (q->shape->has_tokenizer || !q->shape->n_layer ||
	    str_starts(q->exp->model_name, "synthetic:"))
		return 0;
	lem_fail(err, LEM_E_REFUSED,
		 "llama-server turns every token into text, but '%s' has no vocabulary",
		 q->exp->model_name);
	return lem_error_fix(err, "name a model with one, write synthetic:SHAPE as model_name, or "
				  "remove server: true");
}

static int llama_server_launch(const struct engine_request *req, struct arena *a,
			       struct launch_spec *ret, struct lem_error *err)
{
	const struct llamacpp_config *c = &req->exp->llamacpp;
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	const char *model = llamacpp_model(&d);
	struct launch_spec s = {.program_option = "llamacpp.server_program"};
	int rc;

	if (!model || check_vocabulary(req, err) < 0)
		return -(int)err->code;
	if (req->in_container)
		s.entrypoint = c->server_program; /* NULL: the image's own is the server */
	else
		words_add(&d.argv, c->server_program ? c->server_program : PROGRAM);
	words_opt(&d.argv, "--model", "%s", model);
	engine_listen(&d, PORT, c->load_timeout_sec, c->request_timeout_sec, &s);
	words_add(&d.argv, "--no-webui");
	words_add(&d.argv, "--metrics");
	size(&d.argv, req->exp);
	compute(&d.argv, req);
	devices(&d.argv, req);
	prompt_cache(&d.argv, c);
	if ((rc = engine_extra_args(&d, &c->extra_args, '-', true)) < 0)
		return rc;
	rc = engine_finish(&d, req->binding->n ? IMAGE_CUDA : IMAGE, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
}

/* /props tells the build, and what became of the options; /health answers 503 while it loads. */
static const struct engine_http http = {
	.health = "/health",
	.version = "/props",
	.version_member = "build_info",
	.metrics = "/metrics",
	.options = "/props",
	.tokenize = TOKENIZE_LLAMA,
	.closes = true,
};

const struct engine_ops engine_llama_server = {
	.backend = BACKEND_LLAMACPP,
	.name = "llama-server",
	.takes = takes,
	.model = MODEL_GGUF,
	.launch = llama_server_launch,
	.mode = engine_http_mode,
	.needs_vocabulary = true,
	.http = &http,
};
