#include "load/answer.h"

#include <setjmp.h>

#include <cmocka.h>

/* One answer read from text; a piece every `step` bytes, received at its end's offset × 1000 ns. */
struct got {
	struct answer a;
	struct answer_sink sink;
	struct str text;
};

static void read_in(struct got *g, struct answer_request q, const char *body, size_t step)
{
	size_t n = strlen(body), k = n / step + 1;
	_cleanup_free_ char *copy = lem_strdup(body);
	_cleanup_free_ struct answer_piece *pieces = lem_calloc(k, sizeof(*pieces));

	for (size_t i = 0; i < k; i++) {
		pieces[i].end = MIN((i + 1) * step, n);
		pieces[i].t_ns = (int64_t)pieces[i].end * 1000;
	}
	*g = (struct got){0};
	g->sink.text = &g->text;
	q.body = copy;
	q.n = n;
	q.pieces = pieces;
	q.n_pieces = k;
	answer_read(&q, &g->sink, &g->a);
}

static void done(struct got *g)
{
	vec_release(&g->sink.chunks);
	str_release(&g->text);
}

static const struct answer_request stream = {
	.status = 200, .complete = true, .stream = true, .event_stream = true};
static const struct answer_request plain = {.status = 200, .complete = true};

static void expect(struct answer_request q, const char *body, enum http_load_failure f,
		   uint32_t doubts, const char *text)
{
	for (size_t step = 1; step < 40; step += 13) {
		struct got g;

		read_in(&g, q, body, step);
		if (g.a.failure != f || g.a.doubts != doubts)
			fail_msg("failure %d (%s) doubts %x, expected %d and %x: %s", g.a.failure,
				 g.a.why, g.a.doubts, f, doubts, body);
		assert_int_equal(!*g.a.why, f == HTTP_LOAD_OK);
		assert_string_equal(str_c(&g.text), text);
		done(&g);
	}
}

#define TEXT(t) "data: {\"choices\":[{\"text\":\"" t "\",\"finish_reason\":null}]}\n\n"
#define END     "data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}]}\n\n"
#define USAGE(p, c)                                                                           \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":" #p ",\"completion_tokens\":" #c \
	"}}\n\n"
#define DONE "data: [DONE]\n\n"

#define TIMED(t, k)                                               \
	"data: {\"choices\":[{\"text\":\"" t                      \
	"\",\"finish_reason\":null}],\"timings\":{\"cache_n\":0," \
	"\"prompt_n\":9,\"predicted_n\":" #k "}}\n\n"
#define TIMED_END(k)                                                                          \
	"data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"}],\"usage\":{"       \
	"\"completion_tokens\":" #k ",\"prompt_tokens\":9,\"prompt_tokens_details\":{"        \
	"\"cached_tokens\":0}},\"timings\":{\"cache_n\":0,\"prompt_n\":9,\"predicted_n\":" #k \
	"}}\n\n"

/* llama-server: no chunk for a token that ends within a character, tokens so far in each. */
static void test_tokens_told_as_timings(void **state)
{
	struct answer_request q = stream;
	struct got g;

	(void)state;
	q.output_tokens = 5;
	q.input_tokens = 9;
	expect(q, TIMED("a", 1) TIMED("\xc3\xa9", 3) TIMED("b", 4) TIMED_END(5) DONE, HTTP_LOAD_OK,
	       0,
	       "a\xc3\xa9"
	       "b");
	read_in(&g, q, TIMED("a", 1) TIMED("\xc3\xa9", 3) TIMED("b", 4) TIMED_END(5) DONE, 1);
	assert_int_equal(g.a.n_chunks, 3);
	assert_int_equal(g.sink.chunks.at[1].tokens, 3);
	assert_int_equal(g.sink.chunks.at[2].tokens, 4);
	assert_int_equal(g.a.completion_tokens, 5);
	assert_int_equal(g.a.cached_tokens, 0);
	done(&g);
	q.complete = false; /* what was told before the connection broke is kept */
	read_in(&g, q, TIMED("a", 1) TIMED("b", 2), 7);
	assert_int_equal(g.a.completion_tokens, 2);
	assert_int_equal(g.a.prompt_tokens, 9);
	done(&g);
}

static void test_stream(void **state)
{
	struct answer_request q = stream;
	struct got g;

	(void)state;
	q.output_tokens = 3;
	q.input_tokens = 9;
	expect(q, TEXT("a") TEXT("bc") END USAGE(9, 3) DONE, HTTP_LOAD_OK, 0, "abc");
	expect(stream, ": hello\n\nevent: message\nid: 1\n" TEXT("a") END USAGE(9, 1) "data:[DONE]",
	       HTTP_LOAD_OK, 0, "a");
	expect(stream, "data: {\"choices\":\r\ndata:  [{\"text\":\"x\"}]}\r\n\r\n" USAGE(1, 1) DONE,
	       HTTP_LOAD_OK, 0, "x");
	read_in(&g, q, TEXT("a") TEXT("bc") END USAGE(9, 3) DONE, 1);
	assert_int_equal(g.a.n_chunks, 2);
	assert_int_equal(g.sink.chunks.n, 2);
	assert_int_equal(g.sink.chunks.at[1].n_text, 2);
	assert_string_equal(g.a.finish, "length");
	assert_int_equal(g.a.prompt_tokens, 9);
	assert_int_equal(g.a.completion_tokens, 3);
	/* stamped by the byte that ends the data line */
	assert_int_equal(g.a.t_first_ns, (int64_t)(strlen(TEXT("a")) - 1) * 1000);
	assert_int_equal(g.a.t_last_ns, (int64_t)(strlen(TEXT("a") TEXT("bc")) - 1) * 1000);
	done(&g);
}

static void test_chat(void **state)
{
	static const char body[] =
		"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
		"data: "
		"{\"choices\":[{\"delta\":{\"content\":\"\"}}],\"usage\":{\"prompt_tokens\":4,"
		"\"completion_tokens\":1}}\n\n"
		"data: "
		"{\"choices\":[{\"delta\":{\"content\":\"hey\"}}],\"usage\":{\"prompt_tokens\":4,"
		"\"completion_tokens\":5}}\n\n"
		"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" USAGE(4, 5)
			DONE;
	struct got g;

	(void)state;
	read_in(&g, stream, body, 1000);
	assert_int_equal(g.a.failure, HTTP_LOAD_OK);
	assert_int_equal(g.a.doubts, 0);
	assert_int_equal(g.a.n_chunks, 2); /* the half character counts, role and end do not */
	assert_int_equal(g.sink.chunks.at[0].tokens, 1);
	assert_int_equal(g.sink.chunks.at[1].tokens, 5);
	done(&g);
}

static void test_whole(void **state)
{
	struct answer_request q = plain;

	(void)state;
	q.output_tokens = 2;
	expect(q,
	       "{\"choices\":[{\"text\":\"ab\",\"finish_reason\":\"length\"}],"
	       "\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
	       HTTP_LOAD_OK, 0, "ab");
	expect(q, "{\"choices\":[{\"message\":{\"content\":\"ab\"},\"finish_reason\":\"stop\"}]}",
	       HTTP_LOAD_OK, HTTP_LOAD_NO_USAGE, "ab");
	expect(q, "{\"error\":{\"message\":\"out of \\u20ac\"}}", HTTP_LOAD_ERROR_BODY, 0, "");
	expect(q, "<html>", HTTP_LOAD_BAD_BODY, 0, "");
	expect(q, "{}", HTTP_LOAD_EMPTY, 0, "");
}

static void test_doubts(void **state)
{
	struct answer_request q = stream;

	(void)state;
	q.output_tokens = 2;
	q.input_tokens = 5;
	expect(q, TEXT("a") END USAGE(5, 3) DONE, HTTP_LOAD_OK, HTTP_LOAD_TOKENS_DIFFER, "a");
	expect(q, TEXT("a") END USAGE(6, 2) DONE, HTTP_LOAD_OK, HTTP_LOAD_PROMPT_DIFFERS, "a");
	expect(q, TEXT("a") END DONE, HTTP_LOAD_OK, HTTP_LOAD_NO_USAGE, "a");
	expect(q, TEXT("a") END USAGE(5, 2), HTTP_LOAD_OK, HTTP_LOAD_NO_DONE, "a");
	expect(q, TEXT("a") TEXT("b") TEXT("c") END USAGE(5, 2) DONE, HTTP_LOAD_OK,
	       HTTP_LOAD_USAGE_FALSE, "abc");
	expect(q, TEXT("a") END USAGE(5, 9) USAGE(5, 2) DONE, HTTP_LOAD_OK,
	       HTTP_LOAD_USAGE_FALSE | HTTP_LOAD_USAGE_TWICE, "a");
	expect(q, END TEXT("late") USAGE(5, 2) DONE, HTTP_LOAD_OK, HTTP_LOAD_AFTER_END, "late");
	expect(q, TEXT("a") END USAGE(5, 2) DONE TEXT("late"), HTTP_LOAD_OK, HTTP_LOAD_AFTER_END,
	       "a");
	expect(q,
	       TEXT("a") END
	       "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2,"
	       "\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n" DONE,
	       HTTP_LOAD_OK, HTTP_LOAD_CACHED, "a");
}

static void test_bad_streams(void **state)
{
	struct answer_request q = stream;

	(void)state;
	expect(q, TEXT("a") "data: {\"choices\":[{]}\n\n" DONE, HTTP_LOAD_BAD_BODY, 0, "a");
	expect(q, TEXT("a") "data: {\"choices\":[{\"te", HTTP_LOAD_BAD_BODY, 0, "a");
	expect(q, TEXT("half \xe2\x82") DONE, HTTP_LOAD_BAD_BODY, 0, "");
	expect(q, TEXT("a"), HTTP_LOAD_ENDED_EARLY, 0, "a");
	expect(q, "", HTTP_LOAD_ENDED_EARLY, 0, "");
	expect(q, DONE, HTTP_LOAD_EMPTY, 0, "");
	expect(q, END USAGE(3, 0) DONE, HTTP_LOAD_EMPTY, 0, "");
	expect(q, TEXT("a") "data: {\"error\":{\"message\":\"boom\"}}\n\n" DONE,
	       HTTP_LOAD_ERROR_BODY, 0, "a");
	expect(q,
	       TEXT("a") "data: "
			 "{\"choices\":[{\"text\":\"\",\"finish_reason\":\"abort\"}]}\n\n" DONE,
	       HTTP_LOAD_ERROR_BODY, 0, "a");
	q.event_stream = false;
	expect(q, "{\"error\":{\"message\":\"no\"}}", HTTP_LOAD_ERROR_BODY, 0, "");
	expect(q, "{\"choices\":[{\"text\":\"x\"}]}", HTTP_LOAD_BAD_BODY, 0, "");
	q.encoded = true;
	expect(q, "\x1f\x8b", HTTP_LOAD_BAD_BODY, 0, "");
}

static void test_status(void **state)
{
	static const struct {
		int status;
		enum http_load_failure f;
	} rows[] = {{429, HTTP_LOAD_429},   {400, HTTP_LOAD_4XX},      {404, HTTP_LOAD_4XX},
		    {503, HTTP_LOAD_5XX},   {302, HTTP_LOAD_REDIRECT}, {304, HTTP_LOAD_REDIRECT},
		    {0, HTTP_LOAD_BAD_HTTP}};
	struct answer_request q = stream;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		q.status = rows[i].status;
		expect(q, "because", rows[i].f, 0, "");
	}
}

/* Cut off by the connection: what came is told, and the body is not blamed for it. */
static void test_incomplete(void **state)
{
	struct answer_request q = stream;
	struct got g;

	(void)state;
	q.complete = false;
	read_in(&g, q, TEXT("a") TEXT("b") "data: {\"cho", 5);
	assert_int_equal(g.a.failure, HTTP_LOAD_OK);
	assert_int_equal(g.a.doubts, 0);
	assert_int_equal(g.a.n_chunks, 2);
	done(&g);
}

/* Events that differ in their text only are compared with the one before, not read; what comes of
 * them must be the same, and whatever is wrong with one must be found. */
static void test_repeated(void **state)
{
	(void)state;
	expect(stream,
	       TEXT("a") TEXT("") TEXT("longer") TEXT("q\\\"\\u00e9") TEXT("z") END USAGE(1, 5)
		       DONE,
	       HTTP_LOAD_OK, 0, "alongerq\"\xc3\xa9z");
	expect(stream,
	       TEXT("a") TEXT("b") ": ping\n\n" TEXT("c") "\n\n" TEXT("d") END USAGE(1, 4) DONE,
	       HTTP_LOAD_OK, 0, "abcd");
	expect(stream,
	       TEXT("a") "data: "
			 "{\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}\r\n\r\n" TEXT("c")
				 END USAGE(1, 3) DONE,
	       HTTP_LOAD_OK, 0, "abc");
	/* more data on the next line belongs to the event */
	expect(stream,
	       TEXT("a") "data: {\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}\ndata: "
			 "\n\n" END USAGE(1, 2) DONE,
	       HTTP_LOAD_OK, 0, "ab");
	expect(stream,
	       TEXT("a") "data: {\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}\ndata: "
			 "x\n\n" DONE,
	       HTTP_LOAD_BAD_BODY, 0, "a");
	expect(stream, TEXT("a") END USAGE(1, 1) DONE TEXT("b"), HTTP_LOAD_OK, HTTP_LOAD_AFTER_END,
	       "a");
	expect(stream, TEXT("a") END TEXT("b") USAGE(1, 2) DONE, HTTP_LOAD_OK, HTTP_LOAD_AFTER_END,
	       "ab");
	expect(stream, TEXT("a") TEXT("\xe2\x82") DONE, HTTP_LOAD_BAD_BODY, 0, "a");
	expect(stream, TEXT("a") TEXT("tab\t") DONE, HTTP_LOAD_BAD_BODY, 0, "a");
	expect(stream, TEXT("a") TEXT("\\x") DONE, HTTP_LOAD_BAD_BODY, 0, "a");
	expect(stream, TEXT("a") TEXT("b\",\"c\":\"") END USAGE(1, 2) DONE, HTTP_LOAD_OK, 0, "ab");
	expect(stream, TEXT("a") "data: {\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}",
	       HTTP_LOAD_BAD_BODY, 0, "a");
	expect(stream, TEXT("a") "data: {\"choices\":[{\"text\":\"b", HTTP_LOAD_BAD_BODY, 0, "a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stream),      cmocka_unit_test(test_tokens_told_as_timings),
		cmocka_unit_test(test_repeated),    cmocka_unit_test(test_chat),
		cmocka_unit_test(test_whole),       cmocka_unit_test(test_doubts),
		cmocka_unit_test(test_bad_streams), cmocka_unit_test(test_status),
		cmocka_unit_test(test_incomplete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
