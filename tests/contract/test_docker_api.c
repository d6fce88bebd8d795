/* The client of the Docker Engine API against an engine that keeps its contract, and one that
 * breaks it in every way that has been seen or can be thought of. */
#include <poll.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "docker_case.h"
#include "runner/docker_api.h"
#include "runner/docker_stream.h"

#include <cmocka.h>

#define F(state) (((struct docker_case *)*(state))->f)

static struct docker *open_docker(void)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct docker *d = NULL;

	if (docker_open(NULL, -1, &d, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	return d;
}

static void soon(struct docker *d)
{
	docker_limit(d, -1, clock_now_ns() + 300 * NS_PER_MS);
}

/* ---- opening ---- */

static void open_with_version(struct fake_docker *f, const char *theirs, const char *spoken)
{
	_cleanup_docker_ struct docker *d = NULL;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info info;

	fake_set_version(f, theirs);
	d = open_docker();
	assert_string_equal(docker_api_version(d), spoken);
	assert_int_equal(docker_info(d, &a, &info, NULL), 0);
	assert_string_equal(fake_asked_version(f), spoken);
}

static void test_versions(void **state)
{
	open_with_version(F(state), "1.41", "1.41"); /* Docker 20.10, Podman 4 */
	open_with_version(F(state), "1.45", "1.45"); /* 26 */
	open_with_version(F(state), "1.52", "1.51"); /* 29, which takes 1.44 at least */
	open_with_version(F(state), "1.99", "1.51");
}

static void fails_to_open(enum lem_code code, const char *what, const char *fix)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct docker *d = NULL;

	assert_int_equal(docker_open(NULL, -1, &d, &err), -(int)code);
	assert_null(d);
	if (!strstr(err.what, what) || !strstr(err.fix, fix))
		fail_msg("%s / %s", err.what, err.fix);
}

static void test_too_old(void **state)
{
	fake_set_version(F(state), "1.40");
	fails_to_open(LEM_E_UNSUPPORTED, "speaks API 1.40, at least 1.41", "update it");
}

/* One that has left our version behind says so in an ordinary answer. */
static void test_too_new(void **state)
{
	_cleanup_docker_ struct docker *d = NULL;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_info info;

	fake_set_version(F(state), "1.70");
	fake_on(F(state), "GET /info", -1,
		REPLY(400, "{\"message\":\"client version 1.51 is too old. Minimum supported API "
			   "version is 1.60, please upgrade your client\"}"));
	d = open_docker();
	assert_int_equal(docker_info(d, &a, &info, &err), -LEM_E_UNSUPPORTED);
	assert_non_null(strstr(err.what, "no longer speaks API 1.51"));
	assert_non_null(strstr(err.fix, "newer lem"));
}

static void test_not_docker(void **state)
{
	fake_set_version(F(state), "");
	fails_to_open(LEM_E_PARSE, "not as a container engine does", "");
	fake_set_version(F(state), "1.x");
	fails_to_open(LEM_E_PARSE, "not as a container engine does", "");
	fake_on(F(state), "GET /_ping", 1, HOW(FAKE_RAW, 0, "SSH-2.0-OpenSSH_9.2\r\n"));
	fails_to_open(LEM_E_PARSE, "does not answer as an HTTP service", "");
	fake_on(F(state), "GET /_ping", 1, REPLY(502, "<html>bad gateway</html>"));
	fails_to_open(LEM_E_ENGINE, "HTTP 502", "");
}

static void test_no_socket(void **state)
{
	struct docker_case *c = *state;

	fake_docker_down(c->f);
	fails_to_open(LEM_E_NOT_FOUND, "nobody listens", "systemctl start docker");
	(void)unlink(c->socket);
	fails_to_open(LEM_E_NOT_FOUND, "there is no container engine at", "DOCKER_HOST=");
}

static void test_other_host(void **state)
{
	(void)state;
	setenv("DOCKER_HOST", "tcp://10.0.0.1:2375", 1);
	fails_to_open(LEM_E_REFUSED, "DOCKER_HOST is tcp://10.0.0.1:2375", "unset it");
}

static void test_long_path(void **state)
{
	_cleanup_free_ char *host = lem_calloc(1, 301);

	(void)state;
	memset(host, 'x', 300);
	memcpy(host, "unix:///", 8);
	setenv("DOCKER_HOST", host, 1);
	fails_to_open(LEM_E_USAGE, "too long", "");
}

static void test_no_permission(void **state)
{
	struct docker_case *c = *state;
	bool root = geteuid() == 0;

	assert_int_equal(chmod(c->socket, 0600), 0);
	if (!root)
		assert_int_equal(chmod(c->socket, 0), 0);
	else
		assert_int_equal(seteuid(65534), 0);
	fails_to_open(LEM_E_IO, "no permission", "usermod -aG docker");
	fails_to_open(LEM_E_IO, "no permission", "newgrp docker");
	if (root)
		assert_int_equal(seteuid(0), 0);
}

/* ---- answers in every shape ---- */

static void test_answer_shapes(void **state)
{
	static const enum fake_how shapes[] = {FAKE_WHOLE, FAKE_CHUNKED, FAKE_BYTE_BY_BYTE};
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info info;

	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		fake_on(F(state), "GET /info", 1,
			HOW(shapes[i], 200, "{\"ServerVersion\":\"27.1\",\"NCPU\":3}"));
		assert_int_equal(docker_info(d, &a, &info, NULL), 0);
		assert_string_equal(info.server_version, "27.1");
		assert_int_equal(info.n_cpus, 3);
	}
}

static void fails_info(struct docker *d, enum lem_code code, const char *what)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_info info = {.n_cpus = 77};

	assert_int_equal(docker_info(d, &a, &info, &err), -(int)code);
	if (!strstr(err.what, what))
		fail_msg("%s", err.what);
	assert_int_equal(info.n_cpus, 77);
}

static void test_bad_answers(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();

	fake_on(F(state), "GET /info", 1, REPLY(200, "<html>"));
	fails_info(d, LEM_E_PARSE, "not JSON");
	fake_on(F(state), "GET /info", 1, REPLY(200, ""));
	fails_info(d, LEM_E_PARSE, "not JSON: (empty)");
	fake_on(F(state), "GET /info", 1, REPLY(200, "[]"));
	fails_info(d, LEM_E_PARSE, "no JSON object");
	fake_on(F(state), "GET /info", 1, REPLY(500, "<html><body>oops</body></html>"));
	fails_info(d, LEM_E_ENGINE, "HTTP 500");
	fake_on(F(state), "GET /info", 1, HOW(FAKE_CUT, 200, "{\"ServerVersion\":\"1\"}"));
	fails_info(d, LEM_E_IO, "broke");
	fake_on(F(state), "GET /info", 2, HOW(FAKE_HANG_UP, 0, ""));
	fails_info(d, LEM_E_IO, "broke");
	fake_on(F(state), "GET /info", 1, HOW(FAKE_RAW, 0, "garbage\r\n\r\n"));
	fails_info(d, LEM_E_PARSE, "does not answer as an HTTP service");
}

/* Both ways without an end: nothing comes, and it never stops coming. */
static void test_without_end(void **state)
{
	static char big[1 << 16];
	_cleanup_docker_ struct docker *d = open_docker();

	memset(big, 'x', sizeof(big) - 1);
	fake_on(F(state), "GET /info", 1, HOW(FAKE_SILENT, 0, ""));
	soon(d);
	fails_info(d, LEM_E_TIMEOUT, "said nothing for");
	fake_on(F(state), "GET /info", 1, HOW(FAKE_ENDLESS, 200, big));
	docker_limit(d, -1, clock_now_ns() + 60 * NS_PER_S);
	fails_info(d, LEM_E_PARSE, "longer than");
}

static void test_cancel(void **state)
{
	_cleanup_fd_ int cancel = eventfd(1, EFD_CLOEXEC);
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_str_ struct str first = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int64_t code;
	int fd = -1;

	fake_on(F(state), "GET /info", 1, HOW(FAKE_SILENT, 0, ""));
	docker_limit(d, cancel, 0);
	fails_info(d, LEM_E_INTERRUPTED, "interrupted");
	assert_int_equal(docker_wait(d, "aa", NS_PER_S, &code, &err), -LEM_E_INTERRUPTED);
	assert_int_equal(docker_attach(d, "aa", true, &fd, &first, &err), -LEM_E_INTERRUPTED);
	assert_int_equal(fd, -1);
}

/* The daemon is restarted: calls fail with what happened, then the same handle works again. */
static void test_restart(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_info info;

	fake_on(F(state), "GET /info", 1, HOW(FAKE_DIE, 0, ""));
	assert_true(docker_info(d, &a, &info, NULL) < 0);
	fails_info(d, LEM_E_NOT_FOUND, "nobody listens");
	fake_docker_up(F(state));
	assert_int_equal(docker_info(d, &a, &info, NULL), 0);
	assert_string_equal(info.server_version, "26.1.5");
}

/* ---- images ---- */

static void test_image(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct docker_image i;

	assert_int_equal(docker_image(d, "host:5000/a b/c:1@sha256:0", &a, &i, NULL), 0);
	assert_string_equal(i.digest, "sha256:2222");
	assert_string_equal(fake_request(F(state), "GET /images/", 0),
			    "GET /images/host:5000/a%20b/c:1@sha256:0/json");
	fake_set_image(F(state), NULL, NULL);
	assert_int_equal(docker_image(d, "x", &a, &i, &err), -LEM_E_NOT_FOUND);
	assert_int_equal(docker_last_status(d), 404);
	assert_string_equal(err.why, "No such image: x");
}

struct seen {
	uint64_t done, total;
	size_t n;
};

static void on_progress(void *arg, const char *status, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	assert_string_equal(status, "Downloading");
	*s = (struct seen){done, total, s->n + 1};
}

static void test_pull(void **state)
{
	static const struct {
		const char *ref, *path;
	} rows[] = {
		{"engine", "POST /images/create?fromImage=engine&tag=latest"},
		{"r/engine:v1", "POST /images/create?fromImage=r%2Fengine%3Av1"},
		{"h:5000/e", "POST /images/create?fromImage=h%3A5000%2Fe&tag=latest"},
		{"r/e@sha256:ab", "POST /images/create?fromImage=r%2Fe%40sha256%3Aab"},
	};
	_cleanup_docker_ struct docker *d = open_docker();
	struct seen s = {0};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(docker_pull(d, rows[i].ref, on_progress, &s, NULL), 0);
		assert_string_equal(fake_request(F(state), "POST /images/create", i), rows[i].path);
	}
	assert_int_equal(s.n, 8);
	assert_int_equal(s.done, 60);
	assert_int_equal(s.total, 400);
}

static void fails_pull(struct docker *d, enum lem_code code, const char *words)
{
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(docker_pull(d, "x", NULL, NULL, &err), -(int)code);
	if (!strstr(err.what, "cannot pull") ||
	    !(strstr(err.why, words) || strstr(err.what, words)))
		fail_msg("%s / %s", err.what, err.why);
}

static void test_pull_errors(void **state)
{
	static const char denied[] =
		"{\"status\":\"Pulling from x\"}\r\n{\"errorDetail\":{\"message\":\"pull access "
		"denied for x\"},\"error\":\"pull access denied for x\"}";
	static const enum fake_how shapes[] = {FAKE_WHOLE, FAKE_CHUNKED, FAKE_BYTE_BY_BYTE};
	_cleanup_docker_ struct docker *d = open_docker();

	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		fake_on(F(state), "POST /images/create", 1, HOW(shapes[i], 200, denied));
		fails_pull(d, LEM_E_ENGINE, "pull access denied");
	}
	fake_on(F(state), "POST /images/create", 1,
		REPLY(404, "{\"message\":\"manifest unknown\"}"));
	fails_pull(d, LEM_E_NOT_FOUND, "manifest unknown");
	fake_on(F(state), "POST /images/create", 1, REPLY(200, "no json\n"));
	fails_pull(d, LEM_E_PARSE, "not JSON");
	fake_on(F(state), "POST /images/create", 1, HOW(FAKE_CUT, 200, denied));
	fails_pull(d, LEM_E_IO, "broke");
	fake_on(F(state), "POST /images/create", 1, HOW(FAKE_ENDLESS, 200, ""));
	fails_pull(d, LEM_E_PARSE, "no line ends");
}

/* ---- containers ---- */

#define BODY "{\"Image\":\"x\",\"Labels\":{\"lem\":\"1\"},\"HostConfig\":{}}"

static const char *create(struct docker *d, struct arena *a)
{
	struct lem_error err = LEM_ERROR_INIT;
	const char *id = NULL;

	if (docker_create(d, "lem-x", BODY, a, &id, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	return id;
}

static void test_life(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_listed *listed;
	struct docker_state s;
	struct lem_error err = LEM_ERROR_INIT;
	int64_t code = -1;
	size_t n;

	fake_set_program(F(state), (struct fake_program){.runs = true});
	const char *id = create(d, &a);

	assert_string_equal(fake_body(F(state), "POST /containers/create", 0), BODY);
	assert_int_equal(docker_inspect(d, id, &a, &s, NULL), 0);
	assert_string_equal(s.status, "created");
	assert_int_equal(docker_kill(d, id, &err), -LEM_E_ENGINE); /* not running */
	assert_int_equal(docker_last_status(d), 409);
	assert_int_equal(docker_start(d, id, NULL), 0);
	assert_int_equal(docker_start(d, id, NULL), 0); /* 304 */
	assert_int_equal(docker_wait(d, id, 50 * NS_PER_MS, &code, &err), -LEM_E_TIMEOUT);
	assert_int_equal(docker_list(d, &a, &listed, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_string_equal(listed[0].name, "lem-x");
	assert_int_equal(docker_stop(d, id, 1500 * NS_PER_MS, NULL), 0);
	assert_non_null(strstr(fake_request(F(state), "POST /containers/", 5), "/stop?t=2"));
	assert_int_equal(docker_wait(d, id, NS_PER_S, &code, NULL), 0);
	assert_int_equal(code, 143);
	assert_int_equal(docker_stop(d, id, 0, NULL), 0);
	assert_int_equal(docker_remove(d, id, NULL), 0);
	assert_int_equal(docker_remove(d, id, NULL), 0); /* absent is fine */
	assert_int_equal(docker_inspect(d, id, &a, &s, &err), -LEM_E_NOT_FOUND);
	assert_int_equal(fake_containers(F(state)), 0);
}

static void test_create_errors(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	const char *id = NULL;

	(void)create(d, &a);
	assert_int_equal(docker_create(d, "lem-x", BODY, &a, &id, &err), -LEM_E_ENGINE);
	assert_int_equal(docker_last_status(d), 409);
	fake_set_image(F(state), NULL, NULL);
	assert_int_equal(docker_create(d, "y", BODY, &a, &id, &err), -LEM_E_NOT_FOUND);
	fake_on(F(state), "POST /containers/create", 1, REPLY(201, "{\"Id\":\"../etc\"}"));
	assert_int_equal(docker_create(d, "y", BODY, &a, &id, &err), -LEM_E_PARSE);
	assert_null(id);
}

static void test_remove_in_progress(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();

	fake_on(F(state), "DELETE /containers/aa", 1,
		REPLY(409, "{\"message\":\"removal of container aa is already in progress\"}"));
	assert_int_equal(docker_remove(d, "aa", NULL), 0);
	fake_on(F(state), "DELETE /containers/aa", 1, REPLY(500, "{\"message\":\"busy\"}"));
	assert_int_equal(docker_remove(d, "aa", NULL), -LEM_E_ENGINE);
}

static void test_logs(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_str_ struct str out = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	fake_on(F(state), "GET /containers/aa/logs", 1, REPLY(200, "not frames at all"));
	assert_int_equal(docker_logs(d, "aa", 100, 1000, &out, &err), -LEM_E_PARSE);
	assert_non_null(strstr(err.what, "out of step"));
	fake_on(F(state), "GET /containers/aa/logs", 1,
		REPLY(404, "{\"message\":\"No such container: aa\"}"));
	assert_int_equal(docker_logs(d, "aa", 100, 1000, &out, &err), -LEM_E_NOT_FOUND);
	assert_non_null(strstr(fake_request(F(state), "GET /containers/aa/logs", 0),
			       "stdout=1&stderr=1&tail=100"));
}

static void test_stats(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	struct docker_stats s;

	fake_on(F(state), "GET /containers/aa/stats", 1,
		REPLY(200, "{\"cpu_stats\":{\"cpu_usage\":{\"total_usage\":2000000000}}}"));
	assert_int_equal(docker_stats(d, "aa", &s, NULL), 0);
	assert_true(s.cpu_s == 2);
}

/* ---- standard streams ---- */

struct session {
	struct docker *d;
	struct arena a;
	const char *id;
	struct proc p;
	struct docker_stream *stream;
};

static void open_session(struct session *s)
{
	_cleanup_str_ struct str first = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int fd = -1;

	*s = (struct session){.d = open_docker(), .p = PROC_INIT};
	s->id = create(s->d, &s->a);
	if (docker_attach(s->d, s->id, true, &fd, &first, &err) < 0 ||
	    docker_stream_start(fd, str_c(&first), first.len, &s->p, &s->stream, &err) < 0 ||
	    docker_start(s->d, s->id, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
}

static void close_session(struct session *s)
{
	docker_stream_stop(s->stream);
	proc_release(&s->p);
	docker_close(s->d);
	arena_release(&s->a);
}

/* Reads until n bytes have come, or the end; how many came. */
static size_t read_n(int fd, char *buf, size_t n)
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

static const char split[] = "\1\0\0\0\0\0\0\6hello\n\2\0\0\0\0\0\0\5oops\n\1\0\0\0\0\0\0\4bye\n";

static void test_streams(void **state)
{
	struct session s;
	char buf[64];

	for (int slow = 0; slow < 2; slow++) {
		fake_set_program(F(state), (struct fake_program){.frames = split,
								 .n_frames = sizeof(split) - 1,
								 .byte_by_byte = slow == 1});
		open_session(&s);
		assert_int_equal(read_n(s.p.out, buf, sizeof(buf)), 10);
		assert_memory_equal(buf, "hello\nbye\n", 10);
		assert_int_equal(read_n(s.p.err, buf, sizeof(buf)), 5);
		assert_memory_equal(buf, "oops\n", 5);
		assert_int_equal(docker_remove(s.d, s.id, NULL), 0);
		close_session(&s);
	}
}

static void test_stdin(void **state)
{
	struct session s;
	char buf[64];

	fake_set_program(F(state), (struct fake_program){.echo = true});
	open_session(&s);
	assert_int_equal(write(s.p.in, "one\ntwo\n", 8), 8);
	assert_int_equal(read_n(s.p.out, buf, 8), 8);
	assert_memory_equal(buf, "one\ntwo\n", 8);
	assert_int_equal(write(s.p.in, "exit 0\n", 7), 7);
	assert_int_equal(read_n(s.p.out, buf, sizeof(buf)), 0);
	close_session(&s);
}

/* 8 MiB in one frame: neither the pipe nor the memory holds it. */
static void test_huge_frame(void **state)
{
	enum { HUGE_BYTES = 8 << 20 };
	static char frames[HUGE_BYTES + 8], buf[HUGE_BYTES + 8];
	struct session s;

	memset(frames + 8, 'z', HUGE_BYTES);
	memcpy(frames, "\1\0\0\0\0\200\0\0", 8);
	fake_set_program(F(state),
			 (struct fake_program){.frames = frames, .n_frames = HUGE_BYTES + 8});
	open_session(&s);
	assert_int_equal(read_n(s.p.out, buf, HUGE_BYTES + 8), HUGE_BYTES);
	assert_memory_equal(buf, frames + 8, HUGE_BYTES);
	close_session(&s);
}

/* Nobody reads, and the stream is stopped all the same. */
static void test_stop_unread(void **state)
{
	enum { MORE_THAN_A_PIPE = 1 << 20 };
	static char frames[MORE_THAN_A_PIPE + 8];
	struct session s;

	memcpy(frames, "\2\0\0\0\0\20\0\0", 8);
	fake_set_program(F(state),
			 (struct fake_program){.frames = frames, .n_frames = MORE_THAN_A_PIPE + 8});
	open_session(&s);
	close_session(&s);
}

static void test_garbage_frames(void **state)
{
	static const char garbage[] = "\1\0\0\0\0\0\0\3ok\nHTTP/1.1 500 what";
	struct session s;
	char buf[64];

	fake_set_program(F(state), (struct fake_program){.frames = garbage,
							 .n_frames = sizeof(garbage) - 1,
							 .runs = true});
	open_session(&s);
	assert_int_equal(read_n(s.p.out, buf, sizeof(buf)), 3); /* and the end */
	assert_int_equal(read_n(s.p.err, buf, sizeof(buf)), 0);
	close_session(&s);
}

static void test_attach_errors(void **state)
{
	static const struct {
		struct fake_reply reply;
		enum lem_code code;
		const char *words;
	} rows[] = {
		{{404, "{\"message\":\"No such container\"}", FAKE_WHOLE, false},
		 LEM_E_NOT_FOUND,
		 "No such container"},
		{{409, "{\"message\":\"it is paused\"}", FAKE_BYTE_BY_BYTE, false},
		 LEM_E_ENGINE,
		 "it is paused"},
		{{500, "<html>", FAKE_WHOLE, false}, LEM_E_ENGINE, "web page"},
		{{0, "SSH-2.0\r\n\r\n", FAKE_RAW, false}, LEM_E_PARSE, "does not speak HTTP"},
		{{0, "HTTP/1.1 1x1 what\r\n\r\n", FAKE_RAW, false}, LEM_E_PARSE, "not speak HTTP"},
		{{0, "", FAKE_HANG_UP, false}, LEM_E_IO, "hung up"},
		{{0, "", FAKE_SILENT, false}, LEM_E_TIMEOUT, "does not answer"},
	};
	_cleanup_docker_ struct docker *d = open_docker();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		_cleanup_str_ struct str first = STR_INIT;
		struct lem_error err = LEM_ERROR_INIT;
		int fd = -1;

		fake_on(F(state), "POST /containers/aa/attach", 1, rows[i].reply);
		soon(d);
		assert_int_equal(docker_attach(d, "aa", false, &fd, &first, &err),
				 -(int)rows[i].code);
		assert_int_equal(fd, -1);
		if (!strstr(err.what, rows[i].words) && !strstr(err.why, rows[i].words))
			fail_msg("row %zu: %s / %s", i, err.what, err.why);
	}
}

/* What came together with the answer's head is not lost. */
static void test_first_bytes(void **state)
{
	_cleanup_docker_ struct docker *d = open_docker();
	_cleanup_str_ struct str first = STR_INIT;
	int fd = -1;

	fake_on(F(state), "POST /containers/aa/attach", 1,
		HOW(FAKE_RAW, 0, "HTTP/1.1 101 UPGRADED\r\n\r\nearly"));
	assert_int_equal(docker_attach(d, "aa", false, &fd, &first, NULL), 0);
	assert_string_equal(str_c(&first), "early");
	assert_non_null(strstr(fake_request(F(state), "POST /containers/aa/attach", 0),
			       "stream=1&stdout=1&stderr=1"));
	close(fd);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, docker_case_setup, docker_case_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_versions),
		CASE(test_too_old),
		CASE(test_too_new),
		CASE(test_not_docker),
		CASE(test_no_socket),
		CASE(test_other_host),
		CASE(test_long_path),
		CASE(test_no_permission),
		CASE(test_answer_shapes),
		CASE(test_bad_answers),
		CASE(test_without_end),
		CASE(test_cancel),
		CASE(test_restart),
		CASE(test_image),
		CASE(test_pull),
		CASE(test_pull_errors),
		CASE(test_life),
		CASE(test_create_errors),
		CASE(test_remove_in_progress),
		CASE(test_logs),
		CASE(test_stats),
		CASE(test_streams),
		CASE(test_stdin),
		CASE(test_huge_frame),
		CASE(test_stop_unread),
		CASE(test_garbage_frames),
		CASE(test_attach_errors),
		CASE(test_first_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
