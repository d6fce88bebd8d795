#include <jansson.h>

#include "sys/fs.h"
#include "weights/weights.h"

/* The same size under the names that different model families use; the first that is present
 * counts. */
static int64_t first_number(const json_t *j, const char *const *names)
{
	for (; *names; names++) {
		const json_t *v = json_object_get(j, *names);

		if (json_is_integer(v) && json_integer_value(v) > 0)
			return json_integer_value(v);
	}
	return 0;
}

#define NUMBER(j, ...) first_number((j), (const char *const[]){__VA_ARGS__, NULL})

static void fill(const json_t *j, struct model_shape *s)
{
	s->n_layer = NUMBER(j, "num_hidden_layers", "n_layer", "num_layers");
	s->n_embd = NUMBER(j, "hidden_size", "n_embd", "d_model");
	s->n_ff = NUMBER(j, "intermediate_size", "n_inner", "ffn_dim");
	s->n_head = NUMBER(j, "num_attention_heads", "n_head");
	s->n_head_kv = NUMBER(j, "num_key_value_heads");
	s->head_dim = NUMBER(j, "head_dim");
	s->n_vocab = NUMBER(j, "vocab_size");
	s->n_ctx_train = NUMBER(j, "max_position_embeddings", "n_positions", "n_ctx");
	s->n_expert = NUMBER(j, "n_routed_experts", "num_local_experts", "num_experts");
	s->n_expert_used = NUMBER(j, "num_experts_per_tok");
	s->n_ff_expert = NUMBER(j, "moe_intermediate_size");
	if (s->n_expert && !s->n_ff_expert)
		s->n_ff_expert = s->n_ff;
}

/* Families with a plain two-matrix MLP; everything of the Llama line has three. */
static bool has_gate(const char *type)
{
	static const char *const plain[] = {"gpt2",  "gpt_neo", "gpt_neox", "gptj",      "opt",
					    "bloom", "falcon",  "phi",      "starcoder2"};

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
	else if (json_integer_value(json_object_get(q, "group_size")) > 0)
		s->quant_block = json_integer_value(json_object_get(q, "group_size"));
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
		json_decref(top);
		lem_fail(err, LEM_E_PARSE, "the model's config.json is not a JSON object: %s",
			 top ? "another value" : je.text);
		return lem_error_where(err, "%s", path);
	}
	if (!json_is_object(inner))
		inner = top;
	fill(inner, &s);
	take_type(inner, top, &s);
	take_quantization(top, &s);
	json_decref(top);
	if (!s.n_layer || !s.n_embd || !s.n_head) {
		lem_fail(err, LEM_E_PARSE,
			 "the model's config.json names no layers, width or heads");
		return lem_error_where(err, "%s", path);
	}
	if (!s.n_head_kv)
		s.n_head_kv = s.n_head;
	if (!s.head_dim)
		s.head_dim = s.n_embd / s.n_head;
	if (!s.n_ff)
		s.n_ff = 4 * s.n_embd; /* GPT-2's rule when n_inner is null */
	*ret = s;
	return 0;
}
