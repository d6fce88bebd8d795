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
			    .input_tokens = {.set = true, .tokens = 50}},
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

/* ---- lengths of prompts and answers ---- */

static struct experiment synthetic(int64_t count)
{
	return (struct experiment){
		.root_dir = dir,
		.max_input_tokens = 64,
		.max_output_tokens = 40,
		.prompts = {.present = true,
			    .type = PROMPTS_SYNTHETIC,
			    .count = count,
			    .input_tokens = {.set = true,
					     .distribution = LENGTH_UNIFORM,
					     .min = {true, 2},
					     .max = {true, 64}},
			    .output_tokens = {.set = true,
					      .distribution = LENGTH_UNIFORM,
					      .min = {true, 1},
					      .max = {true, 40}},
			    .prefix_groups = 1,
			    .seed = 42},
	};
}

static struct prompt_set loaded(const struct experiment *e)
{
	struct prompt_set p = PROMPT_SET_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (prompts_load(e, &p, &err) < 0)
		fail_msg("%s: %s", err.where, err.what);
	prompts_draw(&p, e, 32000);
	return p;
}

static bool same_prompt(const struct prompt *a, const struct prompt *b)
{
	return a->n_tokens == b->n_tokens && a->output_tokens == b->output_tokens &&
	       memcmp(a->tokens, b->tokens, a->n_tokens * sizeof(*a->tokens)) == 0;
}

static void test_count_keeps_the_first(void **state)
{
	struct experiment e = synthetic(5), more = synthetic(50);
	struct prompt_set a = loaded(&e), b = loaded(&more);
	size_t differ = 0;

	(void)state;
	assert_int_equal(b.n, 50);
	for (size_t i = 0; i < a.n; i++)
		assert_true(same_prompt(&a.at[i], &b.at[i]));
	for (size_t i = 1; i < b.n; i++) {
		assert_in_range(b.at[i].n_tokens, 2, 64);
		assert_in_range(b.at[i].output_tokens, 1, 40);
		differ += b.at[i].n_tokens != b.at[0].n_tokens;
	}
	assert_true(differ > 40);
	assert_string_equal(a.source,
			    "synthetic, input uniform 2 to 64, seed 42, output uniform 1 to 40");
	prompts_release(&a);
	prompts_release(&b);
	more.random_seed = (struct maybe_i64){true, 42}; /* wins over prompts.seed */
	more.prompts.seed = 7;
	b = loaded(&more);
	a = loaded(&e);
	assert_true(same_prompt(&a.at[4], &b.at[4]));
	prompts_release(&a);
	prompts_release(&b);
}

/* Lengths come from a stream of their own: the answers' lengths change no prompt. */
static void test_answers_change_no_prompt(void **state)
{
	struct experiment e = synthetic(6), plain = synthetic(6);
	struct prompt_set a, b;
	char ha[DIGEST_HEX_SIZE], hb[DIGEST_HEX_SIZE];

	(void)state;
	plain.prompts.output_tokens.set = false;
	a = loaded(&e);
	b = loaded(&plain);
	for (size_t i = 0; i < a.n; i++) {
		assert_int_equal(b.at[i].output_tokens, 0);
		assert_memory_equal(a.at[i].tokens, b.at[i].tokens,
				    b.at[i].n_tokens * sizeof(int32_t));
	}
	prompts_hash(&a, ha);
	prompts_hash(&b, hb);
	assert_string_not_equal(ha, hb); /* but they are other work */
	a.at[5].output_tokens++;
	prompts_hash(&a, hb);
	assert_string_not_equal(ha, hb);
	prompts_release(&a);
	prompts_release(&b);
}

/* What lem 0.1 told of 8 prompts of 32 tokens: without new options, the same work has the same
 * hash. */
static void test_hash_of_earlier_versions(void **state)
{
	struct experiment e = {.root_dir = dir,
			       .max_input_tokens = 32,
			       .max_output_tokens = 16,
			       .random_seed = {true, 1},
			       .prompts = {.present = true,
					   .type = PROMPTS_SYNTHETIC,
					   .count = 8,
					   .input_tokens = {.set = true, .tokens = 32}}};
	struct prompt_set p = loaded(&e);
	char hex[DIGEST_HEX_SIZE];

	(void)state;
	prompts_hash(&p, hex);
	assert_string_equal(hex,
			    "f9a45030cd127f6aa11978b2da27baffc4eff9ca46136f0eda2b274010d31134");
	prompts_release(&p);
}

/* Ids run into each other: where a prompt ends must be part of the hash when they differ. */
static void test_hash_knows_where_prompts_end(void **state)
{
	static const int32_t ids[] = {1, 2, 3};
	struct prompt one[] = {{.tokens = ids, .n_tokens = 1}, {.tokens = ids + 1, .n_tokens = 2}},
		      two[] = {{.tokens = ids, .n_tokens = 2}, {.tokens = ids + 2, .n_tokens = 1}};
	struct prompt_set a = {.at = one, .n = 2}, b = {.at = two, .n = 2};
	char ha[DIGEST_HEX_SIZE], hb[DIGEST_HEX_SIZE];

	(void)state;
	prompts_hash(&a, ha);
	prompts_hash(&b, hb);
	assert_string_not_equal(ha, hb);
}

static size_t alike(const struct prompt *a, const struct prompt *b)
{
	size_t n = 0;

	while (n < MIN(a->n_tokens, b->n_tokens) && a->tokens[n] == b->tokens[n])
		n++;
	return n;
}

static void test_shared_prefix(void **state)
{
	struct experiment e = synthetic(12), plain = synthetic(12);
	struct prompt_set p, q;

	(void)state;
	e.prompts.input_tokens.min.v = 20;
	plain.prompts.input_tokens.min.v = 20;
	e.prompts.shared_prefix_tokens = 16;
	e.prompts.prefix_groups = 3;
	p = loaded(&e);
	q = loaded(&plain);
	for (size_t i = 0; i < 9; i++) {
		assert_int_equal(alike(&p.at[i], &p.at[i + 3]), 16);
		assert_int_equal(alike(&p.at[i], &p.at[i + 1]), 0);
		assert_int_equal(alike(&q.at[i], &q.at[i + 3]), 0); /* never without being asked */
		/* it is part of the length, and the rest is what it was */
		assert_int_equal(p.at[i].n_tokens, q.at[i].n_tokens);
		assert_int_equal(p.at[i].tokens[16], q.at[i].tokens[16]);
	}
	assert_non_null(strstr(p.source, "16 shared in 3 groups"));
	prompts_release(&p);
	prompts_release(&q);
	e.prompts.input_tokens = (struct length_config){.set = true, .tokens = 1};
	p = loaded(&e); /* one token cannot be shared and one's own */
	assert_int_equal(p.at[0].n_tokens, 1);
	prompts_release(&p);
}

static void test_lengths_from_files(void **state)
{
	struct experiment e = synthetic(0);
	struct prompt_set p;

	(void)state;
	put("pairs.txt", "3,9\n70,50\n5,7\n", 14);
	put("outs.txt", "1\n2\n", 4);
	e.prompts.input_tokens = (struct length_config){
		.set = true, .distribution = LENGTH_FILE, .path = "pairs.txt"};
	e.prompts.output_tokens.set = false;
	p = loaded(&e);
	assert_int_equal(p.n, 3); /* as many as the file has */
	assert_int_equal(p.n_records, 3);
	assert_int_equal(p.at[0].output_tokens, 9);
	assert_int_equal(p.at[1].n_tokens, 64); /* cut, and counted */
	assert_int_equal(p.at[1].output_tokens, 40);
	assert_int_equal(p.n_cut_input, 1);
	assert_int_equal(p.n_cut_output, 1);
	assert_int_equal(strlen(p.file_sha256), 64);
	prompts_release(&p);
	e.prompts.count = 5;
	e.prompts.output_tokens = (struct length_config){
		.set = true, .distribution = LENGTH_FILE, .path = "outs.txt"};
	p = loaded(&e);
	assert_int_equal(p.n, 5);
	assert_int_equal(p.at[4].n_tokens, 64);
	assert_int_equal(p.at[4].output_tokens, 1); /* its own file wins over the pairs */
	prompts_release(&p);
	e.prompts.output_tokens.path = "pairs.txt";
	p = loaded(&e);
	assert_int_equal(p.at[2].output_tokens, 7); /* the second column */
	prompts_release(&p);
	e.prompts.output_tokens.path = "none.txt";
	refuse(&e, "none.txt");
	e.prompts.input_tokens.path = "p.txt";
	refuse(&e, "no number of tokens");
}

/* ---- records with lengths, ids and replies ---- */

static void test_records_with_lengths_and_ids(void **state)
{
	static const char jsonl[] = "{\"prompt\": \"a\", \"output_tokens\": 7}\n"
				    "{\"prompt_token_ids\": [5, 900, 6], \"output_length\": 80}\n"
				    "{\"text\": \"  \"}\n"
				    "{\"text\": \"b\", \"output_tokens\": null}\n";
	struct experiment e = file_experiment("l.jsonl");
	struct prompt_set p = PROMPT_SET_INIT;

	(void)state;
	e.max_output_tokens = 40;
	e.min_output_tokens = 40;
	put("l.jsonl", jsonl, strlen(jsonl));
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	prompts_draw(&p, &e, 32000); /* draws nothing: these are not synthetic */
	assert_int_equal(p.n, 3);
	assert_int_equal(p.n_records, 4);
	assert_int_equal(p.n_skipped, 1);
	assert_int_equal(p.at[0].output_tokens, 7);
	assert_null(p.at[1].text);
	assert_int_equal(p.at[1].n_tokens, 3);
	assert_int_equal(p.at[1].tokens[1], 900);
	assert_int_equal(p.at[1].output_tokens, 40);
	assert_int_equal(p.max_id, 900);
	assert_int_equal(prompt_forced(&p.at[0], &e), 7);
	assert_int_equal(prompt_forced(&p.at[2], &e), 40); /* the config's */
	e.min_output_tokens = 0;
	assert_int_equal(prompt_forced(&p.at[2], &e), 0);
	assert_true(prompts_have_text(&p) && prompts_have_ids(&p));
	assert_string_equal(p.source, "jsonl l.jsonl");
	prompts_release(&p);
}

static void refuse_record(const char *record, const char *part, const char *where)
{
	struct experiment e = file_experiment("r.jsonl");
	struct prompt_set p = PROMPT_SET_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	_cleanup_str_ struct str s = STR_INIT;

	str_addf(&s, "\"first\"\n%s\n", record);
	put("r.jsonl", str_c(&s), s.len);
	assert_int_equal(prompts_load(&e, &p, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, part) || !str_ends(err.where, where))
		fail_msg("%s: %s", err.where, err.what);
}

static void test_record_refusals(void **state)
{
	(void)state;
	refuse_record("{\"text\": \"a\", \"output_tokens\": 0}", "output_tokens must be",
		      "r.jsonl:2");
	refuse_record("{\"text\": \"a\", \"output_tokens\": 2.5}", "whole number", "r.jsonl:2");
	refuse_record("{\"text\": \"a\", \"output_length\": \"9\"}", "output_length must be",
		      "r.jsonl:2");
	refuse_record("{\"prompt_token_ids\": []}", "prompt_token_ids must be a list", "r.jsonl:2");
	refuse_record("{\"prompt_token_ids\": \"1 2\"}", "prompt_token_ids must be a list",
		      "r.jsonl:2");
	refuse_record("{\"prompt_token_ids\": [1, -1]}", "element 2 of prompt_token_ids",
		      "r.jsonl:2");
	refuse_record("{\"prompt_token_ids\": [1, 2147483647]}", "is no token id", "r.jsonl:2");
	refuse_record("{\"nothing\": 1}", "record 2 has no prompt text", "r.jsonl");
	refuse_record("{", "not valid JSON", "r.jsonl:2");
}

static const char sharegpt[] =
	"[{\"id\": \"a\", \"conversations\": [{\"from\": \"human\", \"value\": \"How?\"},"
	" {\"from\": \"gpt\", \"value\": \"Twelve ch\\u00e4rs\"}, {\"from\": \"human\","
	" \"value\": \"more\"}]},\n"
	" {\"id\": \"b\", \"conversations\": [{\"from\": \"gpt\", \"value\": \"Hi\"}]},\n"
	" {\"id\": \"c\", \"conversations\": []},\n"
	" {\"id\": \"d\", \"conversations\": [{\"from\": \"system\", \"value\": \"s\"},"
	" {\"from\": \"user\", \"value\": \"Why?\"}]}]\n";

static void test_sharegpt(void **state)
{
	struct experiment e = file_experiment("s.json");
	struct prompt_set p = PROMPT_SET_INIT;

	(void)state;
	put("s.json", sharegpt, strlen(sharegpt));
	e.max_output_tokens = 40;
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.n_records, 4);
	assert_int_equal(p.n_skipped, 2); /* no human turn */
	assert_string_equal(p.at[1].text, "Why?");
	assert_int_equal(p.at[0].output_tokens, 0); /* not guessed without being asked */
	assert_string_equal(p.source, "sharegpt s.json");
	prompts_release(&p);
	e.prompts.reply_chars_per_token = (struct maybe_f64){true, 2};
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	assert_int_equal(p.n, 1); /* the last one has no reply */
	assert_int_equal(p.n_skipped, 3);
	assert_int_equal(p.at[0].output_tokens, 6); /* 12 characters, not 13 bytes */
	prompts_release(&p);
	e.prompts.output_tokens = (struct length_config){.set = true, .tokens = 9};
	e.prompts.reply_chars_per_token.set = false;
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	assert_int_equal(p.at[1].output_tokens, 9); /* a file's prompts too */
	prompts_release(&p);
}

static void test_replies_of_records(void **state)
{
	static const char jsonl[] = "{\"instruction\": \"a\", \"output\": \"12345678\"}\n"
				    "{\"prompt\": \"b\", \"response\": \"1\", "
				    "\"output_tokens\": 3}\n";
	struct experiment e = file_experiment("o.jsonl");
	struct prompt_set p = PROMPT_SET_INIT;

	(void)state;
	e.max_output_tokens = 40;
	e.prompts.reply_chars_per_token = (struct maybe_f64){true, 2};
	put("o.jsonl", jsonl, strlen(jsonl));
	assert_int_equal(prompts_load(&e, &p, NULL), 0);
	assert_int_equal(p.at[0].output_tokens, 4);
	assert_int_equal(p.at[1].output_tokens, 3); /* told, so not estimated */
	prompts_release(&p);
}

/* ---- traces ---- */

static void test_trace(void **state)
{
	static const char csv[] = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log "
				  "Type\n5,m,10,3,13,x\n6,m,10,0,10,x\n8.5,m,99,50,149,x\n"
				  "20,m,4,4,8,x\n";
	struct experiment e = file_experiment("t.csv");
	struct prompt_set p;

	(void)state;
	put("t.csv", csv, strlen(csv));
	e.max_output_tokens = 40;
	e.prompts.type = PROMPTS_TRACE;
	p = loaded(&e);
	assert_int_equal(p.n, 3);
	assert_int_equal(p.n_records, 4);
	assert_int_equal(p.n_skipped, 1);
	assert_int_equal(p.n_cut_input, 1);
	assert_int_equal(p.n_cut_output, 1);
	assert_int_equal(p.at[0].n_tokens, 10);
	assert_int_equal(p.at[0].output_tokens, 3);
	assert_int_equal(p.at[1].n_tokens, 64);
	assert_in_range(p.at[1].tokens[63], 256, 31999);
	assert_float_equal(p.at_ns[1], 3.5e9, 1);
	assert_float_equal(p.at_ns[2], 15e9, 1);
	assert_string_equal(p.source, "trace (burstgpt) t.csv");
	assert_true(prompts_have_ids(&p) && !prompts_have_text(&p));
	prompts_release(&p);
	e.prompts.start_sec = 2;
	e.prompts.duration_sec = (struct maybe_f64){true, 5};
	p = loaded(&e);
	assert_int_equal(p.n, 1);
	assert_float_equal(p.at_ns[0], 0, 1);
	assert_string_equal(p.source, "trace (burstgpt) t.csv, from 2 s, 5 s of it");
	prompts_release(&p);
	e = file_experiment("t.csv");
	e.prompts.type = PROMPTS_TRACE;
	e.prompts.sample_size = (struct maybe_i64){true, 2};
	p = loaded(&e);
	assert_int_equal(p.n, 2);
	prompts_release(&p);
	e.prompts.path = "p.txt";
	refuse(&e, "no column of times");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_shuffle_keeps_the_set),
		cmocka_unit_test(test_synthetic),
		cmocka_unit_test(test_count_keeps_the_first),
		cmocka_unit_test(test_answers_change_no_prompt),
		cmocka_unit_test(test_hash_of_earlier_versions),
		cmocka_unit_test(test_hash_knows_where_prompts_end),
		cmocka_unit_test(test_shared_prefix),
		cmocka_unit_test(test_lengths_from_files),
		cmocka_unit_test(test_records_with_lengths_and_ids),
		cmocka_unit_test(test_record_refusals),
		cmocka_unit_test(test_sharegpt),
		cmocka_unit_test(test_replies_of_records),
		cmocka_unit_test(test_trace),
	};

	return cmocka_run_group_tests(tests, make_dir, NULL);
}
