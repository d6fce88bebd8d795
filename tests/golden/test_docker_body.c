/* What is asked of a container engine, byte by byte, for each way GPUs reach a container, and the
 * command line that says the same. LEM_GOLDEN_UPDATE=1 writes the expected files anew; look at the
 * difference before keeping it. */
#include <setjmp.h>
#include <sys/wait.h>

#include <jansson.h>

#include "model/gpu_binding.h"
#include "runner/docker_body.h"
#include "sys/fs.h"

#include <cmocka.h>

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define UUID_A    "GPU-aaaaaaaa-1111-2222-3333-444455556666"
#define UUID_B    "GPU-bbbbbbbb-1111-2222-3333-444455556666"
#define TOKEN     "hf_topsecret"

static struct gpu_ref gpus[] = {
	{.requested = "5", .uuid = UUID_B, .card_uuid = UUID_B, .index = 5},
	{.requested = "2", .uuid = UUID_A, .card_uuid = UUID_A, .index = 2},
};

static struct gpu_binding binding_of(const char *path, struct gpu_device_request request)
{
	struct gpu_binding b = {.gpus = gpus, .n = 2, .request = request};

	lem_strlcpy(b.path, path, sizeof(b.path));
	return b;
}

static const char *const gpu_env[] = {"HF_TOKEN=" TOKEN,
				      "NVIDIA_VISIBLE_DEVICES=all", /* overridden below */
				      "CUDA_DEVICE_ORDER=PCI_BUS_ID",
				      "CUDA_VISIBLE_DEVICES=1,0",
				      "NVIDIA_VISIBLE_DEVICES=" UUID_B "," UUID_A,
				      "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
				      "LEM_GPU_UUIDS=" UUID_B "," UUID_A,
				      NULL};

static struct launch_spec server(const struct gpu_binding *b)
{
	static const char *const argv[] = {"org/model", "--host", "0.0.0.0", NULL};
	static const char *const binds[] = {"/home/u/.cache/hf:/root/.cache/huggingface",
					    "/data:/data:ro", NULL};
	static const char *const secrets[] = {"HF_TOKEN", NULL};

	return (struct launch_spec){.engine = "vllm",
				    .channel = CHANNEL_HTTP,
				    .argv = argv,
				    .env = gpu_env,
				    .binds = binds,
				    .secrets = secrets,
				    .image = "vllm/vllm-openai@sha256:0123abcd",
				    .port = 8000,
				    .stop_grace_ns = 60 * NS_PER_S,
				    .binding = b,
				    .run_id = "r1",
				    .experiment = "it's \"one\""};
}

static struct launch_spec worker(const struct gpu_binding *b)
{
	static const char *const argv[] = {"python3", "/lem/worker.py", "--x", "a b", NULL};
	struct launch_spec s = server(b);

	s.engine = "pytorch";
	s.channel = CHANNEL_WORKER;
	s.argv = argv;
	s.entrypoint = "/usr/bin/env";
	s.user = "1000:1000";
	s.cwd = "/lem";
	s.network = "none";
	s.stop_grace_ns = 1500 * NS_PER_MS;
	s.shm_bytes = INT64_C(1) << 30;
	return s;
}

static void compare(const char *name, const char *suffix, const char *got)
{
	const char *root = getenv("LEM_SOURCE_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/golden/docker/%s%s", root ? root : ".", name, suffix);
	_cleanup_str_ struct str want = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (getenv("LEM_GOLDEN_UPDATE"))
		assert_int_equal(fs_write_atomic(path, got, strlen(got), NULL), 0);
	if (fs_read_file(path, 1 << 20, &want, &err) < 0)
		fail_msg("%s", err.what);
	if (!str_eq(str_c(&want), got))
		fail_msg("%s differs; this lem gives:\n%s", path, got);
}

static void keep(const struct launch_spec *s, const struct docker_body_options *o, const char *name)
{
	_cleanup_str_ struct str body = STR_INIT, line = STR_INIT;
	json_t *j;

	docker_body_json(s, o, &body);
	docker_run_line(s, o, &line);
	j = json_loads(str_c(&body), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	json_decref(j);
	str_addc(&body, '\n');
	str_addc(&line, '\n');
	compare(name, ".json", str_c(&body));
	compare(name, ".sh", str_c(&line));
}

/* ---- one case for each path ---- */

#define CDI_REQUEST                   \
	((struct gpu_device_request){ \
		.driver = "cdi", .ids = LIST("nvidia.com/gpu=" UUID_B, "nvidia.com/gpu=" UUID_A)})
#define HOOK_REQUEST ((struct gpu_device_request){.driver = "nvidia", .ids = LIST(UUID_B, UUID_A)})

static void test_cdi(void **state)
{
	struct gpu_binding b = binding_of("docker-cdi", CDI_REQUEST);
	struct launch_spec s = server(&b);

	(void)state;
	keep(&s, &(struct docker_body_options){.indent = 2, .name = "lem-r1", .owner = "n1 12 345"},
	     "cdi-http");
}

static void test_runtime(void **state)
{
	struct gpu_binding b =
		binding_of("docker-runtime", (struct gpu_device_request){.runtime = "nvidia"});
	struct launch_spec s = worker(&b);

	(void)state;
	keep(&s, &(struct docker_body_options){.indent = 2, .open_stdin = true}, "runtime-worker");
}

static void test_hook(void **state)
{
	struct gpu_binding b = binding_of("docker-hook", HOOK_REQUEST);
	struct launch_spec s = server(&b);

	(void)state;
	s.network = "host";
	keep(&s, &(struct docker_body_options){.indent = 2}, "hook-host-network");
}

static void test_podman(void **state)
{
	struct gpu_binding b = binding_of("podman-cdi", CDI_REQUEST);
	struct launch_spec s = worker(&b);

	(void)state;
	keep(&s, &(struct docker_body_options){.indent = 2, .open_stdin = true, .rootless = true},
	     "podman-rootless");
}

static void test_no_gpus(void **state)
{
	struct gpu_binding b = {.path = "none"};
	struct launch_spec s = server(&b);

	(void)state;
	s.env = LIST("CUDA_VISIBLE_DEVICES=", "NVIDIA_VISIBLE_DEVICES=void");
	s.network = "lan";
	s.entrypoint = "";
	keep(&s, &(struct docker_body_options){.indent = 2}, "no-gpus");
}

/* Nothing but what must be there. */
static void test_bare(void **state)
{
	struct launch_spec s = {.image = "busybox", .argv = LIST("true")};

	(void)state;
	keep(&s, &(struct docker_body_options){.indent = 2}, "bare");
}

/* ---- laws that hold whatever the path ---- */

static json_t *body_of(const struct launch_spec *s, const struct docker_body_options *o)
{
	_cleanup_str_ struct str body = STR_INIT;
	json_t *j;

	docker_body_json(s, o, &body);
	assert_null(strchr(str_c(&body), '\n'));
	j = json_loads(str_c(&body), JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(j);
	return j;
}

static void test_secrets(void **state)
{
	struct gpu_binding b = binding_of("docker-cdi", CDI_REQUEST);
	struct launch_spec s = server(&b);
	_cleanup_str_ struct str hidden = STR_INIT, shown = STR_INIT, line = STR_INIT;
	const struct docker_body_options show = {.show_secrets = true};

	(void)state;
	docker_body_json(&s, &(struct docker_body_options){.indent = 0}, &hidden);
	docker_body_json(&s, &show, &shown);
	docker_run_line(&s, &show, &line); /* a command line has none, whatever is asked */
	assert_null(strstr(str_c(&hidden), TOKEN));
	assert_non_null(strstr(str_c(&hidden), "\"HF_TOKEN=***\""));
	assert_non_null(strstr(str_c(&shown), "\"HF_TOKEN=" TOKEN "\""));
	assert_null(strstr(str_c(&line), TOKEN));
	assert_non_null(strstr(str_c(&line), " -e HF_TOKEN "));
}

/* A name that only begins like a secret's is none; one without a value is. */
static void test_secret_names(void **state)
{
	struct launch_spec s = {.image = "i",
				.argv = LIST("x"),
				.env = LIST("HF_TOKEN_PATH=/p", "HF_TOK=1", "HF_TOKEN"),
				.secrets = LIST("HF_TOKEN")};
	_cleanup_str_ struct str body = STR_INIT, line = STR_INIT;

	(void)state;
	docker_body_json(&s, &(struct docker_body_options){.indent = 0}, &body);
	docker_run_line(&s, &(struct docker_body_options){.indent = 0}, &line);
	assert_non_null(
		strstr(str_c(&body), "[\"HF_TOKEN_PATH=/p\",\"HF_TOK=1\",\"HF_TOKEN=***\"]"));
	assert_non_null(strstr(str_c(&line), "-e HF_TOKEN_PATH=/p -e HF_TOK=1 -e HF_TOKEN "));
}

/* R01, R02, R37: whatever the spec, and NVIDIA_VISIBLE_DEVICES once, as the binding says it. */
static void test_never(void **state)
{
	const struct {
		const char *path;
		struct gpu_device_request request;
	} paths[] = {{"docker-cdi", CDI_REQUEST},
		     {"podman-cdi", CDI_REQUEST},
		     {"docker-hook", HOOK_REQUEST},
		     {"docker-runtime", {.runtime = "nvidia"}}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		struct gpu_binding b = binding_of(paths[i].path, paths[i].request);
		struct launch_spec s = server(&b);
		_cleanup_str_ struct str body = STR_INIT, line = STR_INIT;
		json_t *j = body_of(&s, &(struct docker_body_options){.indent = 0});
		json_t *host = json_object_get(j, "HostConfig");

		assert_true(json_is_false(json_object_get(host, "Privileged")));
		json_decref(j);
		docker_body_json(&s, &(struct docker_body_options){.indent = 0}, &body);
		docker_run_line(&s, &(struct docker_body_options){.indent = 0}, &line);
		assert_null(strstr(str_c(&body), "Count"));
		assert_null(strstr(str_c(&body), "VISIBLE_DEVICES=all"));
		assert_null(strstr(str_c(&line), "VISIBLE_DEVICES=all"));
		assert_null(strstr(str_c(&line), "privileged"));
		assert_null(strstr(str_c(&line), "--gpus all"));
	}
}

static void test_shared_memory(void **state)
{
	static struct gpu_ref many[12];
	struct gpu_binding b = {.gpus = many, .n = 12, .path = "docker-runtime"};
	struct launch_spec s = server(&b);
	json_t *j = body_of(&s, &(struct docker_body_options){.indent = 0});

	(void)state;
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(j, "HostConfig"), "ShmSize")),
		INT64_C(12) << 30);
	json_decref(j);
}

/* ---- the quoting, read back by a real shell ---- */

/* Runs the line with a function in the place of docker that prints each word and a 0 byte. */
static void words_of(const char *line, char *buf, size_t size, size_t *ret_n)
{
	_cleanup_free_ char *script = lem_asprintf(
		"docker() { for w in \"$@\"; do printf '%%s\\001' \"$w\"; done; }\n%s", line);
	int fds[2], status;

	assert_int_equal(pipe(fds), 0);
	pid_t pid = fork();

	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		execl("/bin/sh", "sh", "-c", script, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	*ret_n = 0;
	for (ssize_t k; (k = read(fds[0], buf + *ret_n, size - *ret_n)) > 0;)
		*ret_n += (size_t)k;
	close(fds[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static bool has_word(const char *buf, size_t n, const char *word)
{
	size_t k = strlen(word);

	for (const char *p = buf; p < buf + n; p += strcspn(p, "\001") + 1)
		if (strncmp(p, word, k) == 0 && p[k] == '\001')
			return true;
	return false;
}

static void test_shell(void **state)
{
	static const char *const odd[] = {"it's",       "a b",          "$HOME `id` $(id)",
					  "\"quoted\"", "back\\",       "*?[a]",
					  "new\nline",  "tab\there",    "",
					  "~",          "a;b|c&d",      "größe",
					  "'",          "{\"a\": [1]}", "#no comment",
					  "!x",         "-e",           NULL};
	struct gpu_binding b = binding_of("docker-hook", HOOK_REQUEST);
	struct launch_spec s = server(&b);
	_cleanup_str_ struct str line = STR_INIT;
	char buf[8192];
	size_t n, count = 0;

	(void)state;
	s.argv = odd;
	docker_run_line(&s, &(struct docker_body_options){.name = "x y", .open_stdin = true},
			&line);
	words_of(str_c(&line), buf, sizeof(buf) - 1, &n);
	buf[n] = '\0';
	for (size_t i = 0; odd[i]; i++)
		if (!has_word(buf, n, odd[i]))
			fail_msg("the shell loses the word <%s> of %s", odd[i], str_c(&line));
	assert_true(has_word(buf, n, "\"device=" UUID_B "," UUID_A "\""));
	assert_true(has_word(buf, n, "x y"));
	assert_true(has_word(buf, n, "lem.experiment=it's \"one\""));
	/* no word more: the odd ones are the last, in their order */
	for (size_t i = 0; i < n; i++)
		count += buf[i] == '\001' ? 1 : 0;
	const char *p = buf;

	for (size_t i = 0; i + 17 < count; i++)
		p += strcspn(p, "\001") + 1;
	for (size_t i = 0; odd[i]; i++) {
		assert_memory_equal(p, odd[i], strlen(odd[i]));
		p += strlen(odd[i]) + 1;
	}
	assert_int_equal(p - buf, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cdi),     cmocka_unit_test(test_runtime),
		cmocka_unit_test(test_hook),    cmocka_unit_test(test_podman),
		cmocka_unit_test(test_no_gpus), cmocka_unit_test(test_bare),
		cmocka_unit_test(test_secrets), cmocka_unit_test(test_secret_names),
		cmocka_unit_test(test_never),   cmocka_unit_test(test_shared_memory),
		cmocka_unit_test(test_shell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
