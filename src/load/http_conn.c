#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "load/body_pack.h"
#include "load/http_impl.h"

enum { SEND_SMALL = 2048, PER_SOURCE = 4000 };

static struct http_list *list_of(struct http_loop *l, const struct http_conn *c)
{
	return c->state == CONN_DIALLING || c->state == CONN_HANDSHAKE ? &l->dials : &l->requests;
}

static void unlist(struct http_loop *l, uint32_t i)
{
	if (l->conns[i].listed)
		http_list_remove(l, list_of(l, &l->conns[i]), i);
}

void http_conn_close(struct http_loop *l, uint32_t i)
{
	struct http_conn *c = &l->conns[i];

	if (c->state == CONN_FREE)
		return;
	unlist(l, i);
	for (uint32_t k = 0; c->state == CONN_IDLE && k < l->n_idle; k++)
		if (l->idle[k] == i)
			l->idle[k--] = l->idle[--l->n_idle];
	tls_conn_free(c->tls);
	c->tls = NULL;
	if (c->fd >= 0)
		close(c->fd); /* epoll forgets it */
	c->fd = -1;
	c->state = CONN_FREE;
	l->unused[l->n_unused++] = i;
}

void http_conn_fail(struct http_loop *l, uint32_t i, enum http_load_failure f, const char *why,
		    int64_t now)
{
	uint32_t job = l->conns[i].job;
	bool again = job != HTTP_NONE && http_retry_takes(l, i, f, now);

	l->conns[i].job = HTTP_NONE;
	http_conn_close(l, i);
	if (job != HTTP_NONE && !again)
		http_loop_ended(l, job, http_retry_failure(l, job, f), why, now);
}

/* Edges rather than levels: the kernel need not ask each socket again after it was read. A session
 * of TLS may stop halfway for reasons of its own, so it keeps the levels. */
static void watch(struct http_loop *l, uint32_t i, int op, bool out)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | (out ? EPOLLOUT : 0u) |
					  (l->q->target.tls ? 0u : EPOLLET),
				.data.u32 = i};

	l->conns[i].want_out = out;
	if (epoll_ctl(l->epoll_fd, op, l->conns[i].fd, &e) < 0)
		assert(errno == ENOMEM || errno == ENOSPC); /* the deadline ends it */
}

/* One address has some 28 000 ports towards one server. On loopback there are more addresses, so
 * that connections beyond the first thousands come from others. */
static void choose_source(int fd, const struct sockaddr *to, uint32_t i)
{
	struct sockaddr_in from = {.sin_family = AF_INET}, target;
	int one = 1;

	if (i < PER_SOURCE || to->sa_family != AF_INET)
		return;
	memcpy(&target, to, sizeof(target));
	if (ntohl(target.sin_addr.s_addr) >> 24 != 127)
		return;
	from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + i / PER_SOURCE);
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
	(void)bind(fd, (const struct sockaddr *)&from, sizeof(from));
}

/* A socket for connection i to address a, connect under way. Negative errno. */
static int start_connect(struct http_loop *l, uint32_t i, size_t a)
{
	const struct sockaddr *to = (const struct sockaddr *)&l->addresses[a];
	int one = 1, fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	(void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one));
	choose_source(fd, to, i);
	if (connect(fd, to, l->address_len[a]) < 0 && errno != EINPROGRESS) {
		int saved = errno;

		close(fd);
		return -saved;
	}
	return fd;
}

/* Tries address after address of the host, from the one given. */
static bool dial_from(struct http_loop *l, uint32_t i, size_t tried, int *ret_errno)
{
	struct http_conn *c = &l->conns[i];

	for (size_t k = tried; k < l->n_addresses; k++) {
		size_t a = (l->address + k) % l->n_addresses;

		c->fd = start_connect(l, i, a);
		if (c->fd < 0) {
			*ret_errno = -c->fd;
			continue;
		}
		c->address = (uint8_t)k;
		watch(l, i, EPOLL_CTL_ADD, true);
		return true;
	}
	return false;
}

static void connect_failed(struct http_loop *l, uint32_t i, int errnum, int64_t now)
{
	char why[96];

	(void)snprintf(why, sizeof(why), "cannot connect: %s", strerror(errnum));
	http_conn_fail(l, i, HTTP_LOAD_CONNECT, why, now);
}

void http_conn_dial(struct http_loop *l, uint32_t job, int64_t now)
{
	uint32_t i = l->n_unused ? l->unused[--l->n_unused] : l->n_conns++;
	struct http_conn *c = &l->conns[i];
	int errnum = 0;

	assert(i < l->max_conns);
	c->state = CONN_DIALLING;
	c->tls = NULL;
	c->job = job;
	c->listed = c->used = c->served = false;
	l->n_dialled++;
	if (dial_from(l, i, 0, &errnum))
		http_list_add(l, &l->dials, i, now + l->connect_timeout_ns);
	else
		connect_failed(l, i, errnum, now);
}

/* The connection can serve: send its job, or wait for one. */
static void ready(struct http_loop *l, uint32_t i, int64_t now)
{
	struct http_conn *c = &l->conns[i];

	unlist(l, i);
	if (c->job != HTTP_NONE)
		return http_conn_send(l, i, c->job, now);
	c->used = true;
	c->state = CONN_IDLE;
	if (c->want_out)
		watch(l, i, EPOLL_CTL_MOD, false);
	l->idle[l->n_idle++] = i;
}

static void handshake(struct http_loop *l, uint32_t i, int64_t now)
{
	struct http_conn *c = &l->conns[i];
	const char *why = "";

	switch (tls_conn_handshake(c->tls, &why)) {
	case TLS_DONE: return ready(l, i, now);
	case TLS_WANT_READ: return watch(l, i, EPOLL_CTL_MOD, false);
	case TLS_WANT_WRITE: return watch(l, i, EPOLL_CTL_MOD, true);
	case TLS_FAILED: break;
	}
	char text[176];

	lem_strlcpy(text, why, sizeof(text));
	http_conn_fail(l, i, HTTP_LOAD_TLS, text, now);
}

static void connected(struct http_loop *l, uint32_t i, int64_t now)
{
	struct http_conn *c = &l->conns[i];
	int errnum = 0;
	socklen_t n = sizeof(errnum);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &errnum, &n) < 0)
		errnum = errno;
	if (errnum) {
		close(c->fd);
		c->fd = -1;
		if (!dial_from(l, i, (size_t)c->address + 1, &errnum))
			connect_failed(l, i, errnum, now);
		return;
	}
	if (c->address) {
		l->address = (l->address + c->address) % l->n_addresses;
		c->address = 0;
	}
	if (!l->tls)
		return ready(l, i, now);
	c->tls = tls_conn_new(l->tls, c->fd);
	if (!c->tls)
		return http_conn_fail(l, i, HTTP_LOAD_TLS, "OpenSSL gives no connection", now);
	c->state = CONN_HANDSHAKE;
	handshake(l, i, now);
}

static void send_failed(struct http_loop *l, uint32_t i, int errnum, int64_t now)
{
	char why[96];

	(void)snprintf(why, sizeof(why), "while sending: %s", strerror(errnum));
	http_conn_fail(l, i, HTTP_LOAD_RESET, why, now);
}

/* Behind the head: the value of Content-Length. Requests are often equally long. */
static void write_length(struct http_loop *l, size_t body_len)
{
	if (l->length_len && l->length_of == body_len)
		return;
	l->length_of = body_len;
	l->length_len = (size_t)snprintf(l->length, sizeof(l->length), "%zu\r\n\r\n", body_len);
}

/* What is left of head, length line and body, as up to 3 pieces. */
static int pieces(struct http_loop *l, const struct http_conn *c, struct iovec *v)
{
	const struct http_job *j = &l->q->jobs[c->job];
	int n = 0;

	write_length(l, j->body_len);
	struct iovec all[3] = {{.iov_base = l->head, .iov_len = l->head_len},
			       {.iov_base = l->length, .iov_len = l->length_len}};
	size_t skip = c->sent;

	memcpy(&all[2].iov_base, &j->body, sizeof(j->body)); /* sendmsg does not write to it */
	all[2].iov_len = j->body_len;
	for (int p = 0; p < 3; p++) {
		size_t cut = MIN(skip, all[p].iov_len);

		skip -= cut;
		if (cut < all[p].iov_len)
			v[n++] =
				(struct iovec){(char *)all[p].iov_base + cut, all[p].iov_len - cut};
	}
	return n;
}

static ssize_t send_pieces(struct http_conn *c, struct iovec *v, int n)
{
	struct msghdr m = {.msg_iov = v, .msg_iovlen = (size_t)n};
	char small[SEND_SMALL];
	size_t k = 0;
	ssize_t r;

	if (c->tls)
		return tls_conn_write(c->tls, v[0].iov_base, v[0].iov_len);
	for (int i = 0; i < n; i++)
		k += v[i].iov_len;
	if (k <= sizeof(small)) { /* copied it costs the kernel less than in pieces */
		k = 0;
		for (int i = 0; i < n; i++) {
			memcpy(small + k, v[i].iov_base, v[i].iov_len);
			k += v[i].iov_len;
		}
		r = send(c->fd, small, k, MSG_NOSIGNAL);
	} else {
		r = sendmsg(c->fd, &m, MSG_NOSIGNAL);
	}
	return r < 0 ? -errno : r;
}

static void push(struct http_loop *l, uint32_t i, int64_t now)
{
	struct http_conn *c = &l->conns[i];
	struct iovec v[3];
	int n;

	while ((n = pieces(l, c, v)) > 0) {
		ssize_t r = send_pieces(c, v, n);

		if (r == -EINTR)
			continue;
		if (r == -EAGAIN) {
			if (!c->want_out)
				watch(l, i, EPOLL_CTL_MOD, true);
			return;
		}
		if (r < 0)
			return send_failed(l, i, (int)-r, now);
		c->sent += (size_t)r;
	}
	c->state = CONN_RECEIVING;
	if (c->want_out)
		watch(l, i, EPOLL_CTL_MOD, false);
}

void http_conn_send(struct http_loop *l, uint32_t i, uint32_t job, int64_t now)
{
	struct http_conn *c = &l->conns[i];

	c->job = job;
	c->state = CONN_SENDING;
	c->sent = 0;
	http1_init(&c->parser);
	http_list_add(l, &l->requests, i, now + l->request_timeout_ns);
	l->jobs[job].reused = c->used;
	c->used = true;
	if (!l->jobs[job].t_sent_ns) { /* sent again: it was sent when it first was */
		atomic_fetch_add_explicit(&l->n_sent, 1, memory_order_relaxed);
		l->jobs[job].t_sent_ns = clock_now_ns();
	}
	push(l, i, now);
}

/* The kernel's stamp of the last byte, on our clock; what cannot be true becomes `now`. */
static int64_t stamp(struct http_loop *l, struct msghdr *m, int64_t since_ns, int64_t now)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		struct timespec ts;
		int64_t t;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_TIMESTAMPNS)
			continue;
		memcpy(&ts, CMSG_DATA(h), sizeof(ts));
		t = ts.tv_sec * NS_PER_S + ts.tv_nsec - l->wall_offset_ns;
		if (t < since_ns || t > now)
			break;
		l->n_kernel_stamps++;
		return t;
	}
	return now;
}

/* One receive to the end of the log: bytes, 0 at the end of the connection, −errno. */
static ssize_t receive(struct http_loop *l, struct http_conn *c, char *to, size_t room,
		       int64_t since_ns, int64_t *ret_t_ns)
{
	char control[CMSG_SPACE(sizeof(struct timespec))];
	struct iovec v = {.iov_base = to, .iov_len = room};
	struct msghdr m = {.msg_iov = &v,
			   .msg_iovlen = 1,
			   .msg_control = control,
			   .msg_controllen = sizeof(control)};
	ssize_t r;

	l->n_receives++;
	if (c->tls) {
		r = tls_conn_read(c->tls, to, room);
		*ret_t_ns = clock_now_ns();
		return r;
	}
	r = recvmsg(c->fd, &m, 0);
	if (r < 0)
		return -errno;
	*ret_t_ns = stamp(l, &m, since_ns, clock_now_ns());
	return r;
}

/* The response is complete; the connection serves on if its framing allows that. */
static void complete(struct http_loop *l, uint32_t i, bool reusable, int64_t t_ns)
{
	struct http_conn *c = &l->conns[i];
	uint32_t job = c->job;

	l->work[job].complete = true;
	reusable = reusable && c->parser.keep && c->state == CONN_RECEIVING;
	unlist(l, i);
	c->job = HTTP_NONE;
	if (reusable) {
		c->state = CONN_IDLE;
		c->served = true;
		l->idle[l->n_idle++] = i;
	} else {
		http_conn_close(l, i);
	}
	http_loop_ended(l, job, HTTP_LOAD_OK, NULL, t_ns);
}

static void keep_piece(void *arg, const char *piece, size_t n)
{
	body_pack_add(arg, piece, n);
}

/* Keeps the body of what was just received and follows its framing; true while the response goes
 * on. */
static bool follow(struct http_loop *l, uint32_t i, const char *in, size_t n, int64_t t_ns)
{
	struct http_conn *c = &l->conns[i];
	struct http_load_job *j = &l->jobs[c->job];
	struct body_pack pack = {0};
	size_t used = 0;

	/* room for it was seen to before the receive */
	(void)recv_log_room(&l->log, body_pack_most(n), &pack.out);
	if (!j->n_bytes) {
		j->t_head_ns = t_ns;
		used = http1_head(&c->parser, &l->head_memo, in, n);
	}
	j->n_bytes += n;
	used += http1_take(&c->parser, in + used, n - used, keep_piece, &pack);
	if (pack.len)
		recv_log_add(&l->log, &l->work[c->job].chain, pack.len, t_ns);
	atomic_fetch_add_explicit(&l->bytes, n, memory_order_relaxed);
	j->status = c->parser.status;
	l->work[c->job].event_stream = c->parser.event_stream;
	l->work[c->job].encoded = c->parser.encoded;
	if (c->parser.state == HTTP1_DONE)
		complete(l, i, used == n, t_ns);
	else if (c->parser.state == HTTP1_BAD)
		http_conn_fail(l, i, HTTP_LOAD_BAD_HTTP, c->parser.bad, t_ns);
	else if (j->n_bytes > http_response_max(l->q, c->job))
		http_conn_fail(l, i, HTTP_LOAD_TOO_LONG, "the response is longer than any answer",
			       t_ns);
	else
		return true;
	return false;
}

static void connection_ended(struct http_loop *l, uint32_t i, ssize_t r, int64_t now)
{
	struct http_conn *c = &l->conns[i];
	char why[96];

	if (c->job == HTTP_NONE)
		return http_conn_close(l, i);
	if (r == 0 && http1_eof(&c->parser))
		return complete(l, i, false, now);
	if (r == 0)
		return http_conn_fail(
			l, i, HTTP_LOAD_CLOSED_EARLY,
			"the server closed the connection before the answer was complete", now);
	(void)snprintf(why, sizeof(why), "while receiving: %s", strerror((int)-r));
	http_conn_fail(l, i, HTTP_LOAD_RESET, why, now);
}

/* As much as may come and can be kept, however it is cut into pieces; 0: that was all. */
static size_t receive_room(struct http_loop *l)
{
	char *to;
	size_t room = recv_log_room(&l->log, body_pack_most(RECEIVE_MAX), &to);
	uint64_t left = l->log.cap - atomic_load_explicit(&l->bytes, memory_order_relaxed);

	room = room > body_pack_most(0) ? (room - body_pack_most(0)) / 3 : 0;
	return (size_t)MIN((uint64_t)room, left);
}

/* ended: the other side has closed, which is told once, so that all is read. Otherwise a receive
 * that did not fill its room has emptied the socket; what comes later is told anew. */
static void drain(struct http_loop *l, uint32_t i, bool ended)
{
	struct http_conn *c = &l->conns[i];
	bool more, filled = false;

	do {
		struct http_load_job *j = c->job == HTTP_NONE ? NULL : &l->jobs[c->job];
		size_t room = j ? receive_room(l) : 1;
		int64_t t_ns = 0;
		ssize_t r;

		if (!room)
			return http_conn_fail(l, i, HTTP_LOAD_TOO_LONG,
					      "all answers together are more than the limit",
					      clock_now_ns());
		r = receive(l, c, l->received, room, j ? j->t_sent_ns : 0, &t_ns);
		if (r == -EAGAIN)
			return;
		more = r == -EINTR;
		if (more)
			continue;
		if (r <= 0 || !j) /* an idle connection has nothing to say */
			return connection_ended(l, i, r > 0 ? -EPROTO : r, clock_now_ns());
		filled = (size_t)r == room;
		more = follow(l, i, l->received, (size_t)r, t_ns) &&
		       (c->tls ? tls_conn_pending(c->tls) : ended || filled);
	} while (more);
	/* nothing will tell again of its end, or of bytes that nobody asked for */
	if ((ended || filled) && c->state == CONN_IDLE)
		http_conn_close(l, i);
}

void http_conn_event(struct http_loop *l, uint32_t i, uint32_t events)
{
	struct http_conn *c = &l->conns[i];
	bool ended = events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR);

	switch (c->state) {
	case CONN_FREE: /* closed earlier in this turn */ return;
	case CONN_DIALLING: return connected(l, i, clock_now_ns());
	case CONN_HANDSHAKE: return handshake(l, i, clock_now_ns());
	case CONN_SENDING:
		/* an answer to half a request is an answer; 413 comes this way */
		if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
			drain(l, i, ended);
		if (c->state == CONN_SENDING && (events & EPOLLOUT))
			push(l, i, clock_now_ns());
		return;
	case CONN_IDLE:
	case CONN_RECEIVING: return drain(l, i, ended);
	}
}
