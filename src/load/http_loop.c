#include <sys/epoll.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "load/http_impl.h"

enum { EVENTS = 256 };

/* Before a job is due the loop looks without sleeping: waking from sleep takes about this long. */
#define SPIN_NS          (60 * NS_PER_US)
#define SPIN_REALTIME_NS (20 * NS_PER_US)
/* But a quarter of the time at most: a real-time thread that never sleeps is stopped by the kernel
 * for 50 ms of each second, in favour of ordinary ones. */
enum { SPIN_SHARE = 4 };
/* Wall and monotonic clock drift apart by at most 500 ppm (adjtimex): 25 µs in this time. */
#define OFFSET_AGE_NS (50 * NS_PER_MS)
/* Connections made at once before the start: a listen queue is often 128 long. */
#define DIALS_MAX 100u

void http_list_add(struct http_loop *l, struct http_list *list, uint32_t i, int64_t deadline_ns)
{
	struct http_conn *c = &l->conns[i];

	c->deadline_ns = deadline_ns;
	c->prev = list->last;
	c->next = HTTP_NONE;
	c->listed = true;
	if (list->last == HTTP_NONE)
		list->first = i;
	else
		l->conns[list->last].next = i;
	list->last = i;
}

void http_list_remove(struct http_loop *l, struct http_list *list, uint32_t i)
{
	struct http_conn *c = &l->conns[i];

	c->listed = false;
	*(c->prev == HTTP_NONE ? &list->first : &l->conns[c->prev].next) = c->next;
	*(c->next == HTTP_NONE ? &list->last : &l->conns[c->next].prev) = c->prev;
}

static void release_turn(struct http_loop *l, int64_t t_scheduled_ns)
{
	if (l->n_due == l->n_jobs || l->stopping)
		return;
	l->jobs[l->n_due++].t_scheduled_ns = t_scheduled_ns;
}

void http_loop_ended(struct http_loop *l, uint32_t job, enum http_load_failure f, const char *why,
		     int64_t now)
{
	struct http_load_job *j = &l->jobs[job];
	bool failed = f != HTTP_LOAD_OK || j->status >= 300;

	j->failure = f;
	j->t_end_ns = now;
	l->t_last_ns = MAX(l->t_last_ns, now);
	if (f != HTTP_LOAD_OK && job < l->failed_job) {
		l->failed_job = job;
		lem_strlcpy(l->why, why, sizeof(l->why));
	}
	atomic_fetch_sub_explicit(&l->in_flight, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&l->n_done, 1, memory_order_relaxed);
	if (failed)
		atomic_fetch_add_explicit(&l->n_failed, 1, memory_order_relaxed);
	if (l->q->plan.mode == HTTP_LOAD_CLOSED)
		release_turn(l, now);
}

static int64_t lane_ns(const struct http_loop *l, size_t lane)
{
	const struct http_load_plan *p = &l->q->plan;

	return l->start_ns + (int64_t)((double)p->ramp_ns * (double)lane / (double)p->in_flight);
}

/* When the next job or lane is due; INT64_MAX: nothing waits for a time. */
static int64_t next_due_ns(const struct http_loop *l)
{
	if (l->stopping || l->n_due == l->n_jobs)
		return INT64_MAX;
	switch (l->q->plan.mode) {
	case HTTP_LOAD_OPEN: return l->start_ns + (int64_t)l->q->jobs[l->n_due].at_ns;
	case HTTP_LOAD_CLOSED:
		return l->n_open < l->q->plan.in_flight ? lane_ns(l, l->n_open) : INT64_MAX;
	case HTTP_LOAD_ALL: break;
	}
	return l->start_ns;
}

static void dispatch(struct http_loop *l);

static void find_due(struct http_loop *l, int64_t now)
{
	int64_t due;

	while ((due = next_due_ns(l)) <= now && due < l->no_more_ns) {
		release_turn(l, due);
		l->n_open++;
	}
	if (now < l->no_more_ns)
		return;
	if (l->q->plan.mode == HTTP_LOAD_OPEN)
		dispatch(l); /* what was due before the end, when the loop wakes just after it */
	l->stopping = true;
}

static void begin(struct http_loop *l, uint32_t job)
{
	int64_t now = clock_now_ns();
	size_t in_flight = atomic_fetch_add_explicit(&l->in_flight, 1, memory_order_relaxed) + 1;

	l->work[job].t_begun_ns = now;
	l->max_in_flight = MAX(l->max_in_flight, in_flight);
	if (l->n_idle)
		http_conn_send(l, l->idle[--l->n_idle], job, now);
	else
		http_conn_dial(l, job, now);
}

static bool can_begin(const struct http_loop *l)
{
	return l->n_idle || l->n_unused || l->n_conns < l->max_conns;
}

/* Jobs in order, as far as they are due and there are connections. */
static void dispatch(struct http_loop *l)
{
	while (l->n_begun < l->n_due && !l->stopping && can_begin(l))
		begin(l, (uint32_t)l->n_begun++);
	if (l->n_begun == l->n_due || l->stopping)
		return;
	l->n_waited += l->n_due - MAX(l->n_begun, l->waited_to);
	l->waited_to = l->n_due;
}

static void expire_list(struct http_loop *l, struct http_list *list, enum http_load_failure f,
			const char *why, int64_t now)
{
	while (list->first != HTTP_NONE && l->conns[list->first].deadline_ns <= now)
		http_conn_fail(l, list->first, f, why, now);
}

static void expire(struct http_loop *l, int64_t now)
{
	expire_list(l, &l->requests, HTTP_LOAD_TIMEOUT,
		    "the answer was not complete within the request's time limit", now);
	expire_list(l, &l->dials, HTTP_LOAD_CONNECT,
		    "the connection was not made within its time limit", now);
}

static int64_t wake_ns(const struct http_loop *l)
{
	int64_t t = MIN(l->end_ns, next_due_ns(l));

	if (!l->stopping)
		t = MIN(t, l->no_more_ns);
	if (l->requests.first != HTTP_NONE)
		t = MIN(t, l->conns[l->requests.first].deadline_ns);
	if (l->dials.first != HTTP_NONE)
		t = MIN(t, l->conns[l->dials.first].deadline_ns);
	return t;
}

static void one_event(struct http_loop *l, const struct epoll_event *e)
{
	uint64_t n;

	if (e->data.u32 != HTTP_NONE)
		return http_conn_event(l, e->data.u32, e->events);
	if (read(l->wake_fd, &n, sizeof(n)) < 0)
		assert(errno == EAGAIN);
}

static int64_t spin_window_ns(const struct http_loop *l, int64_t now)
{
	int64_t window = l->urgency == URGENT_REALTIME ? SPIN_REALTIME_NS : SPIN_NS;

	return l->spin_ns * SPIN_SHARE < now - l->start_ns + 1 * NS_PER_MS ? window : 0;
}

/* Waits at most until t_ns and handles what happened; jobs that are due go between the events. */
static void turn(struct http_loop *l, int64_t t_ns, bool started)
{
	struct epoll_event events[EVENTS];
	int64_t now = clock_now_ns(), left = MAX(t_ns - now, INT64_C(0));
	int64_t spin = started ? spin_window_ns(l, now) : 0, due_ns;
	struct timespec wait;
	int n;

	left = left > spin ? MIN(left - spin, 3600 * NS_PER_S) : 0;
	wait = (struct timespec){.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
	n = epoll_pwait2(l->epoll_fd, events, EVENTS, &wait, NULL);
	if (!n && !left)
		l->spin_ns -= now - clock_now_ns();
	now = clock_now_ns();
	if (now - l->t_offset_ns > OFFSET_AGE_NS) {
		l->wall_offset_ns = clock_wall_offset_ns();
		l->t_offset_ns = now;
	}
	for (int i = 0; i < n; i++) {
		one_event(l, &events[i]);
		if (!started)
			continue;
		due_ns = next_due_ns(l);
		if (due_ns != INT64_MAX && due_ns <= (now = clock_now_ns()))
			find_due(l, now);
		dispatch(l);
	}
}

static bool cancelled(const struct http_loop *l)
{
	return atomic_load_explicit(&l->cancel, memory_order_relaxed);
}

/* Connections made ahead; those that fail are left to the jobs to find out. */
static void preconnect(struct http_loop *l)
{
	size_t left = MIN(l->q->preconnect, (size_t)l->max_conns);

	while ((left || l->dials.first != HTTP_NONE) && !cancelled(l)) {
		int64_t now = clock_now_ns();

		for (size_t pending = l->n_conns - l->n_unused - l->n_idle;
		     left && pending < DIALS_MAX; left--, pending++)
			http_conn_dial(l, HTTP_NONE, now);
		if (l->dials.first == HTTP_NONE)
			continue;
		turn(l, l->conns[l->dials.first].deadline_ns, false);
		expire(l, clock_now_ns());
	}
}

static void set_times(struct http_loop *l)
{
	const struct http_load_limits *m = &l->q->limits;

	/* when making connections took longer than that, the schedule stays and the lag tells */
	l->start_ns = l->q->start_ns ?: clock_now_ns();
	atomic_store(&l->started_ns, l->start_ns);
	l->end_ns = m->total_ns ? l->start_ns + m->total_ns : INT64_MAX;
	l->no_more_ns = m->stop_sending_ns ? l->start_ns + m->stop_sending_ns : INT64_MAX;
	l->no_more_ns = MIN(l->no_more_ns, l->end_ns);
}

static bool over(const struct http_loop *l)
{
	size_t in_flight = atomic_load_explicit(&l->in_flight, memory_order_relaxed);

	return !in_flight && (l->stopping || l->n_begun == l->n_jobs);
}

static void end_all(struct http_loop *l, int64_t now)
{
	l->stopping = true;
	for (uint32_t i = 0; i < l->n_conns; i++)
		if (l->conns[i].state != CONN_FREE)
			http_conn_fail(l, i, HTTP_LOAD_CANCELLED, "ended before it was complete",
				       now);
	http_retry_cancel(l, now);
}

static void serve(struct http_loop *l)
{
	int64_t now = clock_now_ns();

	while (!over(l) && !cancelled(l) && now < l->end_ns) {
		find_due(l, now);
		http_retry_begin(l, now);
		dispatch(l);
		if (over(l))
			break;
		turn(l, wake_ns(l), true);
		now = clock_now_ns();
		expire(l, now);
	}
	end_all(l, clock_now_ns());
}

void *http_loop_main(void *arg)
{
	struct http_loop *l = arg;
	int64_t cpu_ns;

	(void)prctl(PR_SET_NAME, "lem-load");
	(void)prctl(PR_SET_TIMERSLACK, 1UL); /* the default, 50 µs, is the size of our bar */
	if (!l->q->no_pinning)
		l->urgency = urgent_thread(); /* a late send spoils a measurement */
	l->wall_offset_ns = clock_wall_offset_ns();
	l->t_offset_ns = clock_now_ns();
	preconnect(l);
	set_times(l);
	cpu_ns = clock_thread_cpu_ns();
	serve(l);
	l->cpu_ns = clock_thread_cpu_ns() - cpu_ns;
	return NULL;
}
