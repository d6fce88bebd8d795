#include "load/worker_request.h"

#include <jansson.h>
#include <setjmp.h>

#include <cmocka.h>

static const int32_t ids[] = {7, 8, 9};
static struct prompt prompts[] = {{.text = "say \"hi\""}, {.tokens = ids, .n_tokens = 3}};
static const struct prompt_set set = {.at = prompts, .n = 2};

static const struct experiment base = {
	.max_input_tokens = 100,
	.max_output_tokens = 20,
	.min_output_tokens = 5,
	.decoder = {.temperature = 0.5,
		    .do_sample = true,
		    .top_k = 40,
		    .top_p = 0.9,
		    .repetition_penalty = 1.1},
	.random_seed = {true, 77},
	.llamacpp = {.n_ubatch = 32, .min_p = 0.05},
};

static json_t *build(const struct experiment *e, const struct run_slice *slice)
{
	_cleanup_str_ struct str s = STR_INIT;
	json_t *j;

	worker_run_request(e, &set, slice, &s);
	assert_null(strchr(str_c(&s), '\n'));
	j = json_loads(str_c(&s), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	return j;
}

static double sampling(const json_t *j, const char *key)
{
	return json_number_value(json_object_get(json_object_get(j, "sampling"), key));
}

static void test_fields(void **state)
{
	const struct run_slice slice = {
		.run = 3, .first_id = 10, .from = 1, .n = 3, .save_text = true};
	json_t *j = build(&base, &slice);
	const json_t *list = json_object_get(j, "requests");

	(void)state;
	assert_string_equal(json_string_value(json_object_get(j, "op")), "run");
	assert_int_equal(json_integer_value(json_object_get(j, "run")), 3);
	assert_string_equal(json_string_value(json_object_get(j, "batching")), "static");
	assert_true(json_is_true(json_object_get(j, "save_text")));
	assert_true(sampling(j, "temperature") == 0.5 && sampling(j, "top_k") == 40 &&
		    sampling(j, "seed") == 77);
	/* the slice starts at the second prompt and wraps around */
	assert_int_equal(json_array_size(list), 3);
	assert_int_equal(json_array_size(json_object_get(json_array_get(list, 0), "tokens")), 3);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "text")),
			    "say \"hi\"");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 2), "id")), 12);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(list, 0), "min_output_tokens")),
		5);
	json_decref(j);
}

/* do_sample: false is temperature 0, whatever the temperature says. */
static void test_greedy(void **state)
{
	struct experiment e = base;
	const struct run_slice slice = {.run = 1, .n = 1};

	(void)state;
	e.decoder.do_sample = false;
	json_t *j = build(&e, &slice);

	assert_true(sampling(j, "temperature") == 0);
	json_decref(j);
}

static void test_batching(void **state)
{
	struct experiment e = base;
	const struct run_slice slice = {.run = 1, .n = 1};
	json_t *j;

	(void)state;
	e.llamacpp.batching = LLAMA_CONTINUOUS;
	j = build(&e, &slice);
	assert_string_equal(json_string_value(json_object_get(j, "batching")), "continuous");
	json_decref(j);
	e.streaming = true; /* one at a time */
	j = build(&e, &slice);
	assert_string_equal(json_string_value(json_object_get(j, "batching")), "static");
	json_decref(j);
}

static json_int_t length(const json_t *j, size_t i, const char *key)
{
	return json_integer_value(
		json_object_get(json_array_get(json_object_get(j, "requests"), i), key));
}

static void test_own_lengths(void **state)
{
	const struct run_slice slice = {.run = 1, .n = 2};
	json_t *j;

	(void)state;
	prompts[1].output_tokens = 9;
	j = build(&base, &slice);
	prompts[1].output_tokens = 0;
	assert_int_equal(length(j, 0, "max_output_tokens"), 20);
	assert_int_equal(length(j, 0, "min_output_tokens"), 5);
	assert_int_equal(length(j, 1, "max_output_tokens"), 9);
	assert_int_equal(length(j, 1, "min_output_tokens"), 9);
	json_decref(j);
}

static void test_too_long_for_a_line(void **state)
{
	struct prompt many[] = {{.n_tokens = 5 << 20}, {.text = "abc"}};
	const struct prompt_set big = {.at = many, .n = 2};
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(worker_run_least_bytes(&big), (20 << 20) + 3);
	assert_int_equal(worker_run_fits(&big, worker_run_least_bytes(&big), &err), -LEM_E_REFUSED);
	assert_non_null(strstr(err.what, "20 MiB as one request; a worker takes 16 MiB"));
	assert_non_null(strstr(err.fix, "num_input_prompts: 1,"));
	assert_int_equal(worker_run_fits(&big, WORKER_LINE_MAX, &err), 0);
}

static void test_step_bound(void **state)
{
	(void)state;
	/* 100 prompt tokens in pieces of 32 are 4 steps, 20 output tokens 20 more, per request */
	assert_int_equal(worker_run_max_steps(&base, &set, 2), 2 * (20 + 4 + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_greedy),
		cmocka_unit_test(test_batching),
		cmocka_unit_test(test_own_lengths),
		cmocka_unit_test(test_too_long_for_a_line),
		cmocka_unit_test(test_step_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
