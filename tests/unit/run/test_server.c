/* What of a server run needs no server: its address, its schedule, the reading of its log. */
#include "run/server.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <setjmp.h>
#include <sys/eventfd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "run/traffic.h"
#include "sys/fs.h"

/* ---- addresses ---- */

static struct server parsed(const char *url, bool chat)
{
	struct server s = {.stop_fd = -1};
	struct lem_error err = LEM_ERROR_INIT;

	if (server_parse_url(url, chat, &s, &err) < 0)
		fail_msg("%s: %s", url, err.what);
	return s;
}

static void test_urls(void **state)
{
	struct server s = parsed("http://localhost:8000/v1", false);

	(void)state;
	assert_string_equal(s.host, "localhost");
	assert_int_equal(s.port, 8000);
	assert_false(s.tls);
	assert_string_equal(s.path, "/v1/completions");
	assert_string_equal(s.models, "/v1/models");
	assert_string_equal(s.root, "http://localhost:8000");
	s = parsed("https://api.example.com/openai/v1/", true);
	assert_true(s.tls && s.chat);
	assert_int_equal(s.port, 443);
	assert_string_equal(s.path, "/openai/v1/chat/completions");
	assert_string_equal(s.root, "https://api.example.com:443/openai");
	s = parsed("http://[::1]:99/v1", false);
	assert_string_equal(s.host, "::1");
	assert_int_equal(s.port, 99);
	assert_string_equal(s.root, "http://[::1]:99");
	s = parsed("http://h", false); /* no /v1: as it is written */
	assert_int_equal(s.port, 80);
	assert_string_equal(s.path, "/completions");
}

static void test_bad_urls(void **state)
{
	static const char *const bad[] = {
		"",
		"localhost:8000",
		"ftp://h/v1",
		"http://",
		"http:///v1",
		"http://h:0/v1",
		"http://h:x/v1",
		"http://h:65536/v1",
		"http://[::1",
		"http://u@h/v1",
		"http://h/v1?a=1",
		"http://h/v1#x",
		"http://h h/",
		"http://h:80:90/",
		"http://[]/v1",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct server s = {.port = 7};
		struct lem_error err = LEM_ERROR_INIT;

		if (server_parse_url(bad[i], false, &s, &err) != -LEM_E_USAGE)
			fail_msg("%s was taken", bad[i]);
		assert_int_equal(s.port, 7); /* untouched on failure */
		assert_string_not_equal(err.fix, "");
	}
}

/* ---- traffic ---- */

static struct traffic_plan made(const struct experiment *e, struct traffic_plan t)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (traffic_make(e, &t, &err) < 0)
		fail_msg("%s", err.what);
	return t;
}

static void test_open_loop(void **state)
{
	struct experiment e = {.traffic = {.present = true,
					   .arrival = TRAFFIC_CONSTANT,
					   .rate = {true, 100},
					   .duration_sec = {true, 2},
					   .ramp_sec = 0.5,
					   .burstiness = 1}};
	struct traffic_plan t = made(&e, (struct traffic_plan){.n_prompts = 3});

	(void)state;
	assert_int_equal(t.plan.mode, HTTP_LOAD_OPEN);
	assert_int_equal(t.n, 200);
	assert_float_equal(t.at_ns[199], 1.99e9, 1);
	assert_int_equal(t.ramp_ns, NS_PER_S / 2);
	traffic_release(&t);
	e.traffic.arrival = TRAFFIC_POISSON;
	t = made(&e, (struct traffic_plan){.n_prompts = 3});
	assert_in_range(t.n, 130, 270); /* 200 ± 5 standard deviations */
	assert_true(t.at_ns[t.n - 1] < 2e9);
	traffic_release(&t);
	e.traffic.duration_sec.set = false;
	t = made(&e, (struct traffic_plan){.n_prompts = 3});
	assert_int_equal(t.n, 3); /* each prompt once */
	traffic_release(&t);
}

/* 10/s at the start, 50/s after 4 s, and so on until 6 s: (10 + 50) / 2 × 4 + 50 × 2 = 220. */
static void test_rate_that_changes(void **state)
{
	struct experiment e = {.traffic = {.present = true,
					   .arrival = TRAFFIC_CONSTANT,
					   .rate = {true, 10},
					   .duration_sec = {true, 6},
					   .ramp_to_rate = {true, 50},
					   .ramp_over_sec = {true, 4},
					   .burstiness = 1}};
	struct traffic_plan t = made(&e, (struct traffic_plan){.n_prompts = 3});
	size_t first = 0;

	(void)state;
	assert_in_range(t.n, 219, 221);
	assert_int_equal(t.ramp_ns, 0); /* all of them count */
	while (t.at_ns[first] < 1e9)
		first++;
	assert_in_range(first, 14, 16); /* 10 to 20 a second: 15 in the first */
	assert_float_equal(t.at_ns[t.n - 1] - t.at_ns[t.n - 2], 1e9 / 50, 1e3);
	traffic_release(&t);
	e.traffic.ramp_over_sec.set = false; /* over the whole duration: 30 × 6 */
	t = made(&e, (struct traffic_plan){.n_prompts = 3});
	assert_in_range(t.n, 179, 181);
	traffic_release(&t);
	e.traffic.ramp_to_rate.v = 0.5; /* downwards too: 5.25 × 6 */
	e.traffic.arrival = TRAFFIC_POISSON;
	t = made(&e, (struct traffic_plan){.n_prompts = 3});
	assert_in_range(t.n, 10, 60);
	assert_true(t.at_ns[t.n - 1] < 6e9);
	traffic_release(&t);
	e.traffic.duration_sec.set = false; /* each prompt once, at a rate that changes */
	e.traffic.ramp_over_sec = (struct maybe_f64){true, 4};
	t = made(&e, (struct traffic_plan){.n_prompts = 3});
	assert_int_equal(t.n, 3);
	traffic_release(&t);
}

/* The warm-up computed 16 together in 50 ms: one in flight cannot come to more a second. */
static void test_closed_loop_of_another_size_than_the_warm_up(void **state)
{
	struct experiment e = {
		.traffic = {.present = true, .concurrency = {true, 1}, .duration_sec = {true, 10}}};
	struct traffic_plan t =
		made(&e, (struct traffic_plan){.n_prompts = 20, .batch_ms = 50, .batch_n = 16});

	(void)state;
	assert_int_equal(t.plan.in_flight, 1);
	assert_true(t.n >= 4 * 16 * 200);
	traffic_release(&t);
}

static void test_closed_loop(void **state)
{
	struct experiment e = {.traffic = {.present = true, .concurrency = {true, 8}}};
	struct traffic_plan t = made(&e, (struct traffic_plan){.n_prompts = 20, .batch_ms = 50});

	(void)state;
	assert_int_equal(t.plan.mode, HTTP_LOAD_CLOSED);
	assert_int_equal(t.plan.in_flight, 8);
	assert_int_equal(t.n, 20);
	assert_null(t.at_ns);
	e.traffic.duration_sec.set = true;
	e.traffic.duration_sec.v = 10;
	t = made(&e, (struct traffic_plan){.n_prompts = 20, .batch_ms = 50});
	assert_true(t.n >= 4 * 8 * 200); /* four times what 50 ms a batch can come to */
	t = made(&e, (struct traffic_plan){.n_prompts = 20, .batch_ms = NAN});
	assert_int_equal(t.n, 8000);
}

static void test_too_many(void **state)
{
	struct experiment e = {.traffic = {.present = true,
					   .rate = {true, 1e6},
					   .duration_sec = {true, 86400},
					   .burstiness = 1}};
	struct traffic_plan t = {.n_prompts = 1};
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(traffic_make(&e, &t, &err), -LEM_E_REFUSED);
	assert_string_not_equal(err.fix, "");
	traffic_release(&t);
}

static int read_times(const char *text, struct traffic_plan *t, struct lem_error *err)
{
	char path[] = "/tmp/lem-test-trace-XXXXXX";
	int fd = mkstemp(path), rc;
	struct experiment e = {
		.traffic = {
			.present = true, .arrival = TRAFFIC_TRACE, .trace = path, .burstiness = 1}};

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
	*t = (struct traffic_plan){.n_prompts = 2};
	rc = traffic_make(&e, t, err);
	unlink(path);
	return rc;
}

static void test_trace(void **state)
{
	static const char *const bad[] = {"",         "# only\n\n", "x\n",  "0\n-1\n",
					  "1\n0.5\n", "nan\n",      "1 2\n"};
	struct lem_error err = LEM_ERROR_INIT;
	struct traffic_plan t;

	(void)state;
	assert_int_equal(read_times("# s\n1.5\r\n\n1.5\n2.25", &t, &err), 0);
	assert_int_equal(t.n, 3); /* the recording once, not the prompts */
	assert_float_equal(t.at_ns[0], 0, 1e-6);
	assert_float_equal(t.at_ns[2], 0.75e9, 1e-3);
	traffic_release(&t);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (read_times(bad[i], &t, &err) != -LEM_E_REFUSED)
			fail_msg("'%s' was taken", bad[i]);
		assert_non_null(strstr(err.what, "lem-test-trace"));
		traffic_release(&t);
	}
}

/* The times that came with the prompts, at another speed, and again when there is more time. */
static void test_trace_of_the_prompts(void **state)
{
	static const double at_ns[] = {0, 1e9, 4e9};
	struct experiment e = {.traffic = {.present = true,
					   .arrival = TRAFFIC_TRACE,
					   .trace_scale = 0.5,
					   .burstiness = 1}};
	struct traffic_plan t =
		made(&e, (struct traffic_plan){.n_prompts = 3, .recorded_ns = at_ns});
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(t.n, 3);
	assert_float_equal(t.at_ns[1], 0.5e9, 1);
	assert_float_equal(t.at_ns[2], 2e9, 1);
	traffic_release(&t);
	e.traffic.duration_sec = (struct maybe_f64){true, 4};
	t = made(&e, (struct traffic_plan){.n_prompts = 3, .recorded_ns = at_ns});
	assert_int_equal(t.n, 5); /* again from 3 s on, a mean gap after the last */
	assert_float_equal(t.at_ns[3], 3e9, 1);
	traffic_release(&t);
	t = (struct traffic_plan){.n_prompts = 3};
	assert_true(traffic_make(&e, &t, &err) < 0); /* neither a file nor times of prompts */
	traffic_release(&t);
}

/* ---- its log ---- */

static bool readable(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, ms) > 0;
}

/* Far more than two pipes hold: the writer must never block for good. */
static void test_pump_drains(void **state)
{
	int out[2], log[2], alive = eventfd(0, EFD_CLOEXEC);
	_cleanup_str_ struct str tail = STR_INIT;
	_cleanup_free_ char *block = lem_malloc(8192);
	struct lem_error err = LEM_ERROR_INIT;
	struct pump *p = NULL;
	uint64_t one = 1;

	(void)state;
	memset(block, 'x', 8192);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(log[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(pump_start(out[0], log[0], alive, &p, &err), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(write(out[1], block, 8192), 8192);
		assert_int_equal(write(log[1], block, 8192), 8192);
	}
	close(out[1]); /* a stream that ends is not the engine's end */
	assert_false(readable(pump_end_fd(p), 20));
	assert_false(pump_ended(p));
	assert_int_equal(write(log[1], "last words\n", 11), 11);
	assert_int_equal(write(alive, &one, sizeof(one)), sizeof(one));
	assert_true(readable(pump_end_fd(p), 5000));
	assert_true(pump_ended(p));
	close(log[1]);
	pump_stop(p, &tail);
	assert_true(tail.len <= PUMP_TAIL_BYTES);
	assert_true(str_ends(str_c(&tail), "last words\n"));
	close(alive);
	pump_stop(NULL, NULL);
}

/* In a container there is no process to watch: both streams end. */
static void test_pump_ends_with_its_streams(void **state)
{
	int out[2], log[2];
	struct lem_error err = LEM_ERROR_INIT;
	struct pump *p = NULL;

	(void)state;
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(pipe2(log, O_CLOEXEC), 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(log[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(pump_start(out[0], log[0], -1, &p, &err), 0);
	close(out[1]);
	assert_false(readable(pump_end_fd(p), 20));
	close(log[1]);
	assert_true(readable(pump_end_fd(p), 5000));
	pump_stop(p, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls),
		cmocka_unit_test(test_bad_urls),
		cmocka_unit_test(test_open_loop),
		cmocka_unit_test(test_closed_loop),
		cmocka_unit_test(test_rate_that_changes),
		cmocka_unit_test(test_closed_loop_of_another_size_than_the_warm_up),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_trace),
		cmocka_unit_test(test_trace_of_the_prompts),
		cmocka_unit_test(test_pump_drains),
		cmocka_unit_test(test_pump_ends_with_its_streams),
	};

	return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
