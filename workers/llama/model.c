#include "worker.h"

#include <ggml-backend.h>

#include "base/clock.h"
#include "base/jsonw.h"

enum { BATCH_SIZE_MAX = 4096, TOKENS_MAX = 1 << 24 };

/* A number the library takes as int32; what it cannot take is refused, never clipped. */
static int get_in(const json_t *j, const char *key, int64_t low, int64_t high, int64_t otherwise,
		  int32_t *ret, struct trouble *t)
{
	const json_t *field = json_object_get(j, key);
	int64_t v = json_is_integer(field) ? json_integer_value(field) : otherwise;

	if (v < low || v > high)
		return trouble_set(t, "bad_request",
				   "%s is %" PRId64 ", it must be between %" PRId64 " and %" PRId64,
				   key, v, low, high);
	*ret = (int32_t)v;
	return 0;
}

struct word {
	const char *name;
	int value;
};

static int get_word(const json_t *j, const char *key, const struct word *words, size_t n, int *ret,
		    struct trouble *t)
{
	const char *s = json_string_value(json_object_get(j, key));

	if (!s) {
		*ret = words[0].value;
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (str_eq(s, words[i].name)) {
			*ret = words[i].value;
			return 0;
		}
	return trouble_set(t, "unsupported", "%s '%s' is not known to this build of llama.cpp", key,
			   s);
}

static int model_params(const json_t *j, struct llama_model_params *p, struct trouble *t)
{
	static const struct word splits[] = {{"layer", LLAMA_SPLIT_MODE_LAYER},
					     {"none", LLAMA_SPLIT_MODE_NONE},
					     {"row", LLAMA_SPLIT_MODE_ROW}};
	bool mmap = !json_is_false(json_object_get(j, "mmap")),
	     mlock = json_is_true(json_object_get(j, "mlock"));
	int split = 0;

	*p = llama_model_default_params();
	if (get_in(j, "n_gpu_layers", 0, INT32_MAX, 0, &p->n_gpu_layers, t) < 0 ||
	    get_in(j, "main_gpu", 0, 1024, 0, &p->main_gpu, t) < 0 ||
	    get_word(j, "split_mode", splits, ARRAY_LEN(splits), &split, t) < 0)
		return -1;
	p->split_mode = (enum llama_split_mode)split;
	p->load_mode = mmap && mlock ? LLAMA_LOAD_MODE_MMAP_MLOCK
		       : mmap        ? LLAMA_LOAD_MODE_MMAP
		       : mlock       ? LLAMA_LOAD_MODE_MLOCK
				     : LLAMA_LOAD_MODE_NONE;
	if (p->n_gpu_layers > 0 && !llama_supports_gpu_offload())
		return trouble_set(
			t, "unsupported",
			"this build of llama.cpp computes on the CPU only; use gpus: []");
	return 0;
}

static int context_params(const json_t *j, struct engine *e, struct llama_context_params *p,
			  struct trouble *t)
{
	static const struct word flash[] = {{"auto", LLAMA_FLASH_ATTN_TYPE_AUTO},
					    {"on", LLAMA_FLASH_ATTN_TYPE_ENABLED},
					    {"off", LLAMA_FLASH_ATTN_TYPE_DISABLED}};
	static const struct word types[] = {{"f16", GGML_TYPE_F16},
					    {"f32", GGML_TYPE_F32},
					    {"bf16", GGML_TYPE_BF16},
					    {"q8_0", GGML_TYPE_Q8_0},
					    {"q4_0", GGML_TYPE_Q4_0}};
	int32_t n_ctx = 0, n_batch = 0, n_ubatch = 0;
	int fa = 0, k = 0, v = 0;

	*p = llama_context_default_params();
	if (get_in(j, "batch_size", 1, BATCH_SIZE_MAX, 1, &e->batch_size, t) < 0 ||
	    get_in(j, "max_total_tokens", 1, TOKENS_MAX, 1024, &e->max_total, t) < 0 ||
	    get_in(j, "n_ctx", 0, TOKENS_MAX, 0, &n_ctx, t) < 0 ||
	    get_in(j, "n_batch", 1, TOKENS_MAX, 2048, &n_batch, t) < 0 ||
	    get_in(j, "n_ubatch", 1, TOKENS_MAX, 512, &n_ubatch, t) < 0 ||
	    get_in(j, "threads", 1, 4096, 1, &p->n_threads, t) < 0 ||
	    get_in(j, "threads_batch", 1, 4096, 1, &p->n_threads_batch, t) < 0 ||
	    get_word(j, "flash_attn", flash, ARRAY_LEN(flash), &fa, t) < 0 ||
	    get_word(j, "cache_type_k", types, ARRAY_LEN(types), &k, t) < 0 ||
	    get_word(j, "cache_type_v", types, ARRAY_LEN(types), &v, t) < 0)
		return -1;
	int64_t need = n_ctx ? n_ctx : (int64_t)e->batch_size * ((e->max_total + 255) / 256 * 256);

	if (need > TOKENS_MAX)
		return trouble_set(t, "bad_request",
				   "%" PRId64 " tokens of context are more than this worker takes",
				   need);
	p->n_ctx = (uint32_t)need;
	p->n_batch = (uint32_t)MAX(n_batch, e->batch_size); /* a decode step must fit */
	p->n_ubatch = (uint32_t)MIN(n_ubatch, (int32_t)p->n_batch);
	p->n_seq_max = (uint32_t)e->batch_size;
	p->n_outputs_max = (uint32_t)e->batch_size; /* or the logits of a whole batch are reserved: 512 MiB for Gemma */
	p->kv_unified = false;
	p->flash_attn_type = (enum llama_flash_attn_type)fa;
	p->type_k = (enum ggml_type)k;
	p->type_v = (enum ggml_type)v;
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

int engine_load(const json_t *request, struct engine *ret, struct trouble *t)
{
	const char *path = json_string_value(json_object_get(request, "model"));
	const json_t *protocol = json_object_get(request, "protocol");
	struct llama_model_params mp;
	struct llama_context_params cp;
	struct engine e = {0};

	t->fatal = true;
	if (protocol && json_integer_value(protocol) != 1)
		return trouble_set(t, "unsupported", "this worker speaks protocol 1");
	if (!path)
		return trouble_set(t, "bad_request", "load names no model");
	if (model_params(request, &mp, t) < 0 || context_params(request, &e, &cp, t) < 0)
		return -1;
	e.model = llama_model_load_from_file(path, mp);
	if (!e.model)
		return trouble_set(t, "model_load", "llama.cpp cannot load %s; its log says why",
				   path);
	e.ctx = llama_init_from_model(e.model, cp);
	if (!e.ctx) {
		llama_model_free(e.model);
		return trouble_set(t, "out_of_memory",
				   "llama.cpp cannot make a context of %u tokens; its log says why",
				   cp.n_ctx);
	}
	e.vocab = llama_model_get_vocab(e.model);
	e.n_vocab = llama_vocab_n_tokens(e.vocab);
	e.has_tokenizer = llama_vocab_type(e.vocab) != LLAMA_VOCAB_TYPE_NONE;
	find_eog(&e);
	t->fatal = false;
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
	*e = (struct engine){0};
}

static bool meta(const struct engine *e, const char *key, char *buf, size_t size)
{
	return llama_model_meta_val_str(e->model, key, buf, size) >= 0;
}

/* "<architecture>.<key>" as a number; lists (per layer) give their first entry. */
static int64_t arch_number(const struct engine *e, const char *arch, const char *key)
{
	char name[128], value[64];

	snprintf(name, sizeof(name), "%s.%s", arch, key);
	if (!meta(e, name, value, sizeof(value)))
		return 0;
	return strtoll(value + (value[0] == '['), NULL, 10);
}

/* "Q8_0" from llama.cpp's "Q8_0", "mostly Q8_0" or "(guessed) Q8_0". */
static void quant_name(const struct engine *e, char *buf, size_t size)
{
	const char *s = llama_ftype_name(llama_model_ftype(e->model)), *blank;

	while (s && (blank = strchr(s, ' ')) &&
	       (s[0] == '(' || str_starts(s, "mostly") || str_starts(s, "all")))
		s = blank + 1;
	lem_strlcpy(buf, s ? s : "", size);
	buf[strcspn(buf, " ")] = '\0';
}

static void describe_model(const struct engine *e, struct jsonw *w)
{
	char arch[64] = "", name[128] = "", quant[64], weights[32];
	int64_t heads = llama_model_n_head(e->model), embd = llama_model_n_embd(e->model),
		key_length;
	bool synthetic =
		meta(e, "lem.weights", weights, sizeof(weights)) && str_eq(weights, "synthetic");

	meta(e, "general.architecture", arch, sizeof(arch));
	meta(e, "general.name", name, sizeof(name));
	quant_name(e, quant, sizeof(quant));
	key_length = arch_number(e, arch, "attention.key_length");
	jsonw_object(w, "model");
	jsonw_str(w, "architecture", arch);
	jsonw_str(w, "name", name);
	jsonw_i64(w, "n_layer", llama_model_n_layer(e->model));
	jsonw_i64(w, "n_embd", embd);
	jsonw_i64(w, "n_ff", arch_number(e, arch, "feed_forward_length"));
	jsonw_i64(w, "n_head", heads);
	jsonw_i64(w, "n_head_kv", llama_model_n_head_kv(e->model));
	jsonw_i64(w, "head_dim", key_length ? key_length : heads > 0 ? embd / heads : 0);
	jsonw_i64(w, "n_vocab", e->n_vocab);
	jsonw_i64(w, "n_ctx_train", llama_model_n_ctx_train(e->model));
	jsonw_u64(w, "n_params", llama_model_n_params(e->model));
	jsonw_u64(w, "size_bytes", llama_model_size(e->model));
	jsonw_str(w, "quant", quant);
	jsonw_bool(w, "has_tokenizer", e->has_tokenizer);
	jsonw_str(w, "weights", synthetic ? "synthetic" : "real");
	jsonw_end_object(w);
}

static void describe_engine(const struct engine *e, struct jsonw *w)
{
	jsonw_object(w, "engine");
	jsonw_str(w, "name", "llama.cpp");
	jsonw_str(w, "version", llama_version());
	jsonw_str(w, "build", LEM_LLAMA_BUILD);
	jsonw_str(w, "system_info", llama_print_system_info());
	jsonw_object(w, "options");
	jsonw_i64(w, "n_ctx", llama_n_ctx(e->ctx));
	jsonw_i64(w, "n_ctx_seq", llama_n_ctx_seq(e->ctx));
	jsonw_i64(w, "n_batch", llama_n_batch(e->ctx));
	jsonw_i64(w, "n_ubatch", llama_n_ubatch(e->ctx));
	jsonw_i64(w, "n_seq_max", llama_n_seq_max(e->ctx));
	jsonw_i64(w, "threads", llama_n_threads(e->ctx));
	jsonw_i64(w, "threads_batch", llama_n_threads_batch(e->ctx));
	jsonw_end_object(w);
	jsonw_end_object(w);
}

/* GPUs that the library may compute on, else its CPU. The bus id is how lem recognises them. */
static void describe_devices(struct jsonw *w)
{
	size_t gpus = 0;

	jsonw_array(w, "devices");
	for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
		ggml_backend_dev_t d = ggml_backend_dev_get(i);
		struct ggml_backend_dev_props props;

		if (ggml_backend_dev_type(d) != GGML_BACKEND_DEVICE_TYPE_GPU)
			continue;
		ggml_backend_dev_get_props(d, &props);
		jsonw_object(w, NULL);
		jsonw_str(w, "name", ggml_backend_dev_description(d));
		jsonw_null(w, "uuid");
		jsonw_str(w, "pci_bus_id", props.device_id);
		jsonw_end_object(w);
		gpus++;
	}
	if (!gpus) {
		jsonw_object(w, NULL);
		jsonw_str(w, "name", "CPU");
		jsonw_null(w, "uuid");
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

void engine_describe(const struct engine *e, int64_t t_start_ns, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "loaded");
	jsonw_i64(&w, "protocol", 1);
	jsonw_i64(&w, "t_start_ns", t_start_ns);
	jsonw_i64(&w, "t_ns", clock_now_ns());
	describe_engine(e, &w);
	describe_model(e, &w);
	describe_devices(&w);
	jsonw_end_object(&w);
}
