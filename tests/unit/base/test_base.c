#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/jsonw.h"
#include "base/num.h"
#include "base/rand.h"
#include "base/str.h"
#include "base/vec.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static void test_str_grows(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	assert_string_equal(str_c(&s), "");
	for (int i = 0; i < 1000; i++)
		str_addf(&s, "%d,", i);
	assert_int_equal(s.len, 10 * 2 + 90 * 3 + 900 * 4);
	assert_memory_equal(s.buf + s.len - 4, "999,", 5);
	str_set(&s, "x");
	assert_string_equal(str_c(&s), "x");
}

static void test_str_long_format(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	str_addf(&s, "%0500d", 7);
	assert_int_equal(s.len, 500);
	assert_int_equal(s.buf[499], '7');
}

static void test_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t n, valid;
	} rows[] = {
		{"", 0, 0},
		{"abc", 3, 3},
		{"a\xc3\xa9z", 4, 4},
		{"\xe2\x82\xac", 3, 3},
		{"a\xc3", 2, 1},
		{"ab\xff", 3, 2},
		{"\xc0\x80", 2, 0},
		{"\xed\xa0\x80", 3, 0},
		{"\xe0\x80\x80", 3, 0},
		{"\xf4\x90\x80\x80", 4, 0},
		{"\xf0\x9f\x98\x80", 4, 4},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_int_equal(str_utf8_valid(rows[i].text, rows[i].n), rows[i].valid);
}

static void test_distance(void **state)
{
	(void)state;
	assert_int_equal(str_distance("", ""), 0);
	assert_int_equal(str_distance("abc", ""), 3);
	assert_int_equal(str_distance("batch_size", "batch_size"), 0);
	assert_int_equal(str_distance("batch_szie", "batch_size"), 1);
	assert_int_equal(str_distance("kitten", "sitting"), 3);
}

static void test_num_strict(void **state)
{
	int64_t i = 42;
	uint64_t u = 42;
	double d = 42;

	(void)state;
	assert_true(num_parse_i64("-12", &i) && i == -12);
	assert_true(num_parse_i64("9223372036854775807", &i) && i == INT64_MAX);
	i = 42;
	static const char *const bad[] = {
		"", "-", "1 ", " 1", "1x", "0x10", "9223372036854775808", "1.0", "--1"};
	for (size_t k = 0; k < ARRAY_LEN(bad); k++)
		assert_false(num_parse_i64(bad[k], &i));
	assert_int_equal(i, 42);
	assert_false(num_parse_u64("-1", &u));
	assert_true(num_parse_f64("1e-3", &d) && d == 1e-3);
	assert_true(num_parse_f64(".5", &d) && d == 0.5);
	static const char *const badf[] = {"nan", "inf", "1e999", "0x1p3", "", ".", "1e", "1,5"};
	for (size_t k = 0; k < ARRAY_LEN(badf); k++)
		assert_false(num_parse_f64(badf[k], &d));
}

static void test_num_units(void **state)
{
	int64_t ns;
	uint64_t b;
	char buf[24];

	(void)state;
	assert_true(num_parse_duration_ns("1.5s", &ns) && ns == 1500000000);
	assert_true(num_parse_duration_ns("20 ms", &ns) && ns == 20000000);
	assert_false(num_parse_duration_ns("20", &ns));
	assert_false(num_parse_duration_ns("ms", &ns));
	assert_true(num_parse_bytes("8g", &b) && b == UINT64_C(8) << 30);
	assert_true(num_parse_bytes("512", &b) && b == 512);
	assert_false(num_parse_bytes("12q", &b));
	assert_string_equal(num_format_bytes(1536, buf, sizeof(buf)), "1.50 KiB");
	assert_string_equal(num_format_bytes(12, buf, sizeof(buf)), "12 B");
	assert_string_equal(num_format_duration(200 * NS_PER_S, buf, sizeof(buf)), "3 min 20 s");
}

static void test_error(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(lem_fail(&err, LEM_E_IO, "cannot open %s", "x"), -LEM_E_IO);
	lem_error_where(&err, "%s:%d", "f", 3);
	assert_int_equal(lem_error_context(&err, "reading %s", "config"), -LEM_E_IO);
	assert_string_equal(err.what, "reading config: cannot open x");
	assert_string_equal(err.where, "f:3");
	assert_string_equal(err.why, "");
	assert_int_equal(lem_fail(NULL, LEM_E_USAGE, "x"), -LEM_E_USAGE);
	assert_int_equal(lem_code_exit(LEM_E_REFUSED), 2);
	assert_int_equal(lem_code_exit(LEM_E_ROUTING), 3);
	assert_int_equal(lem_code_exit(LEM_E_INTERRUPTED), 130);
	assert_int_equal(lem_code_exit(LEM_E_ENGINE), 1);
}

static void test_arena(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	for (size_t i = 1; i < 3000; i += 7) {
		char *p = arena_alloc(&a, i);

		assert_int_equal((uintptr_t)p % sizeof(max_align_t), 0);
		for (size_t k = 0; k < i; k++)
			assert_int_equal(p[k], 0);
		memset(p, 0xff, i);
	}
	assert_string_equal(arena_printf(&a, "%s-%d", "a", 5), "a-5");
	assert_null(arena_strdup(&a, NULL));
	assert_non_null(arena_alloc(&a, 1 << 20));
}

static void test_vec(void **state)
{
	VEC(int) v = VEC_INIT;
	int sum = 0;

	(void)state;
	for (int i = 0; i < 100; i++)
		*vec_push(&v) = i;
	vec_foreach (&v, p)
		sum += *p;
	assert_int_equal(sum, 4950);
	vec_release(&v);
	vec_foreach (&v, p)
		sum += *p;
	assert_int_equal(sum, 4950);
}

static void test_rand(void **state)
{
	struct rand a, b;
	double sum = 0, sq = 0;

	(void)state;
	rand_seed(&a, 7);
	rand_seed(&b, 7);
	for (int i = 0; i < 100; i++)
		assert_true(rand_u64(&a) == rand_u64(&b));
	for (int i = 0; i < 100000; i++) {
		double x = rand_normal(&a);

		sum += x;
		sq += x * x;
		assert_true(rand_below(&a, 3) < 3);
		double u = rand_f64(&a);
		assert_true(u >= 0 && u < 1);
	}
	assert_true(fabs(sum / 1e5) < 0.02 && fabs(sq / 1e5 - 1) < 0.03);
}

static void test_jsonw(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	(void)state;
	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "a", "q\"\\\n\x01");
	jsonw_f64(&w, "nan", NAN);
	jsonw_f64(&w, "tenth", 0.1);
	jsonw_array(&w, "l");
	jsonw_i64(&w, NULL, -3);
	jsonw_object(&w, NULL);
	jsonw_end_object(&w);
	jsonw_end_array(&w);
	jsonw_strn(&w, "bad", "x\xff\xc0y", 4);
	jsonw_bool(&w, "b", true);
	jsonw_end_object(&w);
	assert_string_equal(
		str_c(&s),
		"{\"a\":\"q\\\"\\\\\\n\\u0001\",\"nan\":null,\"tenth\":0.1,\"l\":[-3,{}],"
		"\"bad\":\"x\xef\xbf\xbd\xef\xbf\xbdy\",\"b\":true}");
}

static void test_digest(void **state)
{
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	digest_bytes("abc", 3, hex); /* FIPS 180-4, example */
	assert_string_equal(hex,
			    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_clock(void **state)
{
	char buf[32];
	int64_t t = clock_now_ns();

	(void)state;
	assert_true(clock_sleep_until_ns(t + 2 * NS_PER_MS));
	assert_true(clock_now_ns() >= t + 2 * NS_PER_MS);
	assert_string_equal(clock_format_utc(1764000000123000000, buf, sizeof(buf)),
			    "2025-11-24T16:00:00.123Z");
	assert_true(llabs(clock_wall_offset_ns() - (clock_wall_ns() - clock_now_ns())) < NS_PER_S);
}

static void test_blot(void **state)
{
	static const char *const rows[][3] = {
		{"403 for hf_abcd, hf_abcdhf_abcd.", "hf_abcd", "403 for ***, ******."},
		{"cut off: hf_ab", "hf_abcd", "cut off: ***"},
		{"cut off: hf", "hf_abcd", "cut off: hf"},
		{"aaaa", "aaa", "***a"},
		{"ab is too short", "ab", "ab is too short"},
		{"", "abc", ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_free_ char *text = lem_strdup(rows[i][0]);

		str_blot(text, rows[i][1]);
		assert_string_equal(text, rows[i][2]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str_grows), cmocka_unit_test(test_str_long_format),
		cmocka_unit_test(test_blot),      cmocka_unit_test(test_utf8),
		cmocka_unit_test(test_distance),  cmocka_unit_test(test_num_strict),
		cmocka_unit_test(test_num_units), cmocka_unit_test(test_error),
		cmocka_unit_test(test_arena),     cmocka_unit_test(test_vec),
		cmocka_unit_test(test_rand),      cmocka_unit_test(test_jsonw),
		cmocka_unit_test(test_digest),    cmocka_unit_test(test_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
