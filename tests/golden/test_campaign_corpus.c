/*
 * Every campaign file of campaign/wrong and campaign/right against what is expected of it, word for
 * word: its findings, and of right ones the experiments that it stands for.
 * LEM_UPDATE_GOLDEN=1 writes the expectations instead; read them as a user before you commit them.
 */
#include <dirent.h>
#include <setjmp.h>

#include "campaign/campaign.h"
#include "sys/fs.h"

#include <cmocka.h>

enum { MIN_WRONG = 20, MIN_RIGHT = 10, MAX_FILE = 1 << 20 };

static int is_case(const struct dirent *d)
{
	return str_ends(d->d_name, ".yaml");
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

static void list_gpus(const struct str_list *gpus, struct str *out)
{
	str_add(out, "[");
	for (size_t i = 0; i < gpus->n; i++)
		str_addf(out, "%s%s", i ? ", " : "", gpus->at[i]);
	str_add(out, "]");
}

static void describe(const struct campaign_cell *cell, struct str *out)
{
	const struct experiment *e = config_experiment(cell->config);

	str_addf(out, "%s (%s, item %zu%s%s): %s %s gpus ", cell->name, cell->file, cell->item,
		 cell->campaign ? ", of " : "", cell->campaign ? cell->campaign : "", e->model_name,
		 backend_name(e->backend));
	list_gpus(&e->gpus, out);
	str_addf(out, " max_output_tokens %" PRId64 " temperature %g batch_size %" PRId64,
		 e->max_output_tokens, e->decoder.temperature, e->llamacpp.batch_size);
	str_addf(out, " results_dir %s root %s\n", e->results_dir ? e->results_dir : "-",
		 e->root_dir);
	assert_string_equal(e->config_name, cell->name);
}

static bool check_case(const char *path, bool right)
{
	const struct campaign_request q = {.files = &path, .n_files = 1};
	_cleanup_str_ struct str text = STR_INIT;
	struct lem_error err;
	struct campaign c;
	bool ok;

	assert_int_equal(campaign_load(&q, &c, &err), 0);
	ok = campaign_ok(&c) == right;
	if (!ok)
		print_error("%s: %s\n", path, right ? "has errors" : "has no error");
	config_findings_text(&c.findings, &text);
	for (size_t i = 0; i < c.n; i++)
		describe(&c.cells[i], &text);
	assert_true(right ? c.n > 0 : c.n == 0);
	ok &= same_as_golden(path, str_c(&text));
	campaign_release(&c);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_right),
	};
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *folder = lem_asprintf("%s/tests/golden/campaign", root ? root : ".");

	if (chdir(folder) < 0) {
		perror(folder);
		return 1;
	}
	return cmocka_run_group_tests_name("campaign_corpus", tests, NULL, NULL);
}
