#include "folder.h"

#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "sys/fs.h"

#define T0 (INT64_C(1795527600) * NS_PER_S)

static void test_round_trip(void **state)
{
	_cleanup_str_ struct str file = STR_INIT, row = STR_INIT;
	struct store *s = open_here();

	(void)state;
	put_example(s, "run-1", T0);
	expect_example(s, "run-1");
	assert_int_equal(store_get_result_json(s, "run-1", &row, NULL), 0);
	assert_int_equal(fs_read_file("results/run-1.json", 1 << 20, &file, NULL), 0);
	assert_string_equal(file.buf, row.buf);
	assert_non_null(strstr(row.buf, "\"weights\": \"synthetic\""));
	store_close(s);
	s = open_here(); /* and after everything was closed */
	expect_example(s, "last");
	store_close(s);
	assert_true(integrity_ok("results/lem.sqlite"));
}

static void test_list_is_newest_first(void **state)
{
	struct store *s = open_here();
	_cleanup_free_ struct store_row *rows = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	assert_int_equal(n, 0);
	put_example(s, "b", T0 + 1);
	put_example(s, "c", T0 + 2);
	put_example(s, "a", T0 + 2);
	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_string_equal(rows[0].run_id, "a"); /* same time: the later one stored */
	assert_string_equal(rows[1].run_id, "c");
	assert_string_equal(rows[2].run_id, "b");
	assert_string_equal(rows[0].weights, "synthetic");
	assert_string_equal(rows[0].verdict, "suspect");
	assert_true(rows[0].output_tokens_per_s == 8);
	assert_true(rows[0].j_per_output_token == 75);
	assert_int_equal(rows[2].wall_start_ns, T0 + 1);
	store_close(s);
}

/* Which load of which launch a run is stands in its document, from where the list has it. */
static void test_levels_are_listed(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	_cleanup_free_ struct store_row *rows = NULL;
	struct store *s = open_here();
	struct run_record r;
	size_t n = 0;

	(void)state;
	run_record_init(&r);
	r.level = (struct level_record){"first", 1, 4, 2.5, 0};
	r.run_id = "second";
	r.wall_start_ns = T0 + 2;
	assert_int_equal(store_put(s, &r, sum, NULL), 0);
	r.level = (struct level_record){"first", 0, 4, NAN, 16};
	r.run_id = "first";
	r.wall_start_ns = T0 + 1;
	assert_int_equal(store_put(s, &r, sum, NULL), 0);
	put_example(s, "alone", T0);
	tamper("UPDATE summaries SET result = '{broken' WHERE run_id = 'alone'");
	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	assert_int_equal(n, 3);
	assert_string_equal(rows[0].launch_id, "first");
	assert_int_equal(rows[0].level_index, 1);
	assert_int_equal(rows[0].level_n, 4);
	assert_true(rows[0].rate_hz == 2.5 && rows[0].in_flight == 0);
	assert_true(isnan(rows[1].rate_hz) && rows[1].in_flight == 16);
	assert_string_equal(rows[2].launch_id, "");
	assert_int_equal(rows[2].level_n, 0);
	store_close(s);
}

static void test_unknown_is_not_zero(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	_cleanup_free_ struct store_row *rows = NULL;
	struct store *s = open_here();
	struct run_record r;
	size_t n = 0;

	(void)state;
	run_record_init(&r);
	r.run_id = "bare"; /* a run that failed at once has hardly a field */
	r.status = RUN_FAILED;
	assert_int_equal(store_put(s, &r, sum, NULL), 0);
	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	assert_true(isnan(rows[0].output_tokens_per_s) && isnan(rows[0].j_per_output_token));
	assert_string_equal(rows[0].engine, "");
	assert_string_equal(rows[0].status, "failed");
	store_close(s);
}

static void test_prefixes(void **state)
{
	struct store *s = open_here();
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	(void)state;
	run_record_init(&r);
	assert_int_equal(store_get(s, "last", &r, &err), -LEM_E_NOT_FOUND);
	assert_non_null(strstr(err.what, "no run is stored in results"));
	put_example(s, "2026-a", T0);
	put_example(s, "2026-ab", T0 + 2);
	put_example(s, "2026_b", T0 + 1);
	expect_example(s, "2026-a"); /* a whole id wins over a longer one */
	expect_example(s, "2026_");
	assert_int_equal(store_get(s, "2026-", &r, &err), -LEM_E_USAGE);
	assert_non_null(strstr(err.fix, "2026-a, 2026-ab"));
	assert_int_equal(store_get(s, "%", &r, &err), -LEM_E_NOT_FOUND);
	assert_non_null(strstr(err.what, "begins with '%'"));
	assert_int_equal(store_get(s, "2026-B", &r, &err), -LEM_E_NOT_FOUND);
	store_close(s);
}

static void test_ids(void **state)
{
	struct store *s = open_here();
	char id[96], again[96], small[8] = "keep";

	(void)state;
	assert_int_equal(store_new_run_id(s, "a/../größe  x", id, sizeof(id), NULL), 0);
	assert_int_equal(store_new_run_id(s, "a/../größe  x", again, sizeof(again), NULL), 0);
	assert_string_not_equal(id, again);
	assert_non_null(strstr(id, "-a-..-gr-e-x-"));
	assert_int_equal(id[8], 'T');
	assert_true(store_valid_id(id));
	assert_int_equal(store_new_run_id(s, "", id, sizeof(id), NULL), 0);
	assert_non_null(strstr(id, "-run-"));
	assert_true(store_new_run_id(s, "x", small, sizeof(small), NULL) < 0);
	assert_false(store_valid_id("a/b"));
	assert_false(store_valid_id(".."));
	assert_false(store_valid_id(""));
	assert_false(store_valid_id(NULL));
	store_close(s);
}

/* A second run of the same name must not replace the first one. */
static void test_same_id_twice(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	_cleanup_str_ struct str before = STR_INIT, after = STR_INIT;
	struct store *s = open_here();
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;

	(void)state;
	put_example(s, "x", T0);
	assert_int_equal(fs_read_file("results/x.json", 1 << 20, &before, NULL), 0);
	run_record_init(&r);
	r.run_id = "x";
	assert_true(store_put(s, &r, sum, &err) < 0);
	assert_non_null(strstr(err.what, "UNIQUE"));
	expect_example(s, "x");
	assert_int_equal(fs_read_file("results/x.json", 1 << 20, &after, NULL), 0);
	assert_string_equal(before.buf, after.buf);
	assert_true(fs_exists("lem-rescue-x/lem.sqlite")); /* the second one is not lost either */
	r.run_id = "../x";
	assert_int_equal(store_put_summary(s, &r, sum, &err), -LEM_E_INTERNAL);
	store_close(s);
}

static void test_summary_is_replaced(void **state)
{
	_cleanup_free_ struct summary *sum = lem_calloc(1, sizeof(*sum));
	_cleanup_free_ struct store_row *rows = NULL;
	_cleanup_str_ struct str file = STR_INIT;
	struct store *s = open_here();
	struct run_record r;
	size_t n = 0;

	(void)state;
	put_example(s, "x", T0);
	example_record(&r, "x");
	example_summary(sum);
	sum->output_tokens_per_s = quantity_of(9, 9, 9, "recomputed");
	assert_int_equal(store_put_summary(s, &r, sum, NULL), 0);
	assert_int_equal(store_list(s, &rows, &n, NULL), 0);
	assert_true(n == 1 && rows[0].output_tokens_per_s == 9);
	assert_int_equal(fs_read_file("results/x.json", 1 << 20, &file, NULL), 0);
	assert_non_null(strstr(file.buf, "recomputed"));
	expect_example(s, "x");
	r.run_id = "y"; /* no such run: a summary belongs to a record */
	assert_true(store_put_summary(s, &r, sum, NULL) < 0);
	run_record_release(&r);
	store_close(s);
}

/* The process died between the commit and the file. */
static void test_missing_document_is_written_later(void **state)
{
	_cleanup_str_ struct str before = STR_INIT, after = STR_INIT;
	struct store *s = open_here();

	(void)state;
	put_example(s, "x", T0);
	put_example(s, "deleted-by-hand", T0);
	store_close(s);
	assert_int_equal(fs_read_file("results/x.json", 1 << 20, &before, NULL), 0);
	tamper("UPDATE summaries SET document = 0 WHERE run_id = 'x'");
	assert_int_equal(unlink("results/x.json"), 0);
	assert_int_equal(unlink("results/deleted-by-hand.json"), 0);
	store_close(open_here());
	assert_int_equal(fs_read_file("results/x.json", 1 << 20, &after, NULL), 0);
	assert_string_equal(before.buf, after.buf);
	assert_false(fs_exists("results/deleted-by-hand.json"));
	assert_int_equal(count_of("SELECT count(*) FROM summaries WHERE document = 0"), 0);
}

static void test_import(void **state)
{
	_cleanup_free_ struct store_row *rows = NULL;
	struct lem_error err = LEM_ERROR_INIT;
	struct store *s, *other = NULL;
	size_t n = 99, n_rows = 0;

	(void)state;
	assert_int_equal(store_open("other", &other, NULL), 0);
	put_example(other, "both", T0);
	put_example(other, "new", T0 + 5);
	store_close(other);
	s = open_here();
	put_example(s, "both", T0);
	assert_int_equal(store_import(s, "nowhere", &n, &err), -LEM_E_NOT_FOUND);
	assert_int_equal(n, 99);
	if (store_import(s, "other", &n, &err) < 0)
		fail_msg("%s", err.what);
	assert_int_equal(n, 1);
	expect_example(s, "new");
	assert_true(fs_exists("results/new.json"));
	assert_int_equal(store_import(s, "other", &n, NULL), 0);
	assert_int_equal(n, 0);
	assert_int_equal(store_list(s, &rows, &n_rows, NULL), 0);
	assert_int_equal(n_rows, 2);
	store_close(s);
}

/* An id of a folder from elsewhere must not become a path out of the results folder. */
static void test_import_refuses_paths(void **state)
{
	static const char *const bad[] = {"../evil", ".hidden", "a/b", "", "a b"};
	struct store *s = open_here();
	size_t n = 0;

	(void)state;
	put_example(s, "good", T0);
	store_close(s);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		_cleanup_free_ char *sql = lem_asprintf(
			"INSERT INTO runs SELECT '%s', config_name, config_hash, engine, model, "
			"weights, status, wall_start_ns, record FROM runs WHERE run_id = 'good';"
			"INSERT INTO summaries SELECT '%s', verdict, 1, 1, '', '', result, 1 "
			"FROM summaries WHERE run_id = 'good'",
			bad[i], bad[i]);

		tamper(sql);
	}
	assert_int_equal(rename("results", "other"), 0);
	s = open_here();
	assert_int_equal(store_import(s, "other", &n, NULL), 0);
	assert_int_equal(n, 1);
	store_close(s);
	assert_int_equal(count_of("SELECT count(*) FROM summaries"), 1);
	assert_false(fs_exists("evil.json"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, folder_enter, folder_leave)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip),
		TEST(test_list_is_newest_first),
		TEST(test_levels_are_listed),
		TEST(test_unknown_is_not_zero),
		TEST(test_prefixes),
		TEST(test_ids),
		TEST(test_same_id_twice),
		TEST(test_summary_is_replaced),
		TEST(test_missing_document_is_written_later),
		TEST(test_import),
		TEST(test_import_refuses_paths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
