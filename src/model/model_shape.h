/*
 * model_shape.h — what a transformer is made of, as far as cost depends on it. Filled from a GGUF
 * header or a Hugging Face config.json; 0 means unknown unless said otherwise.
 */
#ifndef LEM_MODEL_MODEL_SHAPE_H
#define LEM_MODEL_MODEL_SHAPE_H

#include "base/base.h"

enum weights_kind { WEIGHTS_UNKNOWN, WEIGHTS_REAL, WEIGHTS_SYNTHETIC };

struct model_shape {
	char architecture[32]; /* "llama", "qwen2", "gemma3", … as GGUF spells it */
	char name[96];
	int64_t n_layer;
	int64_t n_embd; /* hidden size */
	int64_t n_ff;   /* MLP inner size of one (dense) block */
	int64_t n_head;
	int64_t n_head_kv; /* == n_head without grouped-query attention */
	int64_t head_dim;  /* may differ from n_embd / n_head (Gemma) */
	int64_t n_vocab;
	int64_t n_ctx_train;
	int64_t n_expert, n_expert_used, n_ff_expert; /* mixture of experts; 0 = dense */
	int64_t n_ff_shared;   /* inner size of the experts that every token uses; 0 = none */
	int64_t n_layer_dense; /* first layers of a mixture that have a dense MLP instead */
	int64_t n_swa;         /* window of sliding attention in tokens; 0 = no layer slides */
	int64_t n_layer_full;  /* with n_swa: layers that see the whole context all the same */
	int64_t quant_block;   /* weight quantisation block over the MLP inner size; 0 = none */
	bool gated_mlp;        /* three matrices instead of two */
	bool tied_embeddings;
	int64_t n_params;    /* all stored parameters; 0 = derive */
	uint64_t size_bytes; /* of the weights on disk */
	char quant[24];      /* "F16", "Q8_0", "Q4_0", "Q4_K_M", "BF16", … */
	bool has_tokenizer;
	enum weights_kind weights;
};

/* n_params, or when that is 0 the count that follows from the sizes; 0 when they are not known. */
int64_t model_shape_params(const struct model_shape *s);

#endif
