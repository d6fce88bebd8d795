/* The load client against servers that answer with exact bytes: in dribbles, to half a request,
 * more than once, over connections that they close while idle. */
#include "load/http_load.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"

enum { JOBS = 4, LARGE = 32 << 20 };

#define EVENTS                                                                               \
	"data: {\"choices\":[{\"text\":\"\xc3\xa9\",\"finish_reason\":\"length\"}]}\n\n"     \
	"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n" \
	"data: [DONE]\n\n"
#define HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"

struct server {
	int fd;
	uint16_t port;
	pthread_t thread;
	const char *answer;
	size_t step;     /* bytes a send; 0: all */
	bool at_once;    /* answers as soon as a byte of the request is there */
	bool close_idle; /* closes after each answer without saying so */
};

static void say(const struct server *s, int fd)
{
	size_t n = strlen(s->answer), step = s->step ?: n;

	for (size_t at = 0; at < n; at += step)
		if (send(fd, s->answer + at, MIN(step, n - at), MSG_NOSIGNAL) < 0)
			return;
}

/* false: the client is gone. */
static bool one_request(const struct server *s, int fd)
{
	char buf[1 << 16];
	size_t have = 0;

	while (have < sizeof(buf)) {
		ssize_t r = recv(fd, buf + have, sizeof(buf) - have, 0);

		if (r <= 0)
			return false;
		have += (size_t)r;
		if (s->at_once || memmem(buf, have, "}END", 4))
			return true;
	}
	return true;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd, one = 1;

	while ((fd = accept(s->fd, NULL, NULL)) >= 0) {
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while (one_request(s, fd)) {
			say(s, fd);
			if (s->close_idle || s->at_once)
				break;
		}
		close(fd);
	}
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

/* JOBS requests, one after the other, 20 ms apart. */
static void ask(const struct server *s, const char *body, size_t n, struct http_load_result *ret)
{
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;
	struct http_job jobs[JOBS];
	struct lem_error err = LEM_ERROR_INIT;

	for (size_t i = 0; i < JOBS; i++)
		jobs[i] = (struct http_job){.body = body,
					    .body_len = n,
					    .at_ns = (double)i * 20e6,
					    .output_tokens = 1,
					    .stream = true};
	q.target = (struct http_target){
		.host = "127.0.0.1", .port = s->port, .path = "/v1/completions"};
	q.jobs = jobs;
	q.n_jobs = JOBS;
	q.limits.total_ns = 30 * NS_PER_S;
	q.limits.max_connections = 1;
	q.keep_text = true;
	if (http_load_run(&q, ret, &err) < 0)
		fail_msg("%s: %s", err.what, err.why);
}

static void expect_good(struct server *s, size_t connections)
{
	static const char body[] = "{\"max_tokens\":1}END";
	_cleanup_http_load_result_ struct http_load_result r = {0};

	start(s);
	ask(s, body, sizeof(body) - 1, &r);
	stop(s);
	if (r.n_ok != JOBS)
		fail_msg("%s", r.first_failure.what);
	assert_int_equal(r.n_doubtful, 0);
	assert_int_equal(r.n_connections, connections);
	assert_int_equal(r.completion_tokens, JOBS);
	for (size_t i = 0; i < JOBS; i++)
		assert_string_equal(r.jobs[i].text, "\xc3\xa9");
}

/* A character, a line, a chunk size may each be torn apart by the network. */
static void test_dribbles(void **state)
{
	static const char chunked[] =
		HEAD "Transfer-Encoding: chunked\r\n\r\n"
		     "3A\r\ndata: "
		     "{\"choices\":[{\"text\":\"\xc3\xa9\",\"finish_reason\":\"length\"}]}\r\n"
		     "4c;x=y\r\n\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,"
		     "\"completion_tokens\":1}}\n\nda\r\n"
		     "0c\r\nta: [DONE]\n\n\r\n0\r\n\r\n";
	static const size_t steps[] = {0, 1, 3, 7, 64};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		struct server s = {.answer = chunked, .step = steps[i]};

		expect_good(&s, 1);
	}
}

static void test_interim_answers(void **state)
{
	struct server s = {
		.answer =
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" HEAD
			"Connection: close\r\n\r\n" EVENTS,
		.close_idle = true};

	(void)state;
	expect_good(&s, JOBS);
}

/* A server that drops idle connections costs a new one, not a request. */
static void test_idle_connections_that_are_closed(void **state)
{
	char answer[1024];
	struct server s = {.answer = answer, .close_idle = true};

	(void)state;
	(void)snprintf(answer, sizeof(answer), HEAD "Content-Length: %zu\r\n\r\n%s", strlen(EVENTS),
		       EVENTS);
	expect_good(&s, JOBS);
}

/* Refused while most of the request is still to be sent. The server's close may also reset it. */
static void test_an_answer_to_half_a_request(void **state)
{
	_cleanup_free_ char *body = lem_malloc(LARGE);
	_cleanup_http_load_result_ struct http_load_result r = {0};
	struct server s = {.answer = "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig",
			   .at_once = true};

	(void)state;
	memset(body, ' ', LARGE);
	start(&s);
	ask(&s, body, LARGE, &r);
	stop(&s);
	assert_int_equal(r.by_failure[HTTP_LOAD_4XX] + r.by_failure[HTTP_LOAD_RESET], JOBS);
	assert_int_equal(r.n_ok, 0);
}

/* Bytes after the end of a response belong to nobody: that connection serves no further. */
static void test_more_than_an_answer(void **state)
{
	char answer[1024];
	struct server s = {.answer = answer, .close_idle = true};

	(void)state;
	(void)snprintf(answer, sizeof(answer),
		       HEAD "Content-Length: %zu\r\n\r\n%sHTTP/1.1 200 OK\r\n", strlen(EVENTS),
		       EVENTS);
	expect_good(&s, JOBS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dribbles),
		cmocka_unit_test(test_interim_answers),
		cmocka_unit_test(test_idle_connections_that_are_closed),
		cmocka_unit_test(test_an_answer_to_half_a_request),
		cmocka_unit_test(test_more_than_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
