#include "load/null_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/vec.h"
#include "load/null_script.h"
#include "sys/urgent.h"

enum {
	EVENTS = 256,
	BACKLOG = 4096,
	REQUEST_MAX = 16 << 20,
	FLOOD_BYTES = 64 << 10,
	FIRST_CPU = 4
};

struct peer {
	int fd;
	uint32_t place; /* in the heap, from 1; 0: waits for no time */
	bool out_armed; /* epoll watches for room */
	bool answering;
	bool flooding;
	enum null_then then; /* once all is sent */
	int64_t due_ns;      /* of the next chunk */
	uint32_t k;          /* the next chunk */
	size_t serial;
	struct null_answer a;
	struct str in, out;
	const struct str *shared; /* sent instead of out */
	size_t sent;
};

/* What one thread serves: the connections that the kernel gave to its socket. */
struct worker {
	struct null_server *all;
	pthread_t thread;
	bool started;
	int cpu; /* to run on; −1: anywhere */
	int listen_fd, epoll_fd, wake_fd;
	VEC(struct peer *) peers; /* by descriptor */
	VEC(struct peer *) heap;  /* by due_ns; entry 0 is none */
	struct str burst;         /* the whole answer of burst_tokens, sent by all who want it */
	uint32_t burst_tokens;
	struct str chunk; /* one chunk without a fault, its mark at mark_at */
	size_t mark_at;
};

struct null_server {
	struct null_script script;
	uint16_t port;
	struct worker *workers;
	size_t n_workers;
	atomic_size_t n_requests, n_marks;
	atomic_int_fast64_t *sent_ns; /* script.record of them */
};

/* ── who is due next: a binary heap ──────────────────────────────────────────────────────────── */

/* Those due at the same time keep their order from step to step. */
static bool later(const struct peer *a, const struct peer *b)
{
	return a->due_ns != b->due_ns ? a->due_ns > b->due_ns : a->fd > b->fd;
}

static void put(struct worker *s, size_t i, struct peer *p)
{
	s->heap.at[i] = p;
	p->place = (uint32_t)i;
}

static void sift_up(struct worker *s, size_t i, struct peer *p)
{
	for (; i > 1 && later(s->heap.at[i / 2], p); i /= 2)
		put(s, i, s->heap.at[i / 2]);
	put(s, i, p);
}

static void sift_down(struct worker *s, size_t i, struct peer *p)
{
	size_t n = s->heap.n;

	while (i * 2 < n) {
		size_t c = i * 2;

		if (c + 1 < n && later(s->heap.at[c], s->heap.at[c + 1]))
			c++;
		if (!later(p, s->heap.at[c]))
			break;
		put(s, i, s->heap.at[c]);
		i = c;
	}
	put(s, i, p);
}

static void unschedule(struct worker *s, struct peer *p)
{
	size_t i = p->place;
	struct peer *last;

	if (!i)
		return;
	p->place = 0;
	last = s->heap.at[--s->heap.n];
	if (last == p)
		return;
	sift_down(s, i, last);
	sift_up(s, last->place, last);
}

static void schedule(struct worker *s, struct peer *p, int64_t due_ns)
{
	unschedule(s, p);
	p->due_ns = due_ns;
	*vec_push(&s->heap) = p;
	sift_up(s, s->heap.n - 1, p);
}

/* ── one connection ──────────────────────────────────────────────────────────────────────────── */

static void hang_up(struct worker *s, struct peer *p, bool reset)
{
	const struct linger hard = {.l_onoff = 1};

	unschedule(s, p);
	if (reset)
		(void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	s->peers.at[p->fd] = NULL;
	close(p->fd);
	str_release(&p->in);
	str_release(&p->out);
	free(p);
}

static void watch(struct worker *s, struct peer *p, bool out)
{
	struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.fd = p->fd};

	if (p->out_armed != out)
		(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, p->fd, &e);
	p->out_armed = out;
}

static void refill(struct peer *p)
{
	str_reserve(&p->out, FLOOD_BYTES);
	memset(p->out.buf, 'x', FLOOD_BYTES);
	p->out.len = FLOOD_BYTES;
}

/* All of it is sent: what now? false: the connection is gone. */
static bool after(struct worker *s, struct peer *p)
{
	p->sent = 0;
	p->shared = NULL;
	str_reset(&p->out);
	if (p->flooding) {
		refill(p);
		return true;
	}
	if (p->then == NULL_THEN_CLOSE || p->then == NULL_THEN_RESET) {
		hang_up(s, p, p->then == NULL_THEN_RESET);
		return false;
	}
	if (p->then == NULL_THEN_END)
		p->answering = false;
	return true;
}

/* Sends what there is; false: the connection is gone. */
static bool flush(struct worker *s, struct peer *p)
{
	for (;;) {
		const struct str *from = p->shared ? p->shared : &p->out;
		ssize_t r;

		if (p->sent == from->len) {
			if (!after(s, p))
				return false;
			if (!p->flooding)
				break;
			continue;
		}
		r = send(p->fd, from->buf + p->sent, from->len - p->sent,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0 && errno == EAGAIN) {
			watch(s, p, true);
			return true;
		}
		if (r < 0) {
			hang_up(s, p, false);
			return false;
		}
		p->sent += (size_t)r;
	}
	watch(s, p, false);
	return true;
}

static uint32_t mark(struct worker *s)
{
	size_t i;

	if (!s->all->script.record)
		return 0;
	i = atomic_fetch_add_explicit(&s->all->n_marks, 1, memory_order_relaxed);
	if (i < s->all->script.record)
		atomic_store_explicit(&s->all->sent_ns[i], clock_now_ns(), memory_order_relaxed);
	return (uint32_t)i;
}

static bool stalls(const struct worker *s, const struct peer *p)
{
	return s->all->script.stall_every && p->serial % s->all->script.stall_every == 0 &&
	       p->k == s->all->script.stall_at;
}

/* A chunk without a fault differs from the others in its mark only. */
static void write_plain(struct worker *s, struct peer *p)
{
	static const char digits[] = "0123456789abcdef";
	uint32_t m = mark(s);
	size_t at;

	if (!s->chunk.len) {
		null_write_chunk(&p->a, 0, &s->chunk);
		s->mark_at = (size_t)(strstr(s->chunk.buf, "00000000\"") - s->chunk.buf);
	}
	at = p->out.len + s->mark_at;
	str_addn(&p->out, s->chunk.buf, s->chunk.len);
	for (int i = 7; i >= 0; i--, m >>= 4)
		p->out.buf[at + (size_t)i] = digits[m & 15];
}

/* Chunk k, or what the script does instead. */
static void chunk(struct worker *s, struct peer *p)
{
	if (p->a.fault != NULL_NONE && p->k == s->all->script.fault_at) {
		size_t before = p->out.len;

		p->flooding = p->a.fault == NULL_FLOOD;
		p->then = null_write_fault(&p->a, &p->out);
		if (p->flooding)
			str_add(&p->out, "ffffffff\r\n");
		if (p->then != NULL_GO_ON || p->flooding)
			return;
		if (p->out.len > before) {
			p->k++;
			return;
		}
	}
	if (p->a.fault == NULL_NONE)
		write_plain(s, p);
	else
		null_write_chunk(&p->a, mark(s), &p->out);
	p->k++;
}

static void end_answer(struct peer *p)
{
	null_write_end(&p->a, &p->out);
	p->then = p->a.fault == NULL_CLOSE_DELIMITED ? NULL_THEN_CLOSE : NULL_THEN_END;
}

/* The chunks that are due by now, in one send. */
static void advance(struct worker *s, struct peer *p, int64_t now)
{
	int64_t due = p->due_ns;

	if (!p->k && due <= now && !p->out.len)
		null_write_head(&p->a, &p->out);
	if (p->a.fault == NULL_NOT_HTTP)
		p->then = NULL_THEN_STOP;
	while (p->then == NULL_GO_ON && !p->flooding && due <= now && p->k < p->a.n_chunks) {
		chunk(s, p);
		due += s->all->script.gap_ns;
		if (stalls(s, p))
			due += s->all->script.stall_ns;
	}
	if (p->then == NULL_GO_ON && !p->flooding && p->k >= p->a.n_chunks)
		end_answer(p);
	if (p->then == NULL_GO_ON && !p->flooding)
		schedule(s, p, due);
	flush(s, p);
}

/* Everyone asks for the same: it is written once. */
static bool share(struct worker *s, struct peer *p)
{
	if (p->a.fault != NULL_NONE || s->all->script.gap_ns || s->all->script.record ||
	    s->all->script.stall_every)
		return false;
	if (!s->burst.len) {
		null_write_head(&p->a, &s->burst);
		for (uint32_t k = 0; k < p->a.n_chunks; k++)
			null_write_chunk(&p->a, 0, &s->burst);
		null_write_end(&p->a, &s->burst);
		s->burst_tokens = p->a.n_tokens;
	}
	if (s->burst_tokens != p->a.n_tokens)
		return false;
	p->shared = &s->burst;
	p->then = NULL_THEN_END;
	return true;
}

static void due(struct worker *s, struct peer *p, int64_t now)
{
	unschedule(s, p);
	if (null_is_whole(&p->a)) {
		null_write_whole(&p->a, &p->out);
		p->then = p->a.fault == NULL_500 ? NULL_THEN_CLOSE : NULL_THEN_END;
		flush(s, p);
	} else if (!p->k && share(s, p)) {
		flush(s, p);
	} else {
		advance(s, p, now);
	}
}

static int64_t on_tick(const struct worker *s, int64_t t_ns)
{
	int64_t tick_ns = s->all->script.tick_ns;

	return tick_ns ? (t_ns + tick_ns - 1) / tick_ns * tick_ns : t_ns;
}

static void begin(struct worker *s, struct peer *p, const char *body, size_t n)
{
	struct null_request q = null_request_read(body, n);
	int64_t now = clock_now_ns();

	p->serial = atomic_fetch_add_explicit(&s->all->n_requests, 1, memory_order_relaxed);
	null_answer_plan(&s->all->script, &q, p->serial, &p->a);
	p->answering = true;
	p->k = 0;
	p->then = NULL_GO_ON;
	str_reset(&p->in);
	if (p->a.fault == NULL_SILENT)
		return;
	p->due_ns = on_tick(s, now + s->all->script.first_ns);
	if (s->all->script.first_ns)
		schedule(s, p, p->due_ns);
	else
		due(s, p, now);
}

/* false: the connection is gone. */
static bool take(struct worker *s, struct peer *p)
{
	ssize_t r;

	str_reserve(&p->in, 4096);
	r = recv(p->fd, p->in.buf + p->in.len, 4096, MSG_DONTWAIT);
	if (r < 0 && errno == EAGAIN)
		return true;
	if (r <= 0 || p->in.len > NULL_REQUEST_MAX) {
		hang_up(s, p, false);
		return false;
	}
	p->in.len += (size_t)r;
	return true;
}

static void readable(struct worker *s, struct peer *p)
{
	size_t head, body;

	if (take(s, p) && !p->answering && p->in.len &&
	    null_request_whole(p->in.buf, p->in.len, &head, &body))
		begin(s, p, p->in.buf + head, body);
}

/* ── the thread ──────────────────────────────────────────────────────────────────────────────── */

static void accept_all(struct worker *s)
{
	int one = 1, fd;

	while ((fd = accept4(s->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
		struct peer *p = lem_calloc(1, sizeof(*p));

		p->fd = fd;
		(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while (s->peers.n <= (size_t)fd)
			*vec_push(&s->peers) = NULL;
		s->peers.at[fd] = p;
		(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e);
	}
}

/* false: asked to stop. */
static bool one_event(struct worker *s, const struct epoll_event *e)
{
	struct peer *p;

	if (e->data.fd == s->wake_fd)
		return false;
	if (e->data.fd == s->listen_fd) {
		accept_all(s);
		return true;
	}
	p = (size_t)e->data.fd < s->peers.n ? s->peers.at[e->data.fd] : NULL;
	if (p && (e->events & EPOLLOUT) && !flush(s, p))
		return true;
	if (p && (e->events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		readable(s, p);
	return true;
}

static void run_due(struct worker *s)
{
	int64_t now = clock_now_ns();

	while (s->heap.n > 1 && s->heap.at[1]->due_ns <= now)
		due(s, s->heap.at[1], now);
}

static void run_on(int cpu)
{
	cpu_set_t one;

	if (cpu < 0)
		return;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	(void)sched_setaffinity(0, sizeof(one), &one);
}

static void *serve(void *arg)
{
	struct worker *s = arg;
	struct epoll_event events[EVENTS];
	bool go_on = true;

	(void)prctl(PR_SET_NAME, "lem-null");
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	run_on(s->cpu);
	/* with a gap it sleeps most of the time, and it is the measure */
	if (s->all->script.urgent || s->all->script.gap_ns)
		(void)urgent_thread();
	while (go_on) {
		int64_t left = 1 * NS_PER_S;
		struct timespec wait;
		int n;

		if (s->heap.n > 1)
			left = MAX(s->heap.at[1]->due_ns - clock_now_ns(), INT64_C(0));
		wait = (struct timespec){.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
		n = epoll_pwait2(s->epoll_fd, events, EVENTS, &wait, NULL);
		for (int i = 0; i < n && go_on; i++)
			go_on = one_event(s, &events[i]);
		run_due(s);
	}
	vec_foreach (&s->peers, p)
		if (*p)
			hang_up(s, *p, false);
	return NULL;
}

/* A socket of its own on the port that all share; the first worker finds the port. */
static int listen_on(struct worker *w, struct lem_error *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(w->all->port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int one = 1;

	w->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->all->n_workers > 1)
		(void)setsockopt(w->listen_fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
	if (w->listen_fd < 0 || w->epoll_fd < 0 || w->wake_fd < 0 ||
	    bind(w->listen_fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
	    listen(w->listen_fd, BACKLOG) < 0 ||
	    getsockname(w->listen_fd, (struct sockaddr *)&a, &n) < 0)
		return lem_fail_errno(err, errno, "the null server cannot listen on 127.0.0.1");
	w->all->port = ntohs(a.sin_port);
	struct epoll_event in = {.events = EPOLLIN, .data.fd = w->listen_fd},
			   wake = {.events = EPOLLIN, .data.fd = w->wake_fd};

	(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->listen_fd, &in);
	(void)epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, w->wake_fd, &wake);
	return 0;
}

/* Where there are processors to spare a paced server keeps away from the client's, the last one,
 * and from the first ones, which all others prefer. */
static int cpu_for(const struct null_server *s, size_t worker)
{
	cpu_set_t allowed;
	int left = FIRST_CPU + (int)worker * 2;

	if (!s->script.gap_ns || sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ||
	    CPU_COUNT(&allowed) < left + FIRST_CPU)
		return -1;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && left-- == 0)
			return cpu;
	return -1;
}

static int start_worker(struct null_server *s, size_t i, struct lem_error *err)
{
	struct worker *w = &s->workers[i];
	int r;

	*w = (struct worker){.all = s, .listen_fd = -1, .epoll_fd = -1, .wake_fd = -1};
	w->cpu = cpu_for(s, i);
	*vec_push(&w->heap) = NULL;
	r = listen_on(w, err);
	if (r < 0)
		return r;
	r = pthread_create(&w->thread, NULL, serve, w);
	w->started = r == 0;
	return r ? lem_fail_errno(err, r, "cannot start the null server") : 0;
}

static void stop_worker(struct worker *w)
{
	uint64_t one = 1;

	if (w->started && write(w->wake_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
	if (w->started)
		pthread_join(w->thread, NULL);
	cleanup_close(&w->listen_fd);
	cleanup_close(&w->epoll_fd);
	cleanup_close(&w->wake_fd);
	vec_release(&w->peers);
	vec_release(&w->heap);
	str_release(&w->burst);
	str_release(&w->chunk);
}

int null_server_start(const struct null_script *script, struct null_server **ret,
		      struct lem_error *err)
{
	struct null_server *s = lem_calloc(1, sizeof(*s));
	size_t n = MAX(script->threads, 1u);
	sigset_t all, was;
	int r = 0;

	s->script = *script;
	if (script->fault == NULL_NEVER_ENDS && !script->gap_ns)
		s->script.gap_ns = NS_PER_MS; /* or it would never look up */
	s->sent_ns = lem_calloc(script->record + 1, sizeof(*s->sent_ns));
	s->workers = lem_calloc(n, sizeof(*s->workers));
	s->n_workers = n;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	for (size_t i = 0; i < n && r >= 0; i++) {
		r = start_worker(s, i, err);
		if (r < 0)
			s->n_workers = i + 1;
	}
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	if (r < 0)
		null_server_stop(s);
	else
		*ret = s;
	return r;
}

void null_server_stop(struct null_server *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_workers; i++)
		stop_worker(&s->workers[i]);
	free(s->workers);
	free(s->sent_ns);
	free(s);
}

uint16_t null_server_port(const struct null_server *s)
{
	return s->port;
}

size_t null_server_requests(const struct null_server *s)
{
	return atomic_load(&s->n_requests);
}

int64_t null_server_sent_ns(const struct null_server *s, size_t i)
{
	return i < s->script.record ? atomic_load(&s->sent_ns[i]) : 0;
}
