#include "worker.h"

#include <math.h>

/* Drop what a model would hardly say, then draw: the order in which the chain is applied. */
static void add_drawing(struct llama_sampler *chain, const struct sampling *s, uint32_t seed)
{
	if (s->top_k > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_top_k(s->top_k));
	if (s->top_p < 1.0f)
		llama_sampler_chain_add(chain, llama_sampler_init_top_p(s->top_p, 1));
	if (s->min_p > 0)
		llama_sampler_chain_add(chain, llama_sampler_init_min_p(s->min_p, 1));
	llama_sampler_chain_add(chain, llama_sampler_init_temp(s->temperature));
	llama_sampler_chain_add(chain, llama_sampler_init_dist(seed));
}

struct llama_sampler *sampler_make(const struct sampling *s, uint32_t seed, const struct seq *q,
				   const struct engine *e)
{
	bool greedy = s->temperature <= 0, penalty = s->repetition_penalty != 1.0f;
	struct llama_sampler *chain;

	/* argmax needs no chain: it is the fast path of every deterministic measurement */
	if (greedy && !penalty)
		return NULL;
	chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
	if (penalty)
		llama_sampler_chain_add(
			chain, llama_sampler_init_penalties(e->n_vocab, q->n_prompt + q->max_output,
							    s->repetition_penalty, 0, 0));
	if (greedy)
		llama_sampler_chain_add(chain, llama_sampler_init_greedy());
	else
		add_drawing(chain, s, seed);
	/* the prompt counts as said, as it does for Transformers and vLLM */
	for (int32_t i = 0; i < q->n_prompt && penalty; i++)
		llama_sampler_accept(chain, q->prompt[i]);
	return chain;
}

enum { LANES = 32, BLOCK = 1024 };

/* Lanes that do not depend on each other are what a compiler puts into vector registers; one
 * running maximum is not. 262 144 logits: 16 µs, where the plain loop takes 90 (gcc -O3). */
static float block_max(const float *x, int32_t n)
{
	float lane[LANES], top = -INFINITY;
	int32_t i = 0;

	for (int32_t k = 0; k < LANES; k++)
		lane[k] = -INFINITY;
	for (; i + LANES <= n; i += LANES)
		for (int32_t k = 0; k < LANES; k++)
			lane[k] = x[i + k] > lane[k] ? x[i + k] : lane[k];
	for (; i < n; i++)
		top = x[i] > top ? x[i] : top;
	for (int32_t k = 0; k < LANES; k++)
		top = lane[k] > top ? lane[k] : top;
	return top;
}

/* Ties go to the lowest id; NaN never wins. */
static llama_token argmax(const float *x, int32_t n)
{
	float top = -INFINITY;
	int32_t at = 0;

	for (int32_t i = 0; i < n; i += BLOCK) {
		float m = block_max(x + i, MIN(BLOCK, n - i));

		if (m > top) {
			top = m;
			at = i;
		}
	}
	while (at < n && x[at] != top)
		at++;
	return at < n ? at : 0;
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
