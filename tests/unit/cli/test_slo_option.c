#include "cli/slo_option.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static void expect(const char *text, double ttft, double tpot, double e2e)
{
	struct slo_limits l;
	struct lem_error err = LEM_ERROR_INIT;

	if (slo_option_parse(text, &l, &err) < 0)
		fail_msg("%s: %s", text, err.what);
	assert_true(isnan(ttft) ? isnan(l.ttft_ms) : l.ttft_ms == ttft);
	assert_true(isnan(tpot) ? isnan(l.tpot_ms) : l.tpot_ms == tpot);
	assert_true(isnan(e2e) ? isnan(l.e2e_ms) : l.e2e_ms == e2e);
}

static void test_good(void **state)
{
	const double none = (double)NAN;

	(void)state;
	expect("ttft=200,tpot=50,e2e=5000", 200, 50, 5000);
	expect("e2e=1.5", none, none, 1.5);
	expect("tpot=0.25,ttft=1e3", 1000, 0.25, none);
	expect("ttft=1000000000", 1e9, none, none);
}

static void refuse(const char *text, const char *what, const char *why)
{
	struct slo_limits l = {1, 2, 3};
	struct lem_error err = LEM_ERROR_INIT;

	if (slo_option_parse(text, &l, &err) >= 0)
		fail_msg("'%s' was taken", text);
	assert_int_equal(err.code, LEM_E_USAGE);
	if (!strstr(err.what, what))
		fail_msg("'%s' does not say '%s'", err.what, what);
	assert_non_null(strstr(err.why, why));
	assert_non_null(strstr(err.fix, "ttft=200,tpot=50,e2e=5000"));
	assert_true(l.ttft_ms == 1 && l.tpot_ms == 2 && l.e2e_ms == 3);
}

static void test_bad(void **state)
{
	char endless[5000];

	(void)state;
	refuse("", "'' is not NAME=MS", "");
	refuse("200", "'200' is not NAME=MS", "");
	refuse("ttft=200,", "'' is not NAME=MS", "");
	refuse(",ttft=200", "'' is not NAME=MS", "");
	refuse("ttft", "'ttft' is not NAME=MS", "");
	refuse("itl=5", "knows no 'itl'", "");
	refuse("TTFT=5", "knows no 'TTFT'", "");
	refuse("=5", "knows no ''", "");
	refuse("ttft=1,ttft=2", "gives ttft twice", "");
	refuse("ttft=", "ttft: ''", "");
	refuse("ttft=0", "ttft: '0'", "");
	refuse("ttft=-1", "ttft: '-1'", "");
	refuse("ttft=nan", "ttft: 'nan'", "");
	refuse("ttft=inf", "ttft: 'inf'", "");
	refuse("ttft=1e300", "ttft: '1e300'", "");
	refuse("tpot= 5", "tpot: ' 5'", "");
	refuse("tpot=5 ", "tpot: '5 '", "");
	refuse("e2e=200ms", "e2e: '200ms'", "unit is always ms");
	refuse("e2e=5s", "e2e: '5s'", "unit is always ms");
	refuse("ttft==5", "ttft: '=5'", "");
	memset(endless, '7', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	refuse(endless, "7777777777", "");
	memcpy(endless, "ttft=", 5);
	refuse(endless, "ttft: '7777", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
