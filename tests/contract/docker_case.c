#include <poll.h>
#include <setjmp.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "docker_case.h"

#include <cmocka.h>

const struct runner_context calm = {.cancel_fd = -1};

int docker_case_setup(void **state)
{
	struct docker_case *c = lem_calloc(1, sizeof(*c));
	_cleanup_free_ char *host = NULL;

	lem_strlcpy(c->dir, "/tmp/lem-docker-XXXXXX", sizeof(c->dir));
	if (!mkdtemp(c->dir) || chmod(c->dir, 0755) < 0)
		return -1;
	(void)snprintf(c->socket, sizeof(c->socket), "%s/docker.sock", c->dir);
	host = lem_asprintf("unix://%s", c->socket);
	setenv("DOCKER_HOST", host, 1);
	c->f = fake_docker_start(c->socket);
	*state = c;
	return 0;
}

int docker_case_teardown(void **state)
{
	struct docker_case *c = *state;

	fake_docker_stop(c->f);
	(void)rmdir(c->dir);
	free(c);
	return 0;
}

static const struct gpu_binding *one_gpu(void)
{
	static const char *const ids[] = {"nvidia.com/gpu=" CASE_UUID, NULL};
	static struct gpu_ref gpu = {.uuid = CASE_UUID, .index = 2};
	static struct gpu_binding b = {.gpus = &gpu,
				       .n = 1,
				       .path = "docker-cdi",
				       .request = {.driver = "cdi", .ids = ids}};

	return &b;
}

struct launch_spec case_worker(void)
{
	static const char *const argv[] = {"/lem/worker", "--x", NULL};
	static const char *const env[] = {"HF_TOKEN=" CASE_SECRET, "CUDA_VISIBLE_DEVICES=0",
					  "NVIDIA_VISIBLE_DEVICES=" CASE_UUID, NULL};
	static const char *const secrets[] = {"HF_TOKEN", NULL};

	return (struct launch_spec){.engine = "pytorch",
				    .channel = CHANNEL_WORKER,
				    .argv = argv,
				    .env = env,
				    .secrets = secrets,
				    .image = "r/engine:1",
				    .pull = "missing",
				    .stop_grace_ns = NS_PER_S,
				    .binding = one_gpu(),
				    .run_id = "r1",
				    .experiment = "e"};
}

struct launch_spec case_server(void)
{
	struct launch_spec s = case_worker();

	s.channel = CHANNEL_HTTP;
	s.port = 8000;
	return s;
}

struct running case_start(const struct launch_spec *s)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct running r;

	if (runner_docker.start(s, &calm, &r, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	return r;
}

void nothing_left(struct fake_docker *f)
{
	assert_int_equal(fake_containers(f), 0);
}

void fails_to_start(struct fake_docker *f, const struct launch_spec *s, enum lem_code code,
		    const char *what, const char *fix)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct running r = {.port = 77};

	assert_int_equal(runner_docker.start(s, &calm, &r, &err), -(int)code);
	if (!strstr(err.what, what) || !strstr(err.fix, fix))
		fail_msg("%s / %s / %s", err.what, err.why, err.fix);
	assert_null(strstr(err.what, CASE_SECRET));
	assert_null(strstr(err.why, CASE_SECRET));
	assert_int_equal(r.port, 77);
	nothing_left(f);
}

size_t read_some(int fd, char *buf, size_t n)
{
	int64_t until = clock_now_ns() + 20 * NS_PER_S;
	size_t have = 0;

	while (have < n && clock_now_ns() < until) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t k = poll(&p, 1, 100) > 0 ? read(fd, buf + have, n - have) : -1;

		if (k == 0)
			break;
		have += k > 0 ? (size_t)k : 0;
	}
	return have;
}
