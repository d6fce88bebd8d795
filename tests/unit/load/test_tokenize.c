/* What a server is asked for the ids of a text, and what may come back. */
#include "load/tokenize.h"

#include <setjmp.h>

#include <cmocka.h>

static void test_requests(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(tokenize_request(TOKENIZE_FORM_VLLM, "m", "a \"b\"\n\xc3\xa9", &s, &err),
			 0);
	assert_string_equal(str_c(&s), "{\"model\":\"m\",\"prompt\":\"a \\\"b\\\"\\n\xc3\xa9\","
				       "\"add_special_tokens\":true}");
	str_reset(&s);
	assert_int_equal(tokenize_request(TOKENIZE_FORM_LLAMA, "m", "a", &s, &err), 0);
	assert_string_equal(str_c(&s),
			    "{\"content\":\"a\",\"add_special\":true,\"parse_special\":true}");
	assert_int_equal(tokenize_request(TOKENIZE_FORM_VLLM, "m", "half \xc3", &s, &err),
			 -LEM_E_REFUSED);
}

static void expect(const char *answer, const int32_t *ids, size_t n)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int32_t *got = NULL;
	size_t n_got = 77;
	int rc = tokenize_answer(answer, strlen(answer), &a, &got, &n_got, &err);

	if (!ids) {
		assert_int_equal(rc, -LEM_E_PARSE);
		assert_null(got);
		assert_int_equal(n_got, 77);
		return;
	}
	assert_int_equal(rc, 0);
	assert_int_equal(n_got, n);
	assert_memory_equal(got, ids, n * sizeof(*ids));
}

static void test_answers(void **state)
{
	static const int32_t ids[] = {1, 0, 2147483646};
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"[1,2]",
		"{\"tokens\":[]}",
		"{\"tokens\":[1,\"two\"]}",
		"{\"tokens\":[1,-2]}",
		"{\"tokens\":[1,2.5]}",
		"{\"tokens\":[[1,2]]}",
		"{\"tokens\":[2147483647]}",
		"{\"tokens\":[99999999999999999999]}",
		"{\"tokens\":{\"0\":1}}",
		"{\"tokens\":[1]} and more",
		"{\"tokens\":[1",
		"{\"error\":{\"message\":\"no\"}}",
		"<html>404</html>",
		"{\"tokens\":[{\"id\":1,\"piece\":\"a\"}]}",
	};

	(void)state;
	expect("{\"count\":3,\"max_model_len\":9,\"tokens\":[1,0,2147483646],\"token_strs\":null}",
	       ids, 3);
	expect("{\"tokens\":[1]}", ids, 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect(bad[i], NULL, 0);
}

/* A text of single-byte tokens with long ids still fits. */
static void test_bound(void **state)
{
	(void)state;
	assert_true(tokenize_answer_max(1000) >= 1000 * strlen("2147483647, ") + 200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
