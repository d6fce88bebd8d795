/*
 * PyTorch with Transformers, through lem's own worker (workers/pytorch, packed into one file).
 * What that program cannot do is refused here, before anything is launched; what it shall do is
 * said in its load request.
 */
#include "engine/common.h"

/* PyTorch's own image has no Transformers: the worker says so and names the way out. */
#define IMAGE  "pytorch/pytorch:2.9.1-cuda12.8-cudnn9-runtime"
#define WORKER "lem_worker_pytorch.pyz"

enum { STOP_GRACE_S = 10 };

static int64_t batch_size(const struct experiment *e)
{
	return e->streaming ? 1 : e->pytorch.batch_size;
}

/* Pairs of options that the worker cannot do together; it refuses them too, but only once it has
 * been started. NULL: fine. */
static const char *conflict(const struct experiment *e, bool gpus)
{
	const struct pytorch_config *p = &e->pytorch;
	bool quantised = p->load_in_4bit || p->load_in_8bit, beams = p->beam_search.enabled,
	     drafts = p->assisted_generation.present, one = p->tensor_parallel_size == 1;
	bool fixed = p->cache_implementation && !str_eq(p->cache_implementation, "dynamic");

	if (!one && (quantised || e->adapter || drafts))
		return quantised ? "tensor_parallel_size above 1 with load_in_4bit or load_in_8bit"
		       : drafts  ? "tensor_parallel_size above 1 with assisted_generation"
				 : "tensor_parallel_size above 1 with an adapter";
	if (p->max_memory.n && (!one || p->num_processes > 1 || !gpus || p->torch_compile))
		return gpus ? "max_memory with replicas, tensor parallelism or torch_compile"
			    : "max_memory without GPUs";
	if (e->streaming && p->num_processes > 1)
		return "streaming, one request at a time, with num_processes above 1";
	if (drafts && (fixed || !p->use_cache || p->torch_compile))
		return "assisted_generation with a cache other than dynamic, or with torch_compile";
	if (beams && e->decoder.do_sample && e->decoder.temperature > 0)
		return "beam_search with sampling (decoder.do_sample)";
	if (beams && p->torch_compile)
		return "beam_search with torch_compile";
	if (!p->use_cache && (p->cache_implementation || p->torch_compile))
		return "use_cache: false with cache_implementation or torch_compile";
	return NULL;
}

static int check(const struct engine_request *q, struct lem_error *err)
{
	const char *pair = conflict(q->exp, q->binding->n > 0);

	if (!pair)
		return 0;
	lem_fail(err, LEM_E_REFUSED, "lem's PyTorch worker cannot do %s", pair);
	return lem_error_fix(err, "remove one of the two from the configuration");
}

/* A map of the config as it was written. */
static void put_map(struct jsonw *w, const char *name, const struct kv_list *map)
{
	if (!map->n)
		return;
	jsonw_object(w, name);
	for (size_t i = 0; i < map->n; i++)
		jsonw_raw(w, map->at[i].key, map->at[i].json);
	jsonw_end_object(w);
}

static void put_quantization(struct jsonw *w, const struct pytorch_config *p)
{
	if (!p->load_in_4bit && !p->load_in_8bit)
		return;
	jsonw_object(w, "quantization");
	jsonw_i64(w, "bits", p->load_in_4bit ? 4 : 8);
	if (p->load_in_4bit) {
		jsonw_str(w, "type", p->bnb_4bit_quant_type);
		jsonw_str(w, "compute_dtype", p->bnb_4bit_compute_dtype);
		jsonw_bool(w, "double_quant", p->bnb_4bit_use_double_quant);
	}
	jsonw_end_object(w);
}

static void put_compile(struct jsonw *w, const struct pytorch_config *p)
{
	if (!p->torch_compile)
		return;
	jsonw_object(w, "torch_compile");
	jsonw_str(w, "mode", p->torch_compile);
	if (p->torch_compile_backend)
		jsonw_str(w, "backend", p->torch_compile_backend);
	jsonw_end_object(w);
}

static void put_beams(struct jsonw *w, const struct beam_config *b)
{
	if (!b->enabled)
		return;
	jsonw_object(w, "beam_search");
	jsonw_i64(w, "num_beams", b->num_beams);
	jsonw_f64(w, "length_penalty", b->length_penalty);
	jsonw_bool(w, "early_stopping", b->early_stopping);
	jsonw_end_object(w);
}

/* How prompts are put together, and what is done with their tokens. */
static void put_decoding(struct jsonw *w, const struct experiment *e, const char *assistant)
{
	const struct pytorch_config *p = &e->pytorch;
	int64_t ngram = p->beam_search.enabled && p->beam_search.no_repeat_ngram_size
				? p->beam_search.no_repeat_ngram_size
				: p->no_repeat_ngram_size;

	jsonw_str(w, "batching_strategy", p->batching_strategy);
	if (strstr(p->batching_strategy, "dynamic"))
		jsonw_i64(w, "max_tokens_per_batch",
			  p->max_tokens_per_batch.set ? p->max_tokens_per_batch.v
						      : e->max_input_tokens);
	if (!p->use_cache)
		jsonw_bool(w, "use_cache", false);
	if (p->cache_implementation)
		jsonw_str(w, "cache_implementation", p->cache_implementation);
	if (ngram)
		jsonw_i64(w, "no_repeat_ngram_size", ngram);
	put_beams(w, &p->beam_search);
	if (assistant) {
		jsonw_object(w, "assistant");
		jsonw_str(w, "model", assistant);
		jsonw_i64(w, "num_tokens", p->assisted_generation.num_tokens);
		jsonw_end_object(w);
	}
	put_map(w, "extra_generate", &p->extra_generate);
}

static void put_loading(struct jsonw *w, const struct pytorch_config *p, const char *adapter)
{
	put_quantization(w, p);
	put_compile(w, p);
	if (!p->low_cpu_mem_usage)
		jsonw_bool(w, "low_cpu_mem_usage", false);
	put_map(w, "max_memory", &p->max_memory);
	if (adapter)
		jsonw_str(w, "adapter", adapter);
	put_map(w, "extra_load", &p->extra_load);
}

/* Models beside the one that is measured, as the worker is told; NULL: none. */
struct companions {
	const char *adapter, *assistant;
};

static char *load_request(const struct engine_request *req, const char *model,
			  const struct companions *with, struct arena *a)
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
	jsonw_i64(&w, "num_processes", e->pytorch.num_processes);
	jsonw_i64(&w, "tensor_parallel_size", e->pytorch.tensor_parallel_size);
	jsonw_str(&w, "dtype", precision_name(e->fp_precision));
	jsonw_str(&w, "attn_implementation", e->pytorch.attn_implementation);
	jsonw_i64(&w, "batch_size", batch_size(e));
	put_decoding(&w, e, with->assistant);
	put_loading(&w, &e->pytorch, with->adapter);
	jsonw_i64(&w, "threads", req->binding->n ? 0 : req->threads_default);
	jsonw_i64(&w, "max_total_tokens", e->max_input_tokens + e->max_output_tokens);
	jsonw_bool(&w, "trust_remote_code", e->trust_remote_code);
	jsonw_end_object(&w);
	return arena_strdup(a, str_c(&s));
}

static int find_companions(struct launch_draft *d, struct companions *ret)
{
	const struct experiment *e = d->req->exp;

	if (e->adapter && !(ret->adapter = engine_second_model(d, e->adapter, "adapter")))
		return -(int)d->err->code;
	if (e->pytorch.assisted_generation.present && e->pytorch.assisted_generation.model &&
	    !(ret->assistant =
		      engine_second_model(d, e->pytorch.assisted_generation.model, "assistant")))
		return -(int)d->err->code;
	return 0;
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
	struct companions with = {NULL, NULL};
	const char *model;
	int rc = check(req, err);

	if (rc < 0)
		return rc;
	model = engine_model(&d);
	if ((rc = find_companions(&d, &with)) < 0)
		return rc;
	s.load_json = load_request(req, model, &with, a);
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
	static const char *const modes[][2] = {
		{"static", "offline/static"},
		{"sorted_static", "offline/sorted-static"},
		{"dynamic", "offline/dynamic"},
		{"sorted_dynamic", "offline/sorted-dynamic"},
	};

	for (size_t i = 0; i < ARRAY_LEN(modes) && !e->streaming; i++)
		if (str_eq(e->pytorch.batching_strategy, modes[i][0]))
			return modes[i][1];
	return "offline/streaming";
}

const struct engine_ops engine_pytorch = {
	.backend = BACKEND_PYTORCH,
	.name = "pytorch",
	.model = MODEL_HF,
	.launch = pytorch_launch,
	.mode = pytorch_mode,
	.needs_container = true,
};
