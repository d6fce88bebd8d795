/* Single requests to a service over TCP: answers of a socket that a test holds, and what cannot be
 * reached. */
#include "sys/web.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/clock.h"

struct service {
	int fd, port;
	const char *answer; /* NULL: says nothing */
	char request[2048];
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct service *s = arg;
	int fd = accept(s->fd, NULL, NULL);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = recv(fd, s->request, sizeof(s->request) - 1, 0);

	s->request[MAX(n, 0)] = '\0';
	if (s->answer)
		(void)!send(fd, s->answer, strlen(s->answer), MSG_NOSIGNAL);
	if (s->answer)
		shutdown(fd, SHUT_WR);
	while (recv(fd, (char[256]){0}, 256, 0) > 0)
		;
	close(fd);
	return NULL;
}

static void start(struct service *s, const char *answer)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	*s = (struct service){.fd = socket(AF_INET, SOCK_STREAM, 0), .answer = answer};
	assert_int_equal(bind(s->fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(s->fd, 4), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&a, &n), 0);
	s->port = ntohs(a.sin_port);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void end(struct service *s)
{
	shutdown(s->fd, SHUT_RDWR); /* ends an accept that nobody came to */
	pthread_join(s->thread, NULL);
	close(s->fd);
}

static int get(const char *scheme, int port, struct web_request q, long *status, struct str *body,
	       struct lem_error *err)
{
	char url[80];

	(void)snprintf(url, sizeof(url), "%s://127.0.0.1:%d/health", scheme, port);
	q.url = url;
	q.timeout_ns = q.timeout_ns ? q.timeout_ns : 5 * NS_PER_S;
	return web_get(&q, status, body, err);
}

static void test_answers(void **state)
{
	static const char *const headers[] = {"Authorization: Bearer k", NULL};
	_cleanup_str_ struct str body = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct service s;
	long status = 0;

	(void)state;
	start(&s, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(get("http", s.port,
			     (struct web_request){.headers = headers, .cancel_fd = -1}, &status,
			     &body, &err),
			 0);
	end(&s);
	assert_int_equal(status, 200);
	assert_string_equal(str_c(&body), "ok");
	assert_non_null(strstr(s.request, "GET /health HTTP/1.1\r\n"));
	assert_non_null(strstr(s.request, "Authorization: Bearer k\r\n"));
	/* any status is an answer, and redirects are not followed */
	start(&s,
	      "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
	assert_int_equal(
		get("http", s.port, (struct web_request){.cancel_fd = -1}, &status, &body, &err),
		0);
	end(&s);
	assert_int_equal(status, 302);
}

/* A body makes it a POST; the line is kept, and what was set for one call is not for the next. */
static void test_a_body_and_a_line(void **state)
{
	_cleanup_web_line_ struct web_line line = {0};
	_cleanup_str_ struct str body = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct service s;
	long status = 0;

	(void)state;
	start(&s, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(
		get("http", s.port,
		    (struct web_request){.json = "{\"a\":1}", .line = &line, .cancel_fd = -1},
		    &status, &body, &err),
		0);
	end(&s);
	assert_non_null(line.easy);
	assert_non_null(strstr(s.request, "POST /health HTTP/1.1\r\n"));
	assert_non_null(strstr(s.request, "Content-Type: application/json\r\n"));
	assert_non_null(strstr(s.request, "\r\n\r\n{\"a\":1}"));
	assert_null(strstr(s.request, "Expect:"));
	start(&s, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
	assert_int_equal(get("http", s.port, (struct web_request){.line = &line, .cancel_fd = -1},
			     &status, &body, &err),
			 0);
	end(&s);
	assert_non_null(strstr(s.request, "GET /health HTTP/1.1\r\n"));
}

static void test_no_answers(void **state)
{
	static const struct {
		const char *answer;
		size_t max;
		enum lem_code code;
	} cases[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", 8, LEM_E_PARSE},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234", 0, LEM_E_IO},
		{"", 0, LEM_E_IO},
		{"220 mail ESMTP\r\n", 0, LEM_E_PARSE},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		_cleanup_str_ struct str body = STR_INIT;
		struct lem_error err = LEM_ERROR_INIT;
		struct service s;
		long status = -7;

		start(&s, cases[i].answer);
		assert_int_equal(
			get("http", s.port,
			    (struct web_request){.max_bytes = cases[i].max, .cancel_fd = -1},
			    &status, &body, &err),
			-(int)cases[i].code);
		end(&s);
		assert_int_equal(body.len, 0); /* untouched on failure */
		assert_int_equal(status, -7);
		assert_string_not_equal(err.fix, "");
	}
}

static int code_of_url(const char *url)
{
	const struct web_request q = {.url = url, .timeout_ns = 5 * NS_PER_S, .cancel_fd = -1};
	_cleanup_str_ struct str body = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	long status;

	return web_get(&q, &status, &body, &err);
}

static void test_what_cannot_be_reached(void **state)
{
	_cleanup_str_ struct str body = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct service s;
	long status;

	(void)state;
	assert_int_equal(code_of_url("http://127.0.0.1:1/"), -LEM_E_IO);
	assert_int_equal(code_of_url("http://no-such-host.invalid/"), -LEM_E_NOT_FOUND);
	assert_int_equal(code_of_url("file:///etc/passwd"), -LEM_E_USAGE);
	start(&s, "HTTP/1.1 400 Bad Request\r\n\r\n");
	assert_int_equal(
		get("https", s.port, (struct web_request){.cancel_fd = -1}, &status, &body, &err),
		-LEM_E_REFUSED);
	assert_non_null(strstr(err.fix, "tls_verify"));
	end(&s);
}

static void test_bounded_waits(void **state)
{
	_cleanup_str_ struct str body = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int cancel = eventfd(1, EFD_CLOEXEC);
	struct service s;
	long status;

	(void)state;
	start(&s, NULL);
	assert_int_equal(get("http", s.port,
			     (struct web_request){.timeout_ns = NS_PER_S / 5, .cancel_fd = -1},
			     &status, &body, &err),
			 -LEM_E_TIMEOUT);
	end(&s);
	start(&s, NULL);
	assert_int_equal(get("http", s.port, (struct web_request){.cancel_fd = cancel}, &status,
			     &body, &err),
			 -LEM_E_INTERRUPTED);
	end(&s);
	close(cancel);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),       cmocka_unit_test(test_a_body_and_a_line),
		cmocka_unit_test(test_no_answers),    cmocka_unit_test(test_what_cannot_be_reached),
		cmocka_unit_test(test_bounded_waits),
	};

	return cmocka_run_group_tests_name("web", tests, NULL, NULL);
}
