#include "flops/flops.h"

#include <math.h>

/*
 * Per token and layer, counting a multiply-add as two operations:
 *   projections  2 · d · (q + 2·kv) + 2 · q · d        q = heads · head_dim, kv = kv_heads ·
 * head_dim attention    4 · q · context                       scores and weighted sum, over the
 * positions so far MLP          2 · matrices · d · ff · experts used  three matrices when gated,
 * two otherwise and once per sampled position the output head, 2 · d · vocabulary. Norms, rotations
 * and activations are left out: together they are below 1 % for every published shape.
 */
double flops_of_span(const struct model_shape *s, int64_t from, int64_t to, int64_t sampled,
		     const char **why)
{
	double d = (double)s->n_embd, q = (double)(s->n_head * s->head_dim),
	       kv = (double)(s->n_head_kv * s->head_dim);
	double ff = (double)(s->n_expert ? s->n_ff_expert : s->n_ff);
	double experts = s->n_expert ? (double)s->n_expert_used : 1;
	double n = (double)(to - from);

	*why = NULL;
	if (!s->n_layer || !s->n_embd || !s->n_head || !s->head_dim || !s->n_vocab)
		*why = "the model's shape is not known";
	else if (!(ff > 0) || !(experts > 0))
		*why = "the size of the model's MLP is not known";
	if (*why)
		return NAN;
	double projections = 2 * d * (q + 2 * kv) + 2 * q * d;
	double mlp = 2 * (s->gated_mlp ? 3 : 2) * d * ff * experts;
	/* position p attends to p + 1 positions: Σ over [from, to) */
	double contexts = n * ((double)from + (double)to + 1) / 2;

	return (double)s->n_layer * (n * (projections + mlp) + 4 * q * contexts) +
	       (double)sampled * 2 * d * (double)s->n_vocab;
}
