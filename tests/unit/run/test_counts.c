#include <setjmp.h>

#include "run/life.h"

#include <cmocka.h>

static struct life *life_of(struct run_record *r, const char *engine)
{
	struct life *l = lem_calloc(1, sizeof(*l));

	run_record_init(r);
	r->engine_build_json = engine;
	l->rec = r;
	return l;
}

static void end(struct life *l)
{
	run_record_release(l->rec);
	free(l);
}

static struct worker_done parse(const char *counts, struct arena *a)
{
	_cleanup_free_ char *line =
		lem_asprintf("{\"event\":\"done\",\"run\":1,\"t_start_ns\":1,\"t_ns\":2,"
			     "\"results\":[]%s}",
			     counts);
	struct worker_done d = {0};
	struct lem_error err = LEM_ERROR_INIT;

	if (worker_parse_done(line, a, &d, &err) < 0)
		fail_msg("%s", err.what);
	return d;
}

static void count(struct life *l, const char *counts)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct worker_done d = parse(counts, &a);

	life_count(l, &d);
}

static void test_passes_are_summed(void **state)
{
	struct run_record r;
	struct life *l = life_of(&r, "{\"name\":\"t\"}");

	(void)state;
	count(l, ",\"counts\":{\"drafted\":10,\"accepted\":7}");
	count(l, ",\"counts\":{\"drafted\":5,\"batches\":1}");
	life_tell_counts(l);
	assert_string_equal(r.engine_build_json,
			    "{\"name\":\"t\",\"counts\":{\"drafted\":15,\"accepted\":7,"
			    "\"batches\":1}}");
	assert_int_equal(r.n_notes, 0);
	end(l);
}

static void test_nothing_counted_changes_nothing(void **state)
{
	struct run_record r;
	struct life *l = life_of(&r, "{}");

	(void)state;
	count(l, "");
	count(l, ",\"counts\":[1]");
	count(l, ",\"counts\":{\"a\":-1,\"b\":\"x\",\"c\":1.5}");
	life_tell_counts(l);
	assert_string_equal(r.engine_build_json, "{}");
	end(l);
}

static void test_an_engine_that_said_nothing(void **state)
{
	struct run_record r;
	struct life *l = life_of(&r, "{}");

	(void)state;
	count(l, ",\"counts\":{\"a\":9223372036854775807}");
	count(l, ",\"counts\":{\"a\":1}");
	life_tell_counts(l);
	assert_string_equal(r.engine_build_json, "{\"counts\":{\"a\":9223372036854775807}}");
	l->rec->engine_build_json = NULL;
	life_tell_counts(l);
	assert_null(r.engine_build_json);
	end(l);
}

static void test_compiling_is_noted(void **state)
{
	struct run_record r;
	struct life *l = life_of(&r, "{}");

	(void)state;
	count(l, ",\"counts\":{\"compiled\":0}");
	life_tell_counts(l);
	assert_int_equal(r.n_notes, 0);
	count(l, ",\"counts\":{\"compiled\":3}");
	life_tell_counts(l);
	assert_int_equal(r.n_notes, 1);
	assert_true(str_starts(r.notes[0], NOTE_COMPILED " 3 graphs"));
	end(l);
}

static void test_names_beyond_the_table_are_left_out(void **state)
{
	_cleanup_str_ struct str many = STR_INIT;
	struct run_record r;
	struct life *l = life_of(&r, "{}");

	(void)state;
	str_add(&many, ",\"counts\":{");
	for (int i = 0; i < 200; i++)
		str_addf(&many, "%s\"n%d\":1", i ? "," : "", i);
	str_addc(&many, '}');
	count(l, str_c(&many));
	count(l, ",\"counts\":{\"another\":1}");
	assert_int_equal(l->n_counts, 64);
	end(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passes_are_summed),
		cmocka_unit_test(test_nothing_counted_changes_nothing),
		cmocka_unit_test(test_an_engine_that_said_nothing),
		cmocka_unit_test(test_compiling_is_noted),
		cmocka_unit_test(test_names_beyond_the_table_are_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
