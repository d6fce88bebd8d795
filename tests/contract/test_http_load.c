/* The load client against a server that keeps to its script, well-behaved or not. */
#include "load/http_load.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"
#include "load/null_server.h"

enum { JOBS = 12, TOKENS = 8 };

static const char body[] = "{\"model\":\"null\",\"prompt\":[1,2,3,4,5,6,7,8],\"max_tokens\":8,"
			   "\"stream\":true,\"stream_options\":{\"include_usage\":true}}";
static const char whole_body[] = "{\"model\":\"null\",\"prompt\":\"x\",\"max_tokens\":8}";

static struct http_job jobs[4096];

static struct http_load_request request(uint16_t port, size_t n)
{
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;

	for (size_t i = 0; i < n; i++)
		jobs[i] = (struct http_job){.body = body,
					    .body_len = sizeof(body) - 1,
					    .output_tokens = TOKENS,
					    .input_tokens = 8,
					    .stream = true};
	q.target.host = "127.0.0.1";
	q.target.port = port;
	q.target.path = "/v1/completions";
	q.jobs = jobs;
	q.n_jobs = n;
	q.plan = (struct http_load_plan){.mode = HTTP_LOAD_CLOSED, .in_flight = 4};
	q.limits.request_timeout_ns = 20 * NS_PER_S;
	q.limits.total_ns = 60 * NS_PER_S; /* no test may hang */
	return q;
}

static void run(const struct http_load_request *q, struct http_load_result *ret)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (http_load_run(q, ret, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
}

static struct null_server *serve(struct null_script s)
{
	struct null_server *server = NULL;
	struct lem_error err = LEM_ERROR_INIT;

	if (null_server_start(&s, &server, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	return server;
}

static void check_times(const struct http_load_result *r, const struct http_load_job *j)
{
	assert_true(j->t_scheduled_ns >= r->t_start_ns);
	assert_true(j->t_sent_ns >= j->t_scheduled_ns);
	assert_true(j->t_head_ns >= j->t_sent_ns);
	assert_true(j->t_first_ns >= j->t_head_ns);
	assert_true(j->t_last_ns >= j->t_first_ns);
	assert_true(j->t_end_ns >= j->t_last_ns && j->t_end_ns <= r->t_end_ns);
	for (size_t k = 1; k < j->n_chunks; k++)
		assert_true(r->chunks[j->first_chunk + k].t_ns >=
			    r->chunks[j->first_chunk + k - 1].t_ns);
}

static void check_good(const struct http_load_result *r, size_t n, size_t chunks)
{
	if (r->first_failure.code != LEM_E_NONE)
		fail_msg("%s", r->first_failure.what);
	assert_int_equal(r->n_ok, n);
	assert_int_equal(r->n_sent, n);
	assert_int_equal(r->n_doubtful, 0);
	assert_int_equal(r->by_failure[HTTP_LOAD_OK], n);
	assert_int_equal(r->completion_tokens, n * TOKENS);
	assert_int_equal(r->prompt_tokens, n * 8);
	assert_int_equal(r->n_chunks, n * chunks);
	assert_int_equal(r->lag.n, n);
	assert_false(r->cancelled);
	for (size_t i = 0; i < n; i++) {
		check_times(r, &r->jobs[i]);
		assert_int_equal(r->jobs[i].n_chunks, chunks);
		assert_int_equal(r->jobs[i].status, 200);
		assert_string_equal(r->jobs[i].finish, "length");
	}
}

static void test_bursts(void **state)
{
	_cleanup_null_server_ struct null_server *s = serve((struct null_script){0});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 2000);

	(void)state;
	q.plan.in_flight = 16;
	run(&q, &r);
	check_good(&r, 2000, TOKENS);
	assert_int_equal(null_server_requests(s), 2000);
	assert_int_equal(r.n_connections, 16); /* kept alive */
	assert_int_equal(r.max_in_flight, 16);
	assert_true(r.cpu_ns > 0 && r.parse_cpu_ns > 0 && r.busy > 0);
	assert_true(str_eq(r.urgency, "realtime") || str_eq(r.urgency, "nice") ||
		    str_eq(r.urgency, "ordinary"));
	assert_true(r.n_kernel_stamps > 0 && r.n_kernel_stamps <= r.n_receives);
}

static void test_several_tokens_a_chunk(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.tokens_per_chunk = 3, .gap_ns = NS_PER_MS});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	run(&q, &r);
	check_good(&r, JOBS, 3); /* 8 tokens in chunks of up to 3 */
}

/* What the server did and when, told back: every stamp within a bound that a loaded machine keeps.
 */
static void test_the_timeline(void **state)
{
	_cleanup_null_server_ struct null_server *s = serve((struct null_script){
		.first_ns = 20 * NS_PER_MS, .gap_ns = 10 * NS_PER_MS, .record = 1000});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	q.keep_text = true;
	q.plan.mode = HTTP_LOAD_ALL;
	run(&q, &r);
	check_good(&r, JOBS, TOKENS);
	for (size_t i = 0; i < JOBS; i++) {
		const struct http_load_job *j = &r.jobs[i];

		assert_int_equal(strlen(j->text), 8 * TOKENS);
		for (size_t k = 0; k < TOKENS; k++) {
			char hex[9] = {0};
			int64_t sent;

			memcpy(hex, j->text + 8 * k, 8);
			sent = null_server_sent_ns(s, strtoul(hex, NULL, 16));
			assert_true(sent > 0);
			assert_true(r.chunks[j->first_chunk + k].t_ns >= sent);
		}
		assert_true(j->t_first_ns - j->t_sent_ns >= 20 * NS_PER_MS);
		assert_true(j->t_last_ns - j->t_sent_ns >= 90 * NS_PER_MS);
	}
}

/* A server of several threads that works in steps: one port, one record, and no chunk ahead of the
 * step after it was due. */
static void test_threads_and_steps(void **state)
{
	const int64_t first_ns = 3 * NS_PER_MS, tick_ns = 20 * NS_PER_MS;
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.first_ns = first_ns,
					   .gap_ns = tick_ns,
					   .tick_ns = tick_ns,
					   .threads = 3,
					   .record = 1000});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	q.keep_text = true;
	q.plan.mode = HTTP_LOAD_ALL;
	run(&q, &r);
	check_good(&r, JOBS, TOKENS);
	assert_int_equal(null_server_requests(s), JOBS);
	for (size_t i = 0; i < JOBS; i++) {
		int64_t due = (r.jobs[i].t_sent_ns + first_ns + tick_ns - 1) / tick_ns * tick_ns;

		for (size_t k = 0; k < TOKENS; k++, due += tick_ns) {
			char hex[9] = {0};

			memcpy(hex, r.jobs[i].text + 8 * k, 8);
			assert_true(null_server_sent_ns(s, strtoul(hex, NULL, 16)) >= due);
		}
	}
}

/* Is there a connection from 127.0.0.2? */
static void look_for_second_source(const struct http_load_progress *p, void *arg)
{
	_cleanup_fclose_ FILE *f = fopen("/proc/net/tcp", "re");
	char line[256];

	(void)p;
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (strstr(line, ": 0200007F:"))
			*(bool *)arg = true;
}

/* More connections than are taken from one loopback address, as far as there are descriptors for
 * both ends of them. */
static void test_many_sources(void **state)
{
	enum { MANY = 5000, FROM_ONE = 4000 };
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.first_ns = 500 * NS_PER_MS});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);
	struct rlimit was, most;
	bool seen = false;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	most = (struct rlimit){.rlim_cur = was.rlim_max, .rlim_max = was.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &most), 0);
	q.preconnect = MIN((size_t)MANY, (size_t)most.rlim_cur / 2 - 100);
	q.limits.max_connections = q.preconnect;
	q.tick = look_for_second_source;
	q.tick_ns = 50 * NS_PER_MS;
	q.arg = &seen;
	run(&q, &r);
	check_good(&r, JOBS, TOKENS);
	assert_int_equal(r.n_connections, q.preconnect);
	assert_int_equal(seen, q.preconnect > FROM_ONE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
}

static void test_without_streaming(void **state)
{
	_cleanup_null_server_ struct null_server *s = serve((struct null_script){0});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	for (size_t i = 0; i < JOBS; i++) {
		jobs[i].body = whole_body;
		jobs[i].body_len = sizeof(whole_body) - 1;
		jobs[i].stream = false;
	}
	q.keep_text = true;
	run(&q, &r);
	check_good(&r, JOBS, 1);
	assert_string_equal(r.jobs[0].text, "all of it");
	assert_int_equal(r.jobs[0].t_first_ns, r.jobs[0].t_last_ns);
}

static void test_open_loop(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.first_ns = 5 * NS_PER_MS});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 100);

	(void)state;
	q.plan.mode = HTTP_LOAD_OPEN;
	q.start_ns = clock_now_ns() + 30 * NS_PER_MS;
	q.preconnect = 10;
	for (size_t i = 0; i < 100; i++)
		jobs[i].at_ns = (double)i * 1e6;
	run(&q, &r);
	check_good(&r, 100, TOKENS);
	assert_int_equal(r.t_start_ns, q.start_ns);
	for (size_t i = 0; i < 100; i++)
		assert_int_equal(r.jobs[i].t_scheduled_ns, q.start_ns + (int64_t)i * NS_PER_MS);
	assert_true(r.jobs[0].reused);
	assert_true(r.lag.p50_ns <= r.lag.p99_ns && r.lag.p99_ns <= r.lag.max_ns);
}

static void test_ramp_and_limits(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.first_ns = 2 * NS_PER_MS});
	struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 4000);

	(void)state;
	q.plan.ramp_ns = 80 * NS_PER_MS;
	q.limits.stop_sending_ns = 200 * NS_PER_MS;
	run(&q, &r);
	assert_true(r.n_sent > 4 && r.n_sent < 4000);
	assert_int_equal(r.n_ok, r.n_sent); /* what was sent was waited for */
	assert_int_equal(r.by_failure[HTTP_LOAD_NOT_SENT], 4000 - r.n_sent);
	assert_int_equal(r.first_failure.code, LEM_E_NONE);
	assert_int_equal(r.max_in_flight, 4);
	/* the second lane opens after a quarter of the ramp */
	for (size_t i = 0; i < r.n_sent; i++)
		if (r.jobs[i].t_scheduled_ns - r.t_start_ns < 20 * NS_PER_MS && i)
			assert_true(r.jobs[i].t_sent_ns >= r.jobs[i - 1].t_end_ns);
	http_load_result_release(&r);

	q.plan = (struct http_load_plan){.mode = HTTP_LOAD_ALL};
	q.limits.stop_sending_ns = 0;
	q.limits.max_connections = 3;
	q.n_jobs = 30;
	run(&q, &r);
	check_good(&r, 30, TOKENS);
	assert_int_equal(r.max_in_flight, 3);
	assert_int_equal(r.n_connections, 3);
	assert_int_equal(r.n_waited, 27);
	http_load_result_release(&r);
}

/* ── misbehaviour: the class each line of it gets ────────────────────────────────────────────── */

struct fault_case {
	const char *name;
	enum null_fault fault;
	uint32_t at;
	enum http_load_failure failure;
	uint32_t doubts;
	size_t chunks; /* that are kept all the same */
};

static const struct fault_case cases[] = {
	{"close", NULL_CLOSE, 3, HTTP_LOAD_CLOSED_EARLY, 0, 3},
	{"close at once", NULL_CLOSE, 0, HTTP_LOAD_CLOSED_EARLY, 0, 0},
	{"cut chunk", NULL_CUT_CHUNK, 3, HTTP_LOAD_CLOSED_EARLY, 0, 3},
	{"cut event", NULL_CUT_EVENT, 3, HTTP_LOAD_BAD_BODY, 0, 3},
	{"half a character", NULL_HALF_CHARACTER, 2, HTTP_LOAD_BAD_BODY, 0, 2},
	{"bad JSON", NULL_BAD_JSON, 2, HTTP_LOAD_BAD_BODY, 0, 2},
	{"bad framing", NULL_BAD_FRAMING, 2, HTTP_LOAD_BAD_HTTP, 0, 2},
	{"not HTTP", NULL_NOT_HTTP, 0, HTTP_LOAD_BAD_HTTP, 0, 0},
	{"wrong usage", NULL_WRONG_USAGE, 0, HTTP_LOAD_OK,
	 HTTP_LOAD_TOKENS_DIFFER | HTTP_LOAD_USAGE_FALSE, 8},
	{"no usage", NULL_NO_USAGE, 0, HTTP_LOAD_OK, HTTP_LOAD_NO_USAGE, 8},
	{"too many", NULL_TOO_MANY, 0, HTTP_LOAD_OK, HTTP_LOAD_TOKENS_DIFFER, 9},
	{"too few", NULL_TOO_FEW, 0, HTTP_LOAD_OK, HTTP_LOAD_TOKENS_DIFFER, 7},
	{"cached", NULL_CACHED, 0, HTTP_LOAD_OK, HTTP_LOAD_CACHED, 8},
	{"flood", NULL_FLOOD, 1, HTTP_LOAD_TOO_LONG, 0, 1},
	{"no [DONE]", NULL_NO_DONE, 0, HTTP_LOAD_OK, HTTP_LOAD_NO_DONE, 8},
	{"no end", NULL_NO_END, 0, HTTP_LOAD_ENDED_EARLY, 0, 8},
	{"empty", NULL_EMPTY, 0, HTTP_LOAD_EMPTY, 0, 0},
	{"error body", NULL_ERROR_BODY, 0, HTTP_LOAD_ERROR_BODY, 0, 0},
	{"error event", NULL_ERROR_EVENT, 4, HTTP_LOAD_ERROR_BODY, 0, 4},
	{"redirect", NULL_REDIRECT, 0, HTTP_LOAD_REDIRECT, 0, 0},
	{"429", NULL_429, 0, HTTP_LOAD_429, 0, 0},
	{"404", NULL_404, 0, HTTP_LOAD_4XX, 0, 0},
	{"500", NULL_500, 0, HTTP_LOAD_5XX, 0, 0},
	{"close-delimited", NULL_CLOSE_DELIMITED, 99, HTTP_LOAD_OK, 0, 8},
};

/* Every second request meets the fault, the others must not notice. */
static void one_fault(const struct fault_case *c)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = c->fault, .fault_at = c->at, .fault_every = 2});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	q.plan.in_flight = 1; /* so that the order at the server is ours */
	run(&q, &r);
	for (size_t i = 0; i < JOBS; i++) {
		const struct http_load_job *j = &r.jobs[i];
		bool hit = i % 2 == 0;

		if (j->failure != (hit ? c->failure : HTTP_LOAD_OK) ||
		    j->doubts != (hit ? c->doubts : 0))
			fail_msg("%s, request %zu: %s, doubts %x; %s", c->name, i,
				 http_load_failure_name(j->failure), j->doubts,
				 r.first_failure.what);
		assert_int_equal(j->n_chunks, hit ? c->chunks : TOKENS);
	}
	assert_int_equal(r.by_failure[c->failure], c->failure == HTTP_LOAD_OK ? JOBS : JOBS / 2);
	assert_int_equal(r.n_doubtful, c->doubts ? JOBS / 2 : 0);
	assert_int_equal(r.first_failure.code,
			 c->failure == HTTP_LOAD_OK ? LEM_E_NONE : LEM_E_ENGINE);
	if (c->failure != HTTP_LOAD_OK &&
	    (!strstr(r.first_failure.what, "request 0") ||
	     !strstr(r.first_failure.what, http_load_failure_name(c->failure))))
		fail_msg("%s: %s", c->name, r.first_failure.what);
}

static void test_faults(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		one_fault(&cases[i]);
}

/* RST may overtake data in the client's socket, so the chunks kept are not asked. */
static void test_reset(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = NULL_RESET, .fault_at = 2});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	run(&q, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_RESET], JOBS);
}

static void expect_timeout(enum null_fault fault, uint32_t at, size_t chunks_min)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = fault,
					   .fault_at = at,
					   .gap_ns = fault == NULL_NEVER_ENDS ? NS_PER_MS : 0});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 3);
	int64_t t0 = clock_now_ns();

	q.plan.mode = HTTP_LOAD_ALL;
	q.limits.request_timeout_ns = 150 * NS_PER_MS;
	run(&q, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_TIMEOUT], 3);
	assert_true(clock_now_ns() - t0 >= 150 * NS_PER_MS);
	for (size_t i = 0; i < 3; i++) {
		assert_true(r.jobs[i].n_chunks >= chunks_min);
		assert_true(r.jobs[i].t_end_ns - r.jobs[i].t_sent_ns >= 149 * NS_PER_MS);
	}
}

static void test_stalls_time_out(void **state)
{
	(void)state;
	expect_timeout(NULL_SILENT, 0, 0);
	expect_timeout(NULL_STALL, 5, 5);
	expect_timeout(NULL_NEVER_ENDS, 99, 9);
}

static void test_all_answers_bounded(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = NULL_FLOOD});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 8);

	(void)state;
	q.limits.max_total_bytes = 1 << 20;
	run(&q, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_TOO_LONG], 8);
	assert_true(r.bytes <= 1 << 20);
}

/* A port where nobody listens: bound, never listening. */
static void test_nobody_there(void **state)
{
	_cleanup_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q;

	(void)state;
	assert_int_equal(bind(fd, (const struct sockaddr *)&a, n), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	q = request(ntohs(a.sin_port), JOBS);
	q.preconnect = 2;
	run(&q, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_CONNECT], JOBS);
	assert_int_equal(r.n_sent, 0);
	assert_non_null(strstr(r.first_failure.what, "refused"));
}

static void test_unknown_host(void **state)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(80, JOBS);

	(void)state;
	q.target.host = "no-such-host.invalid"; /* RFC 2606 */
	run(&q, &r);
	assert_int_equal(r.by_failure[HTTP_LOAD_DNS], JOBS);
	assert_int_equal(r.jobs[3].failure, HTTP_LOAD_DNS);
	assert_int_equal(r.jobs[3].completion_tokens, -1);
	assert_non_null(strstr(r.first_failure.what, "no-such-host.invalid"));
}

/* localhost may be ::1 first, where the server is not. */
static void test_next_address(void **state)
{
	_cleanup_null_server_ struct null_server *s = serve((struct null_script){0});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), JOBS);

	(void)state;
	q.target.host = "localhost";
	run(&q, &r);
	check_good(&r, JOBS, TOKENS);
}

struct ticks {
	int fd;
	size_t n, most_in_flight;
};

static void tick(const struct http_load_progress *p, void *arg)
{
	struct ticks *t = arg;
	uint64_t one = 1;

	assert_true(p->n_sent >= p->n_done && p->n_jobs == 8);
	t->most_in_flight = MAX(t->most_in_flight, p->in_flight);
	if (++t->n == 5)
		assert_int_equal(write(t->fd, &one, sizeof(one)), sizeof(one));
}

static void test_cancel_keeps_what_was_measured(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = NULL_STALL, .fault_at = 4, .fault_every = 2});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	_cleanup_fd_ int fd = eventfd(0, EFD_CLOEXEC);
	struct http_load_request q = request(null_server_port(s), 8);
	struct ticks t = {.fd = fd};

	(void)state;
	q.plan.in_flight = 2;
	q.cancel_fd = fd;
	q.tick = tick;
	q.tick_ns = 10 * NS_PER_MS;
	q.arg = &t;
	run(&q, &r);
	assert_true(r.cancelled);
	assert_true(t.n >= 5 && t.most_in_flight == 2);
	assert_int_equal(r.by_failure[HTTP_LOAD_CANCELLED], 2);
	assert_true(r.by_failure[HTTP_LOAD_NOT_SENT] > 0);
	for (size_t i = 0; i < 8; i++)
		if (r.jobs[i].failure == HTTP_LOAD_CANCELLED)
			assert_int_equal(r.jobs[i].n_chunks, 4);
}

static void test_total_time_is_a_limit(void **state)
{
	_cleanup_null_server_ struct null_server *s =
		serve((struct null_script){.fault = NULL_SILENT});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = request(null_server_port(s), 10);

	(void)state;
	q.limits.total_ns = 100 * NS_PER_MS;
	q.no_pinning = true;
	run(&q, &r);
	assert_string_equal(r.urgency, "ordinary");
	assert_int_equal(r.by_failure[HTTP_LOAD_CANCELLED], 4);
	assert_int_equal(r.by_failure[HTTP_LOAD_NOT_SENT], 6);
	assert_false(r.cancelled);
}

/* A body larger than any socket buffer takes several sends. */
static void test_large_requests(void **state)
{
	enum { LARGE = 8 << 20 };
	_cleanup_null_server_ struct null_server *s = serve((struct null_script){0});
	_cleanup_http_load_result_ struct http_load_result r = {0};
	_cleanup_free_ char *large = lem_malloc(LARGE);
	struct http_load_request q = request(null_server_port(s), 3);

	(void)state;
	memset(large, ' ', LARGE);
	memcpy(large, body, sizeof(body) - 1);
	for (size_t i = 0; i < 3; i++) {
		jobs[i].body = large;
		jobs[i].body_len = LARGE;
	}
	run(&q, &r);
	check_good(&r, 3, TOKENS);
}

static void refuse(const struct http_load_request *q, const char *part)
{
	struct http_load_result r = {.n_jobs = 77};
	struct lem_error err = LEM_ERROR_INIT;

	assert_int_equal(http_load_run(q, &r, &err), -LEM_E_USAGE);
	if (!strstr(err.what, part))
		fail_msg("'%s' is not in '%s'", part, err.what);
	assert_int_equal(r.n_jobs, 77);
}

static void test_nonsense_is_refused(void **state)
{
	static const char *const split[] = {"X: 1\r\nY: 2", NULL}, *const bare[] = {"bare", NULL};
	struct http_load_request q = request(1, 2);

	(void)state;
	q.n_jobs = 0;
	refuse(&q, "0 requests");
	q = request(0, 2);
	refuse(&q, "port");
	q = request(1, 2);
	q.target.path = "v1";
	refuse(&q, "must begin with /");
	q = request(1, 2);
	q.target.headers = split;
	refuse(&q, "header 0");
	q.target.headers = bare;
	refuse(&q, "header 0");
	q = request(1, 2);
	q.plan.in_flight = 0;
	refuse(&q, "nothing in flight");
	q = request(1, 2);
	q.plan.mode = HTTP_LOAD_OPEN;
	jobs[0].at_ns = 5;
	refuse(&q, "request 1 is scheduled");
}

static void test_names(void **state)
{
	(void)state;
	for (int f = 0; f < HTTP_LOAD_N_CLASSES; f++)
		assert_true(strlen(http_load_failure_name((enum http_load_failure)f)) > 1);
	assert_string_equal(http_load_failure_name(HTTP_LOAD_CANCELLED), "cancelled");
	assert_string_equal(http_load_failure_name(HTTP_LOAD_N_CLASSES), "unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bursts),
		cmocka_unit_test(test_several_tokens_a_chunk),
		cmocka_unit_test(test_the_timeline),
		cmocka_unit_test(test_threads_and_steps),
		cmocka_unit_test(test_many_sources),
		cmocka_unit_test(test_without_streaming),
		cmocka_unit_test(test_open_loop),
		cmocka_unit_test(test_ramp_and_limits),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_stalls_time_out),
		cmocka_unit_test(test_all_answers_bounded),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_unknown_host),
		cmocka_unit_test(test_next_address),
		cmocka_unit_test(test_cancel_keeps_what_was_measured),
		cmocka_unit_test(test_total_time_is_a_limit),
		cmocka_unit_test(test_large_requests),
		cmocka_unit_test(test_nonsense_is_refused),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
