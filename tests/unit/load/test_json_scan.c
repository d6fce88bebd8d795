#include "load/json_scan.h"

#include <setjmp.h>

#include <cmocka.h>

static struct json_scan over(const char *s)
{
	return (struct json_scan){.at = s, .end = s + strlen(s)};
}

static void accept(const char *text)
{
	struct json_scan s = over(text);

	if (!json_scan_skip(&s) || !json_scan_end(&s))
		fail_msg("%s: %s", s.bad, text);
	assert_int_equal(s.depth, 0);
}

static void refuse(const char *text, const char *why)
{
	struct json_scan s = over(text);
	bool ok = json_scan_skip(&s) && json_scan_end(&s);

	if (ok || !s.bad || !strstr(s.bad, why))
		fail_msg("'%s', expected '%s': %s", s.bad ? s.bad : "accepted", why, text);
}

static void test_values(void **state)
{
	static const char *const good[] = {
		"0",
		"-0",
		"10",
		"-1.5",
		"1e9",
		"1E+9",
		"0.25e-3",
		"true",
		"false",
		"null",
		"\"\"",
		"[]",
		"[ ]",
		"{}",
		"{ }",
		" [1 , 2]\n",
		"{\"a\" : {\"b\":[null]}}",
		"\t\"x\"\r\n",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u12aB\"",
		"\"\xf0\x9f\x98\x80\"",
	};
	static const char *const bad[] = {
		"",         " ",          "+1",           "01",
		"1.",       ".5",         "1e",           "1e+",
		"--1",      "nul",        "True",         "nan",
		"Infinity", "'a'",        "[1,]",         "[,1]",
		"[1",       "]",          "{\"a\"}",      "{\"a\":}",
		"{a:1}",    "{\"a\":1,}", "{,}",          "1 2",
		"[] []",    "\"",         "\"\\",         "\"\\u12\"",
		"\"\\q\"",  "\"\n\"",     "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
		"/* */ 1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		accept(good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		refuse(bad[i], "");
}

/* Long strings go 8 bytes at a time: a byte that ends or breaks one is found at every place. */
static void test_every_place_in_a_word(void **state)
{
	(void)state;
	for (size_t n = 0; n < 40; n++)
		for (size_t at = 0; at < n; at++) {
			static const char special[] = {'"',  '\\',       0x1f,
						       '\n', (char)0x80, (char)0xff};

			for (size_t k = 0; k < sizeof(special); k++) {
				char buf[64];
				struct json_scan s = {.at = buf, .end = buf + n};
				size_t decoded = 99;
				bool ok;

				memset(buf, 'a', sizeof(buf));
				buf[at] = special[k];
				ok = json_scan_chars(&s, &decoded);
				assert_int_equal(ok, special[k] == '"');
				assert_int_equal(s.at - buf, at);
				if (ok)
					assert_int_equal(decoded, at);
			}
		}
}

static void test_sizes_decoded(void **state)
{
	static const struct {
		const char *raw;
		size_t n;
	} rows[] = {{"", 0},           {"abcdefghijkl", 12},
		    {"\\n\\u0041", 2}, {"\\u00e9", 2},
		    {"\\u20ac", 3},    {"\\ud83d\\ude00", 4},
		    {"\\ud83d", 3},    {"\\ude00\\ud83d", 6},
		    {"\\ud83dxx", 5},  {"\xe2\x82\xac\xc3\xa9", 5}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct json_scan s = over(rows[i].raw);
		size_t decoded;

		assert_true(json_scan_chars(&s, &decoded));
		assert_int_equal(decoded, rows[i].n);
	}
}

static void count_is(const char *text, int32_t want)
{
	struct json_scan s = over(text);
	int32_t x = -7;

	assert_true(json_scan_count(&s, &x));
	assert_int_equal(x, want);
	assert_true(json_scan_end(&s));
}

static void test_counts(void **state)
{
	struct json_scan s = over("12x");
	int32_t x = -7;

	(void)state;
	count_is("0", 0);
	count_is("2147483647", INT32_MAX);
	count_is("2147483648", -7); /* does not fit: not told */
	count_is("99999999999999999999", -7);
	count_is("-1", -7);
	count_is("1.0", -7);
	count_is("1e3", -7);
	count_is("null", -7);
	count_is("\"5\"", -7);
	count_is("[5]", -7);
	assert_true(json_scan_count(&s, &x));
	assert_false(json_scan_end(&s));
}

static bool sum_entry(struct json_scan *s, size_t i, void *arg)
{
	int32_t x = 0;

	if (!json_scan_count(s, &x))
		return false;
	*(int64_t *)arg += x * (int64_t)(i + 1);
	return true;
}

static bool sum_member(struct json_scan *s, const char *key, size_t n, void *arg)
{
	*(int64_t *)arg += (int64_t)n * (n ? key[0] : 1);
	return json_scan_array(s, sum_entry, arg);
}

static void test_walks(void **state)
{
	struct json_scan s = over("{\"b\":[1,2,3],\"\":[],\"\\u0041\":[10]}");
	int64_t sum = 0;

	(void)state;
	assert_true(json_scan_object(&s, sum_member, &sum));
	assert_true(json_scan_end(&s));
	assert_int_equal(sum, 'b' + 1 + 4 + 9 + 6 * '\\' + 10);
}

static void test_depth(void **state)
{
	char text[JSON_SCAN_DEPTH * 2 + 3] = {0};

	(void)state;
	memset(text, '[', JSON_SCAN_DEPTH);
	memset(text + JSON_SCAN_DEPTH, ']', JSON_SCAN_DEPTH);
	accept(text);
	memset(text, '[', JSON_SCAN_DEPTH + 1);
	memset(text + JSON_SCAN_DEPTH + 1, ']', JSON_SCAN_DEPTH + 1);
	refuse(text, "nesting");
}

/* A prefix of a document is never a document, and no byte past its end is read (ASan watches). */
static void test_every_prefix(void **state)
{
	static const char text[] =
		"{\"a\":[1,true,\"x\\u00e9\\n\"],\"b\":{\"c\":null},\"d\":-1.5e+7}";

	(void)state;
	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		_cleanup_free_ char *cut = lem_malloc(n + !n);
		struct json_scan s = {.at = cut, .end = cut + n};

		memcpy(cut, text, n);
		assert_false(json_scan_skip(&s));
		assert_non_null(s.bad);
	}
	accept(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values),        cmocka_unit_test(test_every_place_in_a_word),
		cmocka_unit_test(test_sizes_decoded), cmocka_unit_test(test_counts),
		cmocka_unit_test(test_walks),         cmocka_unit_test(test_depth),
		cmocka_unit_test(test_every_prefix),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
