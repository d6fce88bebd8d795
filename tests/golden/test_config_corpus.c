/*
 * Every file of config/wrong and config/right against the findings expected of it, word for word.
 * LEM_UPDATE_GOLDEN=1 writes the expectations instead; read them as a user before you commit them.
 */
#include <dirent.h>
#include <setjmp.h>

#include "config/load.h"
#include "sys/fs.h"
#include "weights/weights.h"

#include <cmocka.h>

enum { MIN_WRONG = 200, MIN_RIGHT = 40, MAX_FILE = 1 << 20 };

static int shape(const char *model_name, const char *base_dir, struct model_shape *ret)
{
	return weights_local_shape(model_name, base_dir, ret, NULL);
}

static int is_case(const struct dirent *d)
{
	return str_ends(d->d_name, ".yaml") || str_ends(d->d_name, ".yml") ||
	       str_ends(d->d_name, ".json");
}

static struct config *load(const char *path)
{
	struct config_request q = {.path = path, .shape = shape};
	struct config *c = NULL;
	struct lem_error err = LEM_ERROR_INIT;

	if (config_load(&q, &c, &err) < 0)
		fail_msg("%s: %s", path, err.what);
	return c;
}

static bool same_as_golden(const char *path, const char *actual)
{
	_cleanup_free_ char *golden = lem_asprintf("%s.expected", path);
	_cleanup_str_ struct str expected = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (getenv("LEM_UPDATE_GOLDEN"))
		assert_return_code(fs_write_atomic(golden, actual, strlen(actual), &err), 0);
	if (fs_read_file(golden, MAX_FILE, &expected, &err) < 0) {
		print_error("%s\n", err.what);
		return false;
	}
	if (strcmp(str_c(&expected), actual) == 0)
		return true;
	print_error("--- %s\n%s+++ now\n%s", golden, str_c(&expected), actual);
	return false;
}

static bool check_case(const char *path, bool right)
{
	struct config *c = load(path);
	_cleanup_str_ struct str text = STR_INIT;
	bool ok = config_ok(c) == right;

	if (!ok)
		print_error("%s: %s\n", path, right ? "has errors" : "has no error");
	config_findings_text(config_findings(c), &text);
	ok &= same_as_golden(path, str_c(&text));
	config_free(c);
	return ok;
}

static void run_folder(const char *folder, bool right, int at_least)
{
	struct dirent **names;
	int n = scandir(folder, &names, is_case, alphasort), bad = 0;

	assert_return_code(n, errno);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = fs_join(folder, names[i]->d_name);

		bad += !check_case(path, right);
		free(names[i]);
	}
	free(names);
	assert_int_equal(bad, 0);
	assert_true(n >= at_least);
}

static void test_wrong(void **state)
{
	(void)state;
	run_folder("wrong", false, MIN_WRONG);
}

static void test_right(void **state)
{
	(void)state;
	run_folder("right", true, MIN_RIGHT);
}

/* What `lem config show` prints is a configuration with the same meaning, and so the same hash. */
static void round_trip(const char *path)
{
	char dir[] = "/tmp/lem-config-XXXXXX", before[17], after[17];
	_cleanup_str_ struct str yaml = STR_INIT;
	struct config *c = load(path), *again;
	struct lem_error err = LEM_ERROR_INIT;

	assert_non_null(mkdtemp(dir));
	_cleanup_free_ char *shown = fs_join(dir, "shown.yaml");

	config_effective_yaml(c, true, &yaml);
	config_hash(c, before);
	assert_return_code(fs_write_atomic(shown, str_c(&yaml), yaml.len, &err), 0);
	again = load(shown);
	config_hash(again, after);
	if (strcmp(before, after) != 0) {
		_cleanup_str_ struct str text = STR_INIT;

		config_findings_text(config_findings(again), &text);
		print_error("%s shown as\n%s%s", path, str_c(&yaml), str_c(&text));
	}
	assert_string_equal(before, after);
	config_free(c);
	config_free(again);
	unlink(shown);
	rmdir(dir);
}

static void test_round_trip(void **state)
{
	struct dirent **names;
	int n = scandir("right", &names, is_case, alphasort);

	(void)state;
	assert_return_code(n, errno);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = fs_join("right", names[i]->d_name);

		round_trip(path);
		free(names[i]);
	}
	free(names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_right),
		cmocka_unit_test(test_round_trip),
	};
	_cleanup_free_ char *dir =
		lem_asprintf("%s/tests/golden/config", getenv("LEM_SOURCE_ROOT"));

	if (chdir(dir) < 0) {
		perror(dir);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
