/* A connection that the server closes just as the next request is sent on it: the load client
 * against a server that keeps to a script, letter by letter. */
#include "load/http_load.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"

enum { JOBS = 4, SCRIPTS = 6, CONNECTIONS = 256 };

#define EVENTS                                                                               \
	"data: {\"choices\":[{\"text\":\"a\",\"finish_reason\":\"length\"}]}\n\n"            \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n" \
	"data: [DONE]\n\n"
#define HEAD \
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

static const char request_body[] = "{\"max_tokens\":1}END";

/* What is done with the n-th request of the k-th connection: script[k][n], of the last one again
 * for all that follow.
 *   a  answered
 *   c  read, and the connection closed without a byte
 *   r  read, and the connection reset without a byte
 *   b  closed after the first byte of an answer
 *   d  closed, and nobody listens any more
 *   w  like c, but only after 1.3 s */
struct server {
	int fd;
	uint16_t port;
	pthread_t thread;
	const char *script[SCRIPTS];
	int64_t hold_ns; /* before c and r */
	atomic_int n_requests;
};

static void answer(int fd)
{
	char text[1024];
	int n = snprintf(text, sizeof(text), HEAD "%zx\r\n%s\r\n0\r\n\r\n", strlen(EVENTS), EVENTS);

	assert_int_equal(send(fd, text, (size_t)n, MSG_NOSIGNAL), n);
}

static bool read_request(int fd)
{
	char buf[4096];
	size_t have = 0;

	while (have < sizeof(buf)) {
		ssize_t r = recv(fd, buf + have, sizeof(buf) - have, 0);

		if (r <= 0)
			return false;
		have += (size_t)r;
		if (memmem(buf, have, "}END", 4))
			return true;
	}
	return false;
}

/* false: this connection is over. */
static bool act(struct server *s, int fd, char what)
{
	const struct linger reset = {.l_onoff = 1};

	if (what == 'a') {
		answer(fd);
		return true;
	}
	clock_sleep_until_ns(clock_now_ns() + (what == 'w' ? 1300 * NS_PER_MS : s->hold_ns));
	if (what == 'r')
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	else if (what == 'b')
		assert_int_equal(send(fd, "H", 1, MSG_NOSIGNAL), 1);
	else if (what == 'd')
		(void)shutdown(s->fd, SHUT_RDWR);
	return false;
}

struct conn {
	struct server *s;
	const char *script;
	int fd;
	pthread_t thread;
};

static void *serve_one(void *arg)
{
	struct conn *c = arg;
	const char *p = c->script;

	while (read_request(c->fd) && atomic_fetch_add(&c->s->n_requests, 1) >= 0 &&
	       act(c->s, c->fd, *p))
		p += p[1] ? 1 : 0;
	close(c->fd);
	return NULL;
}

static void *serve(void *arg)
{
	static struct conn conns[CONNECTIONS];
	struct server *s = arg;
	const char *script = s->script[0];
	int fd, one = 1, n = 0;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		assert_true(n < CONNECTIONS);
		script = s->script[MIN(n, SCRIPTS - 1)] ?: script;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		conns[n] = (struct conn){.s = s, .script = script, .fd = fd};
		pthread_create(&conns[n].thread, NULL, serve_one, &conns[n]);
		n++;
	}
	for (int i = 0; i < n; i++)
		pthread_join(conns[i].thread, NULL);
	return NULL;
}

static void start(struct server *s)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (const struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void stop(struct server *s)
{
	shutdown(s->fd, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->fd);
}

/* n requests, one after the other, 30 ms apart, over at most so many connections. */
static void ask(struct server *s, size_t n, size_t connections, struct http_load_result *ret)
{
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;
	struct http_job jobs[JOBS];
	struct lem_error err = LEM_ERROR_INIT;

	for (size_t i = 0; i < n; i++)
		jobs[i] = (struct http_job){.body = request_body,
					    .body_len = sizeof(request_body) - 1,
					    .at_ns = (double)i * 30e6,
					    .output_tokens = 1,
					    .stream = true};
	start(s);
	q.target = (struct http_target){
		.host = "127.0.0.1", .port = s->port, .path = "/v1/completions"};
	q.jobs = jobs;
	q.n_jobs = n;
	q.limits.total_ns = 30 * NS_PER_S;
	q.limits.max_connections = connections;
	if (http_load_run(&q, ret, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	stop(s);
}

/* All answered, of which so many at the second try. */
static void expect_answers(struct server s, size_t retried, size_t connections)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};
	size_t marked = 0;

	ask(&s, JOBS, 1, &r);
	if (r.n_ok != JOBS)
		fail_msg("%s", r.first_failure.what);
	assert_int_equal(r.n_doubtful, 0);
	assert_int_equal(r.n_sent, JOBS); /* a request, however often it was sent */
	assert_int_equal(r.n_retried, retried);
	assert_int_equal(r.n_connections, connections);
	assert_int_equal(s.n_requests, JOBS + retried);
	for (size_t i = 0; i < JOBS; i++)
		marked += r.jobs[i].retried;
	assert_int_equal(marked, retried);
}

static void test_a_close_that_crossed_the_request(void **state)
{
	(void)state;
	expect_answers((struct server){.script = {"ac"}}, JOBS - 1, JOBS);
	expect_answers((struct server){.script = {"aac", "a"}}, 1, 2);
	expect_answers((struct server){.script = {"a"}}, 0, 1);
}

static void test_a_reset_that_crossed_the_request(void **state)
{
	(void)state;
	expect_answers((struct server){.script = {"ar"}}, JOBS - 1, JOBS);
	expect_answers((struct server){.script = {"aar", "a"}}, 1, 2);
}

/* The time that the first try cost is part of the latency, and not of the lag. */
static void test_times_are_of_the_first_try(void **state)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct server s = {.script = {"ac", "a"}, .hold_ns = 200 * NS_PER_MS};
	const struct http_load_job *j;

	(void)state;
	ask(&s, 2, 1, &r);
	j = &r.jobs[1];
	assert_int_equal(r.n_ok, 2);
	assert_true(j->retried && !j->reused);
	assert_int_equal(j->t_scheduled_ns, r.t_start_ns + 30 * NS_PER_MS);
	assert_true(j->t_sent_ns >= j->t_scheduled_ns);
	assert_true(j->t_head_ns - j->t_sent_ns >= 200 * NS_PER_MS);
}

/* failed jobs of one kind, and how many were tried twice. */
static void expect_failures(struct server s, enum http_load_failure f, size_t failed,
			    size_t retried)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};

	ask(&s, JOBS, 1, &r);
	assert_int_equal(r.by_failure[f], failed);
	assert_int_equal(r.n_ok, JOBS - failed);
	assert_int_equal(r.n_retried, retried);
	assert_int_equal(s.n_requests, JOBS + retried);
}

static void test_a_fresh_connection_is_no_excuse(void **state)
{
	(void)state;
	expect_failures((struct server){.script = {"c"}}, HTTP_LOAD_CLOSED_EARLY, JOBS, 0);
	expect_failures((struct server){.script = {"r"}}, HTTP_LOAD_RESET, JOBS, 0);
}

static void test_only_once(void **state)
{
	(void)state;
	/* the second request is closed upon twice, the third and fourth are answered */
	expect_failures((struct server){.script = {"ac", "c", "a"}}, HTTP_LOAD_CLOSED_EARLY, 1, 1);
	expect_failures((struct server){.script = {"ar", "r", "a"}}, HTTP_LOAD_RESET, 1, 1);
}

static void test_never_once_a_byte_has_come(void **state)
{
	(void)state;
	expect_failures((struct server){.script = {"ab", "a"}}, HTTP_LOAD_CLOSED_EARLY, 1, 0);
}

static void test_what_comes_late_did_not_cross(void **state)
{
	(void)state;
	expect_failures((struct server){.script = {"aw", "a"}}, HTTP_LOAD_CLOSED_EARLY, 1, 0);
}

/* A server that has died has closed its connections too: what it did is told, not that nobody is
 * there any more. The requests after it are refused. */
static void test_the_first_failure_is_told(void **state)
{
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct server s = {.script = {"ad"}};

	(void)state;
	ask(&s, JOBS, 1, &r);
	assert_int_equal(r.n_ok, 1);
	assert_int_equal(r.n_retried, 1);
	assert_int_equal(r.jobs[1].failure, HTTP_LOAD_CLOSED_EARLY);
	assert_true(r.jobs[1].retried);
	assert_int_equal(r.by_failure[HTTP_LOAD_CONNECT], JOBS - 2);
}

/* Many lanes whose connections are all closed at once, fewer connections than lanes. */
static void test_many_at_once(void **state)
{
	enum { MANY = 200 };
	static struct http_job jobs[MANY];
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;
	struct server s = {.script = {"aac"}};
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	for (size_t i = 0; i < MANY; i++)
		jobs[i] = (struct http_job){.body = request_body,
					    .body_len = sizeof(request_body) - 1,
					    .output_tokens = 1,
					    .stream = true};
	start(&s);
	q.target = (struct http_target){
		.host = "127.0.0.1", .port = s.port, .path = "/v1/completions"};
	q.jobs = jobs;
	q.n_jobs = MANY;
	q.plan.mode = HTTP_LOAD_ALL;
	q.limits.total_ns = 30 * NS_PER_S;
	q.limits.max_connections = 5;
	if (http_load_run(&q, &r, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
	stop(&s);
	assert_int_equal(r.n_sent, MANY);
	if (r.n_ok != MANY)
		fail_msg("%zu: %s", r.n_ok, r.first_failure.what);
	assert_true(r.n_retried > 0);
	assert_int_equal(s.n_requests, MANY + r.n_retried);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_close_that_crossed_the_request),
		cmocka_unit_test(test_a_reset_that_crossed_the_request),
		cmocka_unit_test(test_times_are_of_the_first_try),
		cmocka_unit_test(test_a_fresh_connection_is_no_excuse),
		cmocka_unit_test(test_only_once),
		cmocka_unit_test(test_never_once_a_byte_has_come),
		cmocka_unit_test(test_what_comes_late_did_not_cross),
		cmocka_unit_test(test_the_first_failure_is_told),
		cmocka_unit_test(test_many_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
