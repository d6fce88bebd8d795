#include <jansson.h>

#include "sys/fs.h"
#include "weights/weights.h"

/* No size of a transformer comes near; products of two then fit 64 bits. */
#define SIZE_LIMIT (INT64_C(1) << 31)

/* The same size under the names that different model families use; the first that is present
 * counts. */
static int64_t first_number(const json_t *j, const char *const *names)
{
	for (; *names; names++) {
		const json_t *v = json_object_get(j, *names);

		if (json_is_integer(v) && json_integer_value(v) > 0)
			return MIN((int64_t)json_integer_value(v), SIZE_LIMIT + 1);
	}
	return 0;
}

#define NUMBER(j, ...) first_number((j), (const char *const[]){__VA_ARGS__, NULL})

static void fill(const json_t *j, struct model_shape *s)
{
	s->n_layer = NUMBER(j, "num_hidden_layers", "n_layer", "num_layers", "n_layers");
	s->n_embd = NUMBER(j, "hidden_size", "n_embd", "d_model");
	s->n_ff = NUMBER(j, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size");
	s->n_head = NUMBER(j, "num_attention_heads", "n_head", "n_heads");
	s->n_head_kv = NUMBER(j, "num_key_value_heads", "num_kv_heads");
	s->head_dim = NUMBER(j, "head_dim");
	s->n_vocab = NUMBER(j, "vocab_size");
	s->n_ctx_train = NUMBER(j, "max_position_embeddings", "n_positions", "n_ctx");
	if (!s->n_head_kv && json_is_true(json_object_get(j, "multi_query")))
		s->n_head_kv = 1;
}

/* Mixtral says num_local_experts and uses intermediate_size for them; Qwen num_experts and one
 * shared expert by its size; DeepSeek n_routed_experts and the number of shared ones. */
static void take_experts(const json_t *j, struct model_shape *s)
{
	s->n_expert = NUMBER(j, "n_routed_experts", "num_local_experts", "num_experts");
	if (!s->n_expert)
		return;
	s->n_expert_used = NUMBER(j, "num_experts_per_tok", "experts_per_token");
	s->n_ff_expert = NUMBER(j, "moe_intermediate_size");
	if (!s->n_ff_expert)
		s->n_ff_expert = s->n_ff;
	s->n_layer_dense = NUMBER(j, "first_k_dense_replace");
	s->n_ff_shared = NUMBER(j, "shared_expert_intermediate_size");
	if (!s->n_ff_shared)
		s->n_ff_shared = NUMBER(j, "n_shared_experts") * s->n_ff_expert;
}

/* Which layers look back only a window: a list by layer, or every n-th layer looks back all
 * the way (Gemma 2: 2, Gemma 3: 6), or none does (Mistral 7B v0.1). Qwen2 names a window that is
 * switched off. */
static void take_window(const json_t *j, struct model_shape *s)
{
	const json_t *types = json_object_get(j, "layer_types"), *type;
	int64_t every = NUMBER(j, "sliding_window_pattern", "_sliding_window_pattern");
	size_t i;

	if (json_is_false(json_object_get(j, "use_sliding_window")))
		return;
	s->n_swa = NUMBER(j, "sliding_window");
	if (!s->n_swa)
		return;
	if (!every)
		every = str_eq(s->architecture, "gemma3")   ? 6
			: str_eq(s->architecture, "gemma2") ? 2
							    : 0;
	s->n_layer_full = every ? s->n_layer / every : 0;
	if (!json_is_array(types))
		return;
	s->n_layer_full = 0;
	json_array_foreach (types, i, type)
		s->n_layer_full += str_eq(json_string_value(type), "full_attention");
}

/* Families with a plain two-matrix MLP; everything of the Llama line has three. */
static bool has_gate(const char *type)
{
	static const char *const plain[] = {"gpt2",        "gpt_neo",    "gpt_neox", "gptj",
					    "gpt_bigcode", "opt",        "mpt",      "bloom",
					    "falcon",      "starcoder2", "phi",      "nemotron"};

	for (size_t i = 0; i < ARRAY_LEN(plain); i++)
		if (str_eq(type, plain[i]))
			return false;
	return true;
}

static void take_type(const json_t *j, const json_t *top, struct model_shape *s)
{
	const char *type = json_string_value(json_object_get(j, "model_type"));
	const json_t *tied = json_object_get(j, "tie_word_embeddings");

	if (!type)
		type = json_string_value(json_object_get(top, "model_type"));
	if (!type)
		type = "";
	if (str_eq(type, "gemma3_text"))
		type = "gemma3";
	if (!tied)
		tied = json_object_get(top, "tie_word_embeddings");
	/* shown to people and compared, so only what a name can be made of */
	if (type[strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")])
		type = "unknown";
	lem_strlcpy(s->architecture, type, sizeof(s->architecture));
	s->gated_mlp = has_gate(type);
	/* When the key is absent: GPT-2 and Gemma tie by construction, the Llama line does not. */
	s->tied_embeddings =
		tied ? json_is_true(tied) : (str_starts(type, "gemma") || str_eq(type, "gpt2"));
}

static void take_quantization(const json_t *top, struct model_shape *s)
{
	const json_t *q = json_object_get(top, "quantization_config");
	const char *method = json_string_value(json_object_get(q, "quant_method"));
	const json_t *block = json_object_get(q, "weight_block_size");

	if (method)
		lem_strlcpy(s->quant, method, sizeof(s->quant));
	if (json_array_size(block) == 2)
		s->quant_block = json_integer_value(json_array_get(block, 0));
	else
		s->quant_block = NUMBER(q, "group_size");
	if (s->quant_block < 0 || s->quant_block > SIZE_LIMIT)
		s->quant_block = 0;
}

/* What a config.json leaves out because the model's class has it as a default. Gemma 3's are those
 * of transformers' Gemma3TextConfig (gemma-3-4b leaves them out). */
static void take_defaults(struct model_shape *s)
{
	if (str_eq(s->architecture, "gemma3")) {
		s->n_head = s->n_head ? s->n_head : 8;
		s->n_head_kv = s->n_head_kv ? s->n_head_kv : 4;
		s->head_dim = s->head_dim ? s->head_dim : 256;
		s->n_vocab = s->n_vocab ? s->n_vocab : 262208;
	}
	if (!s->n_head_kv)
		s->n_head_kv = s->n_head;
	if (!s->head_dim && s->n_head)
		s->head_dim = s->n_embd / s->n_head;
	if (!s->n_ff)
		s->n_ff = 4 * s->n_embd; /* GPT-2's rule when n_inner is null */
}

static bool plausible(const struct model_shape *s)
{
	const int64_t sizes[] = {s->n_layer,       s->n_embd,      s->n_ff,          s->n_head,
				 s->n_head_kv,     s->head_dim,    s->n_vocab,       s->n_ctx_train,
				 s->n_expert,      s->n_ff_expert, s->n_expert_used, s->n_ff_shared,
				 s->n_layer_dense, s->n_swa};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (sizes[i] > SIZE_LIMIT)
			return false;
	return true;
}

static int judge(struct model_shape *s, const char *path, struct lem_error *err)
{
	if (!s->n_layer || !s->n_embd || !s->n_head) {
		lem_fail(err, LEM_E_PARSE,
			 "the model's config.json names no layers, width or heads");
		return lem_error_where(err, "%s", path);
	}
	if (!plausible(s)) {
		lem_fail(err, LEM_E_PARSE,
			 "the model's config.json describes a model of impossible size");
		return lem_error_where(err, "%s", path);
	}
	s->n_params = model_shape_params(s);
	return 0;
}

int hf_config_read_shape(const char *path, struct model_shape *ret, struct lem_error *err)
{
	enum { CONFIG_MAX_BYTES = 8 << 20 };
	_cleanup_str_ struct str text = STR_INIT;
	struct model_shape s = {0};
	json_error_t je;
	int r = fs_read_file(path, CONFIG_MAX_BYTES, &text, err);

	if (r < 0)
		return r;
	json_t *top = json_loadb(str_c(&text), text.len, 0, &je);
	const json_t *inner = json_object_get(top, "text_config");

	if (!json_is_object(top)) {
		lem_fail(err, LEM_E_PARSE, "the model's config.json is not a JSON object: %s",
			 top ? "it is another value" : je.text);
		json_decref(top);
		return lem_error_where(err, "%s", path);
	}
	if (!json_is_object(inner))
		inner = top;
	fill(inner, &s);
	take_type(inner, top, &s);
	take_experts(inner, &s);
	take_window(inner, &s);
	take_quantization(top, &s);
	json_decref(top);
	take_defaults(&s);
	r = judge(&s, path, err);
	if (r >= 0)
		*ret = s;
	return r;
}
