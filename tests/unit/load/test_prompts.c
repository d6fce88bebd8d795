#include "load/prompts.h"

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "sys/fs.h"

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	lem_strlcpy(dir, "/tmp/lem-prompts-XXXXXX", sizeof(dir));
	return mkdtemp(dir) ? 0 : -1;
}

static void put(const char *name, const char *text, size_t n)
{
	_cleanup_free_ char *path = fs_join(dir, name);

	assert_int_equal(fs_write_atomic(path, text, n, NULL), 0);
}

static struct experiment file_experiment(const char *name)
{
	return (struct experiment){
		.root_dir = dir,
		.max_input_tokens = 64,
		.prompts = {.present = true, .type = PROMPTS_FILE, .path = name},
	};
}

static void expect(const struct experiment *e, size_t n, const char *first, const char *last)
{
	struct prompt_set p = PROMPT_SET_INIT;
	struct lem_error err;

	assert_int_equal(prompts_load(e, &p, &err), 0);
	assert_int_equal(p.n, n);
	assert_string_equal(p.at[0].text, first);
	assert_string_equal(p.at[n - 1].text, last);
	prompts_release(&p);
}

static void refuse(const struct experiment *e, const char *part)
{
	struct prompt_set p = PROMPT_SET_INIT;
	struct lem_error err;

	assert_int_equal(prompts_load(e, &p, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, part))
		fail_msg("'%s' is not in '%s'", part, err.what);
	assert_null(p.at);
}

static void test_lines(void **state)
{
	static const char text[] = "first\n\n  second \r\n\t\nlast without newline";
	struct experiment e = file_experiment("p.txt");

	(void)state;
	put("p.txt", text, strlen(text));
	expect(&e, 3, "first", "last without newline");
	e.num_input_prompts = (struct maybe_i64){true, 2};
	expect(&e, 2, "first", "second");
}

static void test_records(void **state)
{
	static const char jsonl[] = "{\"prompt\": \"a\"}\n\n\"bare\"\n{\"question\": \"q\"}\n"
				    "{\"conversations\": [{\"from\": \"gpt\", \"value\": \"no\"}, "
				    "{\"from\": \"human\", \"value\": \"h\"}]}\n"
				    "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}]}\n";
	static const char json[] = "[{\"text\": \"one\"}, {\"text\": \"  two \"}]";
	static const char columns[] = "{\"other\": \"x\", \"mine\": {\"content\": \"deep\"}}\n";
	struct experiment e = file_experiment("p.jsonl");

	(void)state;
	put("p.jsonl", jsonl, strlen(jsonl));
	expect(&e, 5, "a", "u");
	put("p.json", json, strlen(json));
	e = file_experiment("p.json");
	expect(&e, 2, "one", "two");
	put("c.jsonl", columns, strlen(columns));
	e = file_experiment("c.jsonl");
	e.prompts.column = "mine";
	expect(&e, 1, "deep", "deep");
	e.prompts.column = "absent";
	refuse(&e, "record 1 has no prompt text in column absent");
}

static void test_refusals(void **state)
{
	static const char binary[] = "abc\0def", bad[] = "{\"prompt\": \"a\"}\n{oops\n";
	struct experiment e = file_experiment("missing.txt");

	(void)state;
	refuse(&e, "missing.txt");
	put("empty.txt", "\n \n", 3);
	e = file_experiment("empty.txt");
	refuse(&e, "holds no prompt");
	put("binary.txt", binary, sizeof(binary));
	e = file_experiment("binary.txt");
	refuse(&e, "is binary");
	put("bad.jsonl", bad, strlen(bad));
	e = file_experiment("bad.jsonl");
	refuse(&e, "not valid JSON");
	put("map.json", "{}", 2);
	e = file_experiment("map.json");
	refuse(&e, "must hold a JSON list");
	e = (struct experiment){.root_dir = dir};
	refuse(&e, "names no prompts");
	e.dataset = (struct dataset_config){.present = true, .name = "alpaca"};
	refuse(&e, "'alpaca' is on a hub");
}

static void test_shuffle_keeps_the_set(void **state)
{
	struct experiment e = file_experiment("many.txt");
	struct prompt_set a = PROMPT_SET_INIT, b = PROMPT_SET_INIT;
	_cleanup_str_ struct str s = STR_INIT;
	bool moved = false;

	(void)state;
	for (int i = 0; i < 100; i++)
		str_addf(&s, "prompt %d\n", i);
	put("many.txt", str_c(&s), s.len);
	e.prompts.shuffle = true;
	e.prompts.seed = 42;
	assert_int_equal(prompts_load(&e, &a, NULL), 0);
	assert_int_equal(prompts_load(&e, &b, NULL), 0);
	for (int i = 0; i < 100; i++) {
		char plain[24];

		snprintf(plain, sizeof(plain), "prompt %d", i);
		moved |= !str_eq(a.at[i].text, plain);
		assert_string_equal(a.at[i].text, b.at[i].text);
	}
	assert_true(moved);
	prompts_release(&a);
	prompts_release(&b);
}

static void test_synthetic(void **state)
{
	struct experiment e = {
		.root_dir = dir,
		.max_input_tokens = 20,
		.prompts = {.present = true,
			    .type = PROMPTS_SYNTHETIC,
			    .count = 5,
			    .input_tokens = 50},
		.random_seed = {true, 9},
	};
	struct prompt_set p = PROMPT_SET_INIT, q = PROMPT_SET_INIT;
	char a[DIGEST_HEX_SIZE], b[DIGEST_HEX_SIZE];

	(void)state;
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	assert_int_equal(p.n, 5);
	assert_int_equal(p.at[0].n_tokens, 20); /* cut to max_input_tokens */
	prompts_draw(&p, &e, 32000);
	for (size_t i = 0; i < p.n; i++)
		for (size_t k = 0; k < p.at[i].n_tokens; k++)
			assert_in_range(p.at[i].tokens[k], 256, 31999);
	assert_int_equal(prompts_load(&e, &q, NULL), 0);
	prompts_draw(&q, &e, 32000);
	prompts_hash(&p, a);
	prompts_hash(&q, b);
	assert_string_equal(a, b);
	e.random_seed.v = 10;
	prompts_draw(&q, &e, 32000);
	prompts_hash(&q, b);
	assert_string_not_equal(a, b);
	prompts_draw(&q, &e, 2); /* the smallest vocabulary */
	assert_in_range(q.at[0].tokens[0], 0, 1);
	prompts_release(&p);
	prompts_release(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),     cmocka_unit_test(test_records),
		cmocka_unit_test(test_refusals),  cmocka_unit_test(test_shuffle_keeps_the_set),
		cmocka_unit_test(test_synthetic),
	};

	return cmocka_run_group_tests(tests, make_dir, NULL);
}
