/* What the null server sends is held against the reader of answers: without a fault it must find
 * none, and the framing must be what http1 takes. */
#include "load/null_script.h"

#include <setjmp.h>

#include <cmocka.h>

#include "load/answer.h"
#include "sys/http1.h"

static struct null_request ask(const char *body)
{
	return null_request_read(body, strlen(body));
}

static void test_requests(void **state)
{
	struct null_request q = ask("{\"max_tokens\":512,\"stream\":true}");

	(void)state;
	assert_true(q.stream && q.max_tokens == 512);
	q = ask("{\"max_tokens\": 7, \"stream\": true}");
	assert_true(q.stream && q.max_tokens == 7);
	q = ask("{\"max_completion_tokens\":9,\"stream\":false}");
	assert_true(!q.stream && q.max_tokens == 9);
	assert_int_equal(ask("").max_tokens, 16);
	assert_int_equal(ask("{\"max_tokens\":99999999999}").max_tokens, 1 << 20);
	assert_int_equal(ask("{\"max_tokens\":-5}").max_tokens, 16);
	assert_int_equal(null_request_read("\"max_tokens\":12", 14).max_tokens, 1); /* cut there */
}

static struct null_answer plan(struct null_script s, uint32_t tokens, size_t serial)
{
	struct null_answer a;

	null_answer_plan(&s, &(struct null_request){.max_tokens = tokens, .stream = true}, serial,
			 &a);
	return a;
}

static void test_plans(void **state)
{
	struct null_answer a = plan((struct null_script){.tokens_per_chunk = 3}, 8, 0);

	(void)state;
	assert_int_equal(a.n_chunks, 3);
	assert_int_equal(a.usage, 8);
	a = plan((struct null_script){.n_chunks = 5}, 8, 0);
	assert_true(a.n_chunks == 5 && a.usage == 5);
	a = plan((struct null_script){.fault = NULL_TOO_MANY, .fault_every = 2}, 8, 1);
	assert_true(a.fault == NULL_NONE && a.usage == 8);
	a = plan((struct null_script){.fault = NULL_TOO_MANY, .fault_every = 2}, 8, 2);
	assert_true(a.fault == NULL_TOO_MANY && a.usage == 9 && a.n_chunks == 9);
	a = plan((struct null_script){.fault = NULL_TOO_FEW}, 8, 0);
	assert_true(a.usage == 7 && a.n_chunks == 7);
	a = plan((struct null_script){.fault = NULL_WRONG_USAGE}, 8, 0);
	assert_true(a.usage == 7 && a.n_chunks == 8);
	a = plan((struct null_script){.fault = NULL_EMPTY}, 8, 0);
	assert_true(a.usage == 0 && a.n_chunks == 0);
	a = plan((struct null_script){.fault = NULL_NEVER_ENDS}, 8, 0);
	assert_true(a.n_chunks == UINT32_MAX);
}

/* Head, chunks and end of an answer, read back. */
static void read_back(const struct null_answer *a, struct answer *ret, struct str *text)
{
	_cleanup_str_ struct str out = STR_INIT, body = STR_INIT;
	struct answer_sink sink = {.text = text};
	struct answer_request q = {.stream = true, .output_tokens = (int32_t)a->n_tokens};
	struct http1 p;

	null_write_head(a, &out);
	for (uint32_t k = 0; k < a->n_chunks; k++)
		null_write_chunk(a, 0xabc0 + k, &out);
	null_write_end(a, &out);
	http1_init(&p);
	for (size_t at = 0; at < out.len && !http1_ended(&p);) {
		const char *piece;
		size_t n;

		at += http1_next(&p, out.buf + at, out.len - at, &piece, &n);
		str_addn(&body, piece ? piece : "", n);
	}
	q.complete = http1_eof(&p);
	assert_true(q.complete);
	q.status = p.status;
	q.event_stream = p.event_stream;
	q.body = body.buf;
	q.n = body.len;
	answer_read(&q, &sink, ret);
	vec_release(&sink.chunks);
}

static void test_answers_read_back(void **state)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct null_answer plain = plan((struct null_script){0}, 3, 0);
	struct null_answer closing =
		plan((struct null_script){.fault = NULL_CLOSE_DELIMITED}, 3, 0);
	struct answer a;

	(void)state;
	read_back(&plain, &a, &text);
	if (a.failure != HTTP_LOAD_OK)
		fail_msg("%s", a.why);
	assert_int_equal(a.doubts, 0);
	assert_int_equal(a.n_chunks, 3);
	assert_int_equal(a.completion_tokens, 3);
	assert_string_equal(str_c(&text), "0000abc00000abc10000abc2");
	str_reset(&text);
	read_back(&closing, &a, &text);
	assert_int_equal(a.failure, HTTP_LOAD_OK);
	assert_int_equal(a.n_chunks, 3);
}

static void test_whole_answers(void **state)
{
	static const struct {
		enum null_fault fault;
		int status;
	} rows[] = {{NULL_NONE, 200}, {NULL_ERROR_BODY, 200}, {NULL_REDIRECT, 307}, {NULL_429, 429},
		    {NULL_404, 404},  {NULL_500, 500},        {NULL_BAD_JSON, 200}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct null_answer a = {.fault = rows[i].fault, .usage = 4};
		_cleanup_str_ struct str out = STR_INIT;
		const char *piece;
		struct http1 p;
		size_t at = 0, n;

		assert_true(null_is_whole(&a));
		null_write_whole(&a, &out);
		http1_init(&p);
		while (at < out.len && !http1_ended(&p))
			at += http1_next(&p, out.buf + at, out.len - at, &piece, &n);
		assert_int_equal(p.state, HTTP1_DONE);
		assert_int_equal(at, out.len);
		assert_int_equal(p.status, rows[i].status);
		assert_int_equal(p.keep, rows[i].fault != NULL_500);
	}
	assert_false(null_is_whole(&(struct null_answer){.stream = true, .fault = NULL_STALL}));
}

static void test_what_follows_a_fault(void **state)
{
	static const struct {
		enum null_fault fault;
		enum null_then then;
		bool writes;
	} rows[] = {
		{NULL_STALL, NULL_THEN_STOP, false},      {NULL_CLOSE, NULL_THEN_CLOSE, false},
		{NULL_RESET, NULL_THEN_RESET, false},     {NULL_CUT_CHUNK, NULL_THEN_CLOSE, true},
		{NULL_BAD_FRAMING, NULL_THEN_STOP, true}, {NULL_CUT_EVENT, NULL_THEN_END, true},
		{NULL_BAD_JSON, NULL_GO_ON, true},        {NULL_ERROR_EVENT, NULL_GO_ON, true},
		{NULL_HALF_CHARACTER, NULL_GO_ON, true},  {NULL_NO_USAGE, NULL_GO_ON, false}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct null_answer a = {.stream = true, .fault = rows[i].fault};
		_cleanup_str_ struct str out = STR_INIT;

		assert_int_equal(null_write_fault(&a, &out), rows[i].then);
		assert_int_equal(out.len > 0, rows[i].writes);
	}
}

static void whole(const char *in, bool want, size_t body)
{
	size_t head = 77, n = 77;

	assert_int_equal(null_request_whole(in, strlen(in), &head, &n), want);
	if (!want) {
		assert_int_equal(head, 77);
		return;
	}
	assert_int_equal(n, body);
	assert_memory_equal(in + head - 4, "\r\n\r\n", 4);
}

static void test_whole_requests(void **state)
{
	(void)state;
	whole("", false, 0);
	whole("GET / HTTP/1.1\r\nHost: a\r\n", false, 0);
	whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, 0);
	whole("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", false, 0);
	whole("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", true, 3);
	whole("POST / HTTP/1.1\r\ncontent-length:3\r\nA: b\r\n\r\nabcd", true, 3);
	whole("POST / HTTP/1.1\r\nX-Content-Length: 9\r\nCONTENT-LENGTH:  2\r\n\r\nab", true, 2);
	whole("POST /content-length:9 HTTP/1.1\r\n\r\n", true, 0);
	whole("POST / HTTP/1.1\r\nContent-Length: none\r\n\r\n", true, 0);
	whole("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", false, 0);
	whole("\r\n\r\n", true, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_plans),
		cmocka_unit_test(test_answers_read_back),
		cmocka_unit_test(test_whole_answers),
		cmocka_unit_test(test_whole_requests),
		cmocka_unit_test(test_what_follows_a_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
