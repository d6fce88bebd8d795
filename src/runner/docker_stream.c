#include "runner/docker_stream.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/str.h"
#include "runner/docker_frames.h"

enum { READ_BYTES = 64 << 10 };

struct docker_stream {
	pthread_t thread;
	int socket, stop; /* stop: eventfd */
	int out, err;     /* our writing ends; -1 once nobody reads them */
	struct str first; /* read with the answer's head */
	struct docker_frames frames;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(steal_fd(fd));
}

/* Waits until fd is ready; false when it is time to end. */
static bool wait_ready(const struct docker_stream *s, int fd, short events)
{
	struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = s->stop, .events = POLLIN}};

	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return false;
	return !p[1].revents;
}

/* A pipe that nobody reads any more swallows the rest. */
static int copy(void *arg, int stream, const char *bytes, size_t n)
{
	struct docker_stream *s = arg;
	int *to = stream == 2 ? &s->err : &s->out;

	while (n && *to >= 0) {
		ssize_t k = write(*to, bytes, n);

		if (k < 0 && errno == EPIPE) {
			close(steal_fd(to));
			return 0;
		}
		if (k < 0 && errno != EAGAIN && errno != EINTR)
			return -1;
		if (k < 0 && !wait_ready(s, *to, POLLOUT))
			return -1;
		if (k > 0) {
			bytes += k;
			n -= (size_t)k;
		}
	}
	return 0;
}

static void *pump(void *arg)
{
	struct docker_stream *s = arg;
	char *buf = lem_calloc(1, READ_BYTES);
	bool ok =
		docker_frames_feed(&s->frames, str_c(&s->first), s->first.len, copy, s, NULL) >= 0;

	while (ok && wait_ready(s, s->socket, POLLIN)) {
		ssize_t n = read(s->socket, buf, READ_BYTES);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0 || docker_frames_feed(&s->frames, buf, (size_t)n, copy, s, NULL) < 0)
			break;
	}
	free(buf);
	close_fd(&s->out); /* the reader sees the end */
	close_fd(&s->err);
	return NULL;
}

static int make_pipe(int *ret_read, int *ret_write, struct lem_error *err)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return lem_fail_errno(err, errno, "cannot make a pipe");
	*ret_read = fds[0];
	*ret_write = fds[1];
	return 0;
}

static void stream_free(struct docker_stream *s)
{
	close_fd(&s->socket);
	close_fd(&s->stop);
	close_fd(&s->out);
	close_fd(&s->err);
	str_release(&s->first);
	free(s);
}

/* Signals are for the main thread, which waits on its signalfd. */
static int start_thread(struct docker_stream *s)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&s->thread, NULL, pump, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

int docker_stream_start(int socket_fd, const char *first, size_t n_first, struct proc *p,
			struct docker_stream **ret, struct lem_error *err)
{
	struct docker_stream *s = lem_calloc(1, sizeof(*s));
	struct proc ends = PROC_INIT;
	int rc;

	*s = (struct docker_stream){.socket = socket_fd, .stop = -1, .out = -1, .err = -1};
	s->stop = eventfd(0, EFD_CLOEXEC);
	fcntl(socket_fd, F_SETFL, fcntl(socket_fd, F_GETFL) | O_NONBLOCK);
	ends.in = fcntl(socket_fd, F_DUPFD_CLOEXEC, 0);
	rc = s->stop < 0 || ends.in < 0 ? lem_fail_errno(err, errno, "cannot make descriptors") : 0;
	if (rc >= 0 && (rc = make_pipe(&ends.out, &s->out, err)) >= 0 &&
	    (rc = make_pipe(&ends.err, &s->err, err)) >= 0)
		str_addn(&s->first, first, n_first);
	if (rc >= 0 && start_thread(s) != 0)
		rc = lem_fail(err, LEM_E_IO, "cannot start a thread");
	if (rc < 0) {
		stream_free(s);
		proc_release(&ends);
		return rc;
	}
	*p = ends;
	*ret = s;
	return 0;
}

void docker_stream_stop(struct docker_stream *s)
{
	uint64_t one = 1;

	if (!s)
		return;
	while (write(s->stop, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_join(s->thread, NULL);
	stream_free(s);
}
