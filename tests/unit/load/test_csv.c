/* Rows of a CSV (csv.c): what RFC 4180 allows, what programs write besides, and what is refused. */
#include "load/csv.h"

#include <setjmp.h>

#include <cmocka.h>

/* Rows as "a|b" with a newline after each; the error's text at the end. */
static void read_all(const char *bytes, size_t n, struct str *out)
{
	_cleanup_csv_ struct csv c;
	struct lem_error err = LEM_ERROR_INIT;
	int rc;

	csv_init(&c, bytes, n);
	while ((rc = csv_next(&c, &err)) > 0) {
		str_addf(out, "%zu:", c.line);
		for (size_t i = 0; i < c.n; i++)
			str_addf(out, "%s%s", i ? "|" : "", csv_field(&c, i));
		assert_string_equal(csv_field(&c, c.n), "");
		str_addc(out, '\n');
	}
	if (rc < 0)
		str_addf(out, "%zu! %s", c.line, err.what);
}

static void expect(const char *text, const char *want)
{
	_cleanup_free_ char *exact = lem_malloc(strlen(text) + 1);
	_cleanup_str_ struct str got = STR_INIT;
	size_t n = strlen(text);

	memcpy(exact, text, n); /* without its NUL: nothing behind the end may be read */
	read_all(exact, n, &got);
	assert_string_equal(str_c(&got), want);
}

static void test_rows(void **state)
{
	(void)state;
	expect("", "");
	expect("a", "1:a\n");
	expect("a,b\nc,d\n", "1:a|b\n2:c|d\n");
	expect("a,b\r\nc,\r\n", "1:a|b\n2:c|\n");
	expect(",\n,,", "1:|\n2:||\n");
	expect(" a , b\t\n", "1:a|b\n");
	expect("a b,c\rd\n", "1:a b|c\rd\n"); /* a lone CR is no line end */
	expect("\n\r\n\na\n\n", "4:a\n");
	expect("\xef\xbb\xbf"
	       "a,b\n",
	       "1:a|b\n");
}

static void test_quotes(void **state)
{
	(void)state;
	expect("\"a,b\",\"c\"\"d\"\n", "1:a,b|c\"d\n");
	expect("\" a \" ,b\n", "1: a |b\n");
	expect("\"two\nlines\",x\nnext\n", "1:two\nlines|x\n3:next\n");
	expect("a\"b,c\n", "1:a\"b|c\n"); /* not at its start: an ordinary character */
	expect("\"\",\"\"", "1:|\n");
	expect("x\n\"open\n\n", "1:x\n2! a quote is never closed");
	expect("\"a\"b\n", "1! text follows a closing quote");
	expect("\"", "1! a quote is never closed");
}

static void test_bounds(void **state)
{
	_cleanup_str_ struct str s = STR_INIT, got = STR_INIT;

	(void)state;
	for (int i = 0; i < CSV_FIELDS_MAX; i++)
		str_addc(&s, ',');
	read_all(str_c(&s), s.len - 1, &got);
	assert_null(strchr(str_c(&got), '!'));
	str_reset(&got);
	read_all(str_c(&s), s.len, &got);
	assert_non_null(strstr(str_c(&got), "more than 256 fields"));
	str_reset(&s);
	str_reset(&got);
	for (int i = 0; i <= CSV_ROW_MAX; i++)
		str_addc(&s, 'x');
	read_all(str_c(&s), s.len, &got);
	assert_non_null(strstr(str_c(&got), "longer than 1048576 bytes"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
