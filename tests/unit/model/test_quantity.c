#include "model/quantity.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/jsonw.h"

static void check(const struct quantity *q, const char *want)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	quantity_json(&w, "x", q);
	jsonw_end_object(&w);
	assert_string_equal(str_c(&s), want);
}

static void test_known(void **state)
{
	const struct quantity q = quantity_of(2, 1, 3, "counted");

	(void)state;
	check(&q, "{\"x\":{\"value\":2,\"low\":1,\"high\":3,\"method\":\"counted\"}}");
}

/* Missing is null with a reason, whatever is missing. */
static void test_missing(void **state)
{
	const struct quantity why = quantity_unknown("RAPL: not here"), silent = {0};

	(void)state;
	check(&why, "{\"x\":{\"value\":null,\"reason\":\"RAPL: not here\"}}");
	check(&silent, "{\"x\":{\"value\":null,\"reason\":\"not measured\"}}");
}

static void test_no_number(void **state)
{
	const double values[] = {NAN, INFINITY, -INFINITY};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		const struct quantity q = quantity_of(values[i], 0, 1, "counted");

		check(&q,
		      "{\"x\":{\"value\":null,\"reason\":\"the figure came out as no number\"}}");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_no_number),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
