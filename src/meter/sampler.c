#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "meter/ops.h"

/* How long sampler_stop waits for a thread that may hang in a driver call. Ten times the slowest
 * energy counter call seen (93 ms, energy.md section 2). */
#define STOP_PATIENCE_NS NS_PER_S

enum { LATE_MAX = 1 << 18 }; /* ticks kept: 2 MB of address space, some hours of 8 GPUs */

/* Who frees what: decided once, by whoever comes first. */
enum sampler_end { END_OPEN, END_FINISHED, END_ABANDONED };

struct sampler {
	struct meter_setup su;
	struct opened_meter meters[METERS_MAX];
	size_t n_meters;
	enum domain live_domain;
	pthread_t thread;
	int wake_fd; /* written: stop, or a mark */
	int done_fd; /* written: the thread has finished */
	_Atomic bool stop, mark;
	_Atomic int end; /* enum sampler_end */
	_Atomic pid_t watched;
	_Atomic double watts;
	int64_t t_start_ns, t_stop_ns, cpu_ns;
	int64_t *late_ns;
	_Atomic size_t n_late;
	struct sampler *next_abandoned;
};

/* Threads that hung at their stop keep their sampler for the rest of the process. */
static _Atomic(struct sampler *) abandoned_samplers;

static int64_t next_due(const struct sampler *s)
{
	int64_t due = INT64_MAX;

	for (size_t i = 0; i < s->su.tasks.n; i++)
		if (s->su.tasks.at[i].due_ns != METER_NEVER_AGAIN)
			due = MIN(due, s->su.tasks.at[i].due_ns);
	return due;
}

/* Until the absolute time, or until somebody wakes the thread. */
static void wait_until(const struct sampler *s, int64_t t_ns)
{
	struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
	int64_t left_ns = MIN(t_ns - clock_now_ns(), 3600 * NS_PER_S);
	struct timespec ts = {.tv_sec = left_ns / NS_PER_S, .tv_nsec = left_ns % NS_PER_S};

	uint64_t count;

	if (left_ns > 0 && ppoll(&p, 1, &ts, NULL) > 0)
		(void)!read(s->wake_fd, &count, sizeof(count));
}

static void wake(const struct sampler *s)
{
	uint64_t one = 1;

	(void)!write(s->wake_fd, &one, sizeof(one));
}

static void record_lateness(struct sampler *s, int64_t due_ns, int64_t now_ns)
{
	size_t n = atomic_load_explicit(&s->n_late, memory_order_relaxed);

	if (n == LATE_MAX)
		return;
	s->late_ns[n] = now_ns - due_ns;
	atomic_store_explicit(&s->n_late, n + 1, memory_order_release);
}

static void publish_watts(struct sampler *s)
{
	double sum = NAN;

	vec_foreach (&s->su.columns, c)
		if ((*c)->live && (*c)->s.domain == s->live_domain)
			sum = isnan(sum) ? (*c)->watts : sum + (*c)->watts;
	atomic_store_explicit(&s->watts, sum, memory_order_relaxed);
}

static void tick(struct sampler *s, int64_t now_ns)
{
	vec_foreach (&s->su.tasks, t)
		if (t->due_ns != METER_NEVER_AGAIN &&
		    t->due_ns - (t->slack ? *t->slack : t->slack_ns) <= now_ns &&
		    !atomic_load_explicit(&s->stop, memory_order_relaxed))
			t->due_ns = t->read(t->arg, t->due_ns, METER_DUE);
	publish_watts(s);
}

static void read_marked(struct sampler *s)
{
	vec_foreach (&s->su.tasks, t)
		if (t->due_ns != METER_NEVER_AGAIN && t->at_marks)
			t->due_ns = t->read(t->arg, t->due_ns, METER_MARK);
}

static void finish(struct sampler *s)
{
	uint64_t one = 1;
	int open = END_OPEN;

	vec_foreach (&s->su.tasks, t)
		if (t->due_ns != METER_NEVER_AGAIN)
			(void)t->read(t->arg, t->due_ns, METER_LAST);
	s->cpu_ns = clock_thread_cpu_ns();
	s->t_stop_ns = clock_now_ns();
	if (atomic_compare_exchange_strong(&s->end, &open, END_FINISHED))
		(void)!write(s->done_fd, &one, sizeof(one));
}

static void *sampler_thread(void *arg)
{
	struct sampler *s = arg;

	while (!atomic_load_explicit(&s->stop, memory_order_acquire)) {
		int64_t due_ns = next_due(s), now_ns;

		wait_until(s, due_ns);
		if (atomic_exchange_explicit(&s->mark, false, memory_order_relaxed))
			read_marked(s);
		now_ns = clock_now_ns();
		if (now_ns < due_ns)
			continue; /* woken to stop, or by a signal */
		record_lateness(s, due_ns, now_ns);
		tick(s, now_ns);
	}
	finish(s);
	return NULL;
}

static void choose_live_domain(struct sampler *s)
{
	s->live_domain = DOMAIN_CPU_PACKAGE;
	vec_foreach (&s->su.columns, c)
		if ((*c)->live && (*c)->s.domain == DOMAIN_GPU)
			s->live_domain = DOMAIN_GPU;
}

static void sampler_free(struct sampler *s)
{
	for (size_t i = s->n_meters; i-- > 0;)
		s->meters[i].ops->close(s->meters[i].state);
	meter_setup_release(&s->su);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	if (s->done_fd >= 0)
		close(s->done_fd);
	free(s->late_ns);
	free(s);
}

static int start_thread(struct sampler *s, struct lem_error *err)
{
	int r;

	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0 || s->done_fd < 0)
		return lem_fail_errno(err, errno, "cannot start the energy sampler");
	s->t_start_ns = clock_now_ns();
	vec_foreach (&s->su.tasks, t)
		t->due_ns = s->t_start_ns;
	r = pthread_create(&s->thread, NULL, sampler_thread, s);
	if (r != 0)
		return lem_fail_errno(err, r, "cannot start the energy sampler's thread");
	return 0;
}

int sampler_start(const struct meter_request *req, struct sampler **ret, struct lem_error *err)
{
	struct sampler *s = lem_calloc(1, sizeof(*s));
	int r;

	s->wake_fd = s->done_fd = -1;
	atomic_store(&s->watts, NAN);
	meter_setup_init(&s->su, req, &s->watched);
	s->n_meters = meter_setup_open(&s->su, s->meters);
	meter_setup_allocate(&s->su);
	s->su.req = NULL; /* the caller's, and only until here */
	s->late_ns = lem_calloc(LATE_MAX, sizeof(*s->late_ns));
	choose_live_domain(s);
	r = start_thread(s, err);
	if (r < 0) {
		sampler_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sampler_watch_pid(struct sampler *s, pid_t pid)
{
	atomic_store(&s->watched, pid);
}

void sampler_mark(struct sampler *s)
{
	atomic_store_explicit(&s->mark, true, memory_order_relaxed);
	wake(s);
}

double sampler_watts_now(const struct sampler *s)
{
	return atomic_load_explicit(&s->watts, memory_order_relaxed);
}

/* True when the thread has ended by itself; false when it hangs and was given up. */
static bool join(struct sampler *s)
{
	struct pollfd p = {.fd = s->done_fd, .events = POLLIN};
	struct timespec patience = {.tv_sec = STOP_PATIENCE_NS / NS_PER_S};
	int open = END_OPEN;

	atomic_store_explicit(&s->stop, true, memory_order_release);
	wake(s);
	while (ppoll(&p, 1, &patience, NULL) < 0 && errno == EINTR)
		;
	if (atomic_compare_exchange_strong(&s->end, &open, END_ABANDONED)) {
		(void)pthread_detach(s->thread);
		return false;
	}
	(void)pthread_join(s->thread, NULL);
	return true;
}

static void *copy(const void *from, size_t n, size_t size)
{
	void *to = lem_calloc(MAX(n, (size_t)1), size);

	if (n)
		memcpy(to, from, n * size);
	return to;
}

/* The column's readings as a series of its own, as long as they are: copied, because the region is
 * mapped for the longest run, and because a hung thread keeps its own. */
static void take_series(const struct column *c, struct series *ret)
{
	const struct series *s = &c->s;

	*ret = *s;
	ret->n = ret->cap = atomic_load_explicit(&c->n, memory_order_acquire);
	ret->dropped = atomic_load_explicit(&c->dropped, memory_order_relaxed);
	ret->failed = atomic_load_explicit(&c->failed, memory_order_relaxed);
	ret->t_begin_ns = copy(s->t_begin_ns, ret->n, sizeof(*s->t_begin_ns));
	ret->t_end_ns = copy(s->t_end_ns, ret->n, sizeof(*s->t_end_ns));
	ret->value = copy(s->value, ret->n, sizeof(*s->value));
	ret->ok = copy(s->ok, ret->n, sizeof(*s->ok));
}

static void take_columns(struct sampler *s, struct sample_set *ret)
{
	ret->n_series = s->su.columns.n;
	ret->series = lem_calloc(MAX(ret->n_series, (size_t)1), sizeof(*ret->series));
	for (size_t i = 0; i < ret->n_series; i++)
		take_series(s->su.columns.at[i], &ret->series[i]);
	ret->n_late = atomic_load_explicit(&s->n_late, memory_order_acquire);
	ret->late_ns = copy(s->late_ns, ret->n_late, sizeof(*s->late_ns));
	ret->n_status = s->su.statuses.n;
	ret->status = copy(s->su.statuses.at, ret->n_status, sizeof(*ret->status));
	ret->t_start_ns = s->t_start_ns;
}

/* The CPU time of a thread that still runs. */
static int64_t cpu_so_far_ns(const struct sampler *s)
{
	struct timespec ts;
	clockid_t clock;

	if (pthread_getcpuclockid(s->thread, &clock) != 0 || clock_gettime(clock, &ts) < 0)
		return 0;
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

void sampler_snapshot(struct sampler *s, struct sample_set *ret)
{
	*ret = (struct sample_set){0};
	take_columns(s, ret);
	ret->t_stop_ns = clock_now_ns();
	ret->cpu_ns = cpu_so_far_ns(s);
}

static void abandon(struct sampler *s)
{
	struct meter_status *st =
		meter_add_status(&s->su, "sampler", "", false,
				 "a driver call had not returned when sampling stopped");

	lem_strlcpy(st->fix, "see `dmesg` for NVRM and Xid messages", sizeof(st->fix));
	s->next_abandoned = atomic_load(&abandoned_samplers);
	while (!atomic_compare_exchange_weak(&abandoned_samplers, &s->next_abandoned, s))
		;
}

void sampler_stop(struct sampler *s, struct sample_set *ret)
{
	bool own = join(s);

	*ret = (struct sample_set){0};
	for (size_t i = 0; own && i < s->n_meters; i++)
		if (s->meters[i].ops->report)
			s->meters[i].ops->report(s->meters[i].state, &s->su);
	if (!own)
		abandon(s);
	take_columns(s, ret);
	ret->t_stop_ns = own ? s->t_stop_ns : clock_now_ns();
	ret->cpu_ns = own ? s->cpu_ns : 0;
	if (own)
		sampler_free(s);
}

int meter_probe(const struct meter_request *req, struct meter_status **ret, size_t *ret_n,
		struct lem_error *err)
{
	_Atomic pid_t nobody = 0;
	struct meter_setup su;
	struct opened_meter opened[METERS_MAX];
	size_t n;

	(void)err;
	meter_setup_init(&su, req, &nobody);
	n = meter_setup_open(&su, opened);
	while (n-- > 0)
		opened[n].ops->close(opened[n].state);
	*ret_n = su.statuses.n;
	*ret = copy(su.statuses.at, su.statuses.n, sizeof(**ret));
	meter_setup_release(&su);
	return 0;
}
