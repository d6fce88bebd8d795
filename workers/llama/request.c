#include "worker.h"

#include "base/jsonw.h"

enum { REQUESTS_MAX = 1 << 22 };

static double number(const json_t *j, const char *key, double otherwise)
{
	const json_t *v = json_object_get(j, key);

	return json_is_number(v) ? json_number_value(v) : otherwise;
}

static void parse_sampling(const json_t *j, struct sampling *s)
{
	*s = (struct sampling){
		.temperature = (float)number(j, "temperature", 0),
		.top_k = (int32_t)number(j, "top_k", 0),
		.top_p = (float)number(j, "top_p", 1),
		.min_p = (float)number(j, "min_p", 0),
		.repetition_penalty = (float)number(j, "repetition_penalty", 1),
		.seed = (uint32_t)json_integer_value(json_object_get(j, "seed")),
	};
}

static int tokenize(const char *text, const struct engine *e, struct seq *s, struct trouble *t)
{
	int32_t len = (int32_t)strlen(text), cap = len + 16, n;

	if (!e->has_tokenizer)
		return trouble_set(t, "no_tokenizer",
				   "this model has no tokenizer: send token ids");
	s->prompt = lem_calloc((size_t)cap, sizeof(*s->prompt));
	n = llama_tokenize(e->vocab, text, len, s->prompt, cap, true, false);
	if (n < 0)
		return trouble_set(t, "internal",
				   "the tokenizer gives more tokens than the text has bytes");
	s->n_prompt = n;
	return 0;
}

static int take_tokens(const json_t *list, const struct engine *e, struct seq *s, struct trouble *t)
{
	size_t n = json_array_size(list);

	s->prompt = lem_calloc(n, sizeof(*s->prompt));
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

static int parse_seq(const json_t *j, const struct engine *e, int32_t max_input, struct seq *s,
		     struct trouble *t)
{
	const char *text = json_string_value(json_object_get(j, "text"));
	double max = number(j, "max_output_tokens", 0), min = number(j, "min_output_tokens", 0);
	int r;

	s->id = json_integer_value(json_object_get(j, "id"));
	if (max < 1 || max > e->max_total || min < 0 || min > max)
		return trouble_set(t, "bad_request",
				   "request %" PRId64 ": %g to %g output tokens cannot be had",
				   s->id, min, max);
	s->max_output = (int32_t)max;
	s->min_output = (int32_t)min;
	s->output = lem_calloc((size_t)s->max_output, sizeof(*s->output));
	r = text ? tokenize(text, e, s, t) : take_tokens(json_object_get(j, "tokens"), e, s, t);
	if (r < 0)
		return r;
	if (s->n_prompt > max_input) {
		s->n_prompt = max_input;
		s->truncated = true;
	}
	if (s->n_prompt < 1)
		return trouble_set(t, "bad_request", "request %" PRId64 " has an empty prompt",
				   s->id);
	if (s->n_prompt + s->max_output > (int32_t)llama_n_ctx_seq(e->ctx))
		return trouble_set(t, "context_full",
				   "request %" PRId64
				   " needs %d tokens of context, a sequence has %u",
				   s->id, s->n_prompt + s->max_output, llama_n_ctx_seq(e->ctx));
	return 0;
}

int run_parse(const json_t *request, const struct engine *e, struct run *ret, struct trouble *t)
{
	const json_t *list = json_object_get(request, "requests");
	const char *batching = json_string_value(json_object_get(request, "batching"));
	double max_input = number(request, "max_input_tokens", e->max_total);
	struct run r = {.id = json_integer_value(json_object_get(request, "run"))};

	if (!json_array_size(list) || json_array_size(list) > REQUESTS_MAX)
		return trouble_set(t, "bad_request", "a run needs between 1 and %d requests",
				   REQUESTS_MAX);
	if (batching && !str_eq(batching, "static") && !str_eq(batching, "continuous"))
		return trouble_set(t, "unsupported", "batching '%s' is not known", batching);
	r.continuous = batching && str_eq(batching, "continuous");
	r.save_text = json_is_true(json_object_get(request, "save_text"));
	parse_sampling(json_object_get(request, "sampling"), &r.sampling);
	r.n = json_array_size(list);
	r.seqs = lem_calloc(r.n, sizeof(*r.seqs));
	for (size_t i = 0; i < r.n; i++) {
		struct sampling s = r.sampling;

		if (parse_seq(json_array_get(list, i), e, (int32_t)MIN(MAX(max_input, 0.0), 1e9),
			      &r.seqs[i], t) < 0) {
			run_release(&r);
			return -1;
		}
		/* A request's own seed: the same text whatever else is in its batch. */
		s.seed += (uint32_t)r.seqs[i].id * 2654435761u;
		r.seqs[i].sampler = sampler_make(&s, e->n_vocab);
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

static void put_text(struct jsonw *w, const struct seq *s, const struct engine *e)
{
	_cleanup_str_ struct str text = STR_INIT;
	char piece[512];

	for (int32_t i = 0; i < s->n_output; i++) {
		int32_t n = llama_token_to_piece(e->vocab, s->output[i], piece, sizeof(piece), 0,
						 false);

		if (n > 0)
			str_addn(&text, piece, (size_t)n);
	}
	jsonw_strn(w, "text", str_c(&text), text.len);
}

void run_describe(const struct run *r, const struct engine *e, int64_t t_start_ns, int64_t t_ns,
		  struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "event", "done");
	jsonw_i64(&w, "run", r->id);
	jsonw_i64(&w, "t_start_ns", t_start_ns);
	jsonw_i64(&w, "t_ns", t_ns);
	jsonw_array(&w, "results");
	for (size_t i = 0; i < r->n; i++) {
		const struct seq *s = &r->seqs[i];

		jsonw_object(&w, NULL);
		jsonw_i64(&w, "id", s->id);
		jsonw_i64(&w, "input_tokens", s->n_prompt);
		jsonw_i64(&w, "output_tokens", s->n_output);
		jsonw_str(&w, "finish", s->finish ? s->finish : "error");
		jsonw_bool(&w, "truncated", s->truncated);
		if (r->save_text && e->has_tokenizer)
			put_text(&w, s, e);
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
	jsonw_end_object(&w);
}
