#include "run/assemble.h"

enum { FAULTS_TOLD = 5 }; /* notes per pass; the rest is only counted */
enum { MAX_REPLICAS = 1024 };

/* Working state of one pass: per-request counters, and the lines' arrays. */
struct assembly {
	struct run_record *rec;
	const struct pass *pass;
	size_t base;            /* index of the pass's first request in rec->requests */
	int64_t *ids, *started; /* room for all that the longest line can hold */
	size_t cap;
	int64_t t_last_end_ns[MAX_REPLICAS]; /* of each replica; 0: it has made no step */
	int64_t prefill;
	size_t faults;
	bool second_walk; /* lines that do not parse have been told */
};

static void fault(struct assembly *a, const char *fmt, ...) _printf_(2, 3);
static void fault(struct assembly *a, const char *fmt, ...)
{
	char buf[300];
	va_list ap;

	if (a->faults++ >= FAULTS_TOLD)
		return;
	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	run_record_note(a->rec, "%s", buf);
}

static struct request_record *request_of(struct assembly *a, int64_t id)
{
	int64_t k = id - a->pass->first_id;

	if (k < 0 || k >= (int64_t)a->pass->n)
		return NULL;
	return &a->rec->requests[a->base + (size_t)k];
}

static void add_requests(struct assembly *a, int64_t forced)
{
	struct run_record *r = a->rec;
	const struct pass *p = a->pass;

	a->base = r->n_requests;
	r->requests = lem_reallocarray(r->requests, r->n_requests + p->n, sizeof(*r->requests));
	for (size_t i = 0; i < p->n; i++) {
		size_t k = (p->from + i) % p->n_prompts;
		const struct prompt *q = p->prompts ? &p->prompts->at[k] : NULL;

		r->requests[r->n_requests++] = (struct request_record){
			.id = p->first_id + (int64_t)i,
			.pass = p->pass,
			.prompt_index = (int64_t)k,
			.t_scheduled_ns = p->t_asked_ns,
			.input_tokens_asked = q && q->tokens ? (int64_t)q->n_tokens : 0,
			.output_tokens_asked = q && q->output_tokens ? q->output_tokens : forced,
			.cached_tokens = -1,
		};
	}
}

/* Calls f for every `tokens` line that parses; the others are faults. */
static void each_step(struct assembly *a, void (*f)(struct assembly *, const struct worker_step *))
{
	const char *line = a->pass->tokens, *end = line + a->pass->tokens_len;

	while (line < end) {
		const char *nl = memchr(line, '\n', (size_t)(end - line));
		size_t n = nl ? (size_t)(nl - line) : (size_t)(end - line);
		struct worker_step s = {.ids = a->ids, .started = a->started, .cap = a->cap};
		struct lem_error err;

		bool ok = worker_parse_tokens(line, n, &s, &err) >= 0;

		if (ok && s.replica >= MAX_REPLICAS)
			ok = lem_fail(&err, LEM_E_PARSE, "the worker names a replica %" PRId64,
				      s.replica) >= 0;
		if (ok && s.run == a->pass->run)
			f(a, &s);
		else if (!ok && !a->second_walk)
			fault(a, "%s", err.what);
		else if (!a->second_walk)
			fault(a,
			      "the worker reported a step of run %" PRId64 " during run %" PRId64,
			      s.run, a->pass->run);
		line += n + 1;
	}
}

static void count_tokens(struct assembly *a, const struct worker_step *s)
{
	for (size_t i = 0; i < s->n_ids; i++) {
		struct request_record *q = request_of(a, s->ids[i]);

		if (q)
			q->output_tokens++;
		else
			fault(a,
			      "the worker reported a token of request %" PRId64
			      ", which was not asked for",
			      s->ids[i]);
	}
}

/* Gives every request its own run of stamps, and resets the counters for the filling pass. */
static void lay_out_stamps(struct assembly *a)
{
	struct run_record *r = a->rec;
	size_t at = r->n_token_stamps;

	for (size_t i = 0; i < a->pass->n; i++) {
		struct request_record *q = &r->requests[a->base + i];

		q->first_stamp = at;
		at += (size_t)q->output_tokens;
		q->n_stamps = q->output_tokens;
		q->output_tokens = 0;
	}
	r->token_stamps_ns = lem_reallocarray(r->token_stamps_ns, at, sizeof(*r->token_stamps_ns));
	r->n_token_stamps = at;
}

static void check_stamps(struct assembly *a, const struct worker_step *s)
{
	int64_t *last = &a->t_last_end_ns[s->replica];
	int64_t after = *last           ? *last
			: a->pass->done ? a->pass->done->t_start_ns
					: a->pass->t_asked_ns;

	if (s->end_ns < s->start_ns || s->start_ns < after || s->start_ns < a->pass->t_asked_ns)
		fault(a,
		      "the worker's stamps are not in order: a step from %" PRId64 " to %" PRId64
		      " ns after one that ended at %" PRId64,
		      s->start_ns, s->end_ns, after);
	if (a->pass->done && s->end_ns > a->pass->done->t_ns)
		fault(a, "a step of the worker ends after its run");
	*last = MAX(*last, s->end_ns);
}

static void add_step(struct assembly *a, const struct worker_step *s)
{
	struct run_record *r = a->rec;

	check_stamps(a, s);
	for (size_t i = 0; i < s->n_started; i++) {
		struct request_record *q = request_of(a, s->started[i]);

		if (q && !q->t_sent_ns)
			q->t_sent_ns = s->start_ns;
	}
	for (size_t i = 0; i < s->n_ids; i++) {
		struct request_record *q = request_of(a, s->ids[i]);

		if (!q)
			continue;
		if (!q->t_sent_ns)
			q->t_sent_ns = s->start_ns;
		if (!q->t_first_ns)
			q->t_first_ns = s->end_ns;
		q->t_last_ns = s->end_ns;
		r->token_stamps_ns[q->first_stamp + (size_t)q->output_tokens++] = s->end_ns;
	}
	a->prefill += s->prefill;
	r->steps[r->n_steps++] = (struct step_record){
		.prefill = s->prefill > 0,
		.t_start_ns = s->start_ns,
		.t_end_ns = s->end_ns,
		.n_seqs = (int32_t)s->n_ids,
		.n_tokens = (int32_t)MIN(s->prefill + (int64_t)s->n_ids, (int64_t)INT32_MAX),
		.n_prefill = (int32_t)MIN(s->prefill, (int64_t)INT32_MAX),
		.replica = (int32_t)s->replica,
	};
}

/* Lines of the pass, and the longest of them in bytes. */
static size_t count_lines(const struct pass *p, size_t *ret_longest)
{
	const char *line = p->tokens, *end = line + p->tokens_len;
	size_t n = 1;

	*ret_longest = 0;
	while (line < end) {
		const char *nl = memchr(line, '\n', (size_t)(end - line));
		size_t len = (size_t)((nl ? nl : end) - line);

		*ret_longest = MAX(*ret_longest, len);
		line += len + 1;
		n++;
	}
	return n;
}

static int by_end(const void *x, const void *y)
{
	const struct step_record *a = x, *b = y;

	return (a->t_end_ns > b->t_end_ns) - (a->t_end_ns < b->t_end_ns);
}

/* Other numbers than were asked for: the engine did other work. */
static void check_lengths(struct assembly *a, const struct request_record *q,
			  const struct worker_result *w)
{
	if (str_eq(w->finish, "error"))
		return;
	if (q->output_tokens_asked && w->output_tokens != q->output_tokens_asked)
		fault(a,
		      "request %" PRId64 ": %" PRId64 " output tokens were forced, %" PRId64
		      " came",
		      w->id, q->output_tokens_asked, w->output_tokens);
	if (q->input_tokens_asked && w->input_tokens != q->input_tokens_asked)
		fault(a,
		      "request %" PRId64 ": %" PRId64 " token ids were sent, the worker counts "
		      "%" PRId64,
		      w->id, q->input_tokens_asked, w->input_tokens);
}

static void take_result(struct assembly *a, const struct worker_result *w)
{
	struct request_record *q = request_of(a, w->id);

	if (!q || q->finish[0]) {
		fault(a, "the worker answered request %" PRId64 " %s", w->id,
		      q ? "twice" : "that was not asked for");
		return;
	}
	if (w->output_tokens != q->output_tokens)
		fault(a,
		      "request %" PRId64 ": the worker claims %" PRId64
		      " output tokens, its stamps show %" PRId64,
		      w->id, w->output_tokens, q->output_tokens);
	check_lengths(a, q, w);
	q->input_tokens = w->input_tokens;
	q->truncated = w->truncated;
	lem_strlcpy(q->finish, w->finish[0] ? w->finish : "unknown", sizeof(q->finish));
	q->text = arena_strdup(&a->rec->arena, w->text);
}

static void take_done(struct assembly *a)
{
	const struct worker_done *d = a->pass->done;
	int64_t input = 0;

	for (size_t i = 0; i < d->n_results; i++)
		take_result(a, &d->results[i]);
	for (size_t i = 0; i < a->pass->n; i++) {
		const struct request_record *q = &a->rec->requests[a->base + i];

		if (!q->finish[0])
			fault(a, "the worker never answered request %" PRId64, q->id);
		input += q->input_tokens;
	}
	if (input != a->prefill)
		fault(a,
		      "the worker computed %" PRId64 " prompt tokens, its requests hold %" PRId64,
		      a->prefill, input);
}

void assemble_pass(struct run_record *r, const struct pass *p, int64_t forced_output_tokens,
		   size_t *ret_faults)
{
	struct assembly a = {.rec = r, .pass = p};
	size_t longest, lines = count_lines(p, &longest), first_step = r->n_steps;

	a.cap = longest / 2 + 1; /* an id and its comma */
	_cleanup_free_ int64_t *ids = lem_calloc(a.cap, sizeof(*ids));
	_cleanup_free_ int64_t *started = lem_calloc(a.cap, sizeof(*started));

	a.ids = ids;
	a.started = started;
	add_requests(&a, forced_output_tokens);
	r->steps = lem_reallocarray(r->steps, r->n_steps + lines, sizeof(*r->steps));
	each_step(&a, count_tokens);
	lay_out_stamps(&a);
	a.second_walk = true;
	each_step(&a, add_step);
	if (r->n_steps > first_step)
		qsort(r->steps + first_step, r->n_steps - first_step, sizeof(*r->steps), by_end);
	if (p->done)
		take_done(&a);
	*ret_faults += a.faults;
}
