#include "worker.h"

#include <math.h>

struct llama_sampler *sampler_make(const struct sampling *s, int32_t n_vocab)
{
	bool greedy = s->temperature <= 0;
	struct llama_sampler *chain;

	/* argmax needs no chain: it is the fast path of every deterministic measurement */
	if (greedy && s->repetition_penalty == 1.0f)
		return NULL;
	chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
	if (s->repetition_penalty != 1.0f)
		llama_sampler_chain_add(chain, llama_sampler_init_penalties(
						       n_vocab, 64, s->repetition_penalty, 0, 0));
	if (greedy) {
		llama_sampler_chain_add(chain, llama_sampler_init_greedy());
		return chain;
	}
	if (s->top_k > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_top_k(s->top_k));
	if (s->top_p < 1.0f)
		llama_sampler_chain_add(chain, llama_sampler_init_top_p(s->top_p, 1));
	if (s->min_p > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_min_p(s->min_p, 1));
	llama_sampler_chain_add(chain, llama_sampler_init_temp(s->temperature));
	llama_sampler_chain_add(chain, llama_sampler_init_dist(s->seed));
	return chain;
}

/* Blocks of 64 have a maximum that the compiler computes in vector registers; ties go to the lowest
 * id. */
static llama_token argmax(const float *x, int32_t n)
{
	llama_token best = 0;
	float top = -INFINITY;
	int32_t i = 0;

	for (; i + 64 <= n; i += 64) {
		float block = x[i];

		for (int32_t k = 1; k < 64; k++)
			block = x[i + k] > block ? x[i + k] : block;
		if (block <= top)
			continue;
		top = block;
		for (best = i; x[best] != block; best++)
			;
	}
	for (; i < n; i++)
		if (x[i] > top) {
			top = x[i];
			best = i;
		}
	return best;
}

llama_token sample_next(struct seq *s, const struct engine *e)
{
	float *logits = llama_get_logits_ith(e->ctx, s->logits_at);

	if (s->n_output < s->min_output)
		for (size_t i = 0; i < e->n_eog; i++)
			logits[e->eog[i]] = -INFINITY;
	if (!s->sampler)
		return argmax(logits, e->n_vocab);
	return llama_sampler_sample(s->sampler, e->ctx, s->logits_at);
}
