#include "model/model_shape.h"

/* In doubles, which cannot wrap on sizes that a file made up, and are exact below 2^53. */
static double mlp_params(const struct model_shape *s, int64_t inner)
{
	return (s->gated_mlp ? 3.0 : 2.0) * (double)s->n_embd * (double)inner;
}

/* Norms and biases are 0.01 % of it; they are exact for llama, qwen2 and gemma3, the architectures
 * that synthetic models are made in. */
static double layer_vectors(const struct model_shape *s)
{
	double norms = 2 * (double)s->n_embd;

	if (str_eq(s->architecture, "gemma3"))
		return 2 * norms + 2 * (double)s->head_dim;
	if (str_eq(s->architecture, "qwen2"))
		return norms + (double)(s->n_head + 2 * s->n_head_kv) * (double)s->head_dim;
	return norms;
}

static double layers_params(const struct model_shape *s)
{
	double layers = (double)s->n_layer, experts = (double)s->n_expert;
	double dense = s->n_expert ? (double)MIN(s->n_layer_dense, s->n_layer) : layers;
	double attention =
		2 * (double)s->n_embd * (double)(s->n_head + s->n_head_kv) * (double)s->head_dim;
	double mixture = (double)s->n_embd * experts +
			 experts * mlp_params(s, s->n_ff_expert ? s->n_ff_expert : s->n_ff) +
			 mlp_params(s, s->n_ff_shared);

	return layers * (attention + layer_vectors(s)) + dense * mlp_params(s, s->n_ff) +
	       (layers - dense) * mixture;
}

int64_t model_shape_params(const struct model_shape *s)
{
	double embedding = (double)s->n_embd * (double)s->n_vocab, sum;

	if (s->n_params)
		return s->n_params;
	if (!s->n_layer || !s->n_embd || !s->n_head || !s->head_dim || !s->n_vocab)
		return 0;
	sum = layers_params(s) + (double)s->n_embd + (s->tied_embeddings ? 1 : 2) * embedding;
	return sum < 0x1p53 ? (int64_t)sum : 0;
}
