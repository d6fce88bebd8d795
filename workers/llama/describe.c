#include "worker.h"

#include <ggml-backend.h>

#include "base/clock.h"
#include "base/jsonw.h"

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

/* "Q8_0" from llama.cpp's "Q8_0", "mostly Q8_0" or "(guessed) Q8_0"; "Q4_K_M" from "Q4_K - Medium".
 */
static void quant_name(const struct engine *e, char *buf, size_t size)
{
	const char *s = llama_ftype_name(llama_model_ftype(e->model)), *blank;

	while (s && (blank = strchr(s, ' ')) &&
	       (s[0] == '(' || str_starts(s, "mostly") || str_starts(s, "all")))
		s = blank + 1;
	size_t word = strcspn(s ? s : "", " ");
	bool variant = s && str_starts(s + word, " - ") && s[word + 3];

	snprintf(buf, size, "%.*s%s%.*s", (int)word, s ? s : "", variant ? "_" : "", variant,
		 variant ? s + word + 3 : "");
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
	jsonw_i64(w, "n_gpu_layers", e->model_params.n_gpu_layers);
	jsonw_str(w, "flash_attn", llama_flash_attn_type_name(e->context_params.flash_attn_type));
	jsonw_str(w, "cache_type_k", ggml_type_name(e->context_params.type_k));
	jsonw_str(w, "cache_type_v", ggml_type_name(e->context_params.type_v));
	jsonw_str(w, "load_mode", llama_load_mode_name(e->model_params.load_mode));
	jsonw_end_object(w);
	jsonw_end_object(w);
}

/* GPUs that the library may compute on, else its CPU. The bus id is how lem recognises them. */
static void describe_devices(const struct engine *e, struct jsonw *w)
{
	size_t gpus = 0;

	jsonw_array(w, "devices");
	for (size_t i = 0; e->on_gpu && i < ggml_backend_dev_count(); i++) {
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
	describe_devices(e, &w);
	jsonw_end_object(&w);
}
