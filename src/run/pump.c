#include "run/pump.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

enum { READ_BYTES = 64 << 10, READS_AT_END = 1024 };

struct pump {
	int out, err, pidfd; /* pidfd: a duplicate; -1 once it has been seen */
	int stop_fd, end_fd;
	bool by_streams; /* the end is that of both streams */
	_Atomic bool ended;
	pthread_t thread;
	pthread_mutex_t lock; /* of tail */
	struct str tail;
};

static void keep(struct pump *p, const char *bytes, size_t n)
{
	pthread_mutex_lock(&p->lock);
	if (n > PUMP_TAIL_BYTES) {
		bytes += n - PUMP_TAIL_BYTES;
		n = PUMP_TAIL_BYTES;
	}
	if (p->tail.len + n > 2 * PUMP_TAIL_BYTES) {
		memmove(p->tail.buf, p->tail.buf + p->tail.len - PUMP_TAIL_BYTES, PUMP_TAIL_BYTES);
		p->tail.len = PUMP_TAIL_BYTES;
	}
	str_addn(&p->tail, bytes, n);
	pthread_mutex_unlock(&p->lock);
}

/* false: nothing there now, or its end, at which it is closed. */
static bool read_some(struct pump *p, int *fd)
{
	char buf[READ_BYTES];
	ssize_t n = *fd >= 0 ? read(*fd, buf, sizeof(buf)) : -1;

	if (n > 0)
		keep(p, buf, (size_t)n);
	else if (*fd >= 0 && (n == 0 || (errno != EAGAIN && errno != EINTR)))
		close(steal_fd(fd));
	return n > 0;
}

static void tell_end(struct pump *p)
{
	uint64_t one = 1;

	if (atomic_exchange(&p->ended, true))
		return;
	(void)!write(p->end_fd, &one, sizeof(one));
}

static void *pump_thread(void *arg)
{
	struct pump *p = arg;

	for (;;) {
		struct pollfd fds[4] = {{.fd = p->out, .events = POLLIN},
					{.fd = p->err, .events = POLLIN},
					{.fd = p->pidfd, .events = POLLIN},
					{.fd = p->stop_fd, .events = POLLIN}};

		if (poll(fds, 4, -1) < 0 && errno != EINTR)
			return NULL;
		if (fds[0].revents)
			(void)read_some(p, &p->out);
		if (fds[1].revents)
			(void)read_some(p, &p->err);
		if (fds[2].revents) {
			tell_end(p);
			close(steal_fd(&p->pidfd));
		}
		if (p->by_streams && p->out < 0 && p->err < 0)
			tell_end(p);
		if (fds[3].revents)
			return NULL;
	}
}

static void pump_free(struct pump *p)
{
	int *fds[] = {&p->out, &p->err, &p->pidfd, &p->stop_fd, &p->end_fd};

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (*fds[i] >= 0)
			close(*fds[i]);
	str_release(&p->tail);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int pump_start(int out, int err_fd, int pidfd, struct pump **ret, struct lem_error *err)
{
	struct pump *p = lem_calloc(1, sizeof(*p));
	int rc;

	p->out = out;
	p->err = err_fd;
	p->by_streams = pidfd < 0;
	p->pidfd = pidfd >= 0 ? dup(pidfd) : -1;
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	p->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&p->lock, NULL);
	str_reserve(&p->tail, 2 * PUMP_TAIL_BYTES);
	rc = p->stop_fd < 0 || p->end_fd < 0 || (pidfd >= 0 && p->pidfd < 0)
		     ? errno
		     : pthread_create(&p->thread, NULL, pump_thread, p);
	if (rc) {
		pump_free(p);
		return lem_fail_errno(err, rc, "cannot start reading the engine's log");
	}
	*ret = p;
	return 0;
}

int pump_end_fd(const struct pump *p)
{
	return p->end_fd;
}

bool pump_ended(const struct pump *p)
{
	return atomic_load(&p->ended);
}

void pump_log(struct pump *p, struct str *out)
{
	pthread_mutex_lock(&p->lock);
	size_t n = MIN(p->tail.len, (size_t)PUMP_TAIL_BYTES);

	str_addn(out, str_c(&p->tail) + p->tail.len - n, n);
	pthread_mutex_unlock(&p->lock);
}

void pump_stop(struct pump *p, struct str *log)
{
	uint64_t one = 1;

	if (!p)
		return;
	(void)!write(p->stop_fd, &one, sizeof(one));
	pthread_join(p->thread, NULL);
	for (int i = 0; i < READS_AT_END && read_some(p, &p->out); i++)
		;
	for (int i = 0; i < READS_AT_END && read_some(p, &p->err); i++)
		;
	if (log)
		pump_log(p, log);
	pump_free(p);
}
