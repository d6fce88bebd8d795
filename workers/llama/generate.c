#include "worker.h"

#include "base/clock.h"

/*
 * One loop serves both ways of batching. A step is one llama_decode and its synchronisation: the
 * next token of every sequence that decodes, and pieces of the prompts of those that do not yet.
 *
 * static: places are given only when all are free, and nobody decodes before all prompts of the
 * group are in; continuous: a free place is given at once, and prompts travel along with decoding
 * sequences.
 */
struct loop {
	struct run *run;
	struct engine *e;
	struct llama_batch batch;
	struct seq **slots; /* batch_size places, NULL: free */
	size_t next;        /* first sequence that still waits */
	size_t left;        /* sequences not done */
	int64_t out;
	int64_t *started, *ids; /* of the step, batch_size entries each */
	size_t n_started, n_ids;
	int32_t prefill;
};

static void admit(struct loop *l)
{
	bool all_free = true;

	for (int32_t i = 0; i < l->e->batch_size; i++)
		all_free &= !l->slots[i];
	if (!l->run->continuous && !all_free)
		return;
	for (int32_t i = 0; i < l->e->batch_size && l->next < l->run->n; i++) {
		if (l->slots[i])
			continue;
		l->slots[i] = &l->run->seqs[l->next++];
		l->slots[i]->slot = i;
		l->slots[i]->state = SEQ_PREFILL;
	}
}

static void add_token(struct loop *l, struct seq *s, llama_token token, int32_t pos, bool output)
{
	struct llama_batch *b = &l->batch;
	int32_t i = b->n_tokens++;

	b->token[i] = token;
	b->pos[i] = pos;
	b->n_seq_id[i] = 1;
	b->seq_id[i][0] = s->slot;
	b->logits[i] = output;
	if (output)
		s->logits_at = i;
}

static void add_prompt(struct loop *l, struct seq *s, int32_t room)
{
	int32_t n = MIN(s->n_prompt - s->n_fed, room);

	if (n <= 0)
		return;
	if (s->n_fed == 0)
		l->started[l->n_started++] = s->id;
	for (int32_t i = 0; i < n; i++, s->n_fed++)
		add_token(l, s, s->prompt[s->n_fed], s->n_fed, s->n_fed + 1 == s->n_prompt);
	l->prefill += n;
}

static void fill_batch(struct loop *l)
{
	int32_t n_batch = (int32_t)llama_n_batch(l->e->ctx);
	bool prefilling = false;

	l->batch.n_tokens = 0;
	l->n_started = l->n_ids = 0;
	l->prefill = 0;
	for (int32_t i = 0; i < l->e->batch_size; i++) {
		if (l->slots[i])
			l->slots[i]->logits_at = -1;
		prefilling |= l->slots[i] && l->slots[i]->state == SEQ_PREFILL;
	}
	for (int32_t i = 0; i < l->e->batch_size; i++) {
		struct seq *s = l->slots[i];

		if (s && s->state == SEQ_DECODE && (l->run->continuous || !prefilling))
			add_token(l, s, s->output[s->n_output - 1], s->n_prompt + s->n_output - 1,
				  true);
	}
	for (int32_t i = 0; i < l->e->batch_size; i++)
		if (l->slots[i] && l->slots[i]->state == SEQ_PREFILL)
			add_prompt(l, l->slots[i], n_batch - l->batch.n_tokens);
}

static void end_seq(struct loop *l, struct seq *s, const char *finish)
{
	s->finish = finish;
	s->state = SEQ_DONE;
	l->slots[s->slot] = NULL;
	l->left--;
	llama_memory_seq_rm(llama_get_memory(l->e->ctx), s->slot, -1, -1);
}

/* The token counts as output also when it ends the sequence: it was computed. */
static void take_token(struct loop *l, struct seq *s)
{
	llama_token token = sample_next(s, l->e);

	s->state = SEQ_DECODE;
	s->output[s->n_output++] = token;
	l->ids[l->n_ids++] = s->id;
	l->out++;
	if (l->e->has_tokenizer && llama_vocab_is_eog(l->e->vocab, token))
		end_seq(l, s, "eos");
	else if (s->n_output == s->max_output)
		end_seq(l, s, "length");
}

static int decode(struct loop *l, struct trouble *t)
{
	int r = llama_decode(l->e->ctx, l->batch);

	if (r == 0) {
		llama_synchronize(l->e->ctx);
		return 0;
	}
	if (r == 1)
		return trouble_set(t, "context_full",
				   "llama.cpp finds no room in the context for this batch");
	if (r == 2)
		return trouble_set(t, "internal", "stopped while generating");
	t->fatal = true;
	return trouble_set(t, "compute", "llama_decode failed with %d", r);
}

static int step(struct loop *l, struct trouble *t)
{
	int64_t t_start = clock_now_ns();

	admit(l);
	fill_batch(l);
	if (decode(l, t) < 0)
		return -1;
	for (int32_t i = 0; i < l->e->batch_size; i++)
		if (l->slots[i] && l->slots[i]->logits_at >= 0)
			take_token(l, l->slots[i]);
	proto_step(&(struct step_line){
		.run = l->run->id,
		.start_ns = t_start,
		.end_ns = clock_now_ns(),
		.prefill = l->prefill,
		.out = l->out,
		.started = l->started,
		.n_started = l->n_started,
		.ids = l->ids,
		.n_ids = l->n_ids,
	});
	return 0;
}

int run_generate(struct run *r, struct engine *e, struct trouble *t)
{
	size_t places = (size_t)e->batch_size;
	_cleanup_free_ struct seq **slots = lem_calloc(places, sizeof(struct seq *));
	_cleanup_free_ int64_t *started = lem_calloc(places, sizeof(*started));
	_cleanup_free_ int64_t *ids = lem_calloc(places, sizeof(*ids));
	struct loop l = {
		.run = r, .e = e, .slots = slots, .left = r->n, .started = started, .ids = ids};
	int rc = 0;

	l.batch = llama_batch_init((int32_t)llama_n_batch(e->ctx), 0, 1);
	llama_memory_clear(llama_get_memory(e->ctx), false);
	while (l.left && rc == 0 && !stop_asked)
		rc = step(&l, t);
	llama_batch_free(l.batch);
	proto_flush();
	if (rc == 0 && stop_asked)
		return trouble_set(t, "internal", "stopped while generating");
	return rc;
}
