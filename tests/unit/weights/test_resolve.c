/* What model_name may be, the cache of synthetic models, checksums, named shapes. */
#include "sys/fs.h"
#include "tmp.h"
#include "weights/weights.h"

#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct lem_error err;

static const char config[] =
	"{\"model_type\":\"qwen2\",\"hidden_size\":64,\"intermediate_size\":96,"
	"\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":100,"
	"\"tie_word_embeddings\":true}";

static void write_config(const char *folder)
{
	_cleanup_free_ char *dir = tmp_path(folder), *path = fs_join(dir, "config.json");

	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	assert_int_equal(fs_write_atomic(path, config, strlen(config), NULL), 0);
}

static int resolve(const char *name, const char *quant, uint64_t seed, char **ret_path,
		   struct model_shape *ret)
{
	struct weights_request q = {
		.model_name = name, .base_dir = tmp_dir, .quant = quant, .seed = seed};

	return weights_resolve(&q, ret_path, ret, &err);
}

static void refused(const char *name, int code, const char *what, const char *fix)
{
	struct model_shape s;
	char *path = NULL;

	assert_int_equal(resolve(name, NULL, 0, &path, &s), -code);
	assert_null(path);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	if (!strstr(err.fix, fix))
		fail_msg("the hint '%s' does not say '%s'", err.fix, fix);
}

static void test_local_file(void **state)
{
	_cleanup_free_ char *file = tmp_path("a.gguf"), *path = NULL, *absolute = NULL;
	struct model_shape tiny = tmp_tiny(), s;

	(void)state;
	assert_int_equal(gguf_synthesize(&tiny, "f16", 1, file, NULL, NULL, &err), 0);
	assert_int_equal(resolve("a.gguf", NULL, 0, &path, &s), 0);
	assert_string_equal(path, file);
	assert_int_equal(s.n_embd, 64);
	assert_int_equal(resolve(file, NULL, 0, &absolute, &s), 0);
	assert_string_equal(absolute, file);
	assert_int_equal(weights_local_shape("a.gguf", tmp_dir, &s, &err), 0);
	assert_int_equal(s.n_embd, 64);
}

static void test_local_is_wrong(void **state)
{
	_cleanup_free_ _unused_ char *text = tmp_file("b.gguf", "hello there", 11);

	(void)state;
	refused("nothing.gguf", LEM_E_REFUSED, "no model file", "hf:ORG/REPO");
	refused("gpt2", LEM_E_REFUSED, "no model file", "synthetic:");
	refused(".", LEM_E_REFUSED, "is a folder", ".gguf");
	refused("b.gguf", LEM_E_REFUSED, "does not begin with 'GGUF'", "");
	assert_int_equal(err.code, LEM_E_REFUSED);
}

static void test_shape_of_folder_and_config(void **state)
{
	struct model_shape s;

	(void)state;
	write_config("hf");
	assert_int_equal(weights_local_shape("hf", tmp_dir, &s, &err), 0);
	assert_int_equal(s.n_embd, 64);
	assert_int_equal(weights_local_shape("hf/config.json", tmp_dir, &s, &err), 0);
	assert_int_equal(s.n_embd, 64);
	assert_int_equal(weights_local_shape("openai/gpt-oss", tmp_dir, &s, &err),
			 -LEM_E_NOT_FOUND);
	assert_int_equal(weights_local_shape(".", tmp_dir, &s, &err), -LEM_E_NOT_FOUND);
	assert_int_equal(weights_local_shape("hf:acme/x:y.gguf", tmp_dir, &s, NULL),
			 -LEM_E_NOT_FOUND);
}

static void test_synthetic_is_cached_by_content(void **state)
{
	_cleanup_free_ char *first = NULL, *again = NULL, *seed = NULL, *quant = NULL,
			    *suffix = NULL;
	struct model_shape s;
	struct stat before, after;

	(void)state;
	write_config("m");
	assert_int_equal(resolve("synthetic:m/config.json", "q8_0", 1, &first, &s), 0);
	assert_string_equal(s.quant, "Q8_0");
	assert_string_equal(s.architecture, "qwen2");
	assert_int_equal(s.weights, WEIGHTS_SYNTHETIC);
	assert_int_equal(stat(first, &before), 0);
	assert_int_equal(resolve("synthetic:m/config.json", NULL, 1, &again, &s), 0);
	assert_string_equal(first, again);
	assert_int_equal(stat(again, &after), 0);
	assert_true(before.st_ino == after.st_ino &&
		    before.st_mtim.tv_nsec == after.st_mtim.tv_nsec);
	assert_int_equal(resolve("synthetic:m/config.json", "q8_0", 2, &seed, &s), 0);
	assert_string_not_equal(first, seed);
	assert_int_equal(resolve("synthetic:m/config.json", "q4_0", 1, &quant, &s), 0);
	assert_string_not_equal(first, quant);
	assert_int_equal(resolve("synthetic:m/config.json:q4_0", "f16", 1, &suffix, &s), 0);
	assert_string_equal(suffix, quant); /* what the name says counts */
}

/* Beside the one without, never in its place; text is no prompt for either. */
static void test_synthetic_with_a_vocabulary(void **state)
{
	_cleanup_free_ char *without = NULL, *with = NULL, *located = NULL;
	struct weights_request q = {
		.model_name = "synthetic:v/config.json", .base_dir = tmp_dir, .vocabulary = true};
	struct model_shape s;
	bool there = false;

	(void)state;
	write_config("v");
	assert_int_equal(resolve(q.model_name, NULL, 0, &without, &s), 0);
	assert_int_equal(weights_resolve(&q, &with, &s, &err), 0);
	assert_string_not_equal(without, with);
	assert_non_null(strstr(with, "-vocab-"));
	assert_false(s.has_tokenizer);
	assert_int_equal(gguf_read_shape(with, &s, &err), 0);
	assert_true(s.has_tokenizer);
	assert_int_equal(gguf_read_shape(without, &s, &err), 0);
	assert_false(s.has_tokenizer);
	assert_int_equal(weights_locate(&q, &located, &s, &there, &err), 0);
	assert_string_equal(located, with);
	assert_true(there && !s.has_tokenizer);
}

static void test_synthetic_of_a_folder(void **state)
{
	_cleanup_free_ char *path = NULL;
	struct model_shape s;

	(void)state;
	write_config("with:colon/x");
	assert_int_equal(resolve("synthetic:with:colon/x", "q4_0", 1, &path, &s), 0);
	assert_string_equal(s.quant, "Q4_0");
}

static void test_synthetic_is_wrong(void **state)
{
	(void)state;
	refused("synthetic:", LEM_E_REFUSED, "no synthetic shape", "llama-15m");
	refused("synthetic:llama-7t", LEM_E_REFUSED, "'llama-7t'", "llama-3.1-8b");
	refused("synthetic:llama-15m:q3_k", LEM_E_REFUSED, "'q3_k'", "q4_0");
	refused("synthetic:nothing/config.json", LEM_E_IO, "nothing/config.json", "");
}

/* A cached file that was damaged is not used silently. */
static void test_damaged_cache(void **state)
{
	_cleanup_free_ char *path = NULL;
	struct model_shape s;

	(void)state;
	write_config("d");
	assert_int_equal(resolve("synthetic:d/config.json", "f16", 9, &path, &s), 0);
	assert_int_equal(truncate(path, 5000), 0);
	char *again = NULL;

	assert_int_equal(resolve("synthetic:d/config.json", "f16", 9, &again, &s), 0);
	assert_int_equal(s.n_embd, 64);
	free(again);
}

static void test_four_processes_make_it_once(void **state)
{
	_cleanup_free_ char *cache = tmp_path("cache-four");
	pid_t pids[4];
	int status;

	(void)state;
	setenv("LEM_CACHE_DIR", cache, 1);
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct model_shape s;
			char *path = NULL;

			_exit(resolve("synthetic:llama-15m:q4_0", NULL, 3, &path, &s) == 0 ? 0 : 1);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	_cleanup_free_ char *models = fs_join(cache, "models");

	assert_int_equal(tmp_entries(models), 2); /* the model and its lock */
}

/* The published sizes: 15.2 M, 162 M, 1.24 B, 8.03 B, 0.494 B, 0.268 B. */
static void test_named_shapes(void **state)
{
	static const struct {
		const char *name;
		int64_t params;
	} published[] = {{"llama-15m", 15191712},     {"llama-160m", 162417408},
			 {"llama-1b", 1235814400},    {"llama-3.1-8b", INT64_C(8030261248)},
			 {"qwen2.5-0.5b", 494032768}, {"gemma3-270m", 268098176}};

	(void)state;
	assert_int_equal(weights_shape_count(), ARRAY_LEN(published));
	for (size_t i = 0; i < ARRAY_LEN(published); i++) {
		_cleanup_free_ char *model = lem_asprintf("synthetic:%s", published[i].name);
		struct model_shape s;

		assert_non_null(weights_named_shape(published[i].name));
		assert_int_equal(weights_local_shape(model, NULL, &s, &err), 0);
		assert_int_equal(s.n_params, published[i].params);
		assert_int_equal(s.weights, WEIGHTS_SYNTHETIC);
	}
	assert_null(weights_named_shape("llama"));
	assert_null(weights_named_shape(""));
}

static void test_checksum(void **state)
{
	_cleanup_free_ char *file = tmp_file("abc", "abc", 3);
	/* FIPS 180-4 */
	static const char abc[] =
		"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char hex[65] = "";

	(void)state;
	assert_int_equal(weights_sha256(file, hex, &err), 0);
	assert_string_equal(hex, abc);
	assert_int_equal(weights_sha256(file, hex, &err), 0); /* from the memo */
	assert_string_equal(hex, abc);
	free(tmp_file("abc", "abd", 3)); /* another file of the same name and size */
	assert_int_equal(weights_sha256(file, hex, &err), 0);
	assert_string_not_equal(hex, abc);
	assert_int_equal(weights_sha256("/nonexistent", hex, &err), -LEM_E_IO);
	assert_int_equal(weights_sha256(tmp_dir, hex, &err), -LEM_E_IO);
}

/* The memo is used, one that makes no sense is not, and where none can be kept it does without. */
static void test_checksum_memo(void **state)
{
	static const char other[] =
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
	_cleanup_free_ char *cache = tmp_path("cache-memo"), *file = tmp_file("memo", "abc", 3);
	_cleanup_free_ char *pattern = lem_asprintf("%s/checksums/*", cache);
	char hex[65] = "", right[65];
	glob_t g;

	(void)state;
	setenv("LEM_CACHE_DIR", cache, 1);
	assert_int_equal(weights_sha256(file, right, &err), 0);
	assert_int_equal(glob(pattern, 0, NULL, &g), 0);
	assert_int_equal(g.gl_pathc, 1);
	assert_int_equal(fs_write_atomic(g.gl_pathv[0], other, 64, NULL), 0);
	assert_int_equal(weights_sha256(file, hex, &err), 0);
	assert_string_equal(hex, other);
	assert_int_equal(fs_write_atomic(g.gl_pathv[0], "no hash at all", 14, NULL), 0);
	globfree(&g);
	assert_int_equal(weights_sha256(file, hex, &err), 0);
	assert_string_equal(hex, right);
	setenv("LEM_CACHE_DIR", "/proc/nothing", 1);
	assert_int_equal(weights_sha256(file, hex, &err), 0);
	assert_string_equal(hex, right);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_local_file),
		cmocka_unit_test(test_local_is_wrong),
		cmocka_unit_test(test_shape_of_folder_and_config),
		cmocka_unit_test(test_synthetic_is_cached_by_content),
		cmocka_unit_test(test_synthetic_with_a_vocabulary),
		cmocka_unit_test(test_synthetic_of_a_folder),
		cmocka_unit_test(test_synthetic_is_wrong),
		cmocka_unit_test(test_damaged_cache),
		cmocka_unit_test(test_four_processes_make_it_once),
		cmocka_unit_test(test_named_shapes),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_checksum_memo),
	};

	return cmocka_run_group_tests(tests, tmp_start, tmp_stop);
}
