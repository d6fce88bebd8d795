#include "weights/weights.h"

/*
 * Published shapes, by the numbers of their config.json. llama-15m and llama-160m are the shapes of
 * the small Llama models used as test and draft models (stories15M; JackFram/llama-160m), with a
 * context of 2048.
 */
#define LLAMA .architecture = "llama", .gated_mlp = true, .weights = WEIGHTS_SYNTHETIC

static const struct {
	const char *name;
	struct model_shape shape;
} shapes[] = {
	{"llama-15m",
	 {LLAMA, .n_layer = 6, .n_embd = 288, .n_ff = 768, .n_head = 6, .n_head_kv = 6,
	  .head_dim = 48, .n_vocab = 32000, .n_ctx_train = 2048, .tied_embeddings = true}},
	{"llama-160m",
	 {LLAMA, .n_layer = 12, .n_embd = 768, .n_ff = 3072, .n_head = 12, .n_head_kv = 12,
	  .head_dim = 64, .n_vocab = 32000, .n_ctx_train = 2048}},
	{"llama-1b",
	 {LLAMA, .n_layer = 16, .n_embd = 2048, .n_ff = 8192, .n_head = 32, .n_head_kv = 8,
	  .head_dim = 64, .n_vocab = 128256, .n_ctx_train = 131072, .tied_embeddings = true}},
	{"llama-3.1-8b",
	 {LLAMA, .n_layer = 32, .n_embd = 4096, .n_ff = 14336, .n_head = 32, .n_head_kv = 8,
	  .head_dim = 128, .n_vocab = 128256, .n_ctx_train = 131072}},
	{"qwen2.5-0.5b",
	 {.architecture = "qwen2",
	  .gated_mlp = true,
	  .weights = WEIGHTS_SYNTHETIC,
	  .n_layer = 24,
	  .n_embd = 896,
	  .n_ff = 4864,
	  .n_head = 14,
	  .n_head_kv = 2,
	  .head_dim = 64,
	  .n_vocab = 151936,
	  .n_ctx_train = 32768,
	  .tied_embeddings = true}},
	{"gemma3-270m",
	 {.architecture = "gemma3",
	  .gated_mlp = true,
	  .weights = WEIGHTS_SYNTHETIC,
	  .n_layer = 18,
	  .n_embd = 640,
	  .n_ff = 2048,
	  .n_head = 4,
	  .n_head_kv = 1,
	  .head_dim = 256,
	  .n_vocab = 262144,
	  .n_ctx_train = 32768,
	  .n_swa = 512,
	  .n_layer_full = 3,
	  .tied_embeddings = true}},
};

size_t weights_shape_count(void)
{
	return ARRAY_LEN(shapes);
}

const struct model_shape *weights_shape_at(size_t i, const char **ret_name)
{
	*ret_name = shapes[i].name;
	return &shapes[i].shape;
}

const struct model_shape *weights_named_shape(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
		if (str_eq(shapes[i].name, name))
			return &shapes[i].shape;
	return NULL;
}
