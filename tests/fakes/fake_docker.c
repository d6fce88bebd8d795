#include "fake_docker.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/str.h"
#include "fake_docker_impl.h"

/* ---- bytes ---- */

bool fake_send(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);

		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

static void send_text(int fd, const char *text)
{
	(void)fake_send(fd, text, strlen(text));
}

static void send_head(struct fake_docker *f, int fd, int status, const char *more)
{
	_cleanup_free_ char *head = lem_asprintf(
		"HTTP/1.1 %d X\r\nApi-Version: %s\r\nContent-Type: application/json\r\n%s\r\n",
		status, f->version, more);

	send_text(fd, head);
}

static void send_chunk(int fd, const char *p, size_t n)
{
	_cleanup_str_ struct str s = STR_INIT;

	str_addf(&s, "%zx\r\n", n);
	str_addn(&s, p, n);
	str_add(&s, "\r\n");
	(void)fake_send(fd, str_c(&s), s.len);
}

static void send_chunked(struct fake_docker *f, int fd, const struct fake_reply *r, size_t each)
{
	const char *p = r->body ? r->body : "";
	size_t left = strlen(p);

	send_head(f, fd, r->status, "Transfer-Encoding: chunked\r\n");
	while (left) {
		size_t n = MIN(left, MAX(each, (size_t)1));

		send_chunk(fd, p, n);
		p += n;
		left -= n;
	}
	send_text(fd, "0\r\n\r\n");
}

static void send_whole(struct fake_docker *f, int fd, const struct fake_reply *r, size_t n)
{
	const char *body = r->body ? r->body : "";
	_cleanup_free_ char *length = lem_asprintf("Content-Length: %zu\r\n", strlen(body));

	send_head(f, fd, r->status, r->status == 204 || r->status == 304 ? "" : length);
	(void)fake_send(fd, body, n);
}

static void send_endless(struct fake_docker *f, int fd, const struct fake_reply *r)
{
	send_head(f, fd, r->status, "Transfer-Encoding: chunked\r\n");
	while (!f->stopping && fake_send(fd, "4\r\n", 3) && fake_send(fd, "xxxx\r\n", 6))
		if (r->body && *r->body)
			send_chunk(fd, r->body, strlen(r->body));
		else
			(void)fake_send(fd, "8\r\nxxxxxxxx\r\n", 13);
}

static void wait_for_hang_up(int fd)
{
	char buf[256];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/* false: the connection is over. */
bool fake_answer(struct fake_docker *f, int fd, const struct fake_reply *r)
{
	size_t n = r->body ? strlen(r->body) : 0;

	switch (r->how) {
	case FAKE_WHOLE: send_whole(f, fd, r, n); return true;
	case FAKE_CHUNKED: send_chunked(f, fd, r, n / 2); return true;
	case FAKE_BYTE_BY_BYTE: send_chunked(f, fd, r, 1); return true;
	case FAKE_CUT: send_whole(f, fd, r, n / 2); return false;
	case FAKE_ENDLESS: send_endless(f, fd, r); return false;
	case FAKE_SILENT: wait_for_hang_up(fd); return false;
	case FAKE_RAW: send_text(fd, r->body); return false;
	case FAKE_HANG_UP: return false;
	case FAKE_DIE: fake_docker_down(f); return false;
	}
	return false;
}

/* ---- what was asked ---- */

static bool begins(const char *line, const char *prefix)
{
	return strncmp(line, prefix, strlen(prefix)) == 0;
}

/* "POST /v1.45/x HTTP/1.1" → "POST /x"; malloc'ed. */
static char *request_line(struct fake_docker *f, const char *head)
{
	char *line = lem_strndup(head, strcspn(head, "\r\n"));
	char *end = strrchr(line, ' '), *v = strstr(line, " /v1.");

	if (end)
		*end = '\0';
	if (v) {
		size_t n = strspn(v + 3, "0123456789.");

		lem_strlcpy(f->asked_version, v + 3, MIN(n + 1, sizeof(f->asked_version)));
		memmove(v + 1, v + 3 + n, strlen(v + 3 + n) + 1);
	}
	return line;
}

static void write_down(struct fake_docker *f, const char *line, const char *body)
{
	assert(f->n_asked < ARRAY_LEN(f->asked));
	f->asked[f->n_asked].line = lem_strdup(line);
	f->asked[f->n_asked++].body = lem_strdup(body);
}

static bool take_rule(struct fake_docker *f, const char *line, struct fake_reply *ret)
{
	for (size_t i = f->n_rules; i-- > 0;) {
		struct fake_rule *r = &f->rules[i];

		if (r->times == 0 || !begins(line, r->request))
			continue;
		if (r->times > 0)
			r->times--;
		*ret = r->reply;
		return true;
	}
	return false;
}

/* Reads one request; false at the end of the connection. */
static bool read_request(int fd, struct str *in, size_t *ret_head, size_t *ret_all)
{
	for (;;) {
		const char *end = in->len ? memmem(in->buf, in->len, "\r\n\r\n", 4) : NULL;
		const char *length = end ? strcasestr(in->buf, "\r\ncontent-length:") : NULL;
		size_t head = end ? (size_t)(end - in->buf) + 4 : 0;
		size_t body = length && length < end ? strtoul(length + 17, NULL, 10) : 0;
		char buf[4096];

		if (end && in->len >= head + body) {
			*ret_head = head;
			*ret_all = head + body;
			return true;
		}
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n <= 0)
			return false;
		str_addn(in, buf, (size_t)n);
	}
}

static void drop(struct str *in, size_t n)
{
	memmove(in->buf, in->buf + n, in->len - n);
	in->len -= n;
	in->buf[in->len] = '\0';
}

/* One request: a rule's answer, or what a container engine does. false: the connection is over. */
static bool serve_one(struct fake_docker *f, int fd, struct str *in)
{
	size_t head, all;
	struct fake_reply reply;
	bool ruled;

	if (!read_request(fd, in, &head, &all))
		return false;
	pthread_mutex_lock(&f->lock);
	_cleanup_free_ char *line = request_line(f, in->buf);
	_cleanup_free_ char *body = lem_strndup(in->buf + head, all - head);

	write_down(f, line, body);
	ruled = take_rule(f, line, &reply);
	pthread_mutex_unlock(&f->lock);
	drop(in, all);
	if (!ruled)
		return fake_act(f, fd, line, body, in);
	if (reply.applied)
		(void)fake_act(f, -1, line, body, in);
	return fake_answer(f, fd, &reply);
}

/* ---- connections ---- */

struct conn {
	struct fake_docker *f;
	size_t slot;
	int fd;
};

static void *serve(void *arg)
{
	struct conn *c = arg;
	struct fake_docker *f = c->f;
	_cleanup_str_ struct str in = STR_INIT;

	while (serve_one(f, c->fd, &in))
		;
	pthread_mutex_lock(&f->lock);
	f->conns[c->slot].fd = -1;
	for (size_t i = 0; i < f->n_containers; i++)
		if (f->containers[i].attach_fd == c->fd)
			f->containers[i].attach_fd = -1;
	pthread_mutex_unlock(&f->lock);
	close(c->fd);
	free(c);
	return NULL;
}

static void add_conn(struct fake_docker *f, int fd)
{
	struct conn *c = lem_calloc(1, sizeof(*c));

	pthread_mutex_lock(&f->lock);
	assert(f->n_conns < ARRAY_LEN(f->conns));
	*c = (struct conn){.f = f, .slot = f->n_conns, .fd = fd};
	f->conns[f->n_conns].fd = fd;
	pthread_create(&f->conns[f->n_conns].thread, NULL, serve, c);
	f->n_conns++;
	pthread_mutex_unlock(&f->lock);
}

static void *accept_all(void *arg)
{
	struct fake_docker *f = arg;
	int fd;

	while ((fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		add_conn(f, fd);
	return NULL;
}

static void listen_on(struct fake_docker *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	lem_strlcpy(a.sun_path, f->path, sizeof(a.sun_path));
	(void)unlink(f->path);
	f->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(f->listener, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(f->listener, 16) < 0)
		abort();
	f->down = false;
	pthread_create(&f->acceptor, NULL, accept_all, f);
}

struct fake_docker *fake_docker_start(const char *socket_path)
{
	struct fake_docker *f = lem_calloc(1, sizeof(*f));

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	lem_strlcpy(f->path, socket_path, sizeof(f->path));
	lem_strlcpy(f->version, "1.45", sizeof(f->version));
	f->info = "{\"ServerVersion\":\"26.1.5\",\"CgroupDriver\":\"cgroupfs\",\"Runtimes\":"
		  "{\"runc\":{}},\"CDISpecDirs\":[\"/etc/cdi\"],\"SecurityOptions\":[]}";
	f->image = FAKE_IMAGE;
	f->pid = 0;
	listen_on(f);
	return f;
}

/* May be called by a connection's own thread, which then ends by itself. */
void fake_docker_down(struct fake_docker *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->down) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	f->down = f->going_down = true;
	shutdown(f->listener, SHUT_RDWR);
	for (size_t i = 0; i < f->n_conns; i++)
		if (f->conns[i].fd >= 0)
			shutdown(f->conns[i].fd, SHUT_RDWR);
	for (size_t i = 0; i < f->n_containers; i++)
		fake_end_container(f, &f->containers[i], 255);
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->acceptor, NULL);
	close(f->listener); /* the path stays: a connect is refused */
	pthread_mutex_lock(&f->lock);
	f->going_down = false;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void fake_docker_up(struct fake_docker *f)
{
	/* a connection's thread may still be taking it down: it must not find the new listener */
	pthread_mutex_lock(&f->lock);
	while (f->going_down)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
	listen_on(f);
}

void fake_docker_stop(struct fake_docker *f)
{
	f->stopping = true;
	fake_docker_down(f);
	for (size_t i = 0; i < f->n_conns; i++)
		pthread_join(f->conns[i].thread, NULL);
	for (size_t i = 0; i < f->n_containers; i++)
		if (f->containers[i].started)
			pthread_join(f->containers[i].thread, NULL);
	for (size_t i = 0; i < f->n_asked; i++) {
		free(f->asked[i].line);
		free(f->asked[i].body);
	}
	for (size_t i = 0; i < f->n_containers; i++)
		free(f->containers[i].labels);
	(void)unlink(f->path);
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f);
}

/* ---- what the test says and asks ---- */

void fake_on(struct fake_docker *f, const char *request, int times, struct fake_reply reply)
{
	pthread_mutex_lock(&f->lock);
	assert(f->n_rules < ARRAY_LEN(f->rules));
	f->rules[f->n_rules++] =
		(struct fake_rule){.request = request, .times = times, .reply = reply};
	pthread_mutex_unlock(&f->lock);
}

void fake_set_program(struct fake_docker *f, struct fake_program program)
{
	f->program = program;
}

void fake_set_version(struct fake_docker *f, const char *api_version)
{
	lem_strlcpy(f->version, api_version, sizeof(f->version));
}

void fake_set_info(struct fake_docker *f, const char *json)
{
	f->info = json;
}

void fake_set_image(struct fake_docker *f, const char *json, const char *image_after_pull)
{
	f->image = json;
	f->image_after_pull = image_after_pull;
}

void fake_set_pid(struct fake_docker *f, long pid)
{
	f->pid = pid;
}

size_t fake_count(struct fake_docker *f, const char *request)
{
	size_t n = 0;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->n_asked; i++)
		n += begins(f->asked[i].line, request) ? 1 : 0;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static const struct fake_asked *find(struct fake_docker *f, const char *request, size_t nth)
{
	const struct fake_asked *found = NULL;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->n_asked && !found; i++)
		if (begins(f->asked[i].line, request) && nth-- == 0)
			found = &f->asked[i];
	pthread_mutex_unlock(&f->lock);
	return found;
}

const char *fake_request(struct fake_docker *f, const char *request, size_t nth)
{
	const struct fake_asked *a = find(f, request, nth);

	return a ? a->line : NULL;
}

const char *fake_body(struct fake_docker *f, const char *request, size_t nth)
{
	const struct fake_asked *a = find(f, request, nth);

	return a ? a->body : NULL;
}

const char *fake_asked_version(struct fake_docker *f)
{
	return f->asked_version;
}
