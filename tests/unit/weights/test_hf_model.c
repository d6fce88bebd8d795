/* Models in Hugging Face's layout: folders, ids of the hub with and without a cache, synthetic
 * ones. */
#include "sys/fs.h"
#include "tmp.h"
#include "weights/weights.h"

#include <jansson.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct lem_error err;

static const char config[] =
	"{\"model_type\":\"qwen2\",\"hidden_size\":64,\"intermediate_size\":96,"
	"\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":100}";

static void put(const char *folder, const char *name, const char *text)
{
	_cleanup_free_ char *dir = tmp_path(folder), *path = fs_join(dir, name);

	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	assert_int_equal(fs_write_atomic(path, text, strlen(text), NULL), 0);
}

static int resolve(const char *name, const char *hf_home, bool plan, struct weights_hf *ret)
{
	const struct weights_request q = {.model_name = name, .base_dir = tmp_dir};

	return weights_resolve_hf(&q, hf_home, plan, ret, &err);
}

static struct weights_hf resolved(const char *name, const char *hf_home, bool plan)
{
	struct weights_hf m = {0};

	if (resolve(name, hf_home, plan, &m) < 0)
		fail_msg("%s: %s", name, err.what);
	return m;
}

static void refused(const char *name, const char *what)
{
	struct weights_hf m = {.model = NULL};

	assert_true(resolve(name, NULL, false, &m) < 0);
	assert_int_equal(err.code, LEM_E_REFUSED);
	assert_null(m.model);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	assert_string_not_equal(err.fix, "");
}

static void test_a_folder_with_weights(void **state)
{
	_cleanup_free_ char *path = tmp_path("m1");
	struct weights_hf m;

	(void)state;
	put("m1", "config.json", config);
	put("m1", "model-00001-of-00002.safetensors", "12345");
	put("m1", "model-00002-of-00002.safetensors", "123");
	put("m1", "training_args.bin", "not weights");
	put("m1", "tokenizer.json", "{}");
	m = resolved("m1", NULL, false);
	assert_string_equal(m.model, path);
	assert_false(m.cached);
	assert_false(m.absent);
	assert_int_equal(m.shape.n_embd, 64);
	assert_int_equal(m.shape.weights, WEIGHTS_REAL);
	assert_int_equal(m.shape.size_bytes, 8);
	assert_true(m.shape.has_tokenizer);
	free(m.model);
}

static void test_a_folder_without_weights_is_synthetic(void **state)
{
	struct weights_hf m;

	(void)state;
	put("m2", "config.json", config);
	m = resolved("m2", NULL, true);
	assert_int_equal(m.shape.weights, WEIGHTS_SYNTHETIC);
	assert_false(m.shape.has_tokenizer);
	free(m.model);
}

static void test_what_is_no_model(void **state)
{
	(void)state;
	put("empty", "readme", "");
	put("broken", "config.json", "{\"hidden_size\":");
	put("files", "m.gguf", "GGUF");
	refused("empty", "no config.json");
	refused("broken", "config.json");
	refused("files/m.gguf", "is a file");
	refused("./nowhere", "no model folder");
	refused("/nowhere/at/all", "no model folder");
	refused("a/b/c", "no model folder");
	refused("hf:", "no model folder");
	refused("hf:ORG/NAME:file.gguf", "no model folder");
	refused("white space/x", "no model folder");
}

static void test_an_id_of_the_hub(void **state)
{
	_cleanup_free_ char *home = tmp_path("hf");
	struct weights_hf m = resolved("org/model-1", NULL, false);

	(void)state;
	assert_string_equal(m.model, "org/model-1");
	assert_true(m.absent);
	assert_false(m.cached);
	assert_int_equal(m.shape.n_layer, 0);
	assert_int_equal(m.shape.weights, WEIGHTS_REAL);
	assert_true(m.shape.has_tokenizer); /* assumed: nobody can look */
	free(m.model);

	put("hf/hub/models--org--model-1/refs", "main", "abc123");
	put("hf/hub/models--org--model-1/snapshots/abc123", "config.json", config);
	m = resolved("hf:org/model-1", home, false);
	assert_string_equal(m.model, "org/model-1");
	assert_true(m.absent); /* its weights are still to come */
	assert_int_equal(m.shape.n_layer, 2);
	assert_int_equal(m.shape.weights, WEIGHTS_REAL);
	free(m.model);

	put("hf/hub/models--org--model-1/snapshots/abc123", "model.safetensors", "12");
	m = resolved("org/model-1", home, true);
	assert_true(m.cached);
	assert_false(m.absent);
	assert_int_equal(m.shape.size_bytes, 2);
	free(m.model);
}

static void test_a_hostile_cache(void **state)
{
	_cleanup_free_ char *home = tmp_path("hf2");
	struct weights_hf m;

	(void)state;
	put("hf2/hub/models--gpt2/refs", "main", "../../../m1");
	m = resolved("gpt2", home, false);
	assert_false(m.cached);
	free(m.model);
	put("hf2/hub/models--gpt2/refs", "main", "");
	m = resolved("gpt2", home, false);
	assert_false(m.cached);
	free(m.model);
}

/* Every named shape, written as a config.json and read back, is itself. */
static void test_synthetic_shapes(void **state)
{
	(void)state;
	for (size_t i = 0; i < weights_shape_count(); i++) {
		const char *name;
		const struct model_shape *want = weights_shape_at(i, &name);
		_cleanup_free_ char *model = lem_asprintf("synthetic:%s", name);
		struct weights_hf planned = resolved(model, NULL, true), m;
		struct model_shape got;

		assert_true(planned.absent);
		assert_false(fs_exists(planned.model));
		m = resolved(model, NULL, false);
		assert_string_equal(m.model, planned.model);
		assert_false(m.absent);
		_cleanup_free_ char *file = fs_join(m.model, "config.json");

		assert_int_equal(hf_config_read_shape(file, &got, &err), 0);
		assert_string_equal(got.architecture, want->architecture);
		assert_int_equal(got.n_layer, want->n_layer);
		assert_int_equal(got.n_embd, want->n_embd);
		assert_int_equal(got.n_ff, want->n_ff);
		assert_int_equal(got.n_head, want->n_head);
		assert_int_equal(got.n_head_kv, want->n_head_kv);
		assert_int_equal(got.head_dim, want->head_dim);
		assert_int_equal(got.n_vocab, want->n_vocab);
		assert_int_equal(got.n_ctx_train, want->n_ctx_train);
		assert_int_equal(got.tied_embeddings, want->tied_embeddings);
		assert_int_equal(got.n_swa, want->n_swa);
		assert_int_equal(got.n_layer_full, want->n_layer_full);
		assert_int_equal(m.shape.weights, WEIGHTS_SYNTHETIC);
		assert_int_equal(m.shape.n_params, model_shape_params(want));
		free(m.model);
		free(planned.model);
	}
}

static void test_the_made_up_tokenizer_has_a_word_for_each_id(void **state)
{
	struct weights_hf m = resolved("synthetic:llama-15m", NULL, false);
	_cleanup_free_ char *file = fs_join(m.model, "tokenizer.json");
	json_t *j = json_load_file(file, 0, NULL);
	const json_t *vocab = json_object_get(json_object_get(j, "model"), "vocab");

	(void)state;
	assert_int_equal(json_object_size(vocab), 32000);
	assert_int_equal(json_integer_value(json_object_get(vocab, "t31999")), 31999);
	json_decref(j);
	free(m.model);
}

static void test_synthetic_of_a_config(void **state)
{
	_cleanup_free_ char *folder = tmp_path("m1");
	struct weights_hf m;

	(void)state;
	put("m1", "config.json", config);
	put("m1", "model.safetensors", "12345");
	m = resolved("synthetic:m1", NULL, false); /* the weights are there, but not wanted */
	assert_string_equal(m.model, folder);
	assert_int_equal(m.shape.weights, WEIGHTS_SYNTHETIC);
	free(m.model);
	m = resolved("synthetic:m1/config.json", NULL, false);
	_cleanup_free_ char *copy = fs_join(m.model, "config.json");
	_cleanup_str_ struct str text = STR_INIT;

	assert_int_equal(fs_read_file(copy, 4096, &text, &err), 0);
	assert_string_equal(str_c(&text), config);
	assert_int_equal(m.shape.n_embd, 64);
	free(m.model);
}

static void test_synthetic_that_is_none(void **state)
{
	(void)state;
	refused("synthetic:llama-9t", "no synthetic shape");
	refused("synthetic:llama-15m:q4_0", "quantisation q4_0");
	refused("synthetic:nowhere/config.json", "no synthetic shape");
}

static void test_home(void **state)
{
	(void)state;
	setenv("HF_HOME", "/a", 1);
	_cleanup_free_ char *own = weights_hf_home();

	unsetenv("HF_HOME");
	setenv("XDG_CACHE_HOME", "/b", 1);
	_cleanup_free_ char *xdg = weights_hf_home();

	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", "/c", 1);
	_cleanup_free_ char *home = weights_hf_home();

	unsetenv("HOME");
	assert_string_equal(own, "/a");
	assert_string_equal(xdg, "/b/huggingface");
	assert_string_equal(home, "/c/.cache/huggingface");
	assert_null(weights_hf_home());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_folder_with_weights),
		cmocka_unit_test(test_a_folder_without_weights_is_synthetic),
		cmocka_unit_test(test_what_is_no_model),
		cmocka_unit_test(test_an_id_of_the_hub),
		cmocka_unit_test(test_a_hostile_cache),
		cmocka_unit_test(test_synthetic_shapes),
		cmocka_unit_test(test_the_made_up_tokenizer_has_a_word_for_each_id),
		cmocka_unit_test(test_synthetic_of_a_config),
		cmocka_unit_test(test_synthetic_that_is_none),
		cmocka_unit_test(test_home),
	};

	return cmocka_run_group_tests(tests, tmp_start, tmp_stop);
}
