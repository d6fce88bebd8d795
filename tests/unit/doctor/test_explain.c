#include <setjmp.h>

#include "doctor/catalogue.h"
#include "doctor/explain.h"
#include "doctor/known.h"

#include <cmocka.h>

static size_t explain(const char *text, struct explanation *e, size_t cap)
{
	return doctor_explain(text, strlen(text), e, cap);
}

/* ---- the catalogue ---- */

static void test_ids_are_complete(void **state)
{
	(void)state;
	assert_true(doctor_n_rules > 41);
	for (size_t i = 0; i < doctor_n_rules; i++) {
		_cleanup_free_ char *id =
			i < 41 ? lem_asprintf("R%02zu", i + 1) : lem_asprintf("X%02zu", i + 1 - 41);

		assert_string_equal(doctor_rules[i].id, id);
	}
}

static void test_rules_say_everything(void **state)
{
	(void)state;
	for (size_t i = 0; i < doctor_n_rules; i++) {
		const struct doctor_rule *r = &doctor_rules[i];
		_cleanup_str_ struct str where = STR_INIT;

		assert_true(strlen(r->title) > 8 && strlen(r->title) <= 66);
		assert_true(strlen(r->means) > 20);
		assert_true(strlen(r->fix) > 8);
		doctor_where_text(r->where, &where);
		assert_true(where.len > 0);
		/* what cannot happen is so by construction, and nothing else is only that */
		assert_int_equal(r->severity == DOCTOR_PREVENTED,
				 r->where == DOCTOR_BY_CONSTRUCTION);
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(doctor_rules[j].title, r->title);
	}
}

static void test_find(void **state)
{
	(void)state;
	assert_ptr_equal(doctor_rule("R17"), &doctor_rules[16]);
	assert_ptr_equal(doctor_rule("r17"), &doctor_rules[16]);
	assert_non_null(doctor_rule("X01"));
	assert_null(doctor_rule("R42"));
	assert_null(doctor_rule("R00"));
	assert_null(doctor_rule(""));
}

/* ---- the table of messages ---- */

/* Every entry can be reached: a line of its parts is explained by its rule. */
static void test_no_entry_is_hidden(void **state)
{
	(void)state;
	for (size_t i = 0; i < n_known_messages; i++) {
		const struct known_message *k = &known_messages[i];
		_cleanup_str_ struct str line = STR_INIT;
		struct explanation e[2];

		assert_non_null(doctor_rule(k->id));
		assert_non_null(k->parts[0]);
		for (size_t j = 0; j < KNOWN_PARTS && k->parts[j]; j++) {
			assert_true(strlen(k->parts[j]) <= KNOWN_PART_MAX);
			for (const char *p = k->parts[j]; *p; p++)
				assert_false(*p >= 'A' && *p <= 'Z');
			str_addf(&line, "%s ", k->parts[j]);
		}
		assert_int_equal(explain(str_c(&line), e, 2), 1);
		if (!str_eq(e[0].id, k->id))
			fail_msg("'%s' is explained as %s, not %s", str_c(&line), e[0].id, k->id);
		assert_string_equal(e[0].title, k->title ? k->title : doctor_rule(k->id)->title);
		assert_string_equal(e[0].fix, k->fix ? k->fix : doctor_rule(k->id)->fix);
	}
}

/* ---- the search ---- */

static void test_first_line_of_each_rule(void **state)
{
	struct explanation e[4];

	(void)state;
	assert_int_equal(explain("a\nCUDA out of memory: one\nexec format error\n"
				 "CUDA out of memory: two\n",
				 e, 4),
			 2);
	assert_string_equal(e[0].id, "X01");
	assert_string_equal(e[0].line, "CUDA out of memory: one");
	assert_string_equal(e[1].id, "X04");
	assert_int_equal(explain("CUDA out of memory\nexec format error\n", e, 1), 1);
	assert_string_equal(e[0].id, "X01");
	assert_int_equal(explain("exec format error", e, 0), 0);
	assert_int_equal(doctor_explain("exec format error", 8, e, 4), 0); /* only n bytes */
	assert_int_equal(doctor_explain(NULL, 0, e, 4), 0);
}

static void test_case_and_nul(void **state)
{
	static const char text[] = "one\0two EXEC Format Error\0three";
	struct explanation e[1];

	(void)state;
	assert_int_equal(doctor_explain(text, sizeof(text) - 1, e, 1), 1);
	assert_string_equal(e[0].line, "onetwo EXEC Format Errorthree");
}

static void test_line_is_clean(void **state)
{
	struct explanation e[1];

	(void)state;
	assert_int_equal(explain("\x1b[1;31mError\x1b[0m:\texec format error\x07\r\n", e, 1), 1);
	assert_string_equal(e[0].line, "Error: exec format error");
	assert_int_equal(explain("\xff exec format error \xe2\x82", e, 1), 1);
	assert_string_equal(e[0].line, "? exec format error ??");
	/* a sequence that never ends swallows what follows, and nothing beyond */
	assert_int_equal(explain("exec format error\x1b[12", e, 1), 1);
	assert_string_equal(e[0].line, "exec format error");
}

static bool is_utf8(const char *s)
{
	for (size_t i = 0; s[i];) {
		unsigned char c = (unsigned char)s[i];
		size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

		for (size_t k = 1; k < n; k++)
			if (((unsigned char)s[i + k] & 0xc0) != 0x80)
				return false;
		i += n;
	}
	return true;
}

/* Wherever the message stands in a long line, it is in what is shown, whole characters only. */
static void test_long_lines(void **state)
{
	(void)state;
	for (size_t before = 0; before < 6000; before += 37) {
		_cleanup_str_ struct str line = STR_INIT;
		struct explanation e[1];

		for (size_t i = 0; i < before; i++)
			str_add(&line, i % 9 == 8 ? " " : i % 2 ? "é" : "x");
		str_add(&line, " exec format error ");
		for (size_t i = 0; i < 500; i++)
			str_add(&line, "…");
		assert_int_equal(explain(str_c(&line), e, 1), 1);
		assert_true(strlen(e[0].line) < sizeof(e[0].line));
		assert_true(is_utf8(e[0].line));
		if (!strstr(e[0].line, "exec format error"))
			fail_msg("%zu before: %s", before, e[0].line);
		assert_true(str_ends(e[0].line, "…"));
	}
}

/* Parts that are far apart in one line still belong together as long as a window holds them. */
static void test_parts_in_one_line_only(void **state)
{
	struct explanation e[2];

	(void)state;
	assert_int_equal(
		explain("Free memory on device\nless than desired GPU memory utilization", e, 2),
		0);
	assert_int_equal(
		explain("less than desired GPU memory utilization: Free memory on device", e, 2),
		1);
	assert_string_equal(e[0].id, "R26");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids_are_complete),
		cmocka_unit_test(test_rules_say_everything),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_no_entry_is_hidden),
		cmocka_unit_test(test_first_line_of_each_rule),
		cmocka_unit_test(test_case_and_nul),
		cmocka_unit_test(test_line_is_clean),
		cmocka_unit_test(test_long_lines),
		cmocka_unit_test(test_parts_in_one_line_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
