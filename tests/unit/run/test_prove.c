#include "run/life.h"

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/clock.h"

/* A runner whose run_once answers by script, and an engine that is nowhere. */
static struct {
	const char *out, *log;
	int status;
	enum lem_code fails;
	const char *what, *why;
	/* what it was asked */
	char argv0[256], bind[512];
	int calls;
} script;

static int scripted_run_once(const struct launch_spec *spec, const char *const *argv,
			     const char *const *binds, int64_t timeout_ns,
			     const struct runner_context *c, struct str *out, struct str *log,
			     int *ret_status, struct lem_error *err)
{
	(void)spec;
	(void)c;
	assert_true(timeout_ns > 0);
	assert_null(argv[1]);
	script.calls++;
	lem_strlcpy(script.argv0, argv[0], sizeof(script.argv0));
	lem_strlcpy(script.bind, binds[0], sizeof(script.bind));
	if (script.fails) {
		(void)lem_fail(err, script.fails, "%s", script.what);
		return script.why ? lem_error_why(err, "%s", script.why) : -(int)script.fails;
	}
	str_add(out, script.out);
	str_add(log, script.log ? script.log : "");
	*ret_status = script.status;
	return 0;
}

static const struct runner_ops on_host = {.name = "scripted", .run_once = scripted_run_once};
static const struct runner_ops in_container = {
	.name = "scripted", .is_container = true, .run_once = scripted_run_once};

struct stage {
	struct life life;
	struct run_request request;
	struct run_record record;
	char folder[64];
};

static int set_up(void **state)
{
	struct stage *s = lem_calloc(1, sizeof(*s));
	struct gpu_binding *b = &s->record.binding;

	memset(&script, 0, sizeof(script));
	lem_strlcpy(s->folder, "/tmp/lem-prove-XXXXXX", sizeof(s->folder));
	assert_non_null(mkdtemp(s->folder));
	s->request = (struct run_request){.program_dir = s->folder, .cancel_fd = -1};
	s->life = (struct life){
		.req = &s->request, .rec = &s->record, .runner = &on_host, .detail = ""};
	b->n = 2;
	b->gpus = lem_calloc(2, sizeof(*b->gpus));
	for (int i = 0; i < 2; i++) {
		(void)snprintf(b->gpus[i].uuid, sizeof(b->gpus[i].uuid),
			       "GPU-%08x-0000-4000-8000-000000000000", i ? 0xbb : 0xaa);
		b->gpus[i].index = i ? 5 : 2;
	}
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct stage *s = *state;
	_cleanup_free_ char *probe = lem_asprintf("%s/lem-gpuprobe", s->folder);

	(void)unlink(probe);
	assert_int_equal(rmdir(s->folder), 0);
	run_record_release(&s->record);
	free(s);
	return 0;
}

#define AA                                                                          \
	"{\"uuid\": \"GPU-000000aa-0000-4000-8000-000000000000\", \"pci_bus_id\": " \
	"\"0000:65:00.0\"}"
#define BB                                                                          \
	"{\"uuid\": \"GPU-000000bb-0000-4000-8000-000000000000\", \"pci_bus_id\": " \
	"\"0000:66:00.0\"}"
#define CC                                                                          \
	"{\"uuid\": \"GPU-000000cc-0000-4000-8000-000000000000\", \"pci_bus_id\": " \
	"\"0000:67:00.0\"}"
#define DOC(list) "{\"lem_gpuprobe\": 1, \"devices\": [" list "], \"cuda_driver\": 13000}\n"

static void test_proved(void **state)
{
	struct stage *s = *state;
	struct lem_error err;

	script.out = "an image's banner\n" DOC(AA ", " BB);
	assert_int_equal(life_prove(&s->life, &err), 0);
	assert_true(s->record.binding.proved);
	assert_non_null(strstr(s->record.binding.proof, "lem-gpuprobe"));
	assert_int_equal(s->record.binding.n_observed, 2);
	assert_string_equal(s->record.binding.observed[1].pci_bus_id, "0000:66:00.0");
	assert_true(str_starts(script.argv0, s->folder));
}

static void test_secrets_are_blotted_out(void **state)
{
	static const char *const env[] = {"HF_TOKEN=hf_of_config", "PLAIN=plain", NULL};
	struct stage *s = *state;
	struct lem_error err = LEM_ERROR_INIT;
	char log[] = "hf_of_config plain own_secret";

	setenv("LEM_TEST_API_KEY", "own_secret", 1);
	s->life.spec.env = env;
	(void)lem_fail(&err, LEM_E_ENGINE, "403 for hf_of_config");
	life_scrub(&s->life, &err, log);
	assert_string_equal(log, "*** plain ***");
	assert_string_equal(err.what, "403 for ***");
	life_scrub(&s->life, NULL, log); /* it went well */
	unsetenv("LEM_TEST_API_KEY");
}

/* What was doubtful about the way the GPUs go in belongs to the story when the start fails. */
static void test_warned_before_a_failed_start(void **state)
{
	static const char *const warnings[] = {
		"R40: the GPUs differ", "R21: the CDI specifications do not name GPU 5", NULL};
	struct stage *s = *state;
	struct lem_error err = LEM_ERROR_INIT;

	s->record.binding.warnings = warnings;
	(void)lem_fail(&err, LEM_E_ROUTING, "R20: no way to pass GPUs");
	(void)lem_error_why(&err, "could not select device driver");
	life_recall(&s->life, &err);
	assert_string_equal(err.what, "R20: no way to pass GPUs");
	assert_string_equal(err.why, "warned before: R21: the CDI specifications do not name GPU "
				     "5; could not select device driver");
	s->record.engine_version = "1"; /* it came up: the way in was no trouble */
	(void)lem_fail(&err, LEM_E_ENGINE, "out of memory");
	life_recall(&s->life, &err);
	assert_string_equal(err.why, "");
	s->record.engine_version = NULL;
	(void)lem_fail(&err, LEM_E_INTERRUPTED, "interrupted");
	life_recall(&s->life, &err);
	assert_string_equal(err.why, "");
}

static void test_in_a_container_the_probe_is_bound(void **state)
{
	struct stage *s = *state;
	_cleanup_free_ char *bind = lem_asprintf("%s/lem-gpuprobe:/lem/lem-gpuprobe:ro", s->folder);

	s->life.runner = &in_container;
	script.out = DOC(AA ", " BB);
	assert_int_equal(life_prove(&s->life, NULL), 0);
	assert_string_equal(script.argv0, "/lem/lem-gpuprobe");
	assert_string_equal(script.bind, bind);
}

static void expect(struct stage *s, enum lem_code code, const char *what, const char *more)
{
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(life_prove(&s->life, &err), -(int)code);
	if (!strstr(err.what, what))
		fail_msg("'%s' is not in '%s'", what, err.what);
	if (!strstr(err.why, more) && !strstr(err.fix, more))
		fail_msg("'%s' is not in '%s' or '%s'", more, err.why, err.fix);
	assert_false(s->record.binding.proved);
	assert_string_not_equal(s->record.binding.proof, "");
}

static void test_wrong_devices(void **state)
{
	struct stage *s = *state;

	script.out = DOC(BB ", " AA);
	expect(s, LEM_E_ROUTING, "another order", "host GPU 5");
	assert_int_equal(s->record.binding.n_observed, 2);
	script.out = DOC(AA);
	expect(s, LEM_E_ROUTING, "does not see all", "asked for");
	assert_int_equal(s->record.binding.n_observed, 1);
	script.out = DOC(AA ", " BB ", " CC);
	expect(s, LEM_E_ROUTING, "more GPUs", "R01");
	script.out = DOC(AA ", " CC);
	expect(s, LEM_E_ROUTING, "does not see the GPUs", "000000cc");
	script.out = DOC("");
	expect(s, LEM_E_ROUTING, "", "no GPU");
	assert_int_equal(s->record.binding.n_observed, 0);
}

static void test_probe_says_why_not(void **state)
{
	struct stage *s = *state;

	script.status = 256;
	script.out = "{\"lem_gpuprobe\": 1, \"error\": \"no device\", \"status\": 100}";
	expect(s, LEM_E_ROUTING, "no device", "CUDA sees no GPU");
	script.out = "{\"lem_gpuprobe\": 1, \"error\": \"cuInit\", \"status\": 802}";
	expect(s, LEM_E_ROUTING, "cuInit", "R18");
}

static void test_probe_that_cannot_run(void **state)
{
	struct stage *s = *state;

	script.out = "";
	script.status = 127 << 8;
	script.log = "exec /lem/lem-gpuprobe: no such file or directory\n\n";
	expect(s, LEM_E_ROUTING, "could not be proved", "no such file or directory");
	expect(s, LEM_E_ROUTING, "could not be proved", "glibc");
	script.out = "\x01\xff garbage";
	expect(s, LEM_E_ROUTING, "could not be proved", "glibc");
}

static void test_what_the_runner_cannot_do(void **state)
{
	struct stage *s = *state;

	s->life.runner = &in_container;
	script.fails = LEM_E_ENGINE;
	script.what = "cannot start the container";
	script.why = "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-x";
	expect(s, LEM_E_ROUTING, "cannot start the container", "R21");
	script.fails = LEM_E_TIMEOUT;
	expect(s, LEM_E_ROUTING, "could not be proved", "");
	/* these are no matter of routing, and keep their code */
	script.fails = LEM_E_NOT_FOUND;
	script.what = "there is no image x";
	expect(s, LEM_E_NOT_FOUND, "there is no image x", "");
	script.fails = LEM_E_INTERRUPTED;
	script.what = "interrupted";
	expect(s, LEM_E_INTERRUPTED, "interrupted", "");
	/* on the host it is the probe itself that is not found */
	s->life.runner = &on_host;
	script.fails = LEM_E_IO;
	script.what = "cannot start lem-gpuprobe";
	expect(s, LEM_E_ROUTING, "cannot start lem-gpuprobe", "");
}

static void test_a_runner_without_run_once(void **state)
{
	static const struct runner_ops none = {.name = "external"};
	struct stage *s = *state;

	s->life.runner = &none;
	expect(s, LEM_E_ROUTING, "external", "");
}

static void test_the_probe_must_be_there(void **state)
{
	struct stage *s = *state;
	_cleanup_free_ char *probe = lem_asprintf("%s/lem-gpuprobe", s->folder);
	struct lem_error err;
	FILE *f;

	assert_int_equal(life_can_prove(&s->life, &err), -LEM_E_ROUTING);
	assert_non_null(strstr(err.what, "does not exist"));
	assert_string_not_equal(s->record.binding.proof, "");
	f = fopen(probe, "w");
	assert_non_null(f);
	(void)fclose(f);
	assert_int_equal(life_can_prove(&s->life, &err), -LEM_E_ROUTING);
	assert_non_null(strstr(err.what, "cannot be executed"));
	assert_int_equal(chmod(probe, 0755), 0);
	assert_int_equal(life_can_prove(&s->life, &err), 0);
}

static void test_cpu_needs_no_proof(void **state)
{
	struct stage *s = *state;

	s->record.binding.n = 0;
	assert_int_equal(life_can_prove(&s->life, NULL), 0);
	assert_int_equal(life_prove(&s->life, NULL), 0);
	assert_int_equal(script.calls, 0);
	assert_false(s->record.binding.proved);
	assert_string_equal(s->record.binding.proof, "");
}

static int loaded(struct stage *s, const char *a, const char *b, struct lem_error *err)
{
	struct worker_device d[] = {{"x", a}, {"y", b}};
	const struct worker_loaded w = {.devices = d, .n_devices = 2};

	s->record.binding.proved = true;
	return life_check_loaded(&s->life, &w, err);
}

static void test_what_the_engine_names(void **state)
{
	static const char aa[] = "GPU-000000aa-0000-4000-8000-000000000000",
			  bb[] = "000000BB-0000-4000-8000-000000000000", /* as PyTorch tells it */
		cc[] = "GPU-000000cc-0000-4000-8000-000000000000";
	struct stage *s = *state;
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(loaded(s, aa, bb, &err), 0);
	assert_int_equal(loaded(s, NULL, NULL, &err),
			 0); /* it tells none: nothing to hold against */
	assert_int_equal(s->record.n_notes, 0);
	assert_int_equal(loaded(s, bb, NULL, &err), 0);
	assert_non_null(strstr(s->record.notes[0], "names 1 of the 2 GPUs"));
	assert_true(s->record.binding.proved);
	assert_int_equal(loaded(s, bb, aa, &err), -LEM_E_ROUTING);
	assert_non_null(strstr(err.what, "another order"));
	assert_int_equal(loaded(s, aa, aa, &err), -LEM_E_ROUTING);
	assert_int_equal(loaded(s, aa, cc, &err), -LEM_E_ROUTING);
	assert_non_null(strstr(err.what, "does not list"));
	assert_non_null(strstr(err.why, "GPU 5"));
	assert_non_null(strstr(err.why, cc));
	assert_false(s->record.binding.proved);
	assert_string_equal(s->record.binding.proof, err.what);
}

static void test_blame(void **state)
{
	struct stage *s = *state;
	struct lem_error err;

	(void)lem_fail(&err, LEM_E_ENGINE,
		       "the worker ended while loading the model: exit status 1");
	(void)lem_error_why(&err, "its last words: goodbye");
	str_add(&s->life.session.io.log, "NCCL error: Error while creating shared memory segment "
					 "/dev/shm/nccl-1\ngoodbye\n");
	life_blame(&s->life, &err);
	assert_true(str_starts(err.why, "this is R17, "));
	assert_non_null(strstr(err.why, "its last words: goodbye"));
	assert_string_not_equal(err.fix, "");
	/* one that names its rule, and one that no log explains, stay as they are */
	(void)lem_fail(&err, LEM_E_ENGINE, "R41: GPU 2 was lost");
	life_blame(&s->life, &err);
	assert_string_equal(err.why, "");
	/* the rule may stand after what was being done, and what was explained is explained once */
	(void)lem_fail(&err, LEM_E_ROUTING, "the GPUs could not be proved: R20: no way in");
	life_blame(&s->life, &err);
	assert_string_equal(err.why, "");
	(void)lem_fail(&err, LEM_E_ENGINE, "it ended");
	life_blame(&s->life, &err);
	_cleanup_free_ char *once = lem_strdup(err.why);
	life_blame(&s->life, &err);
	assert_string_equal(err.why, once);
	assert_true(str_starts(once, "this is R17, "));
	(void)lem_fail(&err, LEM_E_INTERRUPTED, "interrupted");
	life_blame(&s->life, &err);
	assert_string_equal(err.why, "");
	str_release(&s->life.session.io.log);
}

#define STAGE_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		STAGE_TEST(test_proved),
		STAGE_TEST(test_in_a_container_the_probe_is_bound),
		STAGE_TEST(test_wrong_devices),
		STAGE_TEST(test_probe_says_why_not),
		STAGE_TEST(test_probe_that_cannot_run),
		STAGE_TEST(test_what_the_runner_cannot_do),
		STAGE_TEST(test_a_runner_without_run_once),
		STAGE_TEST(test_the_probe_must_be_there),
		STAGE_TEST(test_cpu_needs_no_proof),
		STAGE_TEST(test_what_the_engine_names),
		STAGE_TEST(test_blame),
		STAGE_TEST(test_secrets_are_blotted_out),
		STAGE_TEST(test_warned_before_a_failed_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
