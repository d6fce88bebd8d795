/* Drives the Docker runner against the engine of DOCKER_HOST, for test_docker_runner.py: what
 * happens is printed as "name value" lines.
 *   docker_life SCENARIO IMAGE [GPU-UUID …] [-- PROGRAM ARG …] */
#include <poll.h>
#include <signal.h>

#include "base/clock.h"
#include "runner/docker_body.h"
#include "runner/runner.h"

#define ops runner_docker
#define S   NS_PER_S

static const struct runner_context calm = {.cancel_fd = -1};
static struct gpu_ref gpus[16];
static struct gpu_binding binding = {.gpus = gpus, .path = "docker-cdi"};
static const char *ids[17];
static char uuids[1024];
static const char *env[] = {"HF_TOKEN=hf_verysecret", "NVIDIA_VISIBLE_DEVICES=void", NULL, NULL};

static const char echo[] = "while read line; do echo got $line; echo log $line >&2; "
			   "[ \"$line\" = quit ] && exit 5; done; echo end of stdin; exit 0";

static struct launch_spec spec_of(const char *image, const char *const *argv)
{
	static const char *const secrets[] = {"HF_TOKEN", NULL};
	static const char *const shell[] = {"-c", echo, NULL};
	struct launch_spec s = {.engine = "test",
				.channel = CHANNEL_WORKER,
				.argv = *argv ? argv + 1 : shell,
				.entrypoint = *argv ? *argv : "/bin/sh",
				.env = env,
				.secrets = secrets,
				.image = image,
				.pull = "never",
				.network = "none",
				.shm_bytes = 64 << 20,
				.stop_grace_ns = 2 * S,
				.binding = &binding,
				.run_id = "life",
				.experiment = "life"};

	if (str_eq(*argv, "-"))
		s.entrypoint = NULL; /* the image's own */
	return s;
}

static int failed(const struct lem_error *e)
{
	printf("code %s\nwhat %s\nwhy %s\nfix %s\n", lem_code_name(e->code), e->what, e->why,
	       e->fix);
	return 0;
}

static void read_line(int fd, const char *name)
{
	int64_t until = clock_now_ns() + 20 * S;
	char buf[256];
	size_t n = 0;

	while (n + 1 < sizeof(buf) && clock_now_ns() < until) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t k = poll(&p, 1, 100) > 0 ? read(fd, buf + n, 1) : -1;

		if (k == 0 || (k > 0 && buf[n] == '\n'))
			break;
		n += k > 0 ? 1 : 0;
	}
	buf[n] = '\0';
	printf("%s %s\n", name, buf);
}

static void say(struct running *r, const char *text)
{
	if (write(r->proc.in, text, strlen(text)) < 0)
		printf("write failed\n");
}

static void tell(struct running *r, const char *name)
{
	char buf[200];

	printf("%s %s\n", name, ops.describe_end(r, buf, sizeof(buf)));
	(void)fflush(stdout);
}

static int start(const struct launch_spec *s, struct running *r)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (ops.start(s, &calm, r, &err) < 0)
		return failed(&err);
	printf("digest %s\npid %ld\ncgroup %s\n", r->image_digest, (long)r->host_pid, r->cgroup);
	printf("owns %d %d\n", runner_owns_pid(r, r->host_pid), runner_owns_pid(r, getpid()));
	(void)fflush(stdout);
	return 1;
}

static int facts(void)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_engine_facts f;
	struct lem_error err = LEM_ERROR_INIT;

	if (ops.facts(&calm, &a, &f, &err) < 0)
		return failed(&err);
	printf("cdi %d\nlisted %d\nnvidia %d\nrootless %d\npodman %d\n", f.cdi_on, f.cdi_listed,
	       f.nvidia_runtime, f.rootless, f.podman);
	for (const char *const *p = f.cdi_spec_dirs; p && *p; p++)
		printf("dir %s\n", *p);
	return 0;
}

static int check(const struct launch_spec *s)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (ops.check(s, &calm, &err) < 0)
		return failed(&err);
	printf("check ok\n");
	return 0;
}

static int once(const struct launch_spec *s)
{
	static const char *const look[] = {
		"/bin/sh", "-c",
		"echo /dev/nvidia[0-9]* $LEM_GPU_UUIDS $HF_TOKEN; echo log >&2; exit 4", NULL};
	_cleanup_str_ struct str out = STR_INIT, log = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int status = -1;

	if (ops.run_once(s, look, NULL, 30 * S, &calm, &out, &log, &status, &err) < 0)
		return failed(&err);
	printf("status %d\nout %slog %s", status, str_c(&out), str_c(&log));
	return 0;
}

static int worker(const struct launch_spec *s)
{
	struct running r;

	if (!start(s, &r))
		return 0;
	say(&r, "hello\n");
	read_line(r.proc.out, "out");
	read_line(r.proc.err, "err");
	tell(&r, "now");
	say(&r, "quit\n");
	printf("ended %d\n", ops.wait_until(&r, clock_now_ns() + 20 * S));
	tell(&r, "end");
	ops.stop(&r, 2 * S, -1);
	tell(&r, "stopped");
	return 0;
}

/* Stopped while it runs. */
static int stop(const struct launch_spec *s)
{
	struct running r;

	if (!start(s, &r))
		return 0;
	read_line(r.proc.out, "out");
	int64_t t = clock_now_ns();

	ops.stop(&r, s->stop_grace_ns, -1);
	printf("took %" PRId64 " ms\n", (clock_now_ns() - t) / NS_PER_MS);
	tell(&r, "stopped");
	return 0;
}

/* Waits until it has ended by itself, or whatever else ends it. */
static int hold(const struct launch_spec *s)
{
	struct running r;

	if (!start(s, &r))
		return 0;
	printf("running\n");
	(void)fflush(stdout);
	read_line(r.proc.out, "out");
	read_line(r.proc.err, "err");
	printf("ended %d\n", ops.wait_until(&r, clock_now_ns() + 20 * S));
	tell(&r, "end");
	ops.stop(&r, 2 * S, -1);
	tell(&r, "stopped");
	return 0;
}

/* The create request and the command line that is said to be the same; nothing is asked. */
static int lines(const struct launch_spec *s)
{
	const struct docker_body_options o = {.open_stdin = true, .show_secrets = true};
	_cleanup_str_ struct str body = STR_INIT, line = STR_INIT;

	docker_body_json(s, &o, &body);
	docker_run_line(s, &o, &line);
	printf("body %s\nline %s\n", str_c(&body), str_c(&line));
	return 0;
}

/* lem dies and leaves it. */
static int crash(const struct launch_spec *s)
{
	struct running r;

	if (start(s, &r))
		kill(getpid(), SIGKILL);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const none[] = {NULL};
	const char *const *program = none;

	if (argc < 3)
		return 2;
	for (int i = 3; i < argc && program == none; i++) {
		if (str_eq(argv[i], "--")) {
			program = (const char *const *)argv + i + 1;
			continue;
		}
		lem_strlcpy(gpus[binding.n].uuid, argv[i], sizeof(gpus[0].uuid));
		ids[binding.n++] = lem_asprintf("nvidia.com/gpu=%s", argv[i]);
		(void)snprintf(uuids + strlen(uuids), sizeof(uuids) - strlen(uuids), "%s%s",
			       *uuids ? "," : "LEM_GPU_UUIDS=", argv[i]);
	}
	binding.request = (struct gpu_device_request){.driver = "cdi", .ids = ids};
	env[2] = *uuids ? uuids : NULL;
	signal(SIGPIPE, SIG_IGN);
	struct launch_spec s = spec_of(argv[2], program);
	const struct {
		const char *name;
		int (*run)(const struct launch_spec *s);
	} scenarios[] = {{"check", check}, {"once", once},   {"worker", worker}, {"stop", stop},
			 {"hold", hold},   {"crash", crash}, {"lines", lines}};

	if (str_eq(argv[1], "facts"))
		return facts();
	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
		if (str_eq(argv[1], scenarios[i].name))
			return scenarios[i].run(&s);
	return 2;
}
