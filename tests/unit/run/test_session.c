#include "run/session.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>

#include <cmocka.h>

#include "base/clock.h"

/* A worker that is no child of ours: pipes whose other ends a test holds, as in a container. */
static struct {
	int in, out, err; /* the worker's ends */
	bool ended;
	int waits, stops;
	char how[64];
} worker;

static int scripted_start(const struct launch_spec *spec, const struct runner_context *c,
			  struct running *ret, struct lem_error *err)
{
	int in[2], out[2], log[2];

	(void)spec;
	(void)c;
	(void)err;
	assert_int_equal(pipe2(in, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC | O_NONBLOCK), 0);
	worker.in = in[0];
	worker.out = out[1];
	worker.err = log[1];
	*ret = (struct running){.proc = {.pidfd = -1, .in = in[1], .out = out[0], .err = log[0]}};
	return 0;
}

static bool scripted_wait_until(struct running *r, int64_t t_ns)
{
	(void)r;
	(void)t_ns;
	worker.waits++;
	return worker.ended;
}

static char *scripted_describe_end(struct running *r, char *buf, size_t size)
{
	(void)r;
	lem_strlcpy(buf, worker.how, size);
	return buf;
}

static void close_ends(struct running *r)
{
	int *fds[] = {&r->proc.in, &r->proc.out, &r->proc.err};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(steal_fd(fds[i]));
}

static void scripted_stop(struct running *r, int64_t grace_ns, int hurry_fd)
{
	(void)grace_ns;
	(void)hurry_fd;
	worker.stops++;
	close_ends(r);
}

static const struct runner_ops scripted = {
	.name = "scripted",
	.is_container = true,
	.start = scripted_start,
	.wait_until = scripted_wait_until,
	.describe_end = scripted_describe_end,
	.stop = scripted_stop,
};

static const struct launch_spec spec = {.load_json = "{\"op\":\"load\"}",
					.load_timeout_ns = 2 * NS_PER_S};

static void close_worker(void)
{
	int *fds[] = {&worker.in, &worker.out, &worker.err};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(steal_fd(fds[i]));
}

static int set_up(void **state)
{
	struct session *s = lem_calloc(1, sizeof(*s));

	memset(&worker, 0, sizeof(worker));
	s->runner = &scripted;
	s->spec = &spec;
	s->context.cancel_fd = -1;
	assert_int_equal(session_start(s, NULL), 0);
	*state = s;
	return 0;
}

static int tear_down(void **state)
{
	struct session *s = *state;

	session_release(s);
	close_worker();
	free(s);
	return 0;
}

static void say(int fd, const char *text)
{
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void test_its_end_is_told_by_the_runner(void **state)
{
	struct session *s = *state;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct worker_loaded w;
	struct lem_error err;

	lem_strlcpy(worker.how, "out of memory (the kernel killed it)", sizeof(worker.how));
	worker.ended = true;
	say(worker.err, "loading…\ntorch: allocating 400 GB\n");
	close_worker();
	assert_int_equal(session_load(s, &a, &w, &err), -LEM_E_ENGINE);
	assert_non_null(strstr(err.what, "out of memory (the kernel killed it)"));
	assert_non_null(strstr(err.why, "allocating 400 GB"));
	assert_int_equal(worker.waits, 1);
}

static void test_requests_reach_it(void **state)
{
	struct session *s = *state;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct worker_loaded w;
	struct lem_error err;
	char got[64] = "";

	say(worker.out, "{\"event\":\"error\",\"code\":\"model_load\",\"message\":\"a teapot\"}\n");
	assert_int_equal(session_load(s, &a, &w, &err), -LEM_E_ENGINE);
	assert_non_null(strstr(err.what, "a teapot"));
	assert_true(read(worker.in, got, sizeof(got) - 1) > 0);
	assert_string_equal(got, "{\"op\":\"load\"}\n");
	assert_int_equal(worker.waits, 0);
}

static void test_stop_asks_then_waits_then_stops(void **state)
{
	struct session *s = *state;
	char got[64] = "";

	worker.ended = true;
	session_stop(s, false);
	assert_true(read(worker.in, got, sizeof(got) - 1) > 0);
	assert_string_equal(got, "{\"op\":\"stop\"}\n");
	assert_int_equal(worker.waits, 1);
	assert_int_equal(worker.stops, 1);
	session_stop(s, false); /* it is over */
	assert_int_equal(worker.stops, 1);
}

static void test_in_a_hurry_nothing_is_asked(void **state)
{
	struct session *s = *state;
	char got[64];

	session_stop(s, true);
	assert_int_equal(worker.waits, 0);
	assert_int_equal(worker.stops, 1);
	assert_int_equal(read(worker.in, got, sizeof(got)), 0);
}

#define SESSION_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SESSION_TEST(test_its_end_is_told_by_the_runner),
		SESSION_TEST(test_requests_reach_it),
		SESSION_TEST(test_stop_asks_then_waits_then_stops),
		SESSION_TEST(test_in_a_hurry_nothing_is_asked),
	};

	signal(SIGPIPE, SIG_IGN); /* as lem does */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
