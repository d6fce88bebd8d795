/* One rich run, one that never measured and a list: the exact document and the exact text that they
 * give. LEM_GOLDEN_UPDATE=1 writes the expected files anew; look at the difference before keeping
 * it. */
#include "report/report.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>
#include <jansson.h>

#include "example.h"
#include "store/store.h"
#include "sys/fs.h"

enum { GOLDEN_MAX_BYTES = 1 << 20 };

static void compare(const char *name, const struct str *got)
{
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/golden/result/%s", root ? root : ".", name);
	_cleanup_str_ struct str want = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (getenv("LEM_GOLDEN_UPDATE"))
		assert_int_equal(fs_write_atomic(path, str_c(got), got->len, NULL), 0);
	if (fs_read_file(path, GOLDEN_MAX_BYTES, &want, &err) < 0)
		fail_msg("%s", err.what);
	if (!str_eq(str_c(&want), str_c(got)))
		fail_msg("%s differs; this lem gives:\n%s", name, str_c(got));
}

/* The version of lem is the one field that may change without the document changing. */
static void hide_version(struct str *s)
{
	char *at = strstr(s->buf, "\"lem_version\": \"" LEM_VERSION "\"");

	assert_non_null(at);
	size_t before = (size_t)(at - s->buf);
	struct str hidden = STR_INIT;

	str_addn(&hidden, s->buf, before);
	str_add(&hidden, "\"lem_version\": \"VERSION\"");
	str_add(&hidden, at + strlen("\"lem_version\": \"" LEM_VERSION "\""));
	str_release(s);
	*s = hidden;
}

static void document(const char *name, const struct run_record *r, const struct summary *s)
{
	_cleanup_str_ struct str out = STR_INIT;
	json_t *parsed;

	result_json(r, s, &out);
	parsed = json_loads(str_c(&out), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(parsed);
	json_decref(parsed);
	hide_version(&out);
	compare(name, &out);
}

static size_t widest(const char *text)
{
	size_t max = 0, columns = 0;

	for (; *text; text++) {
		if (((unsigned char)*text & 0xc0) != 0x80)
			columns++;
		if (*text == '\n')
			columns = 0;
		max = MAX(max, columns);
	}
	return max;
}

static bool is_ascii(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text > 0x7e || ((unsigned char)*text < 0x20 && *text != '\n'))
			return false;
	return true;
}

static void text(const char *name, const struct run_record *r, const struct summary *s,
		 struct report_style style)
{
	_cleanup_str_ struct str out = STR_INIT;

	report_run_text(r, s, &style, &out);
	if (!style.color)
		assert_in_range(widest(str_c(&out)), 1, MAX(style.width, 60));
	if (style.ascii)
		assert_true(is_ascii(str_c(&out)));
	compare(name, &out);
}

static void comparison(const char *name, const struct compare_run *a, const struct compare_run *b,
		       const struct comparison *c, struct report_style style)
{
	_cleanup_str_ struct str out = STR_INIT;

	report_compare_text(a, b, c, &style, &out);
	assert_in_range(widest(str_c(&out)), 1, MAX(style.width, 60));
	if (style.ascii)
		assert_true(is_ascii(str_c(&out)));
	compare(name, &out);
}

static void test_rich(void **state)
{
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	struct run_record r;

	(void)state;
	example_record(&r, "20261124T134000-gr-e-3f9a07");
	example_summary(s);
	document("rich.json", &r, s);
	text("rich-100.txt", &r, s, (struct report_style){.width = 100});
	text("rich-100-color.txt", &r, s, (struct report_style){.color = true, .width = 100});
	text("rich-60-ascii.txt", &r, s, (struct report_style){.ascii = true, .width = 20});
	run_record_release(&r);
}

/* A run that ended while its model was loading: every figure is null and says why. */
static void test_failed(void **state)
{
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	struct quantity *figures[] = {
		&s->prefill_tokens_per_s, &s->decode_tokens_per_s, &s->output_tokens_per_s,
		&s->total_tokens_per_s,   &s->requests_per_s,      &s->flops_prefill,
		&s->flops_decode,         &s->flops_total,         &s->mfu,
	};
	struct run_record r;

	(void)state;
	run_record_init(&r);
	r.run_id = "20261124T134000-x-000001";
	r.config_name = "x";
	r.status = RUN_FAILED;
	r.model_name = "half.gguf";
	r.engine_name = "llamacpp";
	r.engine_mode = "offline/static";
	r.environment_json = "{\"cpu\": {\"model\": \"Xeon\", \"logical_allowed\": 2}}";
	r.error_json = "{\"code\": \"engine\", \"what\": \"cannot load half.gguf\", \"where\": "
		       "null, \"why\": \"tensor 'a' is outside the file\", \"fix\": null}";
	for (size_t i = 0; i < ARRAY_LEN(figures); i++)
		*figures[i] = quantity_unknown("nothing was measured");
	s->meter_late_p99_ms = (double)NAN;
	verdict_add(&s->verdict, VERDICT_INVALID, "the run failed");
	document("failed.json", &r, s);
	text("failed-80.txt", &r, s, (struct report_style){.width = 80});
	run_record_release(&r);
}

/* Two engines that did the same, but for three requests. */
static void test_compare(void **state)
{
	_cleanup_free_ struct summary *s = lem_calloc(2, sizeof(*s));
	_cleanup_free_ struct comparison *c = lem_calloc(1, sizeof(*c));
	struct run_record a, b;
	const struct compare_run ra = {&a, &s[0]}, rb = {&b, &s[1]};

	(void)state;
	example_record(&a, "20261124T134000-gr-e-3f9a07");
	example_record(&b, "20261124T135000-gr-e-3f9a08");
	example_summary(&s[0]);
	example_summary(&s[1]);
	b.engine_name = "pytorch";
	s[1].j_per_output_token = quantity_of(60, 59.4, 60.6, "gpu");
	s[1].output_tokens_per_s = quantity_of(10, 9.5, 10.5, "jackknife over 10 slices");
	compare_runs(&ra, &rb, c);
	comparison("compare-same-100.txt", &ra, &rb, c, (struct report_style){.width = 100});
	b.requests[7].output_tokens -= 2;
	lem_strlcpy(b.requests[9].finish, "error", sizeof(b.requests[9].finish));
	lem_strlcpy(b.requests[9].failure, "timeout", sizeof(b.requests[9].failure));
	lem_strlcpy(b.shape.quant, "F16", sizeof(b.shape.quant));
	compare_runs(&ra, &rb, c);
	comparison("compare-other-60-ascii.txt", &ra, &rb, c,
		   (struct report_style){.ascii = true, .width = 60});
	run_record_release(&a);
	run_record_release(&b);
}

static void test_list(void **state)
{
	_cleanup_str_ struct str out = STR_INIT;
	const struct report_style style = {.width = 100};
	struct store_row rows[2] = {
		{"20261124T134000-a-3f9a07", "a", "llamacpp", "synthetic:llama-1b", "completed",
		 "valid", "synthetic", 0, 2122.14, 0.1592, "gpu"},
		{"20261124T133000-longer-name-3f9a08", "b", "llamacpp", "evil\x1b[2J.gguf",
		 "failed", "invalid", "real", 0, (double)NAN, (double)NAN, ""},
	};

	(void)state;
	report_list_text(rows, 2, &style, &out);
	compare("list.txt", &out);
}

/* Several loads of one launch: in the list, in the report, and in the table at their end. */
static void test_levels(void **state)
{
	struct report_style style = {.width = 100}, wide = {.width = 150};
	const struct store_row rows[] = {
		{"20261124T134000-s-3f9a07", "a", "vllm", "m", "completed", "suspect", "real", 0,
		 512.5, 1.25, "gpu", "20261124T133000-s-aaaaaa", 1, 3, 0, 8},
		{"20261124T133000-s-aaaaaa", "a", "vllm", "m", "completed", "valid", "real", 0, 64,
		 (double)NAN, "", "20261124T133000-s-aaaaaa", 0, 3, 4, (double)NAN},
		{"20261124T132000-one-3f9a07", "a", "llama-server", "m", "completed", "valid",
		 "real", 0, 64, (double)NAN, ""},
	};
	const struct level_record loads[] = {{.index = 0, .n = 3, .rate_hz = 2.5},
					     {.index = 1, .n = 3, .rate_hz = 8},
					     {.index = 2, .n = 3, .in_flight = 65536}};
	_cleanup_free_ struct summary *s = lem_calloc(2, sizeof(*s));
	const struct report_level levels[] = {{&loads[0], &s[0], "suspect", "20261124T133000-s-a"},
					      {&loads[1], &s[1], "failed", "20261124T133000-s-b"},
					      {&loads[2], NULL, "not measured", ""}};
	_cleanup_str_ struct str list = STR_INIT, table = STR_INIT, broad = STR_INIT;

	(void)state;
	report_list_text(rows, ARRAY_LEN(rows), &style, &list);
	compare("list-levels.txt", &list);
	example_summary(&s[0]);
	s[1].itl_chunk = (struct latency_stats){9, 5, 5, 5, 5, 1234.5, 4, 1300, ""};
	report_levels_text(levels, ARRAY_LEN(levels), &style, &table);
	compare("levels.txt", &table);
	assert_true(widest(str_c(&table)) <= 100);
	report_levels_text(levels, ARRAY_LEN(levels), &wide, &broad);
	assert_non_null(strstr(str_c(&broad), "20261124T133000-s-b"));
}

static void test_a_level_alone(void **state)
{
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	_cleanup_str_ struct str json = STR_INIT, text = STR_INIT;
	struct run_record r;

	(void)state;
	example_record(&r, "20261124T134000-gr-e-3f9a07");
	example_summary(s);
	r.level = (struct level_record){"20261124T133000-s-aaaaaa", 1, 3, 8, 0};
	r.server.used = true;
	r.server.url = "http://h";
	lem_strlcpy(r.server.urgency, "nice", sizeof(r.server.urgency));
	s->lag = (struct latency_stats){5, 1, 1, 1, 1, 1, 1, 1, ""};
	s->headroom_requests = quantity_of(123.4, 123.4, 123.4, "x");
	s->headroom_chunks = quantity_of(4.56, 4.56, 4.56, "x");
	result_json(&r, s, &json);
	assert_non_null(strstr(str_c(&json), "\"launch_id\": \"20261124T133000-s-aaaaaa\""));
	assert_non_null(strstr(str_c(&json), "\"in_flight\": null"));
	assert_non_null(strstr(str_c(&json), "\"urgency\": \"nice\""));
	report_run_text(&r, s, &(struct report_style){.width = 100}, &text);
	assert_non_null(strstr(str_c(&text), "8 requests/s: 2 of 3 in the launch"));
	assert_non_null(strstr(str_c(&text), "123 times the requests and 4.6 times the chunks"));
	run_record_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rich),    cmocka_unit_test(test_failed),
		cmocka_unit_test(test_compare), cmocka_unit_test(test_list),
		cmocka_unit_test(test_levels),  cmocka_unit_test(test_a_level_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
