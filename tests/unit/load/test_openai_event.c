#include "load/openai_event.h"

#include <setjmp.h>

#include <cmocka.h>

static struct openai_event read_ok(const char *json, struct openai_memo *memo)
{
	struct openai_event e;
	const char *bad = openai_event_read(json, strlen(json), memo, &e);

	if (bad)
		fail_msg("%s: %s", bad, json);
	return e;
}

static void text_is(const struct openai_event *e, const char *want)
{
	_cleanup_str_ struct str out = STR_INIT;

	for (size_t i = 0; i < e->n_parts; i++)
		openai_text_decode(&e->parts[i], &out);
	assert_string_equal(str_c(&out), want);
	if (!e->tools)
		assert_int_equal(e->n_text, strlen(want));
}

static void test_completion_events(void **state)
{
	struct openai_event e;

	(void)state;
	/* as vLLM 0.24 sends them (shared traces of a real server) */
	e = read_ok(
		"{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\","
		"\"choices\":[{\"index\":0,\"text\":\" a\\\"\\n\",\"logprobs\":null,"
		"\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}",
		NULL);
	assert_true(e.has_choice && !e.has_usage && !e.has_error && !*e.finish);
	text_is(&e, " a\"\n");
	e = read_ok("{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":39,"
		    "\"completion_tokens\":32,\"prompt_tokens_details\":{\"cached_tokens\":5}}}",
		    NULL);
	assert_true(!e.has_choice && e.has_usage);
	assert_int_equal(e.prompt_tokens, 7);
	assert_int_equal(e.completion_tokens, 32);
	assert_int_equal(e.cached_tokens, 5);
	e = read_ok(
		"{\"choices\":[{\"text\":\"\",\"finish_reason\":\"length\"},{\"text\":\"second\"}],"
		"\"usage\":{\"completion_tokens\":1.5,\"prompt_tokens\":99999999999,"
		"\"prompt_tokens_details\":null}}",
		NULL);
	assert_string_equal(e.finish, "length");
	text_is(&e, "");
	assert_int_equal(e.completion_tokens, -1);
	assert_int_equal(e.prompt_tokens, -1);
	assert_int_equal(e.cached_tokens, -1);
}

/* As llama-server sends them: tokens so far beside each text, usage in the event that ends it. */
static void test_timings(void **state)
{
	struct openai_memo memo = {0};
	struct openai_event e;

	(void)state;
	e = read_ok(
		"{\"choices\":[{\"text\":\" a\",\"index\":0,\"finish_reason\":null}],\"timings\":{"
		"\"cache_n\":3,\"prompt_n\":29,\"prompt_ms\":1.5,\"predicted_n\":4}}",
		&memo);
	assert_true(e.has_choice && e.has_usage);
	assert_int_equal(e.completion_tokens, 4);
	assert_int_equal(e.prompt_tokens, 32);
	assert_int_equal(e.cached_tokens, 3);
	text_is(&e, " a");
	/* the next one has another count at the same length: it must be read, not remembered */
	e = read_ok(
		"{\"choices\":[{\"text\":\" b\",\"index\":0,\"finish_reason\":null}],\"timings\":{"
		"\"cache_n\":3,\"prompt_n\":29,\"prompt_ms\":1.5,\"predicted_n\":5}}",
		&memo);
	assert_int_equal(e.completion_tokens, 5);
	/* usage is the better word, before or after */
	e = read_ok("{\"choices\":[],\"timings\":{\"predicted_n\":4},\"usage\":{"
		    "\"prompt_tokens\":7,\"completion_tokens\":9}}",
		    NULL);
	assert_int_equal(e.completion_tokens, 9);
	e = read_ok("{\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9},"
		    "\"timings\":{\"predicted_n\":4,\"prompt_n\":1,\"cache_n\":1}}",
		    NULL);
	assert_int_equal(e.completion_tokens, 9);
	assert_int_equal(e.prompt_tokens, 7);
	assert_int_equal(e.cached_tokens, -1);
}

static void test_timings_that_tell_nothing(void **state)
{
	struct openai_event e;

	(void)state;
	e = read_ok("{\"choices\":[{\"text\":\"a\"}],\"timings\":{\"prompt_n\":29,\"cache_n\":0}}",
		    NULL);
	assert_false(e.has_usage);
	e = read_ok("{\"choices\":[{\"text\":\"a\"}],\"timings\":null}", NULL);
	assert_false(e.has_usage);
	e = read_ok("{\"choices\":[{\"text\":\"a\"}],\"timings\":{\"predicted_n\":2.5}}", NULL);
	assert_false(e.has_usage);
	e = read_ok("{\"choices\":[],\"timings\":{\"predicted_n\":1,\"prompt_n\":2147483647,"
		    "\"cache_n\":2147483647}}",
		    NULL);
	assert_int_equal(e.completion_tokens, 1);
	assert_int_equal(e.prompt_tokens, -1);
	assert_non_null(openai_event_read("{\"timings\":{\"predicted_n\":}}", 28, NULL, &e));
}

static void test_chat_events(void **state)
{
	struct openai_event e;

	(void)state;
	e = read_ok("{\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}", NULL);
	assert_true(e.role && e.has_choice && e.n_text == 0);
	e = read_ok("{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":\"so\"}}]}",
		    NULL);
	text_is(&e, "hmso");
	e = read_ok("{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[{\"id\":1}]},"
		    "\"finish_reason\":\"a reason longer than any\"}]}",
		    NULL);
	assert_true(e.tools && e.n_text == strlen("[{\"id\":1}]"));
	assert_string_equal(e.finish, "other");
	e = read_ok("{\"choices\":[{\"delta\":{\"tool_calls\":[],\"content\":3}}]}", NULL);
	assert_true(!e.tools && !e.n_text);
}

static void test_errors(void **state)
{
	static const char *const errors[] = {
		"{\"error\":{\"message\":\"no such model\",\"code\":404}}",
		"{\"error\":\"no such model\"}",
		"{\"object\":\"error\",\"message\":\"no such model\",\"code\":400}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		_cleanup_str_ struct str out = STR_INIT;
		struct openai_event e = read_ok(errors[i], NULL);

		assert_true(e.has_error);
		openai_text_decode(&e.error_message, &out);
		assert_string_equal(str_c(&out), "no such model");
	}
	assert_true(read_ok("{\"error\":true}", NULL).has_error);
	assert_false(read_ok("{\"error\":null,\"object\":\"chat.completion\"}", NULL).has_error);
}

static void test_escapes(void **state)
{
	struct openai_event e;

	(void)state;
	e = read_ok("{\"choices\":[{\"text\":\"\\u0041\\u00e9\\u20AC\\ud83d\\ude00\\ud83d\\t\\/"
		    "\xc3\xa9\"}]}",
		    NULL);
	text_is(&e, "A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\t/\xc3\xa9");
	e = read_ok("{\"choices\":[{\"text\":\"\\ude00\\ud83d\\u0041\"}]}", NULL);
	text_is(&e, "\xef\xbf\xbd\xef\xbf\xbd"
		    "A");
}

static void refuse(const char *json, const char *why)
{
	struct openai_event e = {.n_parts = 77};
	const char *bad = openai_event_read(json, strlen(json), NULL, &e);

	if (!bad || !strstr(bad, why))
		fail_msg("'%s', expected '%s': %s", bad ? bad : "accepted", why, json);
	assert_int_equal(e.n_parts, 77);
}

static void test_refused(void **state)
{
	_cleanup_str_ struct str deep = STR_INIT;

	(void)state;
	refuse("", "object is missing");
	refuse("[]", "object is missing");
	refuse("{", "string is missing");
	refuse("{\"a\":1,}", "string is missing");
	refuse("{\"a\" 1}", "colon");
	refuse("{\"a\":}", "number");
	refuse("{\"a\":1", "cut off");
	refuse("{\"a\":1}x", "more than one");
	refuse("{\"a\":1}{\"a\":1}", "more than one");
	refuse("{\"a\":tru}", "word");
	refuse("{\"a\":nul", "word");
	refuse("{\"a\":01}", "number");
	refuse("{\"a\":-}", "number");
	refuse("{\"a\":1.}", "point");
	refuse("{\"a\":1e}", "exponent");
	refuse("{\"a\":[1,]}", "number");
	refuse("{\"a\":[1 2]}", "array that is cut off");
	refuse("{\"a\":\"\\x\"}", "escape");
	refuse("{\"a\":\"\\u12g4\"}", "hex");
	refuse("{\"a\":\"\\u123", "hex");
	refuse("{\"a\":\"tab\there\"}", "control");
	refuse("{\"a\":\"half \xe2\x82\"}", "UTF-8");
	refuse("{\"a\":\"\xff\"}", "UTF-8");
	refuse("{\"a\":\"no end", "without an end");
	refuse("{\"choices\":[3]}", "object is missing");
	str_add(&deep, "{\"a\":");
	for (int i = 0; i < 100; i++)
		str_addc(&deep, '[');
	refuse(str_c(&deep), "nesting");
}

/* With a memo each event reads exactly as without. */
static void test_memo_changes_nothing(void **state)
{
	static const char *const events[] = {
		"{\"id\":\"1\",\"choices\":[{\"text\":\"a\",\"finish_reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"longer than the "
		"first\",\"finish_reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"\",\"finish_reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"q\\\"\\u00e9\",\"finish_reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"a\",\"finish_reason\":\"x\",\"finish_"
		"reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"a\",\"text\":\"b\",\"finish_reason\":null}]"
		"}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"z\",\"finish_reason\":\"stop\"}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"a\",\"finish_reason\":null}],\"usage\":{}}",
		"{\"id\":\"1\",\"choices\":[{\"text\":null,\"finish_reason\":null}]}",
		"{\"id\":\"1\",\"choices\":[{\"text\":\"b\",\"finish_reason\":null}]}",
	};
	struct openai_memo memo = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		struct openai_event with = read_ok(events[i], &memo),
				    without = read_ok(events[i], NULL);

		assert_int_equal(with.n_text, without.n_text);
		assert_int_equal(with.n_parts, without.n_parts);
		for (size_t k = 0; k < with.n_parts; k++) {
			assert_ptr_equal(with.parts[k].raw, without.parts[k].raw);
			assert_int_equal(with.parts[k].n, without.parts[k].n);
		}
		assert_string_equal(with.finish, without.finish);
		assert_int_equal(with.has_usage, without.has_usage);
	}
	/* the next event within more bytes is found by the memo alone, or not at all */
	static const char more[] =
		"{\"id\":\"1\",\"choices\":[{\"text\":\"cd\",\"finish_reason\":null}]}\n\ndata: {";
	struct openai_event next = {.n_parts = 77};

	assert_int_equal(openai_event_next(&memo, more, strlen(more), &next), strlen(more) - 9);
	assert_int_equal(next.n_text, 2);
	assert_int_equal(next.n_parts, 1);
	assert_memory_equal(next.parts[0].raw, "cd", 2);
	assert_int_equal(next.prompt_tokens, -1);
	next.n_parts = 77;
	for (size_t n = 0; n < strlen(more) - 9; n++)
		assert_int_equal(openai_event_next(&memo, more, n, &next), 0);
	assert_int_equal(openai_event_next(&(struct openai_memo){0}, more, strlen(more), &next), 0);
	assert_int_equal(next.n_parts, 77);
	assert_non_null(openai_event_read("", 0, &memo, &next));
	/* and lets nothing pass that is wrong */
	struct openai_event e;
	static const char wrong[] =
		"{\"id\":\"1\",\"choices\":[{\"text\":\"\x80\",\"finish_reason\":null}]}";

	assert_non_null(openai_event_read(wrong, strlen(wrong), &memo, &e));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_completion_events),
		cmocka_unit_test(test_chat_events),
		cmocka_unit_test(test_timings),
		cmocka_unit_test(test_timings_that_tell_nothing),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_memo_changes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
