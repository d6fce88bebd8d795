/*
 * PyTorch with Transformers, through lem's own worker (workers/pytorch/lem_worker_pytorch.py).
 * What that program does not do is refused here, before anything is launched; what it does is said
 * in its load request.
 */
#include "engine/common.h"

/* PyTorch's own image has no Transformers: the worker says so and names the way out. */
#define IMAGE  "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
#define WORKER "lem_worker_pytorch.py"

enum { STOP_GRACE_S = 10 };

static int64_t batch_size(const struct experiment *e)
{
	return e->streaming ? 1 : e->pytorch.batch_size;
}

/* What the config may ask for and this version of the worker has not. */
static const char *missing_feature(const struct experiment *e)
{
	const struct pytorch_config *p = &e->pytorch;

	if (!str_eq(p->batching_strategy, "static"))
		return "batching_strategy other than static";
	if (p->num_processes > 1)
		return "num_processes above 1 (data parallel replicas)";
	if (p->load_in_4bit || p->load_in_8bit)
		return "load_in_4bit and load_in_8bit";
	if (p->torch_compile)
		return "torch_compile";
	if (!p->use_cache)
		return "use_cache: false";
	if (p->cache_implementation && !str_eq(p->cache_implementation, "dynamic"))
		return "cache_implementation other than dynamic";
	if (!p->low_cpu_mem_usage)
		return "low_cpu_mem_usage: false";
	if (p->max_memory.n)
		return "max_memory";
	if (p->no_repeat_ngram_size)
		return "no_repeat_ngram_size";
	if (p->beam_search.enabled)
		return "beam_search";
	if (p->assisted_generation.present)
		return "assisted_generation";
	if (p->extra_load.n)
		return "extra_load";
	if (p->extra_generate.n)
		return "extra_generate";
	return e->adapter ? "an adapter" : NULL;
}

static int check(const struct engine_request *q, struct lem_error *err)
{
	const char *missing = missing_feature(q->exp);
	int64_t tp = q->exp->pytorch.tensor_parallel_size;

	if (missing) {
		lem_fail(err, LEM_E_REFUSED, "lem's PyTorch worker cannot do %s yet", missing);
		return lem_error_fix(err, "remove it from the configuration");
	}
	if (q->binding->n == 0 && tp > 1) {
		lem_fail(err, LEM_E_REFUSED,
			 "pytorch.tensor_parallel_size is %" PRId64 ", but gpus lists none", tp);
		return lem_error_fix(err, "list %" PRId64 " GPUs", tp);
	}
	return 0;
}

static char *load_request(const struct engine_request *req, const char *model, struct arena *a)
{
	const struct experiment *e = req->exp;
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "op", "load");
	jsonw_i64(&w, "protocol", 1);
	jsonw_str(&w, "model", model);
	jsonw_str(&w, "weights", engine_dummy_weights(req) ? "random" : "real");
	jsonw_i64(&w, "seed", e->random_seed.set ? e->random_seed.v : 0);
	jsonw_str(&w, "device", req->binding->n ? "cuda" : "cpu");
	jsonw_i64(&w, "tensor_parallel_size", e->pytorch.tensor_parallel_size);
	jsonw_str(&w, "dtype", precision_name(e->fp_precision));
	jsonw_str(&w, "attn_implementation", e->pytorch.attn_implementation);
	jsonw_i64(&w, "batch_size", batch_size(e));
	jsonw_i64(&w, "threads", req->binding->n ? 0 : req->threads_default);
	jsonw_i64(&w, "max_total_tokens", e->max_input_tokens + e->max_output_tokens);
	jsonw_bool(&w, "trust_remote_code", e->trust_remote_code);
	jsonw_end_object(&w);
	return arena_strdup(a, str_c(&s));
}

static int pytorch_launch(const struct engine_request *req, struct arena *a,
			  struct launch_spec *ret, struct lem_error *err)
{
	struct launch_draft d = LAUNCH_DRAFT(req, a, err);
	const char *program = arena_printf(a, "%s/" WORKER, req->program_dir);
	struct launch_spec s = {
		.channel = CHANNEL_WORKER,
		.load_timeout_ns = (int64_t)(req->exp->pytorch.load_timeout_sec * 1e9),
		.silence_ns = (int64_t)(req->exp->pytorch.request_timeout_sec * 1e9),
		.stop_grace_ns = STOP_GRACE_S * NS_PER_S,
	};
	int rc = check(req, err);

	if (rc < 0)
		return rc;
	s.load_json = load_request(req, engine_model(&d), a);
	if (req->in_container) {
		s.entrypoint = req->exp->pytorch.python;
		words_addf(&d.binds, "%s:" IN_LEM "/" WORKER ":ro", program);
		program = IN_LEM "/" WORKER;
	} else {
		words_add(&d.argv, req->exp->pytorch.python);
	}
	words_add(&d.argv, program);
	words_add(&d.env, "PYTHONUNBUFFERED=1");
	words_add(&d.env, "TOKENIZERS_PARALLELISM=false");
	rc = engine_finish(&d, IMAGE, &s);
	if (rc >= 0)
		*ret = s;
	return rc;
}

static const char *pytorch_mode(const struct experiment *e)
{
	return e->streaming ? "offline/streaming" : "offline/static";
}

const struct engine_ops engine_pytorch = {
	.backend = BACKEND_PYTORCH,
	.name = "pytorch",
	.model = MODEL_HF,
	.launch = pytorch_launch,
	.mode = pytorch_mode,
	.needs_container = true,
};
