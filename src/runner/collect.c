#include "runner/collect.h"

#include <poll.h>

#include "base/clock.h"

/* Reads what is there; false at the end of the stream. Beyond the bound it is swallowed. */
static bool take(int *fd, struct str *out)
{
	char buf[4096];
	ssize_t n = read(*fd, buf, sizeof(buf));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0) { /* an error is the end too, else it is asked again at once, for ever */
		close(steal_fd(fd));
		return false;
	}
	if (out->len + (size_t)n <= ONCE_MAX_BYTES)
		str_addn(out, buf, (size_t)n);
	return true;
}

int collect_output(struct proc *p, int64_t t_end_ns, int cancel_fd, struct str *out,
		   struct str *log, struct lem_error *err)
{
	while (p->out >= 0 || p->err >= 0) {
		struct pollfd fds[3] = {{.fd = p->out, .events = POLLIN},
					{.fd = p->err, .events = POLLIN},
					{.fd = cancel_fd, .events = POLLIN}};
		int64_t left = t_end_ns - clock_now_ns();

		if (left <= 0)
			return lem_fail(err, LEM_E_TIMEOUT, "it did not end in time");
		if (poll(fds, 3, (int)MIN(left / NS_PER_MS + 1, INT64_C(1000))) < 0 &&
		    errno != EINTR)
			return lem_fail_errno(err, errno, "cannot wait for it");
		if (fds[2].revents)
			return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
		if (fds[0].revents)
			(void)take(&p->out, out);
		if (fds[1].revents)
			(void)take(&p->err, log);
	}
	return 0;
}
