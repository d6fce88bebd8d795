#include "worker.h"

enum { BATCH_SIZE_MAX = 4096, TOKENS_MAX = 1 << 24, THREADS_MAX = 4096, KV_PAD = 256 };

static int load_mode(const json_t *j, struct llama_model_params *p, struct trouble *t)
{
	bool mmap = true, mlock = false;

	if (field_bool(j, "mmap", &mmap, t) < 0 || field_bool(j, "mlock", &mlock, t) < 0)
		return -1;
	p->load_mode = mmap && mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK
		       : mmap        ? LLAMA_LOAD_MODE_MMAP
		       : mlock       ? LLAMA_LOAD_MODE_MLOCK
				     : LLAMA_LOAD_MODE_NONE;
	return 0;
}

/* Shares by device, in a list of llama_max_devices() entries that the library expects. */
static int tensor_split(const json_t *j, struct engine *e, struct trouble *t)
{
	const json_t *list = json_object_get(j, "tensor_split");
	size_t n = json_array_size(list);

	if (list && !json_is_null(list) && !json_is_array(list))
		return trouble_set(t, "bad_request", "tensor_split must be a list of numbers");
	if (n > llama_max_devices())
		return trouble_set(t, "unsupported",
				   "tensor_split names %zu devices, this build can use %zu", n,
				   llama_max_devices());
	if (!n)
		return 0;
	e->tensor_split = lem_calloc(llama_max_devices(), sizeof(*e->tensor_split));
	for (size_t i = 0; i < n; i++) {
		double share = json_number_value(json_array_get(list, i));

		if (!json_is_number(json_array_get(list, i)) || !(share >= 0 && share <= 1e6))
			return trouble_set(t, "bad_request",
					   "tensor_split must be a list of numbers from 0 up");
		e->tensor_split[i] = (float)share;
	}
	return 0;
}

static bool go_on_loading(float progress, void *arg)
{
	(void)progress;
	(void)arg;
	return !stop_asked;
}

static int model_params(const json_t *j, struct engine *e, struct trouble *t)
{
	static const struct word splits[] = {{"layer", LLAMA_SPLIT_MODE_LAYER},
					     {"none", LLAMA_SPLIT_MODE_NONE},
					     {"row", LLAMA_SPLIT_MODE_ROW}};
	struct llama_model_params *p = &e->model_params;
	int split = LLAMA_SPLIT_MODE_LAYER;

	*p = llama_model_default_params();
	p->n_gpu_layers = 0;
	if (field_int32(j, "n_gpu_layers", (struct int_range){0, INT32_MAX}, &p->n_gpu_layers, t) <
		    0 ||
	    field_int32(j, "main_gpu", (struct int_range){0, 1024}, &p->main_gpu, t) < 0 ||
	    field_word(j, "split_mode", splits, ARRAY_LEN(splits), &split, t) < 0 ||
	    tensor_split(j, e, t) < 0 || load_mode(j, p, t) < 0)
		return -1;
	p->split_mode = (enum llama_split_mode)split;
	p->tensor_split = e->tensor_split;
	p->progress_callback = go_on_loading;
	e->on_gpu = p->n_gpu_layers > 0;
	if (e->on_gpu && !llama_supports_gpu_offload())
		return trouble_set(
			t, "unsupported",
			"this build of llama.cpp computes on the CPU only; use gpus: []");
	return 0;
}

static int context_words(const json_t *j, struct llama_context_params *p, struct trouble *t)
{
	static const struct word flash[] = {{"auto", LLAMA_FLASH_ATTN_TYPE_AUTO},
					    {"on", LLAMA_FLASH_ATTN_TYPE_ENABLED},
					    {"off", LLAMA_FLASH_ATTN_TYPE_DISABLED}};
	static const struct word types[] = {{"f16", GGML_TYPE_F16},   {"f32", GGML_TYPE_F32},
					    {"bf16", GGML_TYPE_BF16}, {"q8_0", GGML_TYPE_Q8_0},
					    {"q4_0", GGML_TYPE_Q4_0}, {"q4_1", GGML_TYPE_Q4_1},
					    {"q5_0", GGML_TYPE_Q5_0}, {"q5_1", GGML_TYPE_Q5_1}};
	int fa = LLAMA_FLASH_ATTN_TYPE_AUTO, k = GGML_TYPE_F16, v = GGML_TYPE_F16;

	if (field_word(j, "flash_attn", flash, ARRAY_LEN(flash), &fa, t) < 0 ||
	    field_word(j, "cache_type_k", types, ARRAY_LEN(types), &k, t) < 0 ||
	    field_word(j, "cache_type_v", types, ARRAY_LEN(types), &v, t) < 0)
		return -1;
	p->flash_attn_type = (enum llama_flash_attn_type)fa;
	p->type_k = (enum ggml_type)k;
	p->type_v = (enum ggml_type)v;
	return 0;
}

/* Room for every sequence at its longest, each rounded up to the step in which the library pads. */
static int context_size(const json_t *j, struct engine *e, struct trouble *t)
{
	int64_t per_seq = ((int64_t)e->max_total + KV_PAD - 1) / KV_PAD * KV_PAD;
	int64_t n_ctx = 0;

	if (field_int(j, "n_ctx", (struct int_range){0, TOKENS_MAX}, &n_ctx, t) < 0)
		return -1;
	if (!n_ctx)
		n_ctx = e->batch_size * per_seq;
	if (n_ctx > TOKENS_MAX)
		return trouble_set(t, "bad_request",
				   "%" PRId64
				   " tokens of context are more than the %d this worker takes",
				   n_ctx, TOKENS_MAX);
	e->context_params.n_ctx = (uint32_t)n_ctx;
	return 0;
}

static int context_params(const json_t *j, struct engine *e, struct trouble *t)
{
	const struct int_range tokens = {1, TOKENS_MAX}, threads = {1, THREADS_MAX};
	struct llama_context_params *p = &e->context_params;
	int32_t n_batch = 2048, n_ubatch = 512;

	*p = llama_context_default_params();
	e->batch_size = 1;
	e->max_total = 1024;
	p->n_threads = p->n_threads_batch = 1;
	if (field_int32(j, "batch_size", (struct int_range){1, BATCH_SIZE_MAX}, &e->batch_size, t) <
		    0 ||
	    field_int32(j, "max_total_tokens", tokens, &e->max_total, t) < 0 ||
	    field_int32(j, "n_batch", tokens, &n_batch, t) < 0 ||
	    field_int32(j, "n_ubatch", tokens, &n_ubatch, t) < 0 ||
	    field_int32(j, "threads", threads, &p->n_threads, t) < 0 ||
	    field_int32(j, "threads_batch", threads, &p->n_threads_batch, t) < 0 ||
	    context_words(j, p, t) < 0 || context_size(j, e, t) < 0)
		return -1;
	p->n_batch = (uint32_t)MAX(n_batch, e->batch_size); /* a decode step must fit */
	p->n_ubatch = (uint32_t)MIN(n_ubatch, (int32_t)p->n_batch);
	p->n_seq_max = (uint32_t)e->batch_size;
	/* or the logits of a whole batch are reserved: 512 MiB for Gemma's vocabulary */
	p->n_outputs_max = (uint32_t)e->batch_size;
	p->kv_unified = false;
	p->swa_full = false; /* sequences are never rewound, so a window's cache is enough */
	p->no_perf = true;
	return 0;
}

static void find_eog(struct engine *e)
{
	e->eog = lem_calloc((size_t)e->n_vocab, sizeof(*e->eog));
	for (llama_token i = 0; i < e->n_vocab && e->has_tokenizer; i++)
		if (llama_vocab_is_eog(e->vocab, i))
			e->eog[e->n_eog++] = i;
}

static int open_model(const char *path, struct engine *e, struct trouble *t)
{
	log_reset();
	e->model = llama_model_load_from_file(path, e->model_params);
	if (!e->model)
		return trouble_set(t, "model_load", "llama.cpp cannot load %.200s: %s", path,
				   log_first_error());
	if (!llama_model_has_decoder(e->model) || llama_model_has_encoder(e->model))
		return trouble_set(t, "unsupported", "%.200s is not a decoder-only model", path);
	e->ctx = llama_init_from_model(e->model, e->context_params);
	if (!e->ctx)
		return trouble_set(t, "out_of_memory",
				   "llama.cpp cannot make a context of %u tokens: %s",
				   e->context_params.n_ctx, log_first_error());
	e->vocab = llama_model_get_vocab(e->model);
	e->n_vocab = llama_vocab_n_tokens(e->vocab);
	e->has_tokenizer = llama_vocab_type(e->vocab) != LLAMA_VOCAB_TYPE_NONE;
	find_eog(e);
	return 0;
}

int engine_load(const json_t *request, struct engine *ret, struct trouble *t)
{
	const char *path = json_string_value(json_object_get(request, "model"));
	int64_t protocol = 1;
	struct engine e = {0};
	int r = field_int(request, "protocol", (struct int_range){0, INT64_MAX}, &protocol, t);

	if (r >= 0 && protocol != 1)
		r = trouble_set(t, "unsupported", "this worker speaks protocol 1, not %" PRId64,
				protocol);
	if (r >= 0 && !path)
		r = trouble_set(t, "bad_request", "load names no model");
	if (r >= 0)
		r = model_params(request, &e, t);
	if (r >= 0)
		r = context_params(request, &e, t);
	if (r >= 0)
		r = open_model(path, &e, t);
	if (r < 0) {
		t->fatal = true;
		engine_unload(&e);
		return r;
	}
	*ret = e;
	return 0;
}

void engine_unload(struct engine *e)
{
	if (e->ctx)
		llama_free(e->ctx);
	if (e->model)
		llama_model_free(e->model);
	free(e->eog);
	free(e->tensor_split);
	*e = (struct engine){0};
}
