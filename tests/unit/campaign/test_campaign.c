/* The list of cells, the loop over them, the exit code and the document. */
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <sys/stat.h>

#include "campaign/campaign.h"
#include "report/report.h"
#include "sys/fs.h"

#include <cmocka.h>

#define BASE                                \
	"config_name: base\n"               \
	"model_name: synthetic:llama-15m\n" \
	"backend: llamacpp\n"               \
	"prompts: {type: synthetic, count: 40, input_tokens: 32}\n"

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	(void)snprintf(dir, sizeof(dir), "/tmp/lem-campaign-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return rmdir(dir);
}

/* One campaign of up to two files with these texts. */
struct fixture {
	char path[2][96];
	const char *files[2];
	struct campaign c;
};

static struct fixture *load(const char *first, const char *second, const struct config_override *o,
			    size_t n_overrides)
{
	struct fixture *f = lem_calloc(1, sizeof(*f));
	struct campaign_request q = {.files = f->files, .overrides = o, .n_overrides = n_overrides};
	const char *const texts[2] = {first, second};
	struct lem_error err;

	for (size_t i = 0; i < 2 && texts[i]; i++) {
		(void)snprintf(f->path[i], sizeof(f->path[i]), "%s/%zu.yaml", dir, i);
		assert_int_equal(fs_write_atomic(f->path[i], texts[i], strlen(texts[i]), &err), 0);
		f->files[q.n_files++] = f->path[i];
	}
	assert_int_equal(campaign_load(&q, &f->c, &err), 0);
	return f;
}

static void unload(struct fixture *f)
{
	campaign_release(&f->c);
	for (size_t i = 0; i < 2 && f->files[i]; i++)
		unlink(f->path[i]);
	free(f);
}

static void test_files_and_names(void **state)
{
	struct fixture *f = load(BASE "experiments: [{}, {}]\n", BASE, NULL, 0);

	(void)state;
	assert_true(campaign_ok(&f->c));
	assert_int_equal(f->c.n, 3);
	assert_string_equal(f->c.cells[0].name, "base");
	assert_string_equal(f->c.cells[1].name, "base-2");
	assert_string_equal(f->c.cells[2].name, "base-3");
	assert_int_equal(f->c.cells[1].item, 2);
	assert_int_equal(f->c.cells[2].item, 0);
	/* A name does not change what is measured. */
	assert_string_equal(f->c.cells[0].config_hash, f->c.cells[2].config_hash);
	unload(f);
}

static void test_a_new_name_is_told(void **state)
{
	struct fixture *f = load(BASE "experiments: [{}, {max_output_tokens: 5}]\n", NULL, NULL, 0);
	_cleanup_str_ struct str effective = STR_INIT, provenance = STR_INIT;

	(void)state;
	config_effective_json(f->c.cells[1].config, &effective);
	config_provenance_json(f->c.cells[1].config, &provenance);
	assert_non_null(strstr(str_c(&effective), "\"config_name\":\"base-2\""));
	assert_non_null(strstr(str_c(&provenance), "a second experiment of this name"));
	/* The item's values are said to stand in its line of the file. */
	assert_non_null(strstr(str_c(&provenance), "0.yaml:5"));
	assert_string_not_equal(f->c.cells[0].config_hash, f->c.cells[1].config_hash);
	unload(f);
}

static void test_overrides_hold_for_all(void **state)
{
	const struct config_override o[] = {{"llamacpp.batch_size", "3", "--set"}};
	struct fixture *f = load(BASE "experiments: [{llamacpp.batch_size: 8}, {}]\n", BASE, o, 1);
	_cleanup_str_ struct str told = STR_INIT;

	(void)state;
	for (size_t i = 0; i < f->c.n; i++)
		assert_int_equal(config_experiment(f->c.cells[i].config)->llamacpp.batch_size, 3);
	config_overrides_json(f->c.cells[0].config, &told);
	assert_non_null(strstr(str_c(&told), "\"new\":3"));
	assert_non_null(strstr(str_c(&told), "\"original\":8"));
	unload(f);
}

/* All findings of all files, the shared ones once; then there are no cells. */
static void test_findings_of_all_files(void **state)
{
	struct fixture *f = load(BASE "max_output_tokens: -1\nexperiments: [{}, {seeds: 1}]\n",
				 BASE "batch: 3\n", NULL, 0);
	_cleanup_str_ struct str text = STR_INIT;

	(void)state;
	assert_false(campaign_ok(&f->c));
	assert_int_equal(f->c.n, 0);
	config_findings_text(&f->c.findings, &text);
	assert_int_equal(f->c.findings.n_errors, 3);
	assert_non_null(strstr(str_c(&text), "0.yaml:5:1: error C03 max_output_tokens"));
	assert_non_null(strstr(str_c(&text), "0.yaml:6:20: error C01 seeds"));
	assert_non_null(strstr(str_c(&text), "1.yaml:5:1: error C01 batch"));
	assert_int_equal(campaign_exit_code(&f->c), 2);
	unload(f);
}

static void test_findings_are_bounded(void **state)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct fixture *f;

	(void)state;
	str_add(&text, BASE "experiments:\n");
	for (int i = 0; i < 300; i++)
		str_addf(&text, "  - {unknown%d: 1}\n", i);
	f = load(str_c(&text), NULL, NULL, 0);
	assert_int_equal(f->c.findings.n_errors, 300);
	assert_int_equal(f->c.findings.n, 200);
	assert_string_equal(f->c.findings.at[199].code, "C00");
	unload(f);
}

static void test_cells_are_bounded(void **state)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct fixture *f;

	(void)state;
	str_add(&text, BASE "experiments:\n");
	for (int i = 0; i < 1001; i++)
		str_add(&text, "  - {}\n");
	f = load(str_c(&text), NULL, NULL, 0);
	assert_int_equal(f->c.findings.n_errors, 1);
	assert_string_equal(f->c.findings.at[0].code, "C24");
	unload(f);
	str_reset(&text);
	str_add(&text, BASE "extra_metadata:\n");
	for (int i = 0; i < 20000; i++)
		str_addf(&text, "  k%d: 1\n", i);
	str_add(&text, "experiments:\n");
	for (int i = 0; i < 60; i++)
		str_add(&text, "  - {}\n");
	f = load(str_c(&text), NULL, NULL, 0);
	assert_int_equal(f->c.findings.n_errors, 1);
	assert_non_null(strstr(f->c.findings.at[0].message, "too many experiments"));
	unload(f);
}

/* ---- the loop ---- */

struct script {
	enum cell_status status[4];
	int code[4];
	size_t calls, cancel_at; /* 1-based; 0: never */
	int cancel_write_fd;
};

static void scripted(void *arg, struct campaign_cell *cell, size_t position)
{
	struct script *s = arg;

	s->calls++;
	cell->status = s->status[position];
	cell->exit_code = s->code[position];
	if (s->calls == s->cancel_at)
		assert_int_equal(write(s->cancel_write_fd, "x", 1), 1);
}

static struct fixture *run_script(struct script *s)
{
	struct fixture *f = load(BASE "experiments: [{}, {}, {}, {}]\n", NULL, NULL, 0);
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	s->cancel_write_fd = fds[1];
	campaign_run(&f->c, scripted, s, fds[0]);
	close(fds[0]);
	close(fds[1]);
	return f;
}

#define DONE    CELL_COMPLETED
#define FAILED  CELL_FAILED
#define REFUSED CELL_REFUSED

static void test_the_worst_decides(void **state)
{
	static const struct {
		enum cell_status status[4];
		int code[4], want;
		const char *said;
	} rows[] = {
		{{DONE, DONE, DONE, DONE}, {0, 0, 0, 0}, 0, "finished"},
		{{DONE, DONE, DONE, DONE}, {0, 4, 0, 0}, 4, "finished"},
		{{DONE, FAILED, DONE, DONE}, {4, 1, 0, 0}, 1, "finished"},
		{{FAILED, DONE, DONE, FAILED}, {3, 0, 4, 1}, 3, "finished"},
		{{REFUSED, DONE, DONE, DONE}, {2, 0, 4, 0}, 1, "finished"},
		{{REFUSED, REFUSED, REFUSED, REFUSED}, {2, 2, 2, 2}, 2, "refused"},
		{{REFUSED, FAILED, DONE, DONE}, {2, 3, 0, 0}, 3, "finished"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_str_ struct str out = STR_INIT;
		struct script s = {0};
		struct fixture *f;

		memcpy(s.status, rows[i].status, sizeof(s.status));
		memcpy(s.code, rows[i].code, sizeof(s.code));
		f = run_script(&s);
		assert_int_equal(s.calls, 4); /* one that fails does not stop the rest */
		assert_int_equal(campaign_exit_code(&f->c), rows[i].want);
		campaign_json(&f->c, &out);
		assert_non_null(strstr(str_c(&out), rows[i].said));
		unload(f);
	}
}

static void test_an_interrupted_cell_ends_it(void **state)
{
	struct script s = {.status = {DONE, CELL_INTERRUPTED, DONE, DONE}, .code = {3, 130}};
	struct fixture *f = run_script(&s);

	(void)state;
	assert_int_equal(s.calls, 2);
	assert_int_equal(f->c.cells[2].status, CELL_NOT_STARTED);
	assert_int_equal(f->c.cells[3].status, CELL_NOT_STARTED);
	assert_int_equal(campaign_exit_code(&f->c), 130);
	unload(f);
}

/* The signal came when a cell had just ended well. */
static void test_a_signal_between_cells_ends_it(void **state)
{
	struct script s = {.status = {DONE, DONE, DONE, DONE}, .cancel_at = 2};
	struct fixture *f = run_script(&s);

	(void)state;
	assert_int_equal(s.calls, 2);
	assert_int_equal(f->c.cells[1].status, CELL_COMPLETED);
	assert_int_equal(f->c.cells[2].status, CELL_NOT_STARTED);
	assert_int_equal(campaign_exit_code(&f->c), 130);
	unload(f);
}

/* ---- what is told ---- */

static void fill(struct campaign_cell *cell)
{
	static const struct cell_gpu gpus[] = {{"5", "GPU-b", 5}, {"GPU-a", "GPU-a", 2}};
	static const char *const warnings[] = {"a warning", NULL};

	cell->status = CELL_COMPLETED;
	cell->where = "docker";
	cell->path = "docker-cdi";
	cell->image = "vllm/vllm-openai@sha256:1";
	cell->gpus = gpus;
	cell->n_gpus = 2;
	cell->warnings = warnings;
	cell->exit_code = 4;
	cell->results_dir = "results";
	lem_strlcpy(cell->run_id, "20261129T000000-base-abcdef", sizeof(cell->run_id));
	verdict_add(&cell->verdict, VERDICT_INVALID, "contaminated");
	cell->output_tokens_per_s = quantity_of(100, 90, 110, "count");
}

static const json_t *at(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	assert_non_null(v);
	return v;
}

static void test_document(void **state)
{
	struct fixture *f = load(BASE "experiments: [{}, {}]\n", NULL, NULL, 0);
	_cleanup_str_ struct str out = STR_INIT;
	const json_t *cells, *cell;
	json_t *doc;

	(void)state;
	fill(&f->c.cells[0]);
	f->c.cells[1].status = CELL_FAILED;
	f->c.cells[1].exit_code = 3;
	(void)lem_fail(&f->c.cells[1].err, LEM_E_ROUTING, "not proved");
	campaign_json(&f->c, &out);
	doc = json_loads(str_c(&out), 0, NULL);
	assert_non_null(doc);
	assert_string_equal(json_string_value(at(doc, "schema")), "lem.campaign/1");
	assert_int_equal(json_integer_value(at(doc, "exit_code")), 3);
	cells = at(doc, "cells");
	assert_int_equal(json_array_size(cells), 2);
	cell = json_array_get(cells, 0);
	assert_string_equal(json_string_value(at(cell, "runner")), "docker");
	assert_int_equal(json_integer_value(at(json_array_get(at(cell, "gpus"), 0), "index")), 5);
	assert_string_equal(json_string_value(at(at(cell, "verdict"), "level")), "invalid");
	assert_true(json_real_value(at(at(cell, "output_tokens_per_s"), "value")) == 100 ||
		    json_integer_value(at(at(cell, "output_tokens_per_s"), "value")) == 100);
	assert_true(json_is_null(at(at(cell, "j_per_output_token"), "value")));
	assert_string_equal(json_string_value(at(at(cell, "j_per_output_token"), "reason")),
			    "not run");
	cell = json_array_get(cells, 1);
	assert_true(json_is_null(at(cell, "gpus")));
	assert_true(json_is_null(at(cell, "verdict")));
	assert_string_equal(json_string_value(at(at(cell, "error"), "code")), "routing");
	json_decref(doc);
	unload(f);
}

static void test_status_names(void **state)
{
	(void)state;
	assert_string_equal(cell_status_name(CELL_READY), "ready");
	assert_string_equal(cell_status_name(CELL_NOT_STARTED), "not_started");
}

static void test_table(void **state)
{
	const struct report_style style = {.width = 100};
	const struct report_cell cells[] = {
		{"two", "vllm", "docker", "5,2", "valid", "20261129T000000-two-abcdef", "",
		 quantity_of(100.25, 90, 110, "count"), quantity_of(0.0321, 0.03, 0.04, "nvml")},
		{"caf\xc3\xa9\x1b[2J", "llamacpp", "process", "", "failed", "", "it\nbroke",
		 quantity_unknown("x"), quantity_unknown("x")},
		{"later", "llamacpp", NULL, NULL, "not started", "", "", quantity_unknown("x"),
		 quantity_unknown("x")},
	};
	_cleanup_str_ struct str out = STR_INIT;

	(void)state;
	report_cells_text(cells, ARRAY_LEN(cells), &style, &out);
	assert_string_equal(
		str_c(&out),
		"experiment  engine    where    GPUs    outcome      out tok/s  J/out token  run\n"
		"two         vllm      docker   5,2     valid            100.2      32.1 mJ  "
		"20261129T000000-two-abcdef\n"
		"caf\xc3\xa9?[2J    llamacpp  process  CPU     failed               -            "
		"-\n"
		"    it broke\n"
		"later       llamacpp  -        -       not started          -            -\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_files_and_names),
		cmocka_unit_test(test_a_new_name_is_told),
		cmocka_unit_test(test_overrides_hold_for_all),
		cmocka_unit_test(test_findings_of_all_files),
		cmocka_unit_test(test_findings_are_bounded),
		cmocka_unit_test(test_cells_are_bounded),
		cmocka_unit_test(test_the_worst_decides),
		cmocka_unit_test(test_an_interrupted_cell_ends_it),
		cmocka_unit_test(test_a_signal_between_cells_ends_it),
		cmocka_unit_test(test_document),
		cmocka_unit_test(test_status_names),
		cmocka_unit_test(test_table),
	};

	return cmocka_run_group_tests_name("campaign", tests, make_dir, remove_dir);
}
