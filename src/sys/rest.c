#include "sys/rest.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/num.h"
#include "sys/curl.h"

enum { BODY_MAX_BYTES = 16 << 20, HEAD_MAX_BYTES = 64 << 10, TICK_MS = 1000 };
enum { CONNECT_TRY_MS = 20, CONNECT_TRIES = 250 };

struct rest {
	const struct curl_api *curl;
	CURL *easy;
	CURLM *multi;
	int cancel_fd;
	int64_t until_ns; /* of every call; 0: none */
	char path[256];
};

/* Of the call in progress. */
struct call {
	struct rest *r;
	const struct rest_request *q;
	struct rest_answer *answer;
	struct lem_error *err;
	int64_t t_heard_ns;
	int refused; /* what on_bytes returned */
};

static int fail_connect(const char *path, int errnum, struct lem_error *err)
{
	switch (errnum) {
	case EACCES:
	case EPERM:
		lem_fail(err, LEM_E_IO, "no permission to use the container engine's socket %s",
			 path);
		return lem_error_fix(err,
				     "add yourself to its group (sudo usermod -aG docker $USER, "
				     "then newgrp docker or a new login), or use rootless Docker "
				     "or Podman");
	case ENOENT:
		lem_fail(err, LEM_E_NOT_FOUND, "there is no container engine at %s", path);
		return lem_error_fix(err,
				     "start Docker (sudo systemctl start docker), or say where it "
				     "listens: DOCKER_HOST=unix:///path");
	case ECONNREFUSED:
		lem_fail(err, LEM_E_NOT_FOUND, "nobody listens at %s: the container engine is down",
			 path);
		return lem_error_fix(err,
				     "sudo systemctl start docker; its log: journalctl -u docker");
	case EAGAIN:
		lem_fail(err, LEM_E_TIMEOUT,
			 "the container engine at %s takes no more connections: it hangs", path);
		return lem_error_fix(err, "sudo systemctl restart docker; its log: journalctl -u "
					  "docker");
	default:
		lem_fail_errno(err, errnum, "cannot connect to the container engine at %s", path);
		return err ? -(int)err->code : -LEM_E_IO;
	}
}

/* A service that hangs takes no more connections once its queue is full: connect() would then wait
 * for ever, so it is asked without waiting, again and again. */
static int connect_patiently(int fd, const struct sockaddr_un *a, int cancel_fd)
{
	for (int i = 0; i < CONNECT_TRIES; i++) {
		struct pollfd cancel = {.fd = cancel_fd, .events = POLLIN};

		if (connect(fd, (const struct sockaddr *)a, sizeof(*a)) == 0)
			return 0;
		if (errno != EAGAIN && errno != EINTR)
			return -1;
		if (poll(&cancel, 1, CONNECT_TRY_MS) > 0)
			break;
	}
	errno = EAGAIN;
	return -1;
}

static int connect_socket(const char *path, int cancel_fd, int *ret_fd, struct lem_error *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	_cleanup_fd_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot make a socket");
	if (lem_strlcpy(a.sun_path, path, sizeof(a.sun_path)) >= sizeof(a.sun_path))
		return lem_fail(err, LEM_E_USAGE, "the path of the socket is too long: %.200s",
				path);
	if (connect_patiently(fd, &a, cancel_fd) < 0)
		return fail_connect(path, errno, err);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	*ret_fd = steal_fd(&fd);
	return 0;
}

int rest_open(const char *socket_path, int cancel_fd, struct rest **ret, struct lem_error *err)
{
	const struct curl_api *curl = curl_api(err);
	_cleanup_fd_ int probe = -1;
	struct rest *r;
	int rc;

	if (!curl)
		return -LEM_E_UNSUPPORTED;
	rc = connect_socket(socket_path, cancel_fd, &probe, err); /* curl's words say less */
	if (rc < 0)
		return rc;
	r = lem_calloc(1, sizeof(*r));
	r->curl = curl;
	r->cancel_fd = cancel_fd;
	lem_strlcpy(r->path, socket_path, sizeof(r->path));
	r->easy = curl->easy_init();
	r->multi = curl->multi_init();
	if (!r->easy || !r->multi) {
		rest_close(r);
		return lem_fail(err, LEM_E_UNSUPPORTED, "libcurl cannot be initialised");
	}
	*ret = r;
	return 0;
}

void rest_limit(struct rest *r, int cancel_fd, int64_t until_ns)
{
	r->cancel_fd = cancel_fd;
	r->until_ns = until_ns;
}

void rest_close(struct rest *r)
{
	if (!r)
		return;
	if (r->easy)
		r->curl->easy_cleanup(r->easy);
	if (r->multi)
		r->curl->multi_cleanup(r->multi);
	free(r);
}

void rest_answer_release(struct rest_answer *a)
{
	str_release(&a->body);
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
	struct call *c = arg;
	size_t max = c->q->max_bytes ? c->q->max_bytes : BODY_MAX_BYTES;
	long status = 0;

	n *= size;
	c->t_heard_ns = clock_now_ns();
	c->r->curl->easy_getinfo(c->r->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->q->on_bytes && status / 100 == 2) {
		c->refused = c->q->on_bytes(c->q->arg, bytes, n, c->err);
		return c->refused < 0 ? 0 : n;
	}
	if (c->answer->body.len + n > max) {
		c->refused =
			lem_fail(c->err, LEM_E_PARSE,
				 "the container engine's answer is longer than %zu bytes", max);
		return 0;
	}
	str_addn(&c->answer->body, bytes, n);
	return n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
	static const char name[] = "api-version:";
	struct call *c = arg;
	char *to = c->answer->api_version;
	size_t k = 0;

	n *= size;
	if (n < sizeof(name) || strncasecmp(bytes, name, sizeof(name) - 1) != 0)
		return n;
	for (size_t i = sizeof(name) - 1; i < n && k + 1 < sizeof(c->answer->api_version); i++)
		if ((bytes[i] >= '0' && bytes[i] <= '9') || bytes[i] == '.')
			to[k++] = bytes[i];
	to[k] = '\0';
	return n;
}

static struct curl_slist *headers(const struct rest *r, const struct rest_request *q)
{
	struct curl_slist *list = NULL;

	if (q->body)
		list = r->curl->slist_append(list, "Content-Type: application/json");
	list = r->curl->slist_append(list, "Expect:");
	for (const char *const *p = q->headers; p && *p; p++)
		list = r->curl->slist_append(list, *p);
	return list;
}

static void prepare(struct call *c, const char *url, struct curl_slist *list)
{
	const struct curl_api *curl = c->r->curl;
	CURL *e = c->r->easy;

	curl->easy_reset(e); /* keeps its connection */
	curl->easy_setopt(e, CURLOPT_UNIX_SOCKET_PATH, c->r->path);
	curl->easy_setopt(e, CURLOPT_URL, url);
	curl->easy_setopt(e, CURLOPT_CUSTOMREQUEST, c->q->method);
	curl->easy_setopt(e, CURLOPT_HTTPHEADER, list);
	curl->easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl->easy_setopt(e, CURLOPT_PROXY, "");
	curl->easy_setopt(e, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
	curl->easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
	curl->easy_setopt(e, CURLOPT_WRITEDATA, c);
	curl->easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
	curl->easy_setopt(e, CURLOPT_HEADERDATA, c);
	if (c->q->body)
		curl->easy_setopt(e, CURLOPT_POSTFIELDS, c->q->body);
	else if (str_eq(c->q->method, "POST"))
		curl->easy_setopt(e, CURLOPT_POSTFIELDS, "");
}

static int fail_curl(const struct call *c, CURLcode code)
{
	long os_errno = 0;

	if (c->refused < 0)
		return c->refused;
	c->r->curl->easy_getinfo(c->r->easy, CURLINFO_OS_ERRNO, &os_errno);
	if (code == CURLE_COULDNT_CONNECT && os_errno)
		return fail_connect(c->r->path, (int)os_errno, c->err);
	if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY)
		return lem_fail(c->err, LEM_E_PARSE, "%s does not answer as an HTTP service does",
				c->r->path);
	lem_fail(c->err, LEM_E_IO, "the connection to the container engine broke (%s %.100s)",
		 c->q->method, c->q->path);
	return lem_error_why(c->err, "%s", c->r->curl->easy_strerror(code));
}

/* How long the next wait may be; 0 or less: too late. */
static int64_t time_left(const struct call *c, int64_t t_start_ns)
{
	int64_t now = clock_now_ns(), left = INT64_MAX;

	if (c->q->timeout_ns)
		left = t_start_ns + c->q->timeout_ns - now;
	if (c->q->silence_ns)
		left = MIN(left, c->t_heard_ns + c->q->silence_ns - now);
	if (c->r->until_ns)
		left = MIN(left, c->r->until_ns - now);
	return left;
}

static int fail_late(const struct call *c, int64_t t_start_ns)
{
	bool silent = c->t_heard_ns <= t_start_ns || c->q->silence_ns;
	int64_t since = silent ? c->t_heard_ns : t_start_ns;
	char buf[24];

	return lem_fail(c->err, LEM_E_TIMEOUT, "the container engine %s %s (%s %.100s)",
			silent ? "said nothing for" : "did not end its answer in",
			num_format_duration(clock_now_ns() - since, buf, sizeof(buf)), c->q->method,
			c->q->path);
}

static bool cancelled(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Runs the transfer that was added; 0 or the error. */
static int transfer(struct call *c)
{
	const struct curl_api *curl = c->r->curl;
	struct curl_waitfd extra = {.fd = c->r->cancel_fd, .events = CURL_WAIT_POLLIN};
	int64_t t_start_ns = clock_now_ns();
	int running = 1;

	for (;;) {
		CURLMsg *m;
		int left;

		if (curl->multi_perform(c->r->multi, &running) != CURLM_OK)
			return lem_fail(c->err, LEM_E_IO, "libcurl failed inside");
		while ((m = curl->multi_info_read(c->r->multi, &left)))
			if (m->msg == CURLMSG_DONE)
				return m->data.result == CURLE_OK ? 0
								  : fail_curl(c, m->data.result);
		int64_t ns = time_left(c, t_start_ns);

		if (ns <= 0)
			return fail_late(c, t_start_ns);
		if (cancelled(c->r->cancel_fd))
			return lem_fail(c->err, LEM_E_INTERRUPTED, "interrupted");
		curl->multi_poll(c->r->multi, &extra, c->r->cancel_fd >= 0 ? 1 : 0,
				 (int)MIN(ns / NS_PER_MS + 1, (int64_t)TICK_MS), NULL);
	}
}

int rest_call(struct rest *r, const struct rest_request *q, struct rest_answer *ret,
	      struct lem_error *err)
{
	_cleanup_free_ char *url = lem_asprintf("http://engine%s", q->path);
	struct curl_slist *list = headers(r, q);
	struct lem_error own;
	struct call c = {.r = r,
			 .q = q,
			 .answer = ret,
			 .err = err ? err : &own,
			 .t_heard_ns = clock_now_ns()};
	int rc;

	str_reset(&ret->body);
	ret->status = 0;
	ret->api_version[0] = '\0';
	if (cancelled(r->cancel_fd)) {
		r->curl->slist_free_all(list);
		return lem_fail(c.err, LEM_E_INTERRUPTED, "interrupted");
	}
	prepare(&c, url, list);
	r->curl->multi_add_handle(r->multi, r->easy);
	rc = transfer(&c);
	r->curl->easy_getinfo(r->easy, CURLINFO_RESPONSE_CODE, &ret->status);
	r->curl->multi_remove_handle(r->multi, r->easy);
	r->curl->slist_free_all(list);
	return rc;
}

/* ---- leaving HTTP behind ---- */

static int wait_for(int fd, int cancel_fd, int64_t until_ns, struct lem_error *err)
{
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
	int64_t left = until_ns - clock_now_ns();

	if (left <= 0)
		return lem_fail(err, LEM_E_TIMEOUT, "the container engine does not answer");
	if (poll(p, 2, (int)MIN(left / NS_PER_MS + 1, (int64_t)TICK_MS)) < 0 && errno != EINTR)
		return lem_fail_errno(err, errno, "cannot wait for the container engine");
	if (p[1].revents)
		return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
	return p[0].revents ? 1 : 0;
}

/* Reads until the head is complete, or to the end of the answer when it is an error's. */
static int read_head(int fd, int cancel_fd, int64_t until_ns, struct str *in, size_t *ret_head,
		     struct lem_error *err)
{
	for (;;) {
		const char *end = in->len ? memmem(in->buf, in->len, "\r\n\r\n", 4) : NULL;
		char buf[4096];

		if (end) {
			*ret_head = (size_t)(end - in->buf) + 4;
			return 0;
		}
		int rc = wait_for(fd, cancel_fd, until_ns, err);

		if (rc < 0)
			return rc;
		ssize_t n = rc ? read(fd, buf, sizeof(buf)) : 0;

		if (rc && n <= 0)
			return lem_fail(err, LEM_E_IO, "the container engine hung up");
		if (n > 0)
			str_addn(in, buf, (size_t)n);
		if (in->len > HEAD_MAX_BYTES)
			return lem_fail(err, LEM_E_PARSE,
					"the container engine does not speak HTTP");
	}
}

static int send_all(int fd, const char *p, size_t n, struct lem_error *err)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return lem_fail_errno(err, errno, "the container engine hung up");
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

static int parse_status(const char *head, long *ret, struct lem_error *err)
{
	int64_t v = 0;

	if (!str_starts(head, "HTTP/1.") || strlen(head) < 12)
		return lem_fail(err, LEM_E_PARSE, "the container engine does not speak HTTP");
	for (int i = 9; i < 12; i++) {
		if (head[i] < '0' || head[i] > '9')
			return lem_fail(err, LEM_E_PARSE,
					"the container engine does not speak HTTP");
		v = v * 10 + (head[i] - '0');
	}
	*ret = (long)v;
	return 0;
}

/* Takes the chunks' sizes out, as far as they have come. */
static void unchunk(struct str *body)
{
	_cleanup_str_ struct str plain = STR_INIT;
	const char *p = str_c(body), *end = p + body->len;

	while (p < end) {
		const char *data = memchr(p, '\n', (size_t)(end - p));
		char *stop;
		size_t n = strtoul(p, &stop, 16);

		if (!data || stop == p || n == 0)
			break;
		data++;
		n = MIN(n, (size_t)(end - data));
		str_addn(&plain, data, n);
		p = data + n;
		p += MIN((size_t)(end - p), (size_t)2); /* its own line end */
	}
	str_reset(body);
	str_addn(body, str_c(&plain), plain.len);
}

/* An error's message follows the head at once, in the engines seen; what has not come within a
 * moment is not worth waiting for. */
static void read_error_body(int fd, int cancel_fd, struct str *body)
{
	int64_t until = clock_now_ns() + TICK_MS * NS_PER_MS;
	char buf[4096];

	while (!memchr(str_c(body), '}', body->len) && body->len < HEAD_MAX_BYTES) {
		int rc = wait_for(fd, cancel_fd, until, NULL);
		ssize_t n = rc > 0 ? read(fd, buf, sizeof(buf)) : 0;

		if (rc < 0 || (rc > 0 && n <= 0))
			break;
		if (n > 0)
			str_addn(body, buf, (size_t)n);
	}
}

int rest_upgrade(struct rest *r, const char *path, int64_t timeout_ns, int *ret_fd,
		 struct str *ret_first, struct rest_answer *answer, struct lem_error *err)
{
	_cleanup_str_ struct str in = STR_INIT, request = STR_INIT;
	_cleanup_fd_ int fd = -1;
	int64_t until = clock_now_ns() + timeout_ns;
	size_t head = 0;
	int rc = connect_socket(r->path, r->cancel_fd, &fd, err);

	if (r->until_ns)
		until = MIN(until, r->until_ns);

	str_addf(&request,
		 "POST %s HTTP/1.1\r\nHost: engine\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
		 "Content-Length: 0\r\n\r\n",
		 path);
	if (rc < 0 || (rc = send_all(fd, request.buf, request.len, err)) < 0 ||
	    (rc = read_head(fd, r->cancel_fd, until, &in, &head, err)) < 0 ||
	    (rc = parse_status(in.buf, &answer->status, err)) < 0)
		return rc;
	if (answer->status != 101 && answer->status != 200) {
		str_reset(&answer->body);
		str_addn(&answer->body, in.buf + head, in.len - head);
		read_error_body(fd, r->cancel_fd, &answer->body);
		in.buf[head - 1] = '\0'; /* the head alone */
		if (strcasestr(in.buf, "\r\ntransfer-encoding: chunked"))
			unchunk(&answer->body);
		*ret_fd = -1;
		return 0;
	}
	str_reset(ret_first);
	str_addn(ret_first, in.buf + head, in.len - head);
	*ret_fd = steal_fd(&fd);
	return 0;
}
