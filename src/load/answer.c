#include "load/answer.h"

#include "load/openai_event.h"

struct reading {
	const struct answer_request *q;
	struct answer_sink *sink;
	struct answer *a;
	struct openai_memo memo;
	size_t piece; /* the one the present line ended in */
	size_t n_with_text;
	int32_t so_far; /* completion tokens as told within the stream */
	bool done;      /* [DONE] */
	bool usage_alone;
};

static void fail(struct reading *r, enum http_load_failure f, const char *fmt, ...) _printf_(3, 4);
static void fail(struct reading *r, enum http_load_failure f, const char *fmt, ...)
{
	va_list ap;

	if (r->a->failure != HTTP_LOAD_OK)
		return;
	r->a->failure = f;
	va_start(ap, fmt);
	(void)vsnprintf(r->a->why, sizeof(r->a->why), fmt, ap);
	va_end(ap);
}

/* When the byte before `end` of the body had been received; calls come with rising ends. */
static int64_t received_ns(struct reading *r, size_t end)
{
	const struct answer_request *q = r->q;

	while (r->piece + 1 < q->n_pieces && q->pieces[r->piece].end < end)
		r->piece++;
	return q->n_pieces ? q->pieces[r->piece].t_ns : 0;
}

static void error_event(struct reading *r, const struct openai_event *e)
{
	_cleanup_str_ struct str text = STR_INIT;

	if (e->error_message.raw)
		openai_text_decode(&e->error_message, &text);
	fail(r, HTTP_LOAD_ERROR_BODY, "the server reported an error within status 200: %.120s",
	     text.len ? str_c(&text) : "(without a message)");
}

/* Usage in a chunk counts so far (continuous); in an event of its own it is the final word. */
static void usage(struct reading *r, const struct openai_event *e)
{
	struct answer *a = r->a;
	bool alone = !e->has_choice;

	if (e->completion_tokens >= 0 && e->completion_tokens < r->so_far)
		a->doubts |= HTTP_LOAD_USAGE_FALSE;
	if (alone && r->usage_alone &&
	    (e->completion_tokens != a->completion_tokens || e->prompt_tokens != a->prompt_tokens))
		a->doubts |= HTTP_LOAD_USAGE_TWICE;
	r->usage_alone |= alone;
	r->so_far = MAX(r->so_far, e->completion_tokens);
	if (e->prompt_tokens >= 0)
		a->prompt_tokens = e->prompt_tokens;
	if (e->completion_tokens >= 0)
		a->completion_tokens = e->completion_tokens;
	if (e->cached_tokens >= 0)
		a->cached_tokens = e->cached_tokens;
}

static void chunk(struct reading *r, const struct openai_event *e, int64_t t_ns)
{
	struct answer *a = r->a;

	if (!e->n_text && (e->role || *e->finish))
		return;
	if (*a->finish)
		a->doubts |= HTTP_LOAD_AFTER_END;
	*vec_push(&r->sink->chunks) = (struct http_load_chunk){
		.t_ns = t_ns, .n_text = (int32_t)e->n_text, .tokens = e->completion_tokens};
	r->n_with_text += e->n_text > 0;
	if (!a->n_chunks++)
		a->t_first_ns = t_ns;
	a->t_last_ns = t_ns;
	for (size_t i = 0; r->sink->text && i < e->n_parts; i++)
		openai_text_decode(&e->parts[i], r->sink->text);
}

static void event(struct reading *r, const char *json, size_t n, int64_t t_ns)
{
	struct openai_event e;
	const char *bad = openai_event_read(json, n, &r->memo, &e);

	if (bad)
		return fail(r, HTTP_LOAD_BAD_BODY, "an event is not the JSON it should be: %s",
			    bad);
	if (e.has_error)
		return error_event(r, &e);
	if (e.has_usage)
		usage(r, &e);
	if (!e.has_choice)
		return;
	chunk(r, &e, t_ns);
	if (*e.finish)
		memcpy(r->a->finish, e.finish, sizeof(e.finish));
}

/* An event under way: the payloads of its data lines so far, in the body itself. */
struct pending {
	char *text; /* NULL: none */
	size_t n;
	size_t end; /* of its last line, in the body */
};

static void flush(struct reading *r, struct pending *p)
{
	if (!p->text)
		return;
	if (p->n == 6 && memcmp(p->text, "[DONE]", 6) == 0)
		r->done = true;
	else if (p->n && r->done)
		r->a->doubts |= HTTP_LOAD_AFTER_END;
	else if (p->n)
		event(r, p->text, p->n, received_ns(r, p->end));
	p->text = NULL;
}

/* A field of n bytes that ends at `end`. Data lines that follow each other are joined by a newline;
 * the names of the fields leave room for it. */
static void field(struct pending *p, char *line, size_t n, size_t end)
{
	size_t skip = 5 + (n > 5 && line[5] == ' ');

	if (n < 5 || memcmp(line, "data:", 5) != 0)
		return; /* a comment, event, id, retry */
	p->end = end;
	if (!p->text) {
		p->text = line + skip;
		p->n = n - skip;
		return;
	}
	p->text[p->n] = '\n';
	memmove(p->text + p->n + 1, line + skip, n - skip);
	p->n += 1 + n - skip;
}

/* The next event is the last one around another text, on one line and ended: it is taken without
 * looking for lines. Most of the time spent on an answer is spent here. Bytes taken, or 0. */
static size_t repeated(struct reading *r, size_t at)
{
	static const char name[6] = "data: ";
	const char *line = r->q->body + at, *json = line + sizeof(name);
	size_t n = r->q->n - at, k;
	struct openai_event e;

	if (r->done || n < sizeof(name) + 2 || memcmp(line, name, sizeof(name)) != 0)
		return 0;
	k = openai_event_next(&r->memo, json, n - sizeof(name) - 2, &e);
	if (!k || json[k] != '\n' || json[k + 1] != '\n')
		return 0;
	k += sizeof(name) + 1;
	chunk(r, &e, received_ns(r, at + k));
	return k + 1;
}

/* Server-sent events (HTML standard, 9.2), lines ending with LF or CRLF. */
static void read_stream(struct reading *r)
{
	struct pending p = {0};
	char *body = r->q->body;
	size_t n = r->q->n, at = 0;

	while (at < n && r->a->failure == HTTP_LOAD_OK) {
		char *line = body + at, *lf;
		size_t k = p.text ? 0 : repeated(r, at);

		at += k;
		if (k)
			continue;
		lf = memchr(line, '\n', n - at);
		k = lf ? (size_t)(lf - line) : n - at;
		at += k + 1;
		if (lf && k && line[k - 1] == '\r')
			k--;
		if (!k)
			flush(r, &p);
		else if (lf || (k >= 11 && memcmp(line + k - 6, "[DONE]", 6) == 0))
			field(&p, line, k, MIN(at, n));
		else if (r->q->complete)
			fail(r, HTTP_LOAD_BAD_BODY, "the last event is cut off");
	}
	if (r->a->failure == HTTP_LOAD_OK)
		flush(r, &p);
}

/* Without streaming all of it came when the last byte did. */
static void read_whole(struct reading *r)
{
	if (r->q->complete)
		event(r, r->q->body, r->q->n, received_ns(r, r->q->n));
	r->done = true;
}

/* The first bytes of a body, for people: one line, nothing unprintable. */
static void excerpt(const struct answer_request *q, char *buf, size_t size)
{
	size_t k = 0;

	for (size_t i = 0; i < q->n && k + 1 < size; i++)
		buf[k++] = q->body[i] >= ' ' && q->body[i] < 127 ? q->body[i] : ' ';
	buf[k] = 0;
}

static void refused(struct reading *r)
{
	int s = r->q->status;
	enum http_load_failure f = s == 429   ? HTTP_LOAD_429
				   : s >= 500 ? HTTP_LOAD_5XX
				   : s >= 400 ? HTTP_LOAD_4XX
				   : s >= 300 ? HTTP_LOAD_REDIRECT
					      : HTTP_LOAD_BAD_HTTP;
	char text[120];

	excerpt(r->q, text, sizeof(text));
	fail(r, f, "the server answered status %d%s%s", s, *text ? ": " : "", text);
}

/* The shape may be wrong, but an error in it is worth more than that. */
static void not_a_stream(struct reading *r)
{
	struct openai_event e;

	if (!openai_event_read(r->q->body, r->q->n, NULL, &e) && e.has_error)
		return error_event(r, &e);
	fail(r, HTTP_LOAD_BAD_BODY, "asked for a stream of events, got something else");
}

static void judge_end(struct reading *r)
{
	const struct answer *a = r->a;

	if (!r->done && !*a->finish)
		fail(r, HTTP_LOAD_ENDED_EARLY,
		     "the stream ended without a finish reason and without [DONE]");
	else if (!a->n_chunks && a->completion_tokens <= 0)
		fail(r, HTTP_LOAD_EMPTY, "status 200 without a single token");
	else if (str_eq(a->finish, "abort") || str_eq(a->finish, "error"))
		fail(r, HTTP_LOAD_ERROR_BODY, "the server gave up: finish reason '%s'", a->finish);
}

static void judge_counts(struct reading *r)
{
	const struct answer_request *q = r->q;
	struct answer *a = r->a;

	if (!r->done)
		a->doubts |= HTTP_LOAD_NO_DONE;
	if (a->cached_tokens > 0)
		a->doubts |= HTTP_LOAD_CACHED;
	if (q->input_tokens > 0 && a->prompt_tokens >= 0 && a->prompt_tokens != q->input_tokens)
		a->doubts |= HTTP_LOAD_PROMPT_DIFFERS;
	if (a->completion_tokens < 0 || a->prompt_tokens < 0)
		a->doubts |= HTTP_LOAD_NO_USAGE;
	if (a->completion_tokens < 0)
		return;
	if (q->output_tokens > 0 && a->completion_tokens != q->output_tokens)
		a->doubts |= HTTP_LOAD_TOKENS_DIFFER;
	if ((size_t)a->completion_tokens < r->n_with_text)
		a->doubts |= HTTP_LOAD_USAGE_FALSE;
}

void answer_read(const struct answer_request *q, struct answer_sink *sink, struct answer *ret)
{
	struct reading r = {.q = q, .sink = sink, .a = ret};

	*ret = (struct answer){.prompt_tokens = -1, .completion_tokens = -1, .cached_tokens = -1};
	if (q->status < 200 || q->status >= 300)
		return refused(&r);
	if (q->encoded)
		return fail(&r, HTTP_LOAD_BAD_BODY, "the answer is compressed, unasked");
	if (q->stream && !q->event_stream)
		return not_a_stream(&r);
	if (q->stream)
		read_stream(&r);
	else
		read_whole(&r);
	if (!q->complete || ret->failure != HTTP_LOAD_OK)
		return;
	judge_end(&r);
	if (ret->failure == HTTP_LOAD_OK)
		judge_counts(&r);
}
