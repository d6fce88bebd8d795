#include "worker.h"

enum { REQUESTS_MAX = 1 << 22, INPUT_MAX = 1 << 24 };

/* A seed is any 64-bit integer; the library takes 32 bits, and means "random" by all ones. */
static uint32_t fold_seed(int64_t seed, int64_t id)
{
	uint64_t x = ((uint64_t)seed ^ (uint64_t)id * UINT64_C(0x9e3779b97f4a7c15)) *
		     UINT64_C(0xbf58476d1ce4e5b9);
	uint32_t folded = (uint32_t)(x >> 32);

	return folded == LLAMA_DEFAULT_SEED ? 0 : folded;
}

static int parse_sampling(const json_t *j, struct sampling *s, struct trouble *t)
{
	*s = (struct sampling){.top_p = 1, .repetition_penalty = 1};
	if (j && !json_is_object(j) && !json_is_null(j))
		return trouble_set(t, "bad_request", "sampling must be an object");
	if (field_float(j, "temperature", 0, 1000, &s->temperature, t) < 0 ||
	    field_float(j, "top_p", 0, 1, &s->top_p, t) < 0 ||
	    field_float(j, "min_p", 0, 1, &s->min_p, t) < 0 ||
	    field_float(j, "repetition_penalty", 0.01, 1000, &s->repetition_penalty, t) < 0 ||
	    field_int32(j, "top_k", (struct int_range){0, INT32_MAX}, &s->top_k, t) < 0 ||
	    field_int(j, "seed", (struct int_range){INT64_MIN, INT64_MAX}, &s->seed, t) < 0)
		return -1;
	return 0;
}

/* With the special tokens that the model begins a text with, and those that the text names
 * ("</s>"): as llama-server, vLLM and Transformers make ids of a text. */
static int tokenize(const char *text, const struct engine *e, struct seq *s, struct trouble *t)
{
	int32_t len = (int32_t)strlen(text), cap = len + 16, n;

	if (!e->has_tokenizer)
		return trouble_set(t, "no_tokenizer",
				   "this model has no tokenizer: send token ids");
	s->prompt = lem_calloc((size_t)cap, sizeof(*s->prompt));
	n = llama_tokenize(e->vocab, text, len, s->prompt, cap, true, true);
	if (n < 0 && n > INT32_MIN) { /* the room it needs, as a negative number */
		cap = -n;
		s->prompt = lem_reallocarray(s->prompt, (size_t)cap, sizeof(*s->prompt));
		n = llama_tokenize(e->vocab, text, len, s->prompt, cap, true, true);
	}
	if (n < 0)
		return trouble_set(t, "internal", "the tokenizer failed on request %" PRId64,
				   s->id);
	s->n_prompt = n;
	return 0;
}

static int take_tokens(const json_t *list, const struct engine *e, struct seq *s, struct trouble *t)
{
	size_t n = json_array_size(list);

	s->prompt = lem_calloc(MAX(n, (size_t)1), sizeof(*s->prompt));
	for (size_t i = 0; i < n; i++) {
		json_int_t v = json_integer_value(json_array_get(list, i));

		if (!json_is_integer(json_array_get(list, i)) || v < 0 || v >= e->n_vocab)
			return trouble_set(t, "bad_request",
					   "token %zu of request %" PRId64
					   " is not in the vocabulary of %d",
					   i, s->id, e->n_vocab);
		s->prompt[i] = (llama_token)v;
	}
	s->n_prompt = (int32_t)n;
	return 0;
}

static int parse_lengths(const json_t *j, struct seq *s, struct trouble *t)
{
	const struct int_range range = {0, INPUT_MAX};

	if (field_int32(j, "max_output_tokens", range, &s->max_output, t) < 0 ||
	    field_int32(j, "min_output_tokens", range, &s->min_output, t) < 0)
		return -1;
	if (s->max_output < 1 || s->min_output > s->max_output)
		return trouble_set(t, "bad_request",
				   "request %" PRId64 ": %d to %d output tokens cannot be had",
				   s->id, s->min_output, s->max_output);
	return 0;
}

static int parse_prompt(const json_t *j, const struct engine *e, int32_t max_input, struct seq *s,
			struct trouble *t)
{
	const json_t *text = json_object_get(j, "text"), *tokens = json_object_get(j, "tokens");
	int r;

	if (json_is_string(text) == json_is_array(tokens))
		return trouble_set(t, "bad_request",
				   "request %" PRId64 " needs either a text or a list of tokens",
				   s->id);
	r = tokens ? take_tokens(tokens, e, s, t) : tokenize(json_string_value(text), e, s, t);
	if (r < 0)
		return r;
	if (s->n_prompt > max_input) {
		s->n_prompt = max_input;
		s->truncated = true;
	}
	if (s->n_prompt < 1)
		return trouble_set(t, "bad_request", "request %" PRId64 " has an empty prompt",
				   s->id);
	return 0;
}

/* ids rise from one request to the next, so that none is there twice. */
static int parse_id(const json_t *j, int64_t above, struct seq *s, struct trouble *t)
{
	s->id = -1;
	if (field_int(j, "id", (struct int_range){0, INT64_MAX}, &s->id, t) < 0)
		return -1;
	if (s->id <= above)
		return trouble_set(t, "bad_request",
				   "request ids must rise; %" PRId64 " follows %" PRId64, s->id,
				   above);
	return 0;
}

static int parse_seq(const json_t *j, const struct engine *e, const struct run *r, struct seq *s,
		     struct trouble *t)
{
	int64_t above = s > r->seqs ? s[-1].id : -1;

	if (parse_id(j, above, s, t) < 0 || parse_lengths(j, s, t) < 0 ||
	    parse_prompt(j, e, r->max_input, s, t) < 0)
		return -1;
	if (s->n_prompt + s->max_output > (int32_t)llama_n_ctx_seq(e->ctx))
		return trouble_set(t, "context_full",
				   "request %" PRId64
				   " needs %d tokens of context, a sequence has %u",
				   s->id, s->n_prompt + s->max_output, llama_n_ctx_seq(e->ctx));
	s->output = lem_calloc((size_t)s->max_output, sizeof(*s->output));
	/* A request's own seed: the same text whatever else is in its batch. */
	s->sampler = sampler_make(&r->sampling, fold_seed(r->sampling.seed, s->id), s, e);
	return 0;
}

static int parse_header(const json_t *j, struct run *r, struct trouble *t)
{
	static const struct word batching[] = {{"static", false}, {"continuous", true}};
	size_t n = json_array_size(json_object_get(j, "requests"));
	int continuous = false;

	r->max_input = INPUT_MAX;
	if (field_int(j, "run", (struct int_range){0, INT64_MAX}, &r->id, t) < 0 ||
	    field_word(j, "batching", batching, ARRAY_LEN(batching), &continuous, t) < 0 ||
	    field_bool(j, "save_text", &r->save_text, t) < 0 ||
	    field_int32(j, "max_input_tokens", (struct int_range){1, INPUT_MAX}, &r->max_input, t) <
		    0 ||
	    parse_sampling(json_object_get(j, "sampling"), &r->sampling, t) < 0)
		return -1;
	r->continuous = continuous;
	if (!n || n > REQUESTS_MAX)
		return trouble_set(t, "bad_request", "a run needs between 1 and %d requests",
				   REQUESTS_MAX);
	return 0;
}

int run_parse(const json_t *request, const struct engine *e, struct run *ret, struct trouble *t)
{
	const json_t *list = json_object_get(request, "requests");
	struct run r = {0};

	if (parse_header(request, &r, t) < 0)
		return -1;
	r.seqs = lem_calloc(json_array_size(list), sizeof(*r.seqs));
	while (r.n < json_array_size(list)) {
		size_t i = r.n++;

		if (parse_seq(json_array_get(list, i), e, &r, &r.seqs[i], t) < 0) {
			run_release(&r);
			return -1;
		}
	}
	*ret = r;
	return 0;
}

void run_release(struct run *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->seqs[i].prompt);
		free(r->seqs[i].output);
		if (r->seqs[i].sampler)
			llama_sampler_free(r->seqs[i].sampler);
	}
	free(r->seqs);
	*r = (struct run){0};
}
