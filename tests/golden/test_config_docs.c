/*
 * docs/config-reference.md and configs/schema.json are what the tables say. To renew them:
 *   lem config reference > docs/config-reference.md; lem config schema > configs/schema.json
 */
#include <setjmp.h>

#include <jansson.h>

#include "config/load.h"
#include "sys/fs.h"

#include <cmocka.h>

static void read_committed(const char *name, struct str *out)
{
	_cleanup_free_ char *path = fs_join(getenv("LEM_SOURCE_ROOT"), name);
	struct lem_error err = LEM_ERROR_INIT;

	if (fs_read_file(path, 1 << 22, out, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
}

static void test_reference(void **state)
{
	_cleanup_str_ struct str committed = STR_INIT, now = STR_INIT;

	(void)state;
	read_committed("docs/config-reference.md", &committed);
	config_reference_md(&now);
	assert_string_equal(str_c(&committed), str_c(&now));
}

static void test_schema(void **state)
{
	_cleanup_str_ struct str committed = STR_INIT, now = STR_INIT;

	(void)state;
	read_committed("configs/schema.json", &committed);
	config_schema_json(&now);
	assert_string_equal(str_c(&committed), str_c(&now));
}

/* The schema is JSON, says which draft, and closes every section. */
static void check_closed(const json_t *schema)
{
	const char *key;
	json_t *value, *properties = json_object_get(schema, "properties");

	if (!properties)
		return;
	assert_true(json_is_false(json_object_get(schema, "additionalProperties")));
	json_object_foreach (properties, key, value)
		check_closed(value);
}

static void test_schema_is_json(void **state)
{
	_cleanup_str_ struct str now = STR_INIT;
	json_error_t e;
	json_t *schema, *temperature;

	(void)state;
	config_schema_json(&now);
	schema = json_loads(str_c(&now), JSON_REJECT_DUPLICATES, &e);
	if (!schema)
		fail_msg("%s in line %d", e.text, e.line);
	assert_string_equal(json_string_value(json_object_get(schema, "$schema")),
			    "https://json-schema.org/draft/2020-12/schema");
	check_closed(schema);
	temperature = json_object_get(
		json_object_get(json_object_get(json_object_get(schema, "properties"), "decoder"),
				"properties"),
		"temperature");
	assert_true(json_number_value(json_object_get(temperature, "maximum")) == 2.0);
	assert_true(json_number_value(json_object_get(temperature, "default")) == 1.0);
	json_decref(schema);
}

/* Whatever can be written stands in the reference. */
static void test_reference_is_complete(void **state)
{
	static const char *const keys[] = {"`max_num_seqs`",
					   "`n_ubatch`",
					   "`moe_ep_size`",
					   "`enable_dp_attention`",
					   "`bnb_4bit_quant_type`",
					   "`burstiness`",
					   "`cv_threshold`",
					   "`api_key_env`",
					   "`vllm.speculative`",
					   "vllm-low-latency",
					   "`gpu_list`",
					   "R15"};
	_cleanup_str_ struct str now = STR_INIT;

	(void)state;
	config_reference_md(&now);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		assert_non_null(strstr(str_c(&now), keys[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reference),
		cmocka_unit_test(test_schema),
		cmocka_unit_test(test_schema_is_json),
		cmocka_unit_test(test_reference_is_complete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
