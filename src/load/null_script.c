#include "load/null_script.h"

#include <strings.h>

enum { TOKENS_MOST = 1 << 20 };

static uint32_t number_after(const char *body, size_t n, const char *key)
{
	const char *p = memmem(body, n, key, strlen(key)), *end = body + n;
	uint32_t x = 0;

	for (p = p ? p + strlen(key) : end; p < end && (*p == ' ' || *p == ':'); p++)
		;
	for (; p < end && *p >= '0' && *p <= '9' && x < TOKENS_MOST; p++)
		x = x * 10 + (uint32_t)(*p - '0');
	return MIN(x, (uint32_t)TOKENS_MOST);
}

/* The value of Content-Length within the head's n bytes; 0 without. */
static size_t body_length(const char *head, size_t n)
{
	static const char key[] = "\r\ncontent-length:";
	const size_t len = sizeof(key) - 1;

	for (const char *p = head, *end = head + n; (p = memchr(p, '\r', (size_t)(end - p))); p++) {
		size_t x = 0;

		if ((size_t)(end - p) < len || strncasecmp(p, key, len) != 0)
			continue;
		for (p += len; p < end && *p == ' '; p++)
			;
		for (; p < end && *p >= '0' && *p <= '9' && x <= NULL_REQUEST_MAX; p++)
			x = x * 10 + (size_t)(*p - '0');
		return x;
	}
	return 0;
}

bool null_request_whole(const char *in, size_t n, size_t *ret_head, size_t *ret_body)
{
	const char *end = memmem(in, n, "\r\n\r\n", 4);
	size_t head = end ? (size_t)(end - in) + 4 : 0, body;

	if (!end)
		return false;
	body = body_length(in, head);
	if (body > NULL_REQUEST_MAX || n - head < body)
		return false;
	*ret_head = head;
	*ret_body = body;
	return true;
}

struct null_request null_request_read(const char *body, size_t n)
{
	struct null_request q = {.max_tokens = number_after(body, n, "\"max_tokens\"")};

	if (!q.max_tokens)
		q.max_tokens = number_after(body, n, "\"max_completion_tokens\"");
	if (!q.max_tokens)
		q.max_tokens = 16; /* the protocol's default */
	q.stream =
		memmem(body, n, "\"stream\":true", 13) || memmem(body, n, "\"stream\": true", 14);
	return q;
}

void null_answer_plan(const struct null_script *s, const struct null_request *q, size_t serial,
		      struct null_answer *ret)
{
	uint32_t per = MAX(s->tokens_per_chunk, 1u), every = MAX(s->fault_every, 1u);

	*ret = (struct null_answer){.stream = q->stream, .n_tokens = q->max_tokens};
	if (s->n_chunks)
		ret->n_tokens = s->n_chunks * per;
	if (serial % every == 0)
		ret->fault = s->fault;
	if (ret->fault == NULL_TOO_MANY)
		ret->n_tokens++;
	if (ret->fault == NULL_TOO_FEW && ret->n_tokens)
		ret->n_tokens--;
	ret->usage = ret->n_tokens;
	ret->n_chunks = (ret->n_tokens + per - 1) / per;
	if (ret->fault == NULL_WRONG_USAGE)
		ret->usage = ret->n_chunks ? ret->n_chunks - 1 : 0;
	if (ret->fault == NULL_EMPTY)
		ret->n_chunks = ret->usage = 0;
	if (ret->fault == NULL_NEVER_ENDS)
		ret->n_chunks = UINT32_MAX;
}

void null_write_head(const struct null_answer *a, struct str *out)
{
	if (a->fault == NULL_NOT_HTTP)
		return str_add(out, "220 mail.example.com ESMTP\r\n");
	str_add(out, "HTTP/1.1 200 OK\r\ndate: Sun, 29 Nov 2026 12:00:00 GMT\r\nserver: null\r\n"
		     "content-type: text/event-stream; charset=utf-8\r\n");
	str_add(out,
		a->fault == NULL_CLOSE_DELIMITED ? "\r\n" : "transfer-encoding: chunked\r\n\r\n");
}

static void framed(const struct null_answer *a, const char *event, size_t n, struct str *out)
{
	if (a->fault != NULL_CLOSE_DELIMITED)
		str_addf(out, "%zx\r\n", n);
	str_addn(out, event, n);
	if (a->fault != NULL_CLOSE_DELIMITED)
		str_add(out, "\r\n");
}

/* The length of an event of vLLM 0.24 (shared traces of a real server). */
static int event_text(const struct null_answer *a, const char *text, const char *finish, char *buf,
		      size_t size)
{
	return snprintf(buf, size,
			"data: {\"id\":\"cmpl-7a1f0c2b9d3e4f58\",\"object\":\"text_completion\","
			"\"created\":1764417600,\"model\":\"null\",\"choices\":[{\"index\":0,"
			"\"text\":\"%s\",\"logprobs\":null,\"finish_reason\":%s,"
			"\"stop_reason\":null}]%s}\n\n",
			text, finish, a->fault == NULL_NO_USAGE ? "" : ",\"usage\":null");
}

void null_write_chunk(const struct null_answer *a, uint32_t mark, struct str *out)
{
	char text[24], event[400];
	int n;

	(void)snprintf(text, sizeof(text), "%08x", mark);
	n = event_text(a, text, "null", event, sizeof(event));
	framed(a, event, (size_t)n, out);
}

static void usage_event(const struct null_answer *a, struct str *out)
{
	char event[300];
	int n = snprintf(event, sizeof(event),
			 "data: {\"id\":\"cmpl-7a1f0c2b9d3e4f58\",\"choices\":[],\"usage\":{"
			 "\"prompt_tokens\":8,\"total_tokens\":%u,\"completion_tokens\":%u,"
			 "\"prompt_tokens_details\":{\"cached_tokens\":%d}}}\n\n",
			 a->usage + 8, a->usage, a->fault == NULL_CACHED ? 8 : 0);

	framed(a, event, (size_t)n, out);
}

void null_write_end(const struct null_answer *a, struct str *out)
{
	char event[400];

	if (a->fault != NULL_NO_END)
		framed(a, event, (size_t)event_text(a, "", "\"length\"", event, sizeof(event)),
		       out);
	if (a->fault != NULL_NO_USAGE)
		usage_event(a, out);
	if (a->fault != NULL_NO_END && a->fault != NULL_NO_DONE)
		framed(a, "data: [DONE]\n\n", 14, out);
	if (a->fault != NULL_CLOSE_DELIMITED)
		str_add(out, "0\r\n\r\n");
}

enum null_then null_write_fault(const struct null_answer *a, struct str *out)
{
	static const char half[] = "data: {\"choices\":[{\"te";
	static const char bad[] = "data: {\"choices\":[{]}\n\n";
	static const char error[] = "data: {\"error\":{\"message\":\"out of memory\"}}\n\n";
	char event[400];

	switch (a->fault) {
	case NULL_STALL: return NULL_THEN_STOP;
	case NULL_CLOSE: return NULL_THEN_CLOSE;
	case NULL_RESET: return NULL_THEN_RESET;
	case NULL_CUT_CHUNK: str_add(out, "c8\r\nhalf of it"); return NULL_THEN_CLOSE;
	case NULL_BAD_FRAMING: str_add(out, "zz\r\n"); return NULL_THEN_STOP;
	case NULL_CUT_EVENT:
		framed(a, half, sizeof(half) - 1, out);
		str_add(out, "0\r\n\r\n");
		return NULL_THEN_END;
	case NULL_BAD_JSON: framed(a, bad, sizeof(bad) - 1, out); return NULL_GO_ON;
	case NULL_ERROR_EVENT: framed(a, error, sizeof(error) - 1, out); return NULL_GO_ON;
	case NULL_HALF_CHARACTER:
		framed(a, event, (size_t)event_text(a, "\xe2\x82", "null", event, sizeof(event)),
		       out);
		return NULL_GO_ON;
	default: return NULL_GO_ON;
	}
}

bool null_is_whole(const struct null_answer *a)
{
	return !a->stream || a->fault == NULL_REDIRECT || a->fault == NULL_429 ||
	       a->fault == NULL_404 || a->fault == NULL_500 || a->fault == NULL_ERROR_BODY;
}

static void with_length(const char *status, const char *more, const char *body, struct str *out)
{
	str_addf(out,
		 "HTTP/1.1 %s\r\ncontent-type: application/json\r\n%scontent-length: %zu\r\n\r\n%s",
		 status, more, strlen(body), body);
}

void null_write_whole(const struct null_answer *a, struct str *out)
{
	char body[400];

	switch (a->fault) {
	case NULL_REDIRECT:
		return with_length("307 Temporary Redirect", "location: http://127.0.0.1:1/\r\n",
				   "", out);
	case NULL_429:
		return with_length("429 Too Many Requests", "retry-after: 1\r\n",
				   "{\"error\":{\"message\":\"slow down\"}}", out);
	case NULL_404:
		return with_length("404 Not Found", "", "{\"error\":{\"message\":\"no model\"}}",
				   out);
	case NULL_500:
		return with_length("500 Internal Server Error", "connection: close\r\n", "oops",
				   out);
	case NULL_ERROR_BODY:
		return with_length("200 OK", "",
				   "{\"error\":{\"message\":\"out of memory\",\"code\":500}}", out);
	default: break;
	}
	(void)snprintf(
		body, sizeof(body),
		"{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,"
		"\"text\":\"%s\",\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":8,"
		"\"completion_tokens\":%u}}",
		a->fault == NULL_HALF_CHARACTER ? "\xe2\x82" : "all of it", a->usage);
	with_length("200 OK", "", a->fault == NULL_BAD_JSON ? "{\"choices\":[{]" : body, out);
}
