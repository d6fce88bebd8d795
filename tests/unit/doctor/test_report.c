/* How answers are shown, and what an image and a configuration add to them. */
#include <setjmp.h>

#include <jansson.h>

#include "doctor/config_checks.h"
#include "good_facts.h"
#include "sys/fs.h"

#include <cmocka.h>

static const struct doctor_style plain = {.width = 80};

static struct doctor_result result(const char *id, const char *group, const char *title,
				   enum doctor_status status, const char *value,
				   const char *message, const char *fix)
{
	struct doctor_result r = {.id = id, .group = group, .title = title, .status = status};

	lem_strlcpy(r.value, value, sizeof(r.value));
	lem_strlcpy(r.message, message, sizeof(r.message));
	lem_strlcpy(r.fix, fix, sizeof(r.fix));
	return r;
}

static void add(struct doctor_report *r, struct doctor_result one)
{
	doctor_report_add(r, &one);
}

static void some_results(struct doctor_report *r)
{
	r->partial = true;
	add(r,
	    result("R23", "Driver", "NVIDIA driver", DOCTOR_OK, "580.159.04, CUDA 13.0", "", ""));
	add(r,
	    result("R27", "GPUs", "foreign processes", DOCTOR_WARNING, "1",
		   "what it draws would be counted as yours: pid 812 (python3, anna) on GPU 2 with "
		   "3.0 GiB",
		   "stop it, or choose another GPU (lem gpus lists all)"));
	add(r,
	    result("R20", "Container engine", "a way to pass GPUs", DOCTOR_ERROR, "",
		   "Docker has neither a CDI device for every GPU nor a runtime named nvidia",
		   "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart "
		   "docker"));
	add(r, result("R18", "Container engine", "NVSwitch fabric", DOCTOR_UNKNOWN, "",
		      "the driver did not answer", ""));
	add(r, result("clocks", "Container engine", "clocks", DOCTOR_NOT_APPLICABLE, "",
		      "no NVIDIA GPU", "never shown"));
}

static void test_text(void **state)
{
	struct doctor_report r = {0};
	_cleanup_str_ struct str out = STR_INIT;

	(void)state;
	some_results(&r);
	doctor_report_text(&r, &plain, &out);
	assert_string_equal(
		str_c(&out),
		"Driver\n"
		"  ✓ R23  NVIDIA driver              580.159.04, CUDA 13.0\n"
		"\n"
		"GPUs\n"
		"  ! R27  foreign processes          1\n"
		"         what it draws would be counted as yours: pid 812 (python3, anna) on GPU\n"
		"         2 with 3.0 GiB\n"
		"         fix: stop it, or choose another GPU (lem gpus lists all)\n"
		"\n"
		"Container engine\n"
		"  ✗ R20  a way to pass GPUs         Docker has neither a CDI device for every\n"
		"                                    GPU nor a runtime named nvidia\n"
		"         fix: sudo nvidia-ctk runtime configure --runtime=docker &&\n"
		"              sudo systemctl restart docker\n"
		"  ? R18  NVSwitch fabric            unknown: the driver did not answer\n"
		"  ·      clocks                     no NVIDIA GPU\n"
		"\n"
		"1 error, 1 warning, 1 unknown, 1 ok, 1 not applicable\n");
	doctor_report_release(&r);
}

/* Nothing beyond ASCII, and nothing that a terminal would obey. */
static void test_ascii_and_hostile(void **state)
{
	struct doctor_style ascii = {.width = 80, .ascii = true};
	struct doctor_report r = {.partial = true};
	_cleanup_str_ struct str out = STR_INIT;

	(void)state;
	add(&r, result("gpus", "GPUs", "GPUs", DOCTOR_OK, "2 × H100 at 40 °C … 1–2 é", "", ""));
	add(&r, result("R27", "GPUs", "foreign processes", DOCTOR_WARNING, "1",
		       "pid 1 (\x1b[2Jx\xff\xc2\x9b, a)", "stop it"));
	doctor_report_text(&r, &ascii, &out);
	assert_non_null(strstr(str_c(&out),
			       "  +      GPUs                       2 x H100 at 40 C ... 1-2 ?\n"));
	assert_non_null(strstr(str_c(&out), "pid 1 (?[2Jx??, a)"));
	for (size_t i = 0; i < out.len; i++)
		assert_true(out.buf[i] == '\n' || (out.buf[i] >= 0x20 && out.buf[i] < 0x7f));
	str_reset(&out);
	doctor_report_text(&r, &plain, &out);
	assert_null(strchr(str_c(&out), 0x1b));
	assert_null(strstr(str_c(&out), "\xc2\x9b"));
	doctor_report_release(&r);
}

static size_t columns(const char *p, size_t n)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		k += ((unsigned char)p[i] & 0xc0) != 0x80;
	return k;
}

/* Everything that a terminal of 80 columns gets fits, but for commands, which stay in one piece. */
static void test_width(void **state)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct doctor_facts *f = good_facts();
	struct doctor_report r = {0};

	(void)state;
	f->driver->gpus[1].details.fabric_state.value = NVML_FABRIC_IN_PROGRESS;
	f->toolkit.accepts_envvar = 0;
	f->engine.cdi_on = false;
	f->limits.shm_bytes = 64 << 20;
	doctor_report_run(&r, f, NULL);
	doctor_report_text(&r, &plain, &out);
	assert_true(r.count[DOCTOR_ERROR] >= 3);
	for (const char *line = str_c(&out); *line;) {
		size_t n = strcspn(line, "\n");

		if (columns(line, n) > 80 && !memmem(line, n, "sudo ", 5))
			fail_msg("%zu columns: %.*s", columns(line, n), (int)n, line);
		line += n + 1;
	}
	doctor_report_release(&r);
	arena_release(&f->arena);
}

static void test_alike_are_one_line(void **state)
{
	static const char *const ids[] = {"R08", "R18", "R28", "R39"};
	struct doctor_report r = {0};
	_cleanup_str_ struct str out = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		add(&r,
		    result(ids[i], "GPUs", "x", DOCTOR_NOT_APPLICABLE, "", "no NVIDIA GPU", ""));
	doctor_report_text(&r, &plain, &out);
	assert_non_null(strstr(str_c(&out), "  ·      4 checks                   no NVIDIA GPU\n"));
	assert_null(strstr(str_c(&out), "R28  x"));
	assert_non_null(strstr(str_c(&out), "no problem found, 4 not applicable\n"));
	/* those that no check here looks for are named, in ranges */
	assert_non_null(strstr(str_c(&out), "R01 R02 R04 R09–R16"));
	str_reset(&out);
	r.partial = true; /* asked for one by one: shown one by one */
	doctor_report_text(&r, &plain, &out);
	assert_non_null(strstr(str_c(&out), "R28  x"));
	doctor_report_release(&r);
}

static void test_json(void **state)
{
	static const char *const rules[] = {"r17", NULL}, *const all[] = {"*", NULL};
	struct doctor_report r = {0};
	_cleanup_str_ struct str out = STR_INIT;
	json_t *j, *check;

	(void)state;
	some_results(&r);
	doctor_report_json(&r, rules, &out);
	j = json_loads(str_c(&out), 0, NULL);
	assert_non_null(j);
	assert_string_equal(json_string_value(json_object_get(j, "schema")), "lem.doctor/1");
	assert_int_equal(json_integer_value(json_object_get(j, "errors")), 1);
	assert_int_equal(json_array_size(json_object_get(j, "checks")), 5);
	assert_int_equal(json_array_size(json_object_get(j, "rules")), 1);
	check = json_array_get(json_object_get(j, "checks"), 2);
	assert_string_equal(json_string_value(json_object_get(check, "status")), "error");
	assert_true(json_is_null(json_object_get(check, "value")));
	json_decref(j);
	str_reset(&out);
	doctor_report_json(&r, all, &out);
	j = json_loads(str_c(&out), 0, NULL);
	assert_int_equal(json_array_size(json_object_get(j, "rules")), doctor_n_rules);
	json_decref(j);
	doctor_report_release(&r);
}

static void test_run_some(void **state)
{
	static const char *const ids[] = {"r23", "persistence", NULL};
	struct doctor_report r = {0};

	(void)state;
	doctor_report_run(&r, good_facts(), ids);
	assert_int_equal(r.n, 3); /* R23 is looked for in two places */
	assert_int_equal(r.count[DOCTOR_OK], 3);
	assert_true(r.partial);
	doctor_report_release(&r);
}

/* docs/routing-rules.md is what the table says: lem doctor --list --markdown renews it. */
static void test_docs(void **state)
{
	_cleanup_free_ char *path = fs_join(getenv("LEM_SOURCE_ROOT"), "docs/routing-rules.md");
	_cleanup_str_ struct str committed = STR_INIT, now = STR_INIT;

	(void)state;
	assert_return_code(fs_read_file(path, 1 << 20, &committed, NULL), 0);
	doctor_rules_md(&now);
	assert_string_equal(str_c(&committed), str_c(&now));
}

static void test_rule_text(void **state)
{
	_cleanup_str_ struct str out = STR_INIT, list = STR_INIT;

	(void)state;
	doctor_rule_text(doctor_rule("R17"), &plain, &out);
	assert_true(
		str_starts(str_c(&out), "R17  shared memory is too small for NCCL\n  means    "));
	assert_non_null(strstr(str_c(&out), "\n  fix      set docker.shm_size to 8g"));
	doctor_list_text(&plain, &list);
	for (size_t i = 0; i < doctor_n_rules; i++) {
		_cleanup_free_ char *head = lem_asprintf("  %s  ", doctor_rules[i].id);

		assert_non_null(strstr(str_c(&list), head));
	}
}

/* ---- images ---- */

static void test_image_cuda(void **state)
{
	static const struct {
		const char *env;
		int wants, has;
		enum doctor_status expected;
	} cases[] = {
		{"CUDA_VERSION=12.8.1", 12080, 13000, DOCTOR_OK},
		{"CUDA_VERSION=13.0.0", 13000, 12040, DOCTOR_ERROR},
		{"CUDA_VERSION=12.8.1", 12080, 12040, DOCTOR_WARNING},
		{"NVIDIA_REQUIRE_CUDA=cuda>=12.4 brand=tesla,driver>=470,driver<471", 12040, 12040,
		 DOCTOR_OK},
		{"NVIDIA_REQUIRE_CUDA=brand=tesla", 0, 12040, DOCTOR_UNKNOWN},
		{"CUDA_VERSION=12.4", 12040, 0, DOCTOR_UNKNOWN},
		{"CUDA_VERSION=soon", 0, 12040, DOCTOR_UNKNOWN},
		{"CUDA_VERSION=-3.1", 0, 12040, DOCTOR_UNKNOWN},
		{"CUDA_VERSION=99999999999.1", 999000, 12040, DOCTOR_ERROR},
		{"CUDA_VERSIONS=13.0", 0, 12040, DOCTOR_UNKNOWN},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *const env[] = {"PATH=/bin", cases[i].env, NULL};
		const struct docker_image image = {.env = env};
		struct doctor_facts *f = good_facts();
		struct doctor_result r = {.id = "R25"};

		f->driver->cuda_version = cases[i].has;
		assert_int_equal(doctor_image_cuda(env), cases[i].wants);
		doctor_judge_image_cuda(f, &image, &r);
		if (r.status != cases[i].expected)
			fail_msg("%s with %d: %s", cases[i].env, cases[i].has,
				 doctor_status_name(r.status));
		assert_true(r.status == DOCTOR_OK || r.message[0]);
	}
	assert_int_equal(doctor_image_cuda(NULL), 0);
}

static void test_image_arch(void **state)
{
	static const struct {
		const char *machine, *image;
		enum doctor_status expected;
	} cases[] = {{"x86_64", "amd64", DOCTOR_OK},    {"x86_64", "arm64", DOCTOR_ERROR},
		     {"aarch64", "arm64", DOCTOR_OK},   {"aarch64", "amd64", DOCTOR_ERROR},
		     {"riscv64", "riscv64", DOCTOR_OK}, {"x86_64", NULL, DOCTOR_UNKNOWN},
		     {"x86_64", "", DOCTOR_UNKNOWN}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct docker_image image = {.architecture = cases[i].image};
		struct doctor_result r = {.id = "X04"};

		doctor_judge_image_arch(cases[i].machine, &image, &r);
		assert_int_equal(r.status, cases[i].expected);
		assert_true(r.status != DOCTOR_ERROR || strstr(r.fix, "--platform linux/"));
	}
}

/* ---- gpus: of a configuration ---- */

static struct doctor_result choose(struct doctor_facts *f, const char *const *items, size_t n)
{
	struct experiment e = {.gpus = {.at = (const char **)(uintptr_t)items, .n = n}};
	struct doctor_report r = {0};
	struct doctor_result one;

	doctor_choose_gpus(f, &e, &r);
	assert_int_equal(r.n, 1);
	one = r.at[0];
	doctor_report_release(&r);
	return one;
}

static void test_choose(void **state)
{
	static const char *const second[] = {"1"}, *const absent[] = {"7"},
				 *const twice[] = {"0", "0"};
	struct doctor_facts *f = good_facts();
	struct doctor_result r = choose(f, second, 1);

	(void)state;
	assert_string_equal(r.value, "GPU 1");
	assert_true(f->chosen && !f->choice[0] && f->choice[1]);
	arena_release(&f->arena);

	f = good_facts();
	r = choose(f, absent, 1);
	assert_int_equal(r.status, DOCTOR_ERROR);
	assert_false(f->chosen);
	assert_true(r.message[0] && r.fix[0]);
	r = choose(f, twice, 2);
	assert_int_equal(r.status, DOCTOR_ERROR);
	assert_string_equal(r.id, "R06");
	assert_null(strstr(r.message, "R06"));
	r = choose(f, NULL, 0);
	assert_string_equal(r.value, "none: the CPU");
	f->driver->opened = false;
	r = choose(f, second, 1);
	assert_int_equal(r.status, DOCTOR_ERROR);
	arena_release(&f->arena);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),       cmocka_unit_test(test_ascii_and_hostile),
		cmocka_unit_test(test_width),      cmocka_unit_test(test_alike_are_one_line),
		cmocka_unit_test(test_json),       cmocka_unit_test(test_run_some),
		cmocka_unit_test(test_docs),       cmocka_unit_test(test_rule_text),
		cmocka_unit_test(test_image_cuda), cmocka_unit_test(test_image_arch),
		cmocka_unit_test(test_choose),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
