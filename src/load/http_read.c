/* After the last response: what was received becomes what was said. */
#include "base/clock.h"
#include "base/str.h"
#include "load/answer.h"
#include "load/body_pack.h"
#include "load/http_impl.h"

struct reader {
	struct http_loop *l;
	struct http_load_result *ret;
	struct str body, text;
	VEC(struct answer_piece) pieces;
	struct answer_sink sink;
};

/* The body of job i and when each part of it came. */
static void collect(struct reader *r, size_t i)
{
	const struct recv_log *log = &r->l->log;

	str_reset(&r->body);
	str_reserve(&r->body,
		    r->ret->jobs[i].n_bytes + 1); /* a body is shorter than its response */
	vec_reset(&r->pieces);
	for (uint32_t m = r->l->work[i].chain.first; m != RECV_LOG_END; m = log->marks[m].next) {
		const struct recv_mark *k = &log->marks[m];

		r->body.len += body_unpack(log->bytes + k->at, k->len, r->body.buf + r->body.len);
		*vec_push(&r->pieces) = (struct answer_piece){.end = r->body.len, .t_ns = k->t_ns};
	}
}

static void keep_failure(struct reader *r, size_t i, const char *why)
{
	struct lem_error *e = &r->ret->first_failure;
	const struct http_load_job *j = &r->ret->jobs[i];

	if (e->code != LEM_E_NONE || j->failure == HTTP_LOAD_NOT_SENT)
		return;
	if (r->ret->n_jobs == 1)
		lem_fail(e, LEM_E_ENGINE, "the request failed (%s): %s",
			 http_load_failure_name(j->failure), why);
	else
		lem_fail(e, LEM_E_ENGINE, "request %zu failed (%s): %s", i,
			 http_load_failure_name(j->failure), why);
	http_load_advise(e, j->failure, j->status, r->l->request_timeout_ns);
	lem_error_where(e, "%s://%s:%u%s", r->l->q->target.tls ? "https" : "http",
			r->l->q->target.host, r->l->q->target.port, r->l->q->target.path);
}

static void keep(struct reader *r, size_t i, const struct answer *a)
{
	struct http_load_job *j = &r->ret->jobs[i];

	j->doubts = a->doubts;
	j->retried = r->l->work[i].was != HTTP_LOAD_OK;
	j->prompt_tokens = a->prompt_tokens;
	j->completion_tokens = a->completion_tokens;
	j->cached_tokens = a->cached_tokens;
	j->n_chunks = a->n_chunks;
	j->t_first_ns = a->t_first_ns;
	j->t_last_ns = a->t_last_ns;
	memcpy(j->finish, a->finish, sizeof(j->finish));
	if (r->sink.text)
		j->text = arena_strndup(&r->ret->arena, str_c(&r->text), r->text.len);
	if (j->failure == HTTP_LOAD_OK)
		j->failure = a->failure;
	if (j->failure != HTTP_LOAD_OK)
		keep_failure(r, i, i == r->l->failed_job ? r->l->why : a->why);
}

static void read_job(struct reader *r, size_t i)
{
	const struct http_job *asked = &r->l->q->jobs[i];
	const struct http_work *w = &r->l->work[i];
	struct http_load_job *j = &r->ret->jobs[i];
	struct answer_request q = {
		.status = j->status,
		.complete = w->complete,
		.stream = asked->stream,
		.event_stream = w->event_stream,
		.encoded = w->encoded,
		.output_tokens = asked->output_tokens,
		.input_tokens = asked->input_tokens,
	};
	struct answer a;

	collect(r, i);
	str_reset(&r->text);
	q.body = r->body.buf;
	q.n = r->body.len;
	q.pieces = r->pieces.at;
	q.n_pieces = r->pieces.n;
	j->first_chunk = r->sink.chunks.n;
	answer_read(&q, &r->sink, &a);
	keep(r, i, &a);
}

static void tally(struct http_load_result *ret)
{
	for (size_t i = 0; i < ret->n_jobs; i++) {
		const struct http_load_job *j = &ret->jobs[i];
		bool ok = j->failure == HTTP_LOAD_OK;

		ret->by_failure[j->failure]++;
		ret->n_sent += j->t_sent_ns != 0;
		ret->n_ok += ok;
		ret->n_doubtful += ok && j->doubts;
		ret->prompt_tokens += ok ? MAX(j->prompt_tokens, 0) : 0;
		ret->completion_tokens += ok ? MAX(j->completion_tokens, 0) : 0;
		ret->bytes += j->n_bytes;
	}
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Nearest rank: the smallest value that q of all do not exceed. */
static int64_t rank(const int64_t *sorted, size_t n, size_t percent)
{
	return sorted[(n * percent + 99) / 100 - 1];
}

static void read_lag(const struct http_loop *l, struct http_load_lag *ret)
{
	_cleanup_free_ int64_t *lag = lem_calloc(l->n_jobs, sizeof(*lag));
	size_t n = 0;

	for (size_t i = 0; i < l->n_jobs; i++)
		if (l->work[i].t_begun_ns)
			lag[n++] = MAX(l->work[i].t_begun_ns - l->jobs[i].t_scheduled_ns, 0);
	ret->n = n;
	if (!n)
		return;
	qsort(lag, n, sizeof(*lag), by_value);
	ret->p50_ns = rank(lag, n, 50);
	ret->p90_ns = rank(lag, n, 90);
	ret->p99_ns = rank(lag, n, 99);
	ret->max_ns = lag[n - 1];
}

/* A chunk a token, as far as that was asked for; it grows where a server sends more. */
static size_t chunks_expected(const struct http_loop *l)
{
	size_t n = 1;

	for (size_t i = 0; i < l->n_jobs; i++)
		if (l->work[i].complete && l->q->jobs[i].output_tokens > 0)
			n += (size_t)l->q->jobs[i].output_tokens;
	return MIN(n, atomic_load(&l->bytes) / 32 + 1);
}

void http_read_all(struct http_loop *l, struct http_load_result *ret)
{
	struct reader r = {.l = l, .ret = ret};
	int64_t cpu_ns = clock_thread_cpu_ns();

	vec_reserve(&r.sink.chunks, chunks_expected(l));
	r.sink.text = l->q->keep_text ? &r.text : NULL;
	for (size_t i = 0; i < ret->n_jobs; i++) {
		struct http_load_job *j = &ret->jobs[i];

		j->prompt_tokens = j->completion_tokens = j->cached_tokens = -1;
		if (l->work[i].t_begun_ns)
			read_job(&r, i);
	}
	ret->chunks = r.sink.chunks.at;
	ret->n_chunks = r.sink.chunks.n;
	str_release(&r.body);
	str_release(&r.text);
	vec_release(&r.pieces);
	tally(ret);
	read_lag(l, &ret->lag);
	ret->parse_cpu_ns = clock_thread_cpu_ns() - cpu_ns;
}
