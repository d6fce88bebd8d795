#include "load/openai.h"

#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

static const int32_t ids[] = {1, 99, 32000};

static void expect(const struct openai_ask *a, const char *want)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	json_t *parsed;

	if (openai_body(a, &s, &err) < 0)
		fail_msg("%s", err.what);
	assert_string_equal(str_c(&s), want);
	parsed = json_loads(str_c(&s), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(parsed);
	json_decref(parsed);
}

static struct openai_ask ask(enum openai_dialect d)
{
	return (struct openai_ask){.dialect = d,
				   .model = "m",
				   .tokens = ids,
				   .n_tokens = 3,
				   .max_tokens = 64,
				   .exact = true,
				   .stream = true};
}

#define HEAD "{\"model\":\"m\",\"prompt\":[1,99,32000],\"max_tokens\":64,"
#define TAIL "\"stream\":true,\"stream_options\":{\"include_usage\":true}}"

static void test_dialects(void **state)
{
	struct openai_ask a;

	(void)state;
	a = ask(OPENAI_VLLM);
	expect(&a, HEAD "\"min_tokens\":64,\"ignore_eos\":true,\"temperature\":0," TAIL);
	a = ask(OPENAI_SGLANG);
	a.has_seed = true;
	a.seed = 42;
	a.usage_in_chunks = true;
	expect(&a, HEAD "\"min_tokens\":64,\"ignore_eos\":true,\"temperature\":0,\"seed\":42,"
			"\"stream\":true,\"stream_options\":{\"include_usage\":true,"
			"\"continuous_usage_stats\":true}}");
	a = ask(OPENAI_TENSORRT);
	a.usage_in_chunks = true; /* it has no such thing */
	expect(&a, HEAD "\"min_tokens\":64,\"ignore_eos\":true,\"temperature\":0," TAIL);
	a.stream = false; /* stream_options without stream is refused by it */
	expect(&a,
	       HEAD "\"min_tokens\":64,\"ignore_eos\":true,\"temperature\":0,\"stream\":false}");
	a = ask(OPENAI_LLAMACPP);
	expect(&a, HEAD "\"ignore_eos\":true,\"temperature\":0,\"cache_prompt\":false," TAIL);
	a.cache_prompt = a.usage_in_chunks = true;
	expect(&a, HEAD "\"ignore_eos\":true,\"temperature\":0,\"cache_prompt\":true,"
			"\"stream\":true,\"stream_options\":{\"include_usage\":true},"
			"\"timings_per_token\":true}");
	a.stream = false; /* nothing to count in parts */
	expect(&a, HEAD "\"ignore_eos\":true,\"temperature\":0,\"cache_prompt\":true,"
			"\"stream\":false}");
	a = ask(OPENAI_GENERIC);
	a.temperature = 0.7;
	expect(&a, HEAD "\"temperature\":0.7," TAIL);
	a = ask(OPENAI_VLLM);
	a.exact = false;
	expect(&a, HEAD "\"temperature\":0," TAIL);
}

static void test_transformers(void **state)
{
	struct openai_ask a = ask(OPENAI_TRANSFORMERS);

	(void)state;
	a.tokens = NULL;
	a.text = "a \"b\"";
	expect(&a, "{\"model\":\"m\",\"prompt\":\"a \\\"b\\\"\",\"max_tokens\":64,"
		   "\"generation_config\":\"{\\\"min_new_tokens\\\":64,\\\"max_new_tokens\\\":64,"
		   "\\\"do_sample\\\":false}\",\"stream\":true}");
	a.temperature = 0.5;
	a.exact = false;
	expect(&a, "{\"model\":\"m\",\"prompt\":\"a \\\"b\\\"\",\"max_tokens\":64,"
		   "\"generation_config\":\"{\\\"max_new_tokens\\\":64,\\\"do_sample\\\":true,"
		   "\\\"temperature\\\":0.5}\",\"stream\":true}");
}

static void test_chat(void **state)
{
	struct openai_ask a = ask(OPENAI_TENSORRT);

	(void)state;
	a.endpoint = OPENAI_CHAT;
	a.tokens = NULL;
	a.text = "hi\n";
	expect(&a, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\\n\"}],"
		   "\"max_completion_tokens\":64,\"min_tokens\":64,\"ignore_eos\":true,"
		   "\"temperature\":0," TAIL);
	a.dialect = OPENAI_VLLM;
	expect(&a,
	       "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\\n\"}],"
	       "\"max_tokens\":64,\"min_tokens\":64,\"ignore_eos\":true,\"temperature\":0," TAIL);
}

static void refuse(const struct openai_ask *a, const char *part)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(openai_body(a, &s, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, part))
		fail_msg("'%s' is not in '%s'", part, err.what);
	assert_int_equal(s.len, 0);
}

static void test_refused(void **state)
{
	struct openai_ask a = ask(OPENAI_VLLM);

	(void)state;
	a.endpoint = OPENAI_CHAT;
	refuse(&a, "chat endpoint");
	a = ask(OPENAI_TRANSFORMERS);
	refuse(&a, "text");
	a = ask(OPENAI_VLLM);
	a.max_tokens = 0;
	refuse(&a, "0 output tokens");
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(openai_dialect_of("vllm"), OPENAI_VLLM);
	assert_int_equal(openai_dialect_of("tensorrt"), OPENAI_TENSORRT);
	assert_int_equal(openai_dialect_of("openai"), OPENAI_GENERIC);
	assert_int_equal(openai_dialect_of(NULL), OPENAI_GENERIC);
	assert_true(openai_forces_length(OPENAI_LLAMACPP));
	assert_false(openai_forces_length(OPENAI_GENERIC));
	assert_string_equal(openai_path(OPENAI_CHAT), "/v1/chat/completions");
	assert_string_equal(openai_path(OPENAI_COMPLETIONS), "/v1/completions");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dialects), cmocka_unit_test(test_transformers),
		cmocka_unit_test(test_chat),     cmocka_unit_test(test_refused),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
