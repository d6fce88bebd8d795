/* Request traces (trace.c): forms of times, columns wherever they stand, slices, what is refused.
 * The rows are made up; the forms are those of the public traces. */
#include "load/trace.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/str.h"

#define AZURE "TIMESTAMP,ContextTokens,GeneratedTokens\n"
#define BURST "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"

static struct trace parsed(const char *text, struct trace_slice slice)
{
	struct trace t = {0};
	struct lem_error err = LEM_ERROR_INIT;

	if (trace_parse(text, strlen(text), "t.csv", &slice, &t, &err) < 0)
		fail_msg("%s: %s", err.where, err.what);
	return t;
}

static void expect_row(const struct trace *t, size_t i, int64_t ms, int32_t input, int32_t output)
{
	assert_true(i < t->n);
	assert_int_equal(t->at[i].t_ns, ms * NS_PER_MS);
	assert_int_equal(t->at[i].input, input);
	assert_int_equal(t->at[i].output, output);
}

static void refuse(const char *text, const char *what, const char *where)
{
	struct trace t = {.n = 77};
	struct lem_error err = LEM_ERROR_INIT;
	const struct trace_slice all = {0};

	assert_int_equal(trace_parse(text, strlen(text), "t.csv", &all, &t, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, what))
		fail_msg("'%s' is not in '%s'", what, err.what);
	assert_string_equal(err.where, where);
	assert_int_equal(t.n, 77); /* untouched */
}

static void test_azure(void **state)
{
	/* the day of 2023: seven digits, no offset; that of 2024: microseconds and an offset */
	static const char text[] = "\xef\xbb\xbf" AZURE "2023-11-16 18:15:46.1000000,374,44\r\n"
				   "2023-11-16 18:15:46.3500000,396,109\r\n"
				   "2023-11-16 19:15:47.100000+01:00,8,1\r\n"
				   "2023-11-17T00:00:00Z,9,2\r\n";
	struct trace t = parsed(text, (struct trace_slice){0});

	(void)state;
	assert_string_equal(t.form, "azure");
	assert_int_equal(t.n, 4);
	assert_int_equal(t.n_rows, 4);
	assert_int_equal(t.n_skipped, 0);
	expect_row(&t, 0, 0, 374, 44);
	expect_row(&t, 1, 250, 396, 109);
	expect_row(&t, 2, 1000, 8, 1);
	expect_row(&t, 3, ((5 * 60 + 44) * 60 + 13) * INT64_C(1000) + 900, 9, 2);
	trace_release(&t);
}

static void test_burstgpt(void **state)
{
	static const char text[] = BURST "5,ChatGPT,472,18,490,Conversation log\n"
					 "45.5,GPT-4,1087,0,1087,Conversation log\n"
					 "45.5,\"GPT-4, turbo\",417,276.0,693,\"API log\"\n"
					 "50,ChatGPT,,3,3,API log\n"
					 "60,ChatGPT,12,4,16,API log\n";
	struct trace t = parsed(text, (struct trace_slice){0});

	(void)state;
	assert_string_equal(t.form, "burstgpt");
	assert_int_equal(t.n, 3);
	assert_int_equal(t.n_rows, 5);
	assert_int_equal(t.n_skipped, 2); /* failed: no response, no request */
	expect_row(&t, 0, 0, 472, 18);
	expect_row(&t, 1, 40500, 417, 276);
	expect_row(&t, 2, 55000, 12, 4);
	trace_release(&t);
}

static void test_other_columns_and_order(void **state)
{
	static const char text[] = "output_length, user ,INPUT_LENGTH,arrival_time\n"
				   "7,a,3,2.5\n6,b,2,0.5\n5,\"c\nd\",2,0.5\n";
	struct trace t = parsed(text, (struct trace_slice){0});

	(void)state;
	assert_string_equal(t.form, "csv");
	assert_int_equal(t.n, 3); /* by time, not as they stand */
	expect_row(&t, 0, 0, 2, 6);
	expect_row(&t, 1, 0, 2, 5);
	expect_row(&t, 2, 2000, 3, 7);
	trace_release(&t);
}

static void test_slices(void **state)
{
	static const char text[] = AZURE "10,1,1\n11,2,2\n12,0,3\n13,4,4\n14,5,5\n";
	struct trace t = parsed(text, (struct trace_slice){.start_ns = NS_PER_S});

	(void)state;
	assert_int_equal(t.n, 3);
	assert_int_equal(t.n_rows, 4);
	expect_row(&t, 0, 1000, 2, 2);
	trace_release(&t);
	t = parsed(text, (struct trace_slice){.start_ns = NS_PER_S, .duration_ns = 3 * NS_PER_S});
	assert_int_equal(t.n, 2); /* the end does not belong to it */
	assert_int_equal(t.n_skipped, 1);
	expect_row(&t, 1, 3000, 4, 4);
	trace_release(&t);
	t = parsed(text, (struct trace_slice){.most = 3});
	assert_int_equal(t.n, 3);
	assert_int_equal(t.n_rows, 4); /* the failed one among them was read */
	expect_row(&t, 2, 3000, 4, 4);
	trace_release(&t);
}

/* The earliest and the latest time that are taken have a difference that can be told. */
static void test_the_longest_trace(void **state)
{
	static const char text[] = AZURE "-1000000000,1,1\n2200-12-31 23:59:60-23:59,2,2\n";
	struct trace t = parsed(text, (struct trace_slice){0});

	(void)state;
	assert_int_equal(t.n, 2);
	assert_true(t.at[1].t_ns > 0);
	trace_release(&t);
	refuse(AZURE "-7e9,1,1\n7e9,2,2\n", "'-7e9' is no time", "t.csv:2");
}

static void test_refusals(void **state)
{
	(void)state;
	refuse("", "no column of times", "t.csv:1");
	refuse("TIMESTAMP,ContextTokens\n1,2\n", "no column of output lengths", "t.csv:1");
	refuse("a,b,c\n", "its first line is a, b, c", "t.csv:1");
	refuse(AZURE, "0 rows", "t.csv");
	refuse(AZURE "1,0,5\n", "of which 1 failed", "t.csv");
	refuse(AZURE "yesterday,1,5\n", "'yesterday' is no time", "t.csv:2");
	refuse(AZURE "1,1,5\n\n2,x,5\n", "'x' is no number of tokens", "t.csv:4");
	refuse(AZURE "1,-1,5\n", "'-1' is no number of tokens", "t.csv:2");
	refuse(AZURE "1,1.5,5\n", "'1.5' is no number of tokens", "t.csv:2");
	refuse(AZURE "1,1,99999999\n", "'99999999' is no number of tokens", "t.csv:2");
	refuse(AZURE "1,1,\"5\n", "a quote is never closed", "t.csv:2");
	/* cut off in the middle */
	refuse(AZURE "1,2,3\n2023-11-16 18:1", "the row has 1 fields, 3 are needed", "t.csv:3");
	refuse(AZURE "1,2,3\n2,5", "the row has 2 fields", "t.csv:3");
	refuse(AZURE "2023-11-16 18:1,1,1", "is no time", "t.csv:2");
}

static void test_times(void **state)
{
	static const char *const bad[] = {"",
					  "now",
					  "2023-11-16",
					  "2023-13-16 18:15:46",
					  "2023-11-16 24:15:46",
					  "2023-11-16 18:60:46",
					  "2023-11-16 18:15:46.",
					  "2023-11-16 18:15:46.1234567890",
					  "2023-11-16 18:15:46 UTC",
					  "2023-11-16 18:15:46+1",
					  "1969-12-31 23:59:59",
					  "1e300",
					  "nan",
					  "0x10",
					  "9e18",
					  "-7e9",
					  "2023-11-16 18:15:46+0100x"};
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = {
		{"0", 0},
		{"-1.5", -1500 * NS_PER_MS},
		{"1.000000001", 1000000001},
		{"1970-01-01 00:00:00", 0},
		{"1970-01-02T00:00:00.000000001Z", 86400 * NS_PER_S + 1},
		{"1970-01-01 02:00:00+02:00", 0},
		{"2000-03-01 00:00:00-0130", INT64_C(951874200) * NS_PER_S},
		{"2024-02-29 12:00:00,5", INT64_C(1709208000500) * NS_PER_MS},
		{"2024-05-10 00:00:00.009930+00:00", INT64_C(1715299200009930) * 1000},
	};
	int64_t ns = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (!trace_time_ns(good[i].text, &ns) || ns != good[i].ns)
			fail_msg("'%s' gave %" PRId64, good[i].text, ns);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (trace_time_ns(bad[i], &ns))
			fail_msg("'%s' was taken", bad[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_azure),
		cmocka_unit_test(test_burstgpt),
		cmocka_unit_test(test_slices),
		cmocka_unit_test(test_other_columns_and_order),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_the_longest_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
