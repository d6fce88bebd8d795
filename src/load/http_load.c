#include "load/http_load.h"

#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/str.h"
#include "load/http_impl.h"

enum { FDS_KEPT = 64 };

#define RESERVE_MAX (UINT64_C(256) << 30)
/* Memory taken before the window; what comes beyond it costs a fault each 4 KiB or 2 MiB, 0.2 ms
 * for 2 MiB. A schedule must not wait for that; in a closed loop more is a waste, since answers
 * that come in large pieces are kept in a tenth of their size. */
#define WARM_MAX          (UINT64_C(32) << 20)
#define WARM_MAX_SCHEDULE (UINT64_C(256) << 20)
/* One event as vLLM 0.24 sends it. */
enum { EVENT_BYTES = 256 };

const char *http_load_failure_name(enum http_load_failure f)
{
	static const char *const names[HTTP_LOAD_N_CLASSES] = {
		"ok",       "not_sent",    "dns",          "connect",   "tls",
		"timeout",  "reset",       "closed_early", "bad_http",  "redirect",
		"http_429", "http_4xx",    "http_5xx",     "bad_body",  "error_body",
		"too_long", "ended_early", "empty",        "cancelled",
	};

	return (size_t)f < ARRAY_LEN(names) ? names[f] : "unknown";
}

uint64_t http_response_max(const struct http_load_request *q, size_t job)
{
	int32_t asked = q->jobs[job].output_tokens;
	uint64_t tokens = asked > 0 ? (uint64_t)asked : 4096;

	return q->limits.max_response_bytes ?: (256 << 10) + tokens * 4096;
}

static bool clean_line(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 && *s != '\t')
			return false;
	return true;
}

static int check_target(const struct http_target *t, struct lem_error *err)
{
	if (!t->host || !*t->host || !t->port || !clean_line(t->host))
		return lem_fail(err, LEM_E_USAGE, "the endpoint needs a host and a port");
	if (!t->path || *t->path != '/' || !clean_line(t->path) || strchr(t->path, ' '))
		return lem_fail(err, LEM_E_USAGE,
				"the endpoint's path is '%s', it must begin with /",
				t->path ? t->path : "");
	for (size_t i = 0; t->headers && t->headers[i]; i++)
		if (!clean_line(t->headers[i]) || !strchr(t->headers[i], ':'))
			return lem_fail(err, LEM_E_USAGE,
					"header %zu is not of the form 'Name: value'", i);
	return 0;
}

static int check_jobs(const struct http_load_request *q, struct lem_error *err)
{
	double last = 0;

	if (!q->n_jobs || q->n_jobs >= UINT32_MAX)
		return lem_fail(err, LEM_E_USAGE, "%zu requests cannot be sent", q->n_jobs);
	if (q->plan.mode == HTTP_LOAD_CLOSED && !q->plan.in_flight)
		return lem_fail(err, LEM_E_USAGE, "a closed loop with nothing in flight");
	for (size_t i = 0; q->plan.mode == HTTP_LOAD_OPEN && i < q->n_jobs; i++) {
		if (!(q->jobs[i].at_ns >= last) || !(q->jobs[i].at_ns < 0x1p62))
			return lem_fail(err, LEM_E_USAGE,
					"request %zu is scheduled at %g ns, after one at %g ns", i,
					q->jobs[i].at_ns, last);
		last = q->jobs[i].at_ns;
	}
	return 0;
}

/* false: *why says what the resolver said. */
static bool resolve(struct http_loop *l, const char **why)
{
	const struct http_target *t = &l->q->target;
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
	struct addrinfo *all = NULL;
	char port[8];
	int r;

	(void)snprintf(port, sizeof(port), "%u", t->port);
	r = getaddrinfo(t->host, port, &hints, &all);
	if (r) {
		*why = gai_strerror(r);
		return false;
	}
	for (struct addrinfo *a = all; a && l->n_addresses < HTTP_ADDRESSES; a = a->ai_next) {
		memcpy(&l->addresses[l->n_addresses], a->ai_addr, a->ai_addrlen);
		l->address_len[l->n_addresses++] = a->ai_addrlen;
	}
	freeaddrinfo(all);
	return true;
}

static void write_head(struct http_loop *l)
{
	const struct http_target *t = &l->q->target;
	bool v6 = strchr(t->host, ':');
	struct str s = STR_INIT;

	str_addf(&s, "POST %s HTTP/1.1\r\nHost: %s%s%s:%u\r\nUser-Agent: lem/" LEM_VERSION "\r\n",
		 t->path, v6 ? "[" : "", t->host, v6 ? "]" : "", t->port);
	str_add(&s, "Accept: application/json, text/event-stream\r\n"
		    "Content-Type: application/json\r\n");
	for (size_t i = 0; t->headers && t->headers[i]; i++)
		str_addf(&s, "%s\r\n", t->headers[i]);
	str_add(&s, "Content-Length: ");
	l->head_len = s.len;
	l->head = str_detach(&s);
}

/* As many descriptors as this process may have; what was, for the way back. */
static size_t raise_fds(struct rlimit *was)
{
	struct rlimit most;

	if (getrlimit(RLIMIT_NOFILE, was) < 0)
		return 1024;
	most = (struct rlimit){.rlim_cur = was->rlim_max, .rlim_max = was->rlim_max};
	return setrlimit(RLIMIT_NOFILE, &most) < 0 ? was->rlim_cur : most.rlim_cur;
}

static uint32_t connections(const struct http_load_request *q, size_t fds)
{
	size_t most =
		q->plan.mode == HTTP_LOAD_CLOSED ? MIN(q->plan.in_flight, q->n_jobs) : q->n_jobs;

	most = MAX(most, q->preconnect);
	if (q->limits.max_connections)
		most = MIN(most, q->limits.max_connections);
	return (uint32_t)MAX(MIN(most, fds > FDS_KEPT + 1 ? fds - FDS_KEPT : 1), (size_t)1);
}

/* Address space for the most that every response may be, so that a flood takes from nobody. */
static uint64_t log_bytes(const struct http_load_request *q)
{
	uint64_t n = 1 << 20;

	if (q->limits.max_total_bytes)
		return q->limits.max_total_bytes;
	for (size_t i = 0; i < q->n_jobs && n < RESERVE_MAX; i++)
		n += http_response_max(q, i);
	return MIN(n, RESERVE_MAX);
}

static uint64_t expected_bytes(const struct http_load_request *q)
{
	uint64_t n = 0, most = q->plan.mode == HTTP_LOAD_OPEN ? WARM_MAX_SCHEDULE : WARM_MAX;

	for (size_t i = 0; i < q->n_jobs && n < most; i++)
		n += (uint64_t)MAX(q->jobs[i].output_tokens, 1) * EVENT_BYTES;
	return MIN(n, most);
}

static int reserve(struct http_loop *l, size_t fds, struct lem_error *err)
{
	const struct http_load_request *q = l->q;
	uint64_t bytes = log_bytes(q);
	int r = recv_log_reserve(&l->log, bytes, err);

	if (r < 0)
		return r;
	recv_log_warm(&l->log, expected_bytes(q), expected_bytes(q) / EVENT_BYTES);
	l->received = lem_calloc(1, RECEIVE_MAX);
	l->max_conns = connections(q, fds);
	l->conns = lem_calloc(l->max_conns, sizeof(*l->conns));
	l->idle = lem_calloc(l->max_conns, sizeof(*l->idle));
	l->unused = lem_calloc(l->max_conns, sizeof(*l->unused));
	l->work = lem_calloc(l->n_jobs, sizeof(*l->work));
	for (size_t i = 0; i < l->n_jobs; i++)
		recv_chain_init(&l->work[i].chain);
	return 0;
}

static int open_fds(struct http_loop *l, struct lem_error *err)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = HTTP_NONE};

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->epoll_fd < 0 || l->wake_fd < 0 ||
	    epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->wake_fd, &e) < 0)
		return lem_fail_errno(err, errno, "cannot watch connections");
	return 0;
}

static void loop_release(struct http_loop *l)
{
	for (uint32_t i = 0; i < l->n_conns; i++)
		http_conn_close(l, i);
	cleanup_close(&l->epoll_fd);
	cleanup_close(&l->wake_fd);
	tls_free(l->tls);
	recv_log_release(&l->log);
	free(l->head);
	free(l->received);
	free(l->conns);
	free(l->idle);
	free(l->unused);
	free(l->work);
}

/* ── the thread, and the wait for it ─────────────────────────────────────────────────────────── */

struct loop_thread {
	struct http_loop *l;
	int done_fd;
};

static void *thread_main(void *arg)
{
	struct loop_thread *t = arg;
	uint64_t one = 1;

	http_loop_main(t->l);
	if (write(t->done_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
	return NULL;
}

/* The last of the allowed processors: interrupts and everyone else prefer the first. */
static void pin(pthread_attr_t *attr)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0 || CPU_COUNT(&allowed) <= 2)
		return;
	CPU_ZERO(&one);
	for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
		if (CPU_ISSET(cpu, &allowed)) {
			CPU_SET(cpu, &one);
			break;
		}
	(void)pthread_attr_setaffinity_np(attr, sizeof(one), &one);
}

static int start_thread(struct loop_thread *t, pthread_t *ret, struct lem_error *err)
{
	pthread_attr_t attr;
	sigset_t all, was;
	int r;

	pthread_attr_init(&attr);
	if (!t->l->q->no_pinning)
		pin(&attr);
	sigfillset(&all); /* signals are the calling thread's business */
	pthread_sigmask(SIG_SETMASK, &all, &was);
	r = pthread_create(ret, &attr, thread_main, t);
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	pthread_attr_destroy(&attr);
	return r ? lem_fail_errno(err, r, "cannot start the load thread") : 0;
}

static void tell(const struct http_loop *l)
{
	int64_t started_ns = atomic_load(&l->started_ns);
	struct http_load_progress p = {
		.elapsed_ns = started_ns ? clock_now_ns() - started_ns : -1,
		.n_jobs = l->n_jobs,
		.n_sent = atomic_load(&l->n_sent),
		.n_done = atomic_load(&l->n_done),
		.n_failed = atomic_load(&l->n_failed),
		.in_flight = atomic_load(&l->in_flight),
		.bytes = atomic_load(&l->bytes),
	};

	if (l->q->tick)
		l->q->tick(&p, l->q->arg);
}

static void cancel(struct http_loop *l)
{
	uint64_t one = 1;

	atomic_store(&l->cancel, true);
	if (write(l->wake_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

/* Until the thread is done; true when it was cancelled. */
static bool wait_for(struct loop_thread *t)
{
	struct http_loop *l = t->l;
	int64_t tick_ns = l->q->tick_ns > 0 ? l->q->tick_ns : 100 * NS_PER_MS;
	struct pollfd fds[2] = {{.fd = t->done_fd, .events = POLLIN},
				{.fd = l->q->cancel_fd, .events = POLLIN}};
	int timeout_ms = l->q->tick ? (int)MAX(tick_ns / NS_PER_MS, 1) : -1;

	for (;;) {
		int n = poll(fds, 2, timeout_ms);

		if (n > 0 && fds[0].revents)
			break;
		if (n > 0 && fds[1].revents) {
			fds[1].fd = -1;
			cancel(l);
		}
		if (n == 0)
			tell(l);
	}
	return atomic_load(&l->cancel);
}

static int run_thread(struct http_loop *l, struct http_load_result *ret, struct lem_error *err)
{
	_cleanup_fd_ int done_fd = eventfd(0, EFD_CLOEXEC);
	struct loop_thread t = {.l = l, .done_fd = done_fd};
	pthread_t thread;
	int r;

	if (done_fd < 0)
		return lem_fail_errno(err, errno, "cannot start the load thread");
	r = start_thread(&t, &thread, err);
	if (r < 0)
		return r;
	ret->cancelled = wait_for(&t);
	pthread_join(thread, NULL);
	return 0;
}

/* ── the call ────────────────────────────────────────────────────────────────────────────────── */

static void hand_over(struct http_loop *l, struct http_load_result *ret)
{
	http_read_all(l, ret);
	ret->t_start_ns = l->start_ns;
	ret->t_end_ns = MAX(l->t_last_ns, l->start_ns);
	ret->cpu_ns = l->cpu_ns;
	ret->spin_ns = MIN(l->spin_ns, l->cpu_ns);
	if (ret->t_end_ns > ret->t_start_ns)
		ret->busy = (double)(ret->cpu_ns - ret->spin_ns) /
			    (double)(ret->t_end_ns - ret->t_start_ns);
	ret->urgency = urgency_name(l->urgency);
	ret->n_connections = l->n_dialled;
	ret->n_retried = l->n_retried;
	ret->max_in_flight = l->max_in_flight;
	ret->n_waited = l->n_waited;
	ret->n_receives = l->n_receives;
	ret->n_kernel_stamps = l->n_kernel_stamps;
}

static void unknown_host(const struct http_load_request *q, const char *why,
			 struct http_load_result *ret)
{
	for (size_t i = 0; i < ret->n_jobs; i++) {
		struct http_load_job *j = &ret->jobs[i];

		j->failure = HTTP_LOAD_DNS;
		j->prompt_tokens = j->completion_tokens = j->cached_tokens = -1;
	}
	ret->by_failure[HTTP_LOAD_DNS] = ret->n_jobs;
	ret->t_start_ns = ret->t_end_ns = clock_now_ns();
	lem_fail(&ret->first_failure, LEM_E_NOT_FOUND, "the host '%s' is not known",
		 q->target.host);
	lem_error_why(&ret->first_failure, "%s", why);
	lem_error_fix(&ret->first_failure, "check the name, or write the address");
}

static int prepare(struct http_loop *l, size_t fds, struct lem_error *err)
{
	const struct http_load_limits *m = &l->q->limits;
	const struct http_target *t = &l->q->target;
	const struct tls_spec spec = {
		.host = t->host, .verify = t->tls_verify, .ca_file = t->ca_file};
	int r = open_fds(l, err);

	if (r >= 0 && t->tls)
		r = tls_open(&spec, &l->tls, err);
	if (r >= 0)
		r = reserve(l, fds, err);
	if (r < 0)
		return r;
	write_head(l);
	l->connect_timeout_ns = m->connect_timeout_ns > 0 ? m->connect_timeout_ns : 10 * NS_PER_S;
	l->request_timeout_ns = m->request_timeout_ns > 0 ? m->request_timeout_ns : 600 * NS_PER_S;
	return 0;
}

static int run_loop(struct http_loop *l, struct http_load_result *ret, struct lem_error *err)
{
	struct rlimit was;
	size_t fds = raise_fds(&was);
	int64_t cpu_ns = clock_thread_cpu_ns();
	int r = prepare(l, fds, err);

	ret->prepare_cpu_ns = clock_thread_cpu_ns() - cpu_ns;
	if (r >= 0)
		r = run_thread(l, ret, err);
	if (r >= 0)
		hand_over(l, ret);
	loop_release(l);
	(void)setrlimit(RLIMIT_NOFILE, &was);
	return r;
}

int http_load_run(const struct http_load_request *q, struct http_load_result *ret,
		  struct lem_error *err)
{
	struct http_load_result found = {.n_jobs = q->n_jobs, .urgency = urgency_name(URGENT_NO)};
	struct http_loop l = {.q = q,
			      .n_jobs = q->n_jobs,
			      .epoll_fd = -1,
			      .wake_fd = -1,
			      .failed_job = HTTP_NONE,
			      .retry_first = HTTP_NONE,
			      .retry_last = HTTP_NONE,
			      .requests = {HTTP_NONE, HTTP_NONE},
			      .dials = {HTTP_NONE, HTTP_NONE}};
	const char *why = "";
	int r = check_target(&q->target, err);

	if (r >= 0)
		r = check_jobs(q, err);
	if (r < 0)
		return r;
	found.jobs = l.jobs = lem_calloc(q->n_jobs, sizeof(*l.jobs));
	for (size_t i = 0; i < q->n_jobs; i++)
		l.jobs[i].failure = HTTP_LOAD_NOT_SENT;
	if (resolve(&l, &why))
		r = run_loop(&l, &found, err);
	else
		unknown_host(q, why, &found);
	if (r < 0)
		http_load_result_release(&found);
	else
		*ret = found;
	return r;
}

void http_load_result_release(struct http_load_result *r)
{
	arena_release(&r->arena);
	free(r->jobs);
	free(r->chunks);
	*r = (struct http_load_result){0};
}
