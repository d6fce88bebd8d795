/* Lengths of prompts and answers (lengths.c). */
#include "load/lengths.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

enum { N = 20000, LIMIT = 4096 };

static int32_t got[N];

static int by_value(const void *a, const void *b)
{
	return *(const int32_t *)a - *(const int32_t *)b;
}

static double mean_of(size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += got[i];
	return sum / (double)n;
}

static void draw(const struct length_config *c, uint64_t seed)
{
	lengths_draw(c, seed, LIMIT, NULL, 0, got, N);
}

static void test_fixed(void **state)
{
	struct length_config c = {.tokens = 128};

	(void)state;
	draw(&c, 1);
	assert_int_equal(got[0], 128);
	assert_int_equal(got[N - 1], 128);
	c.tokens = LIMIT + 1;
	draw(&c, 1);
	assert_int_equal(got[0], LIMIT);
}

static void test_uniform(void **state)
{
	const struct length_config c = {
		.distribution = LENGTH_UNIFORM, .min = {true, 32}, .max = {true, 256}};
	int32_t low = INT32_MAX, high = 0;

	(void)state;
	draw(&c, 7);
	for (int i = 0; i < N; i++) {
		low = MIN(low, got[i]);
		high = MAX(high, got[i]);
	}
	assert_int_equal(low, 32); /* both ends belong to it */
	assert_int_equal(high, 256);
	/* standard error 65 / √20000 */
	assert_float_equal(mean_of(N), 144, 5 * 65 / sqrt(N));
}

static void test_lognormal(void **state)
{
	struct length_config c = {.distribution = LENGTH_LOGNORMAL,
				  .median = {true, 256},
				  .sigma = {true, 0.8},
				  .min = {true, 16},
				  .max = {true, 2048}};

	(void)state;
	draw(&c, 7);
	qsort(got, N, sizeof(got[0]), by_value);
	assert_in_range(got[N / 2], 246, 266);
	assert_in_range(got[0], 16, 30);
	assert_int_equal(got[N - 1], 2048);
	/* the quantiles of the normal distribution at one standard deviation */
	assert_float_equal(log(got[(int)(N * 0.8413)] / 256.0), 0.8, 0.04);
	assert_float_equal(log(got[(int)(N * 0.1587)] / 256.0), -0.8, 0.04);
	c = (struct length_config){
		.distribution = LENGTH_LOGNORMAL, .mean = {true, 100}, .sigma = {true, 0.5}};
	draw(&c, 7);
	assert_float_equal(mean_of(N), 100, 2);
}

/* No spread at all is one length. */
static void test_lognormal_of_sigma_0(void **state)
{
	const struct length_config c = {
		.distribution = LENGTH_LOGNORMAL, .mean = {true, 99.6}, .sigma = {true, 0}};

	(void)state;
	draw(&c, 3);
	assert_int_equal(got[0], 100);
	assert_int_equal(got[N - 1], 100);
}

static void test_seed_and_count(void **state)
{
	const struct length_config c = {
		.distribution = LENGTH_LOGNORMAL, .median = {true, 256}, .sigma = {true, 1}};
	/* what every machine must draw from seed 42 */
	static const int32_t first[] = {124, 207, 320, 432, 407, 537, 1120, 410, 701, 81};
	int32_t few[10], other[10];

	(void)state;
	lengths_draw(&c, 42, LIMIT, NULL, 0, few, 10);
	draw(&c, 42);
	assert_memory_equal(few, got, sizeof(few));
	assert_memory_equal(few, first, sizeof(first));
	lengths_draw(&c, 43, LIMIT, NULL, 0, other, 10);
	assert_memory_not_equal(few, other, sizeof(few));
}

static void take(const char *text, struct length_list *l)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (length_list_parse(text, strlen(text), "l.txt", l, &err) < 0)
		fail_msg("%s: %s", err.where, err.what);
}

static void test_file(void **state)
{
	const struct length_config c = {.distribution = LENGTH_FILE, .path = "l.txt"};
	_cleanup_length_list_ struct length_list one = {0}, two = {0};

	(void)state;
	take("# a comment\r\n 10 \r\n\n20 # and one behind\n30", &one);
	assert_int_equal(one.n, 3);
	assert_null(one.output);
	lengths_draw(&c, 1, LIMIT, one.input, one.n, got, 7);
	assert_int_equal(got[0], 10);
	assert_int_equal(got[2], 30);
	assert_int_equal(got[3], 10); /* from the start again */
	assert_int_equal(got[6], 10);
	take("\xef\xbb\xbf"
	     "1,2\n3 , 4\n",
	     &two);
	assert_int_equal(two.n, 2);
	assert_int_equal(two.input[1], 3);
	assert_int_equal(two.output[1], 4);
}

static void test_file_refusals(void **state)
{
	static const struct {
		const char *text, *what, *where;
	} bad[] = {
		{"", "no length in this file", "l.txt:0"},
		{"# none\n\n", "no length in this file", "l.txt:2"},
		{"1\nx\n", "no number of tokens", "l.txt:2"},
		{"0\n", "no number of tokens", "l.txt:1"},
		{"-3\n", "no number of tokens", "l.txt:1"},
		{"1.5\n", "no number of tokens", "l.txt:1"},
		{"99999999\n", "no number of tokens", "l.txt:1"},
		{"1,\n", "no number of tokens", "l.txt:1"},
		{",1\n", "no number of tokens", "l.txt:1"},
		{"1,2,3\n", "no number of tokens", "l.txt:1"},
		{"1 2\n", "no number of tokens", "l.txt:1"},
		{"1,2\n3\n", "two numbers, others one", "l.txt:2"},
		{"1\n3,4\n", "two numbers, others one", "l.txt:2"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct length_list l = {.n = 7};
		struct lem_error err = LEM_ERROR_INIT;

		assert_int_equal(
			length_list_parse(bad[i].text, strlen(bad[i].text), "l.txt", &l, &err),
			-LEM_E_REFUSED);
		if (!strstr(err.what, bad[i].what) || !str_eq(err.where, bad[i].where))
			fail_msg("%zu: %s: %s", i, err.where, err.what);
		assert_int_equal(l.n, 7);
	}
}

static void test_long_lines_and_nul(void **state)
{
	struct length_list l;
	struct lem_error err = LEM_ERROR_INIT;
	char text[1000];

	(void)state;
	memset(text, '1', sizeof(text));
	assert_int_equal(length_list_parse(text, sizeof(text), "l", &l, &err), -LEM_E_REFUSED);
	assert_int_equal(length_list_parse("1\0002\n", 4, "l", &l, &err), -LEM_E_REFUSED);
}

static void expect_text(const struct length_config *c, const char *want)
{
	char text[80];

	length_describe(c, LIMIT, text, sizeof(text));
	assert_string_equal(text, want);
}

static void test_describe(void **state)
{
	(void)state;
	expect_text(&(struct length_config){.tokens = 128}, "128");
	expect_text(&(struct length_config){.distribution = LENGTH_UNIFORM,
					    .min = {true, 1},
					    .max = {true, 9}},
		    "uniform 1 to 9");
	expect_text(&(struct length_config){.distribution = LENGTH_LOGNORMAL,
					    .median = {true, 256},
					    .sigma = {true, 0.8},
					    .min = {true, 16}},
		    "lognormal, median 256, sigma 0.8, 16 to 4096");
	expect_text(&(struct length_config){.distribution = LENGTH_FILE, .path = "a/b.txt"},
		    "from a/b.txt");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fixed),          cmocka_unit_test(test_uniform),
		cmocka_unit_test(test_lognormal),      cmocka_unit_test(test_lognormal_of_sigma_0),
		cmocka_unit_test(test_seed_and_count), cmocka_unit_test(test_file),
		cmocka_unit_test(test_file_refusals),  cmocka_unit_test(test_long_lines_and_nul),
		cmocka_unit_test(test_describe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
