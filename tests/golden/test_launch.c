/*
 * From a configuration to what is started, for each engine, as a process and in a container: every
 * file of launch/ against what was agreed, word for word; and no option of an engine's section that
 * changes nothing. LEM_UPDATE_GOLDEN=1 writes the expectations instead.
 */
#include <dirent.h>
#include <setjmp.h>

#include "config/load.h"
#include "config/option.h"
#include "engine/engine.h"
#include "sys/fs.h"
#include "weights/weights.h"

#include <cmocka.h>

enum { MIN_CASES = 35, MAX_FILE = 1 << 20, MAX_GPUS = 16 };

static struct config *load(const char *path, const struct config_override *o, size_t n)
{
	struct config_request q = {.path = path, .overrides = o, .n_overrides = n};
	struct config *c = NULL;
	struct lem_error err = LEM_ERROR_INIT;

	if (config_load(&q, &c, &err) < 0)
		fail_msg("%s: %s", path, err.what);
	return c;
}

static int launch(const struct config *c, bool in_container, bool cached, struct arena *a,
		  struct launch_spec *ret, struct lem_error *err)
{
	const struct experiment *e = config_experiment(c);
	bool synthetic = str_starts(e->model_name, "synthetic:");
	const struct model_shape shape = {.weights = synthetic ? WEIGHTS_SYNTHETIC : WEIGHTS_REAL};
	struct gpu_ref refs[MAX_GPUS] = {0};
	const struct gpu_binding binding = {.gpus = refs, .n = e->gpus.n};
	const struct engine_request q = {
		.exp = e,
		.shape = &shape,
		.binding = &binding,
		.model_path = synthetic ? "/cache/models/hf-llama-1b-0123" : e->model_name,
		.program_dir = "/opt/lem",
		.in_container = in_container,
		.hf_cache = "/home/u/.cache/huggingface",
		.model_cached = cached,
		.hf_token = "hf_from_lem",
		.home_dir = "/home/u",
		.base_dir = "/srv/configs",
		.scratch_dir = "/tmp/lem-run",
		.threads_default = 6,
	};

	assert_true(e->gpus.n <= MAX_GPUS);
	return engine_for(e)->launch(&q, a, ret, err);
}

static void show_list(struct str *out, const char *name, const char *const *list)
{
	if (!list || !*list)
		return;
	str_addf(out, "%s\n", name);
	for (; *list; list++)
		str_addf(out, "  %s\n", *list);
}

static void show_text(struct str *out, const char *name, const char *value)
{
	if (value)
		str_addf(out, "%s %s\n", name, value);
}

static void show_spec(const struct launch_spec *s, bool in_container, struct str *out)
{
	str_addf(out, "%s %s, load %.0f s, silence %.0f s, stop %.0f s, %zu GPUs, port %d\n",
		 s->engine, s->channel == CHANNEL_HTTP ? "http" : "worker",
		 (double)s->load_timeout_ns / 1e9, (double)s->silence_ns / 1e9,
		 (double)s->stop_grace_ns / 1e9, s->gpus_needed, s->port);
	if (in_container) {
		show_text(out, "image", s->image);
		show_text(out, "pull", s->pull);
		show_text(out, "entrypoint", s->entrypoint);
		show_text(out, "network", s->network);
		show_text(out, "user", s->user);
		str_addf(out, "shm %" PRId64 "\n", s->shm_bytes);
		show_list(out, "binds", s->binds);
	} else {
		assert_null(s->image);
		assert_null(s->entrypoint);
		assert_null(s->binds[0]);
	}
	show_list(out, "argv", s->argv);
	show_list(out, "env", s->env);
	show_list(out, "secrets", s->secrets);
	for (const struct launch_file *f = s->files; f && f->host_path; f++)
		str_addf(out, "file %s\n%s", f->host_path, f->contents);
	show_text(out, "load", s->load_json);
}

static void show(const struct config *c, bool in_container, bool cached, struct str *out)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct launch_spec s = {.port = -1};
	struct lem_error err = LEM_ERROR_INIT;

	if (launch(c, in_container, cached, &a, &s, &err) < 0) {
		assert_int_equal(err.code, LEM_E_REFUSED);
		assert_int_equal(s.port, -1); /* outputs untouched on failure */
		str_addf(out, "refused: %s\n  fix: %s\n", err.what, err.fix);
		return;
	}
	show_spec(&s, in_container, out);
}

static bool same_as_golden(const char *path, const char *actual)
{
	_cleanup_free_ char *golden = lem_asprintf("%s.expected", path);
	_cleanup_str_ struct str expected = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (getenv("LEM_UPDATE_GOLDEN"))
		assert_return_code(fs_write_atomic(golden, actual, strlen(actual), &err), 0);
	if (fs_read_file(golden, MAX_FILE, &expected, &err) < 0) {
		print_error("%s\n", err.what);
		return false;
	}
	if (strcmp(str_c(&expected), actual) == 0)
		return true;
	print_error("--- %s\n%s+++ now\n%s", golden, str_c(&expected), actual);
	return false;
}

static bool check_case(const char *path)
{
	struct config *c = load(path, NULL, 0);
	_cleanup_str_ struct str text = STR_INIT;
	bool ok = config_ok(c);

	if (!ok) {
		config_findings_text(config_findings(c), &text);
		print_error("%s", str_c(&text));
		str_reset(&text);
	}
	str_add(&text, "== process\n");
	show(c, false, false, &text);
	str_add(&text, "\n== container\n");
	show(c, true, true, &text);
	if (str_ends(path, "-plain.yaml")) {
		str_add(&text, "\n== container, the model not fetched yet\n");
		show(c, true, false, &text);
	}
	ok &= same_as_golden(path, str_c(&text));
	config_free(c);
	return ok;
}

static int is_case(const struct dirent *d)
{
	return str_ends(d->d_name, ".yaml");
}

static void test_cases(void **state)
{
	struct dirent **names;
	int n = scandir(".", &names, is_case, alphasort), bad = 0;

	(void)state;
	assert_true(n >= MIN_CASES);
	for (int i = 0; i < n; i++) {
		bad += !check_case(names[i]->d_name);
		free(names[i]);
	}
	free(names);
	assert_int_equal(bad, 0);
}

/* ---- no option is lost ---- */

/* Options that change no launch by themselves, and why that is right. */
static bool is_excused(const char *path)
{
	static const char *const paths[] = {
		"vllm.min_p",        /* goes with each request */
		"vllm.logit_bias",   /* the same */
		"pytorch.min_p",     /* the same */
		"llamacpp.min_p",    /* the same */
		"llamacpp.batching", /* with each run of the worker */
	};

	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		if (str_eq(paths[i], path))
			return true;
	return false;
}

/* Another value than the default, as YAML. */
static const char *other_value(const struct option *o, struct arena *a)
{
	switch (o->type) {
	case OPT_BOOL: return str_eq(o->def, "true") ? "false" : "true";
	case OPT_CHOICE:
		return o->choices[0] && str_eq(o->choices[0], o->def) && o->choices[1]
			       ? o->choices[1]
			       : o->choices[0];
	case OPT_COMPILE: return o->choices[0];
	case OPT_KV: return "{foo: 3}";
	case OPT_STR: return "other/thing";
	case OPT_F64:
	case OPT_MAYBE_F64: return arena_printf(a, "%.3f", o->min + (o->max - o->min) * 0.3);
	case OPT_BYTES: return "3g";
	case OPT_STR_LIST: return "[/tmp:/x]";
	case OPT_F64_LIST: return "[2, 1]";
	default: return arena_printf(a, "%.0f", o->max <= 64 ? o->max : o->min + 1);
	}
}

/* Errors and warnings of the configuration are an answer too, but not those of the value itself. */
static void launch_text(const char *base, const struct config_override *o, size_t n,
			struct str *out)
{
	struct config *c = load(base, o, n);
	const struct finding_list *f = config_findings(c);

	for (size_t i = 0; i < f->n; i++) {
		if (f->at[i].severity != SEVERITY_INFO)
			str_addf(out, "%s\n", f->at[i].message);
		if (str_eq(f->at[i].code, "C02") || str_eq(f->at[i].code, "C04"))
			fail_msg("%s: %s", f->at[i].field, f->at[i].message);
	}
	show(c, true, false, out);
	config_free(c);
}

static bool changes_launch(const char *base, const char *path, const char *value)
{
	_cleanup_str_ struct str before = STR_INIT, after = STR_INIT;
	const struct config_override set = {.path = path, .value = value};

	launch_text(base, NULL, 0, &before);
	launch_text(base, &set, 1, &after);
	return strcmp(str_c(&before), str_c(&after)) != 0;
}

/* An option that is set either changes the launch, or is refused, from one of the bases at least:
 * never nothing. */
static size_t count_lost(const struct section *s, const char *const *bases)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	size_t lost = 0;

	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i];
		char *path = option_path(&a, s, o->name);
		const char *value;
		bool changed = false;

		if (o->type == OPT_MAP && option_is_key(o))
			lost += count_lost(o->sub, bases);
		if (!option_is_key(o) || o->type == OPT_MAP || is_excused(path))
			continue;
		value = other_value(o, &a);
		for (size_t b = 0; bases[b] && !changed; b++)
			changed = changes_launch(bases[b], path, value);
		if (!changed)
			print_error("%s: %s changes nothing\n", path, value);
		lost += !changed;
	}
	return lost;
}

#define LOST(s, ...) count_lost(&section_##s, (const char *const[]){__VA_ARGS__, NULL})

static void test_no_option_is_lost(void **state)
{
	(void)state;
	assert_int_equal(LOST(vllm, "vllm-plain.yaml", "vllm-ngram.yaml", "bases/vllm-draft.yaml"),
			 0);
	assert_int_equal(LOST(sglang, "sglang-plain.yaml"), 0);
	assert_int_equal(LOST(tensorrt, "bases/tensorrt-draft.yaml", "tensorrt-build.yaml"), 0);
	assert_int_equal(LOST(pytorch, "pytorch-plain.yaml", "bases/pytorch-beams.yaml",
			      "pytorch-assisted.yaml"),
			 0);
	assert_int_equal(LOST(llamacpp, "bases/llamacpp-gpus.yaml", "bases/llama-server-gpus.yaml"),
			 0);
	assert_int_equal(LOST(docker, "vllm-plain.yaml"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_no_option_is_lost),
	};
	_cleanup_free_ char *dir =
		lem_asprintf("%s/tests/golden/launch", getenv("LEM_SOURCE_ROOT"));

	if (chdir(dir) < 0) {
		perror(dir);
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
