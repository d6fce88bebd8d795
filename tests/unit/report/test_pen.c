#include "report/pen.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static const struct report_style plain = {.width = 60}, ascii = {.ascii = true, .width = 60};

static void expect_scaled(double v, bool in_ascii, const char *want)
{
	char buf[32];

	assert_string_equal(report_scaled(v, "J", in_ascii, buf, sizeof(buf)), want);
}

static void test_scaled(void **state)
{
	(void)state;
	expect_scaled(0, false, "0 J");
	expect_scaled(1, false, "1.00 J");
	expect_scaled(12.04, false, "12.0 J");
	expect_scaled(123.4, false, "123 J");
	expect_scaled(999.4, false, "999 J");
	expect_scaled(999.7, false, "1.00 kJ"); /* never "1000 J" */
	expect_scaled(99.96, false, "100 J");
	expect_scaled(9.996, false, "10.0 J");
	expect_scaled(0.00321, false, "3.21 mJ");
	expect_scaled(4.5e-7, false, "450 nJ");
	expect_scaled(4.5e-6, false, "4.50 \xc2\xb5J");
	expect_scaled(4.5e-6, true, "4.50 uJ");
	expect_scaled(1e-12, false, "0.00 nJ");
	expect_scaled(-2500, false, "-2.50 kJ");
	expect_scaled(3.6e18, false, "3600 PJ");
	expect_scaled((double)NAN, false, "-");
	expect_scaled((double)INFINITY, false, "-");
}

static void expect_clean(const struct report_style *style, const char *text, const char *want,
			 size_t columns)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct pen p;

	pen_init(&p, style, &out);
	assert_int_equal(pen_clean(&p, text, &out), columns);
	assert_string_equal(str_c(&out), want);
}

/* A model's name must not clear the screen of whoever lists it. */
static void test_terminal_escapes_are_shown_not_obeyed(void **state)
{
	(void)state;
	expect_clean(&plain, "a\x1b[2Jb", "a?[2Jb", 6);
	expect_clean(&plain, "a\nb\tc\rd", "a b c d", 7);
	expect_clean(&plain, "\x7f\x01", "??", 2);
	expect_clean(&plain,
		     "\xc2\x9b"
		     "31m",
		     "??31m", 5); /* CSI as U+009B */
	expect_clean(&plain, "\xff\xfe", "??", 2);
	expect_clean(&plain, "\xe2\x82", "??", 2); /* cut in the middle */
	expect_clean(&plain, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
		     "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 3);
	expect_clean(&ascii, "\xc3\xa9x\xe2\x82\xac", "?x?", 3);
}

static void expect_lines(const char *text, const char *want)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct pen p;

	pen_init(&p, &plain, &out);
	pen_line(&p, "label", "%s", text);
	assert_string_equal(str_c(&out), want);
}

/* 60 columns leave 43 for the text. */
static void test_wrapping(void **state)
{
	(void)state;
	expect_lines("", "  label         \n");
	expect_lines("short", "  label         short\n");
	expect_lines("aaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbb",
		     "  label         aaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbb\n");
	expect_lines("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbbb",
		     "  label         aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
		     "                bbbbbbbbbbbbbbbbbbbbb\n");
	/* no blank: cut hard, after whole characters */
	expect_lines(
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9",
		"  label         \xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
		"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\n"
		"                \xc3\xa9\n");
	/* a word that a line can hold is not cut, though the line before stays short */
	expect_lines("or set energy.estimate_watts_per_core_of_this_host",
		     "  label         or set\n"
		     "                energy.estimate_watts_per_core_of_this_host\n");
	/* one that no line can hold begins where there is room */
	expect_lines("see aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		     "  label         see aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
		     "                aaaaaaaaaaa\n");
	/* a unit stays with its number */
	expect_lines("the warm-up did not settle (variation 12.5 %)",
		     "  label         the warm-up did not settle (variation\n"
		     "                12.5 %)\n");
}

static void expect_quantity(struct quantity q, const char *want)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct pen p;

	pen_init(&p, &ascii, &out);
	pen_quantity(&p, "GPU", &q, "J");
	assert_string_equal(str_c(&out), want);
}

static void test_quantities(void **state)
{
	(void)state;
	expect_quantity(quantity_of(2, 1.9, 2.1, "m"), "  GPU           2.00 J +- 5.0 %\n");
	expect_quantity(quantity_of(2, 2, 2, "m"), "  GPU           2.00 J\n");
	expect_quantity(quantity_of(0, -1, 1, "m"), "  GPU           0 J\n");
	expect_quantity(quantity_of(-4, -5, -3, "m"), "  GPU           -4.00 J +- 25 %\n");
	expect_quantity(quantity_of(2, -1, 5, "m"), "  GPU           2.00 J +- 150 %\n");
	expect_quantity(quantity_of(2, -98, 102, "m"), "  GPU           2.00 J +- >999 %\n");
	expect_quantity(quantity_of(2, 1.993, 2.007, "m"), "  GPU           2.00 J +- 0.35 %\n");
	expect_quantity(quantity_of(2, 1.99999, 2.00001, "m"),
			"  GPU           2.00 J +- <0.01 %\n");
	expect_quantity(quantity_unknown("no counter"),
			"  GPU           not measured: no counter\n");
}

static void test_width_is_bounded(void **state)
{
	struct report_style style = {.width = -5};
	struct pen p;

	(void)state;
	pen_init(&p, &style, NULL);
	assert_int_equal(p.width, 60);
	style.width = 1000;
	pen_init(&p, &style, NULL);
	assert_int_equal(p.width, 120);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scaled),
		cmocka_unit_test(test_terminal_escapes_are_shown_not_obeyed),
		cmocka_unit_test(test_wrapping),
		cmocka_unit_test(test_quantities),
		cmocka_unit_test(test_width_is_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
