/* Values of secrets are in nothing that config writes: values, provenance, overrides. */
#include <setjmp.h>
#include <stdarg.h>

#include "base/str.h"
#include "config/load.h"

#include <cmocka.h>

static bool is_secret(const char *name)
{
	return config_is_secret(name, strlen(name));
}

static void test_names(void **state)
{
	(void)state;
	assert_true(is_secret("HF_TOKEN"));
	assert_true(is_secret("hugging_face_hub_token"));
	assert_true(is_secret("OPENAI_API_KEY"));
	assert_true(is_secret("AWS_SECRET"));
	assert_true(is_secret("DB_PASSWORD_FILE"));
	assert_true(config_is_secret("HF_TOKEN=x", 8));
	assert_false(is_secret("TOKENIZERS_PARALLELISM"));
	assert_false(is_secret("NCCL_DEBUG"));
	assert_false(is_secret("KEY"));
	assert_false(is_secret(""));
}

static char path[] = "/tmp/lem-secret-XXXXXX.yaml";

static int make_file(void **state)
{
	static const char text[] =
		"config_name: s\nmodel_name: synthetic:llama-15m\nbackend: llamacpp\n"
		"prompts: {type: synthetic, count: 4}\n"
		"env: {HF_TOKEN: hf_hidden, PLAIN: shown}\n";
	int fd = mkstemps(path, 5);

	(void)state;
	if (fd < 0 || write(fd, text, sizeof(text) - 1) != (ssize_t)sizeof(text) - 1)
		return -1;
	return close(fd);
}

static int remove_file(void **state)
{
	(void)state;
	return unlink(path);
}

static void load(const struct config_override *o, size_t n, struct config **ret)
{
	const struct config_request q = {.path = path, .overrides = o, .n_overrides = n};
	struct lem_error err;

	assert_int_equal(config_load(&q, ret, &err), 0);
	assert_true(config_ok(*ret));
}

static void effective_yaml(const struct config *c, struct str *out)
{
	config_effective_yaml(c, true, out);
}

/* All that is written of it, in one text. */
static void written(const struct config *c, struct str *out)
{
	static void (*const writers[])(const struct config *c, struct str *out) = {
		config_effective_json, config_provenance_json, config_overrides_json,
		effective_yaml};

	for (size_t i = 0; i < ARRAY_LEN(writers); i++) {
		_cleanup_str_ struct str one = STR_INIT;

		writers[i](c, &one);
		str_add(out, str_c(&one));
	}
}

static void test_values_are_hidden(void **state)
{
	static const struct config_override o[] = {
		{"env.SEEN", "on", "--set"},
		{"env.OTHER_TOKEN", "hf_hidden", "--set"},
	};
	_cleanup_str_ struct str s = STR_INIT;
	struct config *c;

	(void)state;
	load(o, ARRAY_LEN(o), &c);
	written(c, &s);
	assert_null(strstr(str_c(&s), "hf_hidden"));
	assert_non_null(strstr(str_c(&s), "\"HF_TOKEN\":\"***\""));
	assert_non_null(strstr(str_c(&s), "\"OTHER_TOKEN\":\"***\""));
	assert_non_null(strstr(str_c(&s), "--set env.OTHER_TOKEN=***"));
	assert_non_null(strstr(str_c(&s), "\"PLAIN\":\"shown\""));
	assert_non_null(strstr(str_c(&s), "\"SEEN\":\"on\""));
	/* the engine is given it all the same */
	assert_string_equal(config_experiment(c)->env.at[0].json, "\"hf_hidden\"");
	config_free(c);
}

static void test_the_whole_map_is_hidden(void **state)
{
	static const struct config_override o[] = {{"env", "{A_TOKEN: hf_hidden, B: 1}", "--set"}};
	_cleanup_str_ struct str s = STR_INIT;
	struct config *c;

	(void)state;
	load(o, ARRAY_LEN(o), &c);
	written(c, &s);
	assert_null(strstr(str_c(&s), "hf_hidden"));
	assert_non_null(strstr(str_c(&s), "--set env=***"));
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_values_are_hidden),
		cmocka_unit_test(test_the_whole_map_is_hidden),
	};

	return cmocka_run_group_tests(tests, make_file, remove_file);
}
