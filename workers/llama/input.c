#include "worker.h"

#include <poll.h>

enum { LINE_MAX_BYTES = 16 << 20, READ_BYTES = 64 << 10 };

/* Reads once; false at the end of the input, or when a signal asks to stop. */
static bool read_more(struct input *in)
{
	struct pollfd fds[] = {{.fd = in->fd, .events = POLLIN},
			       {.fd = in->stop_fd, .events = POLLIN}};
	ssize_t n;

	while (poll(fds, ARRAY_LEN(fds), -1) < 0)
		if (errno != EINTR)
			return false;
	if (fds[1].revents)
		return false;
	str_reserve(&in->buf, READ_BYTES);
	n = read(in->fd, in->buf.buf + in->buf.len, READ_BYTES);
	if (n <= 0)
		return n < 0 && (errno == EINTR || errno == EAGAIN);
	in->buf.len += (size_t)n;
	return true;
}

static void drop(struct input *in, size_t n)
{
	if (!n)
		return;
	in->buf.len -= n;
	memmove(in->buf.buf, in->buf.buf + n, in->buf.len);
	in->searched = 0;
}

enum input_kind input_next(struct input *in, const char **ret_line, size_t *ret_n)
{
	drop(in, in->handed_out);
	in->handed_out = 0;
	for (;;) {
		const char *from = str_c(&in->buf);
		const char *nl = memchr(from + in->searched, '\n', in->buf.len - in->searched);

		if (nl) {
			bool was_skipping = in->skipping;

			in->skipping = false;
			in->handed_out = (size_t)(nl - from) + 1;
			*ret_line = from;
			*ret_n = in->handed_out - 1;
			return was_skipping ? INPUT_TOO_LONG : INPUT_LINE;
		}
		in->searched = in->buf.len;
		if (in->buf.len > LINE_MAX_BYTES) {
			in->skipping = true;
			drop(in, in->buf.len);
		}
		if (!read_more(in))
			return INPUT_END;
	}
}
