/* hf:ORG/REPO[:FILE] against a hub that speaks the protocol, and one that does not. */
#include "base/digest.h"
#include "hub.h"
#include "sys/fs.h"
#include "weights/weights.h"

#include <fcntl.h>
#include <setjmp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

static struct hub hub;
static struct lem_error err;
static char cache[128];

static int start(void **state)
{
	static const struct model_shape tiny = {.architecture = "llama",
						.gated_mlp = true,
						.n_layer = 2,
						.n_embd = 64,
						.n_ff = 96,
						.n_head = 2,
						.n_head_kv = 1,
						.head_dim = 32,
						.n_vocab = 1000,
						.n_ctx_train = 128};
	char endpoint[64];

	(void)state;
	hub_make_dir(&hub);
	assert_int_equal(gguf_synthesize(&tiny, "f16", 1, hub.file, NULL, NULL, NULL), 0);
	hub_start(&hub);
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d/", hub.port);
	setenv("HF_ENDPOINT", endpoint, 1);
	return 0;
}

static int stop(void **state)
{
	(void)state;
	hub_stop(&hub);
	hub_remove_dir(&hub);
	return 0;
}

/* Every test has a cache of its own. */
static int fresh(void **state)
{
	static int n;

	(void)state;
	snprintf(cache, sizeof(cache), "%s/cache-%d", hub.dir, n++);
	setenv("LEM_CACHE_DIR", cache, 1);
	unsetenv("HF_TOKEN");
	unsetenv("HF_HUB_OFFLINE");
	json_decref(hub_log(&hub));
	err = (struct lem_error){0};
	return 0;
}

static int resolve(const char *name, char **ret_path)
{
	struct weights_request q = {.model_name = name};
	struct model_shape s;
	int r = weights_resolve(&q, ret_path, &s, &err);

	if (r >= 0) {
		assert_string_equal(s.architecture, "llama");
		assert_int_equal(s.n_vocab, 1000);
	}
	return r;
}

static size_t asked(void)
{
	json_t *log = hub_log(&hub);
	size_t n = json_array_size(log);

	json_decref(log);
	return n;
}

static void test_download(void **state)
{
	_cleanup_free_ char *path = NULL, *again = NULL, *expected = NULL;
	char hex[65];

	(void)state;
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
	expected = lem_asprintf("%s/models/acme/good/model.gguf", cache);
	assert_string_equal(path, expected);
	assert_int_equal(weights_sha256(path, hex, &err), 0);
	assert_string_equal(hex, hub.sha256);
	assert_int_equal(asked(), 3); /* HEAD, GET, GET of the store */
	assert_int_equal(resolve("hf:acme/good:model.gguf", &again), 0);
	assert_int_equal(asked(), 0);
}

static void test_shape_of_what_is_cached(void **state)
{
	_cleanup_free_ char *path = NULL;
	struct model_shape s;

	(void)state;
	assert_int_equal(weights_local_shape("hf:acme/good:model.gguf", NULL, &s, &err),
			 -LEM_E_NOT_FOUND);
	assert_int_equal(asked(), 0);
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
	assert_int_equal(weights_local_shape("hf:acme/good:model.gguf", NULL, &s, &err), 0);
	assert_int_equal(s.n_layer, 2);
}

static void test_a_hub_without_checksums(void **state)
{
	_cleanup_free_ char *path = NULL;

	(void)state;
	assert_int_equal(resolve("hf:acme/direct:model.gguf", &path), 0);
}

static void test_the_only_file(void **state)
{
	_cleanup_free_ char *path = NULL;

	(void)state;
	assert_int_equal(resolve("hf:acme/one", &path), 0);
	assert_true(str_ends(path, "/acme/one/model.gguf"));
}

static void refused(const char *name, int code, const char *what, const char *fix)
{
	char *path = NULL;

	assert_int_equal(resolve(name, &path), -code);
	assert_null(path);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	if (!strstr(err.fix, fix))
		fail_msg("the hint '%s' does not say '%s'", err.fix, fix);
}

static void test_which_file(void **state)
{
	(void)state;
	refused("hf:acme/several", LEM_E_REFUSED, "several GGUF files",
		"hf:acme/several:FILE, with FILE of a-Q4_0.gguf, a-Q8_0.gguf");
	refused("hf:acme/none", LEM_E_REFUSED, "no GGUF file", "choose");
	refused("hf:acme/nothing", LEM_E_PARSE, "not a list of files", "HF_ENDPOINT");
	refused("hf:acme/notjson", LEM_E_PARSE, "not a list of files", "hf:acme/notjson:FILE");
	refused("hf:acme/nosuch", LEM_E_NOT_FOUND, "404", "check the name");
	refused("hf:acme/flood", LEM_E_PARSE, "larger than", "");
	/* entries that are no names, or would leave the cache, are not taken */
	refused("hf:acme/odd", LEM_E_NOT_FOUND, "404", "");
	assert_non_null(strstr(err.where, "/resolve/main/ok.gguf"));
}

static void test_names(void **state)
{
	static const char *const bad[] = {"hf:",
					  "hf:x",
					  "hf:/x",
					  "hf:acme",
					  "hf:acme:f.gguf",
					  "hf:../../etc:x.gguf",
					  "hf:acme/x:../../../x.gguf",
					  "hf:acme/x:/etc/passwd",
					  "hf:acme/x:",
					  "hf:acme/x y:z.gguf",
					  "hf:acme/x?y:z.gguf",
					  "hf:acme/x#y:z.gguf",
					  "hf:acme/x%2e:z.gguf",
					  "hf:acme/x:a\nb.gguf"};
	_cleanup_free_ char *longer = lem_asprintf("hf:acme/%0300d:x.gguf", 7);
	_cleanup_free_ char *longer_file = lem_asprintf("hf:acme/good:%0300d.gguf", 7);

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refused(bad[i], LEM_E_REFUSED, "does not name a model", "hf:ORG/REPO");
	refused(longer, LEM_E_REFUSED, "does not name a model", "hf:ORG/REPO");
	refused(longer_file, LEM_E_REFUSED, "does not name a model", "hf:ORG/REPO");
	assert_int_equal(asked(), 0);
}

static void test_gated(void **state)
{
	_cleanup_free_ char *path = NULL;

	(void)state;
	refused("hf:acme/gated:model.gguf", LEM_E_REFUSED, "401", "HF_TOKEN");
	setenv("HF_TOKEN", "secret-token", 1);
	assert_int_equal(resolve("hf:acme/gated:model.gguf", &path), 0);
}

static void test_wrong_checksum(void **state)
{
	_cleanup_free_ char *dir = NULL, *pattern = NULL;

	(void)state;
	refused("hf:acme/wrongsum:model.gguf", LEM_E_IO, "wrong SHA-256", "try again");
	assert_non_null(strstr(err.what, hub.sha256));
	dir = lem_asprintf("%s/models/acme/wrongsum/model.gguf", cache);
	assert_false(fs_exists(dir));
	pattern = lem_asprintf("%s.d9298a10d1b07358.part", dir); /* sha256("other") */
	assert_false(fs_exists(pattern));
}

/* What an earlier, broken download left is continued: only the rest is asked for. */
static void test_continues_after_a_crash(void **state)
{
	_cleanup_free_ char *dir = lem_asprintf("%s/models/acme/good", cache);
	_cleanup_free_ char *part = lem_asprintf("%s/model.gguf.%.16s.part", dir, hub.sha256);
	_cleanup_free_ char *path = NULL;
	_cleanup_str_ struct str bytes = STR_INIT;
	json_t *log;

	(void)state;
	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	assert_int_equal(fs_read_file(hub.file, 1 << 24, &bytes, NULL), 0);
	assert_int_equal(fs_write_atomic(part, bytes.buf, 5000, NULL), 0);
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
	log = hub_log(&hub);
	const json_t *last = json_array_get(log, json_array_size(log) - 1);

	assert_string_equal(
		json_string_value(json_object_get(json_object_get(last, "headers"), "range")),
		"bytes=5000-");
	json_decref(log);
	assert_false(fs_exists(part));
}

/* A part that is wrong is found out by the checksum, removed, and the next try works. */
static void test_corrupt_part(void **state)
{
	_cleanup_free_ char *dir = lem_asprintf("%s/models/acme/good", cache);
	_cleanup_free_ char *part = lem_asprintf("%s/model.gguf.%.16s.part", dir, hub.sha256);
	_cleanup_free_ char *path = NULL;

	(void)state;
	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	assert_int_equal(fs_write_atomic(part, "not the beginning", 17, NULL), 0);
	refused("hf:acme/good:model.gguf", LEM_E_IO, "wrong SHA-256", "try again");
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
}

static void test_offline(void **state)
{
	_cleanup_free_ char *path = NULL;

	(void)state;
	setenv("HF_HUB_OFFLINE", "1", 1);
	refused("hf:acme/good:model.gguf", LEM_E_REFUSED, "HF_HUB_OFFLINE", "unset");
	refused("hf:acme/one", LEM_E_REFUSED, "which file", "hf:acme/one:FILE");
	assert_int_equal(asked(), 0);
	unsetenv("HF_HUB_OFFLINE");
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
	setenv("HF_HUB_OFFLINE", "TRUE", 1);
	free(path);
	assert_int_equal(resolve("hf:acme/good:model.gguf", &path), 0);
}

static bool cancel(void *arg, const char *what, uint64_t done, uint64_t total)
{
	const char **seen = arg;

	(void)done;
	(void)total;
	*seen = lem_strdup(what);
	return false;
}

/* Another process has the lock: waiting can be cancelled, and says what it waits for. */
static void test_waits_for_the_other(void **state)
{
	_cleanup_free_ char *dir = lem_asprintf("%s/models/acme/good", cache);
	_cleanup_free_ char *lock = lem_asprintf("%s/model.gguf.lock", dir);
	_cleanup_free_ char *seen = NULL;
	char *path = NULL;
	struct weights_request q = {
		.model_name = "hf:acme/good:model.gguf", .progress = cancel, .progress_arg = &seen};
	struct model_shape s;

	(void)state;
	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	_cleanup_fd_ int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_int_equal(weights_resolve(&q, &path, &s, &err), -LEM_E_INTERRUPTED);
	assert_non_null(strstr(seen, "waiting for another"));
	assert_int_equal(asked(), 0);
}

/* Two at once download once. */
static void test_two_at_once(void **state)
{
	pid_t pids[4];
	int status;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		pids[i] = fork();
		if (pids[i] == 0) {
			struct weights_request q = {.model_name = "hf:acme/good:model.gguf"};
			struct model_shape s;
			char *path;

			_exit(weights_resolve(&q, &path, &s, NULL) == 0 ? 0 : 1);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(pids); i++) {
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_int_equal(status, 0);
	}
	assert_int_equal(asked(), 3);
}

static void test_cache_cannot_be_made(void **state)
{
	(void)state;
	setenv("LEM_CACHE_DIR", "/proc/nothing", 1);
	refused("hf:acme/good:model.gguf", LEM_E_IO, "/proc/nothing", "");
}

#define T(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_download),
		T(test_shape_of_what_is_cached),
		T(test_a_hub_without_checksums),
		T(test_the_only_file),
		T(test_which_file),
		T(test_names),
		T(test_gated),
		T(test_wrong_checksum),
		T(test_continues_after_a_crash),
		T(test_corrupt_part),
		T(test_offline),
		T(test_waits_for_the_other),
		T(test_two_at_once),
		T(test_cache_cannot_be_made),
	};

	return cmocka_run_group_tests(tests, start, stop);
}
