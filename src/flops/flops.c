#include "flops/flops.h"

#include <math.h>

/*
 * Everything is counted in multiply-adds and doubled at the end. Doubles hold the counts exactly up
 * to 2^53 and to 16 digits beyond it.
 */

/* Families whose layers are not the transformer's counted here: state-space and recurrent layers,
 * attention on compressed keys, encoders. GGUF and Hugging Face spell some of them differently. */
static const char *other_family(const char *arch)
{
	static const struct {
		const char *prefix, *why;
	} families[] = {
		{"deepseek2", "its latent attention is not counted"},
		{"deepseek_v2", "its latent attention is not counted"},
		{"deepseek_v3", "its latent attention is not counted"},
		{"minicpm3", "its latent attention is not counted"},
		{"mamba", "its state-space layers are not counted"},
		{"falcon_mamba", "its state-space layers are not counted"},
		{"falcon-h1", "its state-space layers are not counted"},
		{"falcon_h1", "its state-space layers are not counted"},
		{"jamba", "its state-space layers are not counted"},
		{"bamba", "its state-space layers are not counted"},
		{"granitehybrid", "its state-space layers are not counted"},
		{"granitemoehybrid", "its state-space layers are not counted"},
		{"nemotron_h", "its state-space layers are not counted"},
		{"qwen3next", "its linear attention is not counted"},
		{"qwen3_next", "its linear attention is not counted"},
		{"minimax", "its linear attention is not counted"},
		{"lfm2", "its convolution layers are not counted"},
		{"rwkv", "its recurrent layers are not counted"},
		{"recurrent_gemma", "its recurrent layers are not counted"},
		{"t5", "its encoder is not counted"},
	};

	for (size_t i = 0; i < ARRAY_LEN(families); i++)
		if (str_starts(arch, families[i].prefix))
			return families[i].why;
	return NULL;
}

static const char *missing(const struct model_shape *s, int64_t sampled)
{
	if (s->n_layer <= 0)
		return "the number of layers is not known";
	if (s->n_embd <= 0)
		return "the hidden size is not known";
	if (s->n_head <= 0 || s->head_dim <= 0 || s->n_head_kv <= 0)
		return "the attention heads are not known";
	if (s->n_ff <= 0 && (s->n_expert <= 0 || s->n_ff_expert <= 0))
		return "the inner size of the MLP is not known";
	if (s->n_expert > 0 && s->n_expert_used <= 0)
		return "the number of experts that a token uses is not known";
	if (sampled > 0 && s->n_vocab <= 0)
		return "the size of the vocabulary is not known";
	return other_family(s->architecture);
}

static double attention_matrices(const struct model_shape *s)
{
	double q = (double)s->n_head * (double)s->head_dim;
	double kv = (double)s->n_head_kv * (double)s->head_dim;

	return (double)s->n_embd * (q + kv + kv + q);
}

static double mlp(const struct model_shape *s, int64_t inner)
{
	return (s->gated_mlp ? 3.0 : 2.0) * (double)s->n_embd * (double)inner;
}

static double mixture(const struct model_shape *s)
{
	int64_t inner = s->n_ff_expert > 0 ? s->n_ff_expert : s->n_ff;
	double router = (double)s->n_embd * (double)s->n_expert;

	return router + (double)s->n_expert_used * mlp(s, inner) + mlp(s, s->n_ff_shared);
}

/* All matrices of all layers, for one token. */
static double layers(const struct model_shape *s)
{
	int64_t dense = s->n_expert > 0 ? MIN(s->n_layer_dense, s->n_layer) : s->n_layer;
	double sum = (double)s->n_layer * attention_matrices(s);

	if (dense > 0)
		sum += (double)dense * mlp(s, s->n_ff);
	if (dense < s->n_layer)
		sum += (double)(s->n_layer - dense) * mixture(s);
	return sum;
}

/* Positions that tokens [from, to) see, themselves included: the sum of i + 1. */
static double seen(int64_t from, int64_t to)
{
	return (double)(to - from) * ((double)from + (double)to + 1) / 2;
}

/* The same when none sees more than the last `window` positions. */
static double seen_within(int64_t from, int64_t to, int64_t window)
{
	int64_t bend = MAX(from, MIN(to, window));

	return seen(from, bend) + (double)(to - bend) * (double)window;
}

/* Scores against the keys, then the weighted sum of the values: twice the query's width each. */
static double attention(const struct model_shape *s, int64_t from, int64_t to)
{
	int64_t full = s->n_swa > 0 ? MIN(s->n_layer_full, s->n_layer) : s->n_layer;
	double width = 2 * (double)s->n_head * (double)s->head_dim;
	double positions = (double)full * seen(from, to);

	if (full < s->n_layer)
		positions += (double)(s->n_layer - full) * seen_within(from, to, s->n_swa);
	return width * positions;
}

double flops_of_span(const struct model_shape *s, int64_t from, int64_t to, int64_t sampled,
		     const char **why)
{
	const char *reason = missing(s, sampled);

	assert(from >= 0 && from <= to && sampled >= 0);
	if (why)
		*why = reason;
	if (reason)
		return NAN;
	double head = (double)sampled * (double)s->n_embd * (double)s->n_vocab;

	return 2 * ((double)(to - from) * layers(s) + attention(s, from, to) + head);
}
