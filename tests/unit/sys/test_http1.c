#include "sys/http1.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/str.h"

/* Feeds s in pieces of `step` bytes; the body into out. Returns the bytes taken. */
static size_t feed(struct http1 *p, const char *s, size_t n, size_t step, struct str *out)
{
	size_t at = 0;

	http1_init(p);
	while (at < n && !http1_ended(p)) {
		size_t end = MIN(at + step, n);

		while (at < end && !http1_ended(p)) {
			const char *body;
			size_t k, used = http1_next(p, s + at, end - at, &body, &k);

			assert_true(used > 0 && used <= end - at);
			str_addn(out, body ? body : "", k);
			at += used;
		}
	}
	return at;
}

static void add_piece(void *arg, const char *piece, size_t n)
{
	str_addn(arg, piece, n);
}

/* The same by http1_take and with a memo of heads, which knows the heads of all tests so far. */
static size_t feed_fast(struct http1 *p, const char *s, size_t n, size_t step, struct str *out)
{
	static struct http1_memo memo;
	size_t at = 0;

	http1_init(p);
	while (at < n && !http1_ended(p)) {
		size_t end = MIN(at + step, n), used = 0;

		if (!at)
			used = http1_head(p, &memo, s, end);
		used += http1_take(p, s + at + used, end - at - used, add_piece, out);
		assert_true(used > 0 && used <= end - at);
		at += used;
	}
	return at;
}

static void same_as(const struct http1 *p, const char *s, size_t step, const struct str *body,
		    size_t used)
{
	for (int again = 0; again < 2; again++) {
		_cleanup_str_ struct str out = STR_INIT;
		struct http1 q;

		assert_int_equal(feed_fast(&q, s, strlen(s), step, &out), used);
		assert_int_equal(q.state, p->state);
		assert_int_equal(q.status, p->status);
		assert_int_equal(q.keep, p->keep);
		assert_int_equal(q.event_stream, p->event_stream);
		assert_int_equal(q.encoded, p->encoded);
		assert_string_equal(str_c(&out), str_c(body));
		assert_string_equal(q.bad ? q.bad : "", p->bad ? p->bad : "");
	}
}

/* The same answer whatever the pieces it comes in. */
static void expect(const char *s, enum http1_state state, const char *body, size_t rest)
{
	for (size_t step = 1; step <= strlen(s) + 1; step++) {
		_cleanup_str_ struct str out = STR_INIT;
		struct http1 p;
		size_t used = feed(&p, s, strlen(s), step, &out);

		if (p.state != state)
			fail_msg("pieces of %zu: state %d (%s), expected %d: %s", step, p.state,
				 p.bad ? p.bad : "", state, s);
		assert_string_equal(str_c(&out), body);
		same_as(&p, s, step, &out, used);
		if (state == HTTP1_DONE)
			assert_int_equal(strlen(s) - used, rest);
	}
}

static void refuse(const char *s, const char *why)
{
	for (size_t step = 1; step <= strlen(s); step++) {
		_cleanup_str_ struct str out = STR_INIT;
		struct http1 p;

		same_as(&p, s, step, &out, feed(&p, s, strlen(s), step, &out));
		if (p.state != HTTP1_BAD || !strstr(p.bad, why))
			fail_msg("pieces of %zu: state %d, '%s', expected '%s': %s", step, p.state,
				 p.bad ? p.bad : "", why, s);
	}
}

#define OK "HTTP/1.1 200 OK\r\n"

static void test_bodies(void **state)
{
	(void)state;
	expect(OK "Content-Length: 5\r\n\r\nhello", HTTP1_DONE, "hello", 0);
	expect(OK "content-length:5\r\n\r\nhelloHTTP", HTTP1_DONE, "hello", 4);
	expect(OK "Content-Length: 0\r\n\r\n", HTTP1_DONE, "", 0);
	expect(OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", HTTP1_DONE, "hello", 0);
	expect(OK "Content-Length: 5\r\n\r\nhell", HTTP1_BODY_LENGTH, "hell", 0);
	expect(OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n",
	       HTTP1_DONE, "abc0123456789", 0);
	expect(OK "Transfer-Encoding: Chunked \r\n\r\n1\r\nx\r\n0\r\nTrailer: of note\r\n\r\nHT",
	       HTTP1_DONE, "x", 2);
	expect(OK "Transfer-Encoding: chunked\r\n\r\n5\r\nab", HTTP1_CHUNK_DATA, "ab", 0);
	expect(OK "\r\nuntil the end", HTTP1_BODY_CLOSE, "until the end", 0);
	expect("HTTP/1.1 204 No Content\r\n\r\n", HTTP1_DONE, "", 0);
	expect("HTTP/1.1 304\r\nContent-Length: 9\r\n\r\n", HTTP1_DONE, "", 0);
	expect("HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", HTTP1_DONE, "ok",
	       0);
}

static void test_what_the_head_says(void **state)
{
	_cleanup_str_ struct str out = STR_INIT;
	static const char sse[] =
		OK "Content-Type: text/event-stream; charset=utf-8\r\nContent-Length: 0\r\n\r\n";
	static const char closing[] = "HTTP/1.1 503 Busy\r\nConnection: Close\r\n"
				      "Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
	static const char old[] = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
	struct http1 p;

	(void)state;
	feed(&p, sse, strlen(sse), 7, &out);
	assert_true(p.event_stream && p.keep && !p.encoded && p.status == 200);
	feed(&p, closing, strlen(closing), 7, &out);
	assert_true(!p.event_stream && !p.keep && p.encoded && p.status == 503);
	feed(&p, old, strlen(old), 7, &out);
	assert_true(!p.keep && p.state == HTTP1_DONE);
}

static void test_end_of_connection(void **state)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct http1 p;

	(void)state;
	feed(&p, OK "\r\nabc", strlen(OK "\r\nabc"), 3, &out);
	assert_true(!p.keep && http1_eof(&p) && p.state == HTTP1_DONE);
	feed(&p, OK "Content-Length: 9\r\n\r\nabc", strlen(OK "Content-Length: 9\r\n\r\nabc"), 3,
	     &out);
	assert_false(http1_eof(&p));
	feed(&p, OK, strlen(OK), 3, &out);
	assert_false(http1_eof(&p));
}

static void test_refused(void **state)
{
	(void)state;
	refuse("SSH-2.0-OpenSSH_9.2\r\n", "status line");
	refuse("HTTP/2 200 OK\r\n", "status line");
	refuse("HTTP/1.1 2x0 OK\r\n", "status line");
	refuse("HTTP/1.1 099 OK\r\n", "below 100");
	refuse("HTTP/1.1 200 OK\n", "without a CR");
	refuse("HTTP/1.1 200 OK\rX", "CR without");
	refuse(OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "both a length");
	refuse(OK "Content-Length: 5\r\nContent-Length: 6\r\n", "differ");
	refuse(OK "Content-Length: -5\r\n", "no length");
	refuse(OK "Content-Length: 5 5\r\n", "no length");
	refuse(OK "Content-Length:\r\n", "empty");
	refuse(OK "Content-Length: 99999999999999999999999\r\n", "no length");
	refuse(OK "Transfer-Encoding: gzip, chunked\r\n", "other than chunked");
	refuse(OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "other than");
	refuse(OK " folded: line\r\n", "without a name");
	refuse(OK "no colon here\r\n", "without a name");
	refuse(OK "Name : blank before the colon\r\n", "without a name");
	refuse("HTTP/1.1 101 Switching\r\n\r\n", "unasked");
	refuse(OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "no number");
	refuse(OK "Transfer-Encoding: chunked\r\n\r\n-1\r\n", "no number");
	refuse(OK "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "beyond");
	refuse(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n", "longer than");
}

static void test_bounds(void **state)
{
	_cleanup_str_ struct str s = STR_INIT, out = STR_INIT;
	struct http1 p;

	(void)state;
	str_add(&s, OK "X-Long: ");
	while (s.len < 3000)
		str_add(&s, "0123456789");
	str_add(&s, "\r\nContent-Length: 2\r\n\r\nok");
	feed(&p, s.buf, s.len, 100, &out);
	assert_int_equal(p.state, HTTP1_DONE); /* a long header that means nothing to us */

	str_set(&s, OK "Transfer-Encoding: chunked");
	while (s.len < 3000)
		str_add(&s, "          ");
	str_add(&s, "\r\n");
	feed(&p, s.buf, s.len, 100, &out);
	assert_int_equal(p.state, HTTP1_BAD); /* one that does must be whole */

	str_set(&s, OK);
	while (s.len < HTTP1_HEAD_MAX + 100)
		str_add(&s, "X-More: and more\r\n");
	feed(&p, s.buf, s.len, 100, &out);
	assert_int_equal(p.state, HTTP1_BAD);
	assert_non_null(strstr(p.bad, "64 KiB"));

	str_reset(&s);
	while (s.len < HTTP1_HEAD_MAX + 100)
		str_add(&s, "HTTP/1.1 100 Wait\r\n\r\n");
	feed(&p, s.buf, s.len, 100, &out);
	assert_int_equal(p.state, HTTP1_BAD); /* interim answers are bounded too */
}

/* A head longer than the memo is read the ordinary way. */
static void test_take(void **state)
{
	static const char chunked[] =
		OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nHTTP";
	_cleanup_str_ struct str s = STR_INIT, out = STR_INIT;
	struct http1_memo memo = {0};
	struct http1 p;
	size_t used;

	(void)state;
	http1_init(&p);
	used = http1_head(&p, &memo, chunked, strlen(chunked));
	assert_int_equal(used, memo.n);
	assert_int_equal(p.state, HTTP1_CHUNK_SIZE);
	used += http1_take(&p, chunked + used, strlen(chunked) - used, add_piece, &out);
	assert_int_equal(p.state, HTTP1_DONE);
	assert_string_equal(str_c(&out), "abcde");
	assert_int_equal(used, strlen(chunked) - 4);

	http1_init(&p);
	assert_int_equal(http1_head(&p, &memo, "HTTP/1.1 2x0 OK\r\n\r\n", 19), 0);
	assert_int_equal(http1_head(&p, &memo, chunked, 20), 0);
	str_add(&s, OK);
	while (s.len <= HTTP1_MEMO_MAX)
		str_add(&s, "X-More: and more\r\n");
	str_add(&s, "\r\n");
	assert_int_equal(http1_head(&p, &memo, s.buf, s.len), 0);
	assert_int_equal(p.state, HTTP1_STATUS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_what_the_head_says),
		cmocka_unit_test(test_end_of_connection),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_take),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
