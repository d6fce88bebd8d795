/* From a config and a prompt to a request: what goes beyond the dialect. */
#include "load/http_body.h"

#include <setjmp.h>

#include <jansson.h>

#include <cmocka.h>

static const int32_t ids[] = {300, 301, 302};

static json_t *body_of(const struct experiment *e, const struct prompt *p, bool chat, int64_t most)
{
	const struct http_body_request q = {
		.exp = e, .prompt = p, .model = "m", .chat = chat, .max_output_tokens = most};
	_cleanup_str_ struct str s = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	json_t *j;

	if (http_body(&q, &s, &err) < 0)
		fail_msg("%s", err.what);
	j = json_loadb(str_c(&s), s.len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	return j;
}

static json_int_t whole(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	return json_is_integer(v) ? json_integer_value(v) : -1;
}

static struct experiment plain(enum backend b)
{
	return (struct experiment){.backend = b,
				   .max_input_tokens = 2,
				   .max_output_tokens = 10,
				   .min_output_tokens = 10,
				   .decoder = {.top_p = 1, .repetition_penalty = 1}};
}

/* Every engine gets the same ids, cut the same way, and the same forced length. */
static void test_same_work_for_all(void **state)
{
	static const enum backend all[] = {BACKEND_VLLM, BACKEND_SGLANG, BACKEND_TENSORRT,
					   BACKEND_OPENAI};
	const struct prompt p = {.tokens = ids, .n_tokens = 3};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct experiment e = plain(all[i]);
		json_t *j = body_of(&e, &p, false, 0);
		const json_t *prompt = json_object_get(j, "prompt");

		assert_int_equal(json_array_size(prompt), 2);
		assert_int_equal(json_integer_value(json_array_get(prompt, 1)), 301);
		assert_int_equal(whole(j, "max_tokens"), 10);
		assert_int_equal(whole(j, "min_tokens"), 10);
		assert_true(json_is_true(json_object_get(j, "ignore_eos")));
		assert_true(json_is_true(json_object_get(j, "stream")));
		assert_true(json_is_true(
			json_object_get(json_object_get(j, "stream_options"), "include_usage")));
		assert_null(json_object_get(j, "top_p"));
		assert_null(json_object_get(j, "repetition_penalty"));
		json_decref(j);
	}
	const struct experiment e = plain(BACKEND_VLLM);

	assert_int_equal(http_body_input_tokens(&e, &p), 2);
}

static void test_free_length_and_a_short_first(void **state)
{
	const struct prompt p = {.text = "hello"};
	struct experiment e = plain(BACKEND_VLLM);
	json_t *j;

	(void)state;
	e.min_output_tokens = 4;
	j = body_of(&e, &p, false, 0);
	assert_int_equal(whole(j, "min_tokens"), 4);
	assert_null(json_object_get(j, "ignore_eos"));
	json_decref(j);
	e.min_output_tokens = 0;
	j = body_of(&e, &p, false, 3);
	assert_int_equal(whole(j, "max_tokens"), 3);
	assert_null(json_object_get(j, "min_tokens"));
	json_decref(j);
}

static void test_sampling(void **state)
{
	const struct prompt p = {.text = "hello"};
	struct experiment e = plain(BACKEND_VLLM);
	struct kv bias[] = {{"17", "-100"}};
	json_t *j;

	(void)state;
	e.decoder = (struct decoder_config){.do_sample = true,
					    .temperature = 0.5,
					    .top_k = 40,
					    .top_p = 0.9,
					    .repetition_penalty = 1.1};
	e.random_seed.set = true;
	e.random_seed.v = 5;
	e.vllm.min_p = 0.25;
	e.vllm.logprobs.set = true;
	e.vllm.logprobs.v = 2;
	e.vllm.logit_bias = (struct kv_list){bias, 1};
	j = body_of(&e, &p, false, 0);
	assert_float_equal(json_real_value(json_object_get(j, "temperature")), 0.5, 1e-12);
	assert_int_equal(whole(j, "top_k"), 40);
	assert_float_equal(json_real_value(json_object_get(j, "min_p")), 0.25, 1e-12);
	assert_float_equal(json_real_value(json_object_get(j, "repetition_penalty")), 1.1, 1e-12);
	assert_int_equal(whole(j, "seed"), 5);
	assert_int_equal(whole(j, "logprobs"), 2);
	assert_int_equal(whole(json_object_get(j, "logit_bias"), "17"), -100);
	json_decref(j);
	e.decoder.do_sample = false; /* greedy: what only sampling uses is not sent */
	j = body_of(&e, &p, false, 0);
	assert_null(json_object_get(j, "top_k"));
	assert_float_equal(json_number_value(json_object_get(j, "temperature")), 0, 1e-12);
	json_decref(j);
}

static void chain_is(const json_t *j, const char *want)
{
	char *text = json_dumps(json_object_get(j, "samplers"), JSON_COMPACT);

	assert_non_null(text);
	assert_string_equal(text, want);
	free(text);
}

/* llama-server's own defaults must not decide: its chain is said, and nothing is left to them. */
static void test_llama_server(void **state)
{
	const struct prompt p = {.tokens = ids, .n_tokens = 3};
	struct experiment e = plain(BACKEND_LLAMACPP);
	json_t *j = body_of(&e, &p, false, 0);

	(void)state;
	assert_int_equal(whole(j, "max_tokens"), 10);
	assert_true(json_is_true(json_object_get(j, "ignore_eos")));
	assert_null(json_object_get(j, "min_tokens"));
	assert_true(json_is_false(json_object_get(j, "cache_prompt")));
	assert_true(json_is_true(json_object_get(j, "timings_per_token")));
	chain_is(j, "[\"top_k\"]");
	assert_int_equal(whole(j, "top_k"), 1);
	json_decref(j);
	e.decoder.repetition_penalty = 1.1;
	e.llamacpp.cache_prompt = true;
	j = body_of(&e, &p, false, 0);
	chain_is(j, "[\"penalties\",\"top_k\"]");
	assert_float_equal(json_real_value(json_object_get(j, "repeat_penalty")), 1.1, 1e-12);
	assert_int_equal(whole(j, "repeat_last_n"), 12);
	assert_null(json_object_get(j, "repetition_penalty"));
	assert_true(json_is_true(json_object_get(j, "cache_prompt")));
	json_decref(j);
}

static void test_llama_server_draws(void **state)
{
	const struct prompt p = {.tokens = ids, .n_tokens = 3};
	struct experiment e = plain(BACKEND_LLAMACPP);
	json_t *j;

	(void)state;
	e.decoder = (struct decoder_config){.do_sample = true,
					    .temperature = 0.5,
					    .top_k = 40,
					    .top_p = 0.9,
					    .repetition_penalty = 1};
	e.llamacpp.min_p = 0.25;
	j = body_of(&e, &p, false, 0);
	chain_is(j, "[\"top_k\",\"top_p\",\"min_p\",\"temperature\"]");
	assert_int_equal(whole(j, "top_k"), 40);
	assert_float_equal(json_real_value(json_object_get(j, "top_p")), 0.9, 1e-12);
	assert_float_equal(json_real_value(json_object_get(j, "min_p")), 0.25, 1e-12);
	json_decref(j);
	e.decoder.top_k = 0;
	e.decoder.top_p = 1;
	e.llamacpp.min_p = 0;
	j = body_of(&e, &p, false, 0);
	chain_is(j, "[\"temperature\"]");
	json_decref(j);
}

/* extra_body wins over what lem would say, and there is one of each name. */
static void test_extra_body(void **state)
{
	const struct prompt p = {.text = "hello"};
	struct experiment e = plain(BACKEND_OPENAI);
	struct kv extra[] = {{"max_tokens", "99"},
			     {"stream_options", "{\"include_usage\": false}"},
			     {"user", "\"me\""}};
	json_t *j;

	(void)state;
	e.openai.extra_body = (struct kv_list){extra, ARRAY_LEN(extra)};
	j = body_of(&e, &p, true, 0);
	assert_int_equal(whole(j, "max_tokens"), 99);
	assert_true(json_is_false(
		json_object_get(json_object_get(j, "stream_options"), "include_usage")));
	assert_string_equal(json_string_value(json_object_get(j, "user")), "me");
	assert_int_equal(json_array_size(json_object_get(j, "messages")), 1);
	json_decref(j);
}

static void test_what_cannot_be_sent(void **state)
{
	const struct prompt tokens = {.tokens = ids, .n_tokens = 3}, bytes = {.text = "\xff\xfe"};
	const struct experiment e = plain(BACKEND_OPENAI);
	struct http_body_request q = {.exp = &e, .prompt = &tokens, .model = "m", .chat = true};
	_cleanup_str_ struct str s = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(http_body(&q, &s, &err), -LEM_E_REFUSED);
	q = (struct http_body_request){.exp = &e, .prompt = &bytes, .model = "m"};
	if (http_body(&q, &s, &err) >= 0) { /* written in some valid form, then */
		json_t *j = json_loadb(str_c(&s), s.len, 0, NULL);

		assert_non_null(j);
		json_decref(j);
	}
}

/* A length of the prompt's own is forced, whatever the config says of the others. */
static void test_own_length(void **state)
{
	const struct prompt p = {.tokens = ids, .n_tokens = 3, .output_tokens = 7};
	struct experiment e = plain(BACKEND_VLLM);
	json_t *j;

	(void)state;
	for (int forced = 0; forced < 2; forced++) {
		e.min_output_tokens = forced ? e.max_output_tokens : 0;
		j = body_of(&e, &p, false, 0);
		assert_int_equal(whole(j, "max_tokens"), 7);
		assert_int_equal(whole(j, "min_tokens"), 7);
		assert_true(json_is_true(json_object_get(j, "ignore_eos")));
		json_decref(j);
	}
	j = body_of(&e, &p, false, 3); /* the first request, to see that it answers */
	assert_int_equal(whole(j, "max_tokens"), 3);
	assert_int_equal(whole(j, "min_tokens"), 3);
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_work_for_all),
		cmocka_unit_test(test_own_length),
		cmocka_unit_test(test_free_length_and_a_short_first),
		cmocka_unit_test(test_llama_server),
		cmocka_unit_test(test_llama_server_draws),
		cmocka_unit_test(test_sampling),
		cmocka_unit_test(test_extra_body),
		cmocka_unit_test(test_what_cannot_be_sent),
	};

	return cmocka_run_group_tests_name("http_body", tests, NULL, NULL);
}
