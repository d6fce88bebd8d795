#include "run/answers.h"

/* What was odd, by kind; one note each. */
struct oddities {
	size_t contradict, no_done, after_end, input_differs;
};

/* Its time never came; or it is a turn that a closed loop did not take before its end. One that
 * was due by schedule and found no connection is a request nobody served. */
static bool is_left_out(const struct answers *a, const struct http_load_job *j)
{
	return j->failure == HTTP_LOAD_NOT_SENT && (a->closed || !j->t_scheduled_ns);
}

static const char *finish_of(const struct http_load_job *j)
{
	if (j->failure != HTTP_LOAD_OK)
		return "error";
	if (str_eq(j->finish, "stop"))
		return "eos";
	return j->finish[0] ? j->finish : "unknown";
}

/* What the last chunk told stands for the usage that never came. */
static int64_t output_of(const struct http_load_result *res, const struct http_load_job *j)
{
	int64_t n = j->completion_tokens;

	for (size_t k = j->n_chunks; k > 0 && n < 0; k--)
		n = res->chunks[j->first_chunk + k - 1].tokens;
	return MAX(n, INT64_C(0));
}

static void add_stamp(struct run_record *r, struct request_record *q, int64_t t_ns, int32_t tokens)
{
	r->token_stamps_ns[r->n_token_stamps] = t_ns;
	r->stamp_tokens[r->n_token_stamps++] = tokens;
	q->n_stamps++;
}

static void add_stamps(struct run_record *r, struct request_record *q,
		       const struct http_load_result *res, const struct http_load_job *j)
{
	int32_t before = 0;

	q->first_stamp = r->n_token_stamps;
	for (size_t k = 0; k < j->n_chunks; k++) {
		const struct http_load_chunk *c = &res->chunks[j->first_chunk + k];
		int32_t more = c->tokens < 0 ? -1 : c->tokens - before;

		before = MAX(before, c->tokens);
		add_stamp(r, q, c->t_ns, c->tokens < 0 ? -1 : MAX(more, 0));
	}
	if (!q->n_stamps && q->output_tokens && j->t_last_ns)
		add_stamp(r, q, j->t_last_ns, (int32_t)q->output_tokens);
	/* counts that do not add up are worth nothing */
	for (int64_t k = 0; k < q->n_stamps && before && before != q->output_tokens; k++)
		r->stamp_tokens[q->first_stamp + (size_t)k] = -1;
}

static void look(struct oddities *o, const struct answers *a, size_t i,
		 const struct http_load_job *j)
{
	const struct prompt *p = &a->prompts->at[i % a->prompts->n];

	if (j->failure != HTTP_LOAD_OK)
		return;
	o->contradict += (j->doubts & (HTTP_LOAD_USAGE_FALSE | HTTP_LOAD_USAGE_TWICE)) != 0;
	o->no_done += (j->doubts & HTTP_LOAD_NO_DONE) != 0;
	o->after_end += (j->doubts & HTTP_LOAD_AFTER_END) != 0;
	o->input_differs +=
		p->tokens && j->prompt_tokens >= 0 && (size_t)j->prompt_tokens != p->n_tokens;
}

static bool is_uncounted(const struct answers *a, const struct http_load_job *j)
{
	int64_t t = j->t_scheduled_ns - a->result->t_start_ns;

	return t < a->uncounted_ns || (a->counted_end_ns && t >= a->counted_end_ns);
}

static void add_request(struct run_record *r, const struct answers *a, size_t i)
{
	const struct http_load_job *j = &a->result->jobs[i];
	const struct prompt *p = &a->prompts->at[i % a->prompts->n];
	struct request_record *q = &r->requests[r->n_requests];

	*q = (struct request_record){
		.id = (int64_t)r->n_requests,
		.pass = a->pass,
		.prompt_index = (int64_t)(i % a->prompts->n),
		.t_scheduled_ns = j->t_scheduled_ns,
		.t_sent_ns = j->t_sent_ns,
		.t_first_ns = j->t_first_ns,
		.t_last_ns = j->t_last_ns,
		.input_tokens = MAX(j->prompt_tokens, 0),
		.output_tokens = output_of(a->result, j),
		.input_tokens_asked = p->tokens ? (int64_t)p->n_tokens : 0,
		.output_tokens_asked = p->output_tokens ? p->output_tokens : a->forced,
		.truncated = p->truncated,
		.cached_tokens = j->cached_tokens,
		.uncounted = is_uncounted(a, j),
		.text = j->text ? arena_strdup(&r->arena, j->text) : NULL,
	};
	lem_strlcpy(q->finish, finish_of(j), sizeof(q->finish));
	if (j->failure != HTTP_LOAD_OK)
		lem_strlcpy(q->failure, http_load_failure_name(j->failure), sizeof(q->failure));
	r->n_requests++;
	r->n_requests_asked += !q->uncounted;
	add_stamps(r, q, a->result, j);
}

static void tell(struct run_record *r, const struct oddities *o)
{
	if (o->contradict)
		run_record_note(r, "%zu answers contradict their own token counts", o->contradict);
	if (o->no_done)
		run_record_note(r, "%zu answers ended without [DONE]", o->no_done);
	if (o->after_end)
		run_record_note(r, "%zu answers went on after their finish reason", o->after_end);
	if (o->input_differs)
		run_record_note(r,
				"the server counted other input tokens than were sent for %zu "
				"requests",
				o->input_differs);
}

void answers_take(struct run_record *r, const struct answers *a, size_t *ret_faults)
{
	const struct http_load_result *res = a->result;
	size_t room = r->n_token_stamps + res->n_chunks + res->n_jobs;
	struct oddities o = {0};

	r->requests = lem_reallocarray(r->requests, r->n_requests + res->n_jobs + 1,
				       sizeof(*r->requests));
	r->token_stamps_ns =
		lem_reallocarray(r->token_stamps_ns, room + 1, sizeof(*r->token_stamps_ns));
	r->stamp_tokens = lem_reallocarray(r->stamp_tokens, room + 1, sizeof(*r->stamp_tokens));
	for (size_t i = 0; i < res->n_jobs; i++) {
		if (is_left_out(a, &res->jobs[i]))
			continue;
		add_request(r, a, i);
		look(&o, a, i, &res->jobs[i]);
	}
	tell(r, &o);
	*ret_faults += o.contradict;
}
