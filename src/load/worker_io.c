#include "load/worker_io.h"

#include <poll.h>

#include "base/clock.h"
#include "base/num.h"

enum {
	LINE_MAX_BYTES = 16 << 20, /* of the protocol */
	LOG_TAIL_BYTES = 32 << 10,
	NOISE_MAX_BYTES = 1 << 20, /* lines on stdout that are not events */
	READ_BYTES = 64 << 10,
	TICK_MS = 200,
};

void worker_io_init(struct worker_io *w, struct proc *proc, int cancel_fd)
{
	*w = (struct worker_io){.proc = proc, .cancel_fd = cancel_fd, .tokens_max_bytes = 1 << 20};
	str_reserve(&w->log, 2 * LOG_TAIL_BYTES);
}

void worker_io_release(struct worker_io *w)
{
	str_release(&w->tokens);
	str_release(&w->log);
	str_release(&w->line);
	str_release(&w->ready);
}

/* A `tokens` line is five numbers of at most 20 digits, some names, and an id per sequence. */
void worker_io_begin_run(struct worker_io *w, size_t expected_lines, size_t max_ids_per_line)
{
	str_reset(&w->tokens);
	w->out_tokens = 0;
	memset(w->out_by_replica, 0, sizeof(w->out_by_replica));
	w->tokens_max_bytes = (expected_lines + 1024) * (256 + 24 * max_ids_per_line);
	str_reserve(&w->tokens, MIN(w->tokens_max_bytes, (size_t)(64 << 20)));
}

static void keep_log(struct worker_io *w, const char *bytes, size_t n)
{
	if (n > LOG_TAIL_BYTES) {
		bytes += n - LOG_TAIL_BYTES;
		n = LOG_TAIL_BYTES;
	}
	if (w->log.len + n > 2 * LOG_TAIL_BYTES) {
		memmove(w->log.buf, w->log.buf + w->log.len - LOG_TAIL_BYTES, LOG_TAIL_BYTES);
		w->log.len = LOG_TAIL_BYTES;
	}
	str_addn(&w->log, bytes, n);
}

/* The number after a key of a tokens line; -1: none. */
static int64_t number_after(const char *line, size_t n, const char *key)
{
	const char *p = memmem(line, n, key, strlen(key));
	int64_t v = 0;

	if (!p)
		return -1;
	for (p += strlen(key); p < line + n && *p >= '0' && *p <= '9' && v < INT64_MAX / 20; p++)
		v = v * 10 + (*p - '0');
	return v;
}

/* Each replica counts its own tokens. Progress only, so anything odd is ignored. */
static void note_progress(struct worker_io *w, const char *line, size_t n)
{
	int64_t out = number_after(line, n, "\"out\":"),
		replica = MAX(number_after(line, n, "\"replica\":"), INT64_C(0));

	if (out < 0 || replica >= WORKER_IO_REPLICAS)
		return;
	w->out_tokens += out - w->out_by_replica[replica];
	w->out_by_replica[replica] = out;
}

static int take_line(struct worker_io *w, const char *line, size_t n, struct lem_error *err)
{
	static const char tokens[] = "{\"event\":\"tokens\"";

	if (n >= sizeof(tokens) - 1 && memcmp(line, tokens, sizeof(tokens) - 1) == 0) {
		if (w->tokens.len + n + 1 > w->tokens_max_bytes)
			return lem_fail(err, LEM_E_ENGINE,
					"the worker reports more steps than its work can have");
		str_addn(&w->tokens, line, n);
		str_addc(&w->tokens, '\n');
		note_progress(w, line, n);
		return 0;
	}
	if (n && line[0] == '{') {
		if (w->ready.len + n > 2 * (size_t)LINE_MAX_BYTES)
			return lem_fail(err, LEM_E_ENGINE,
					"the worker floods its output with events");
		str_addn(&w->ready, line, n);
		str_addc(&w->ready, '\n');
		return 0;
	}
	keep_log(w, line, n);
	keep_log(w, "\n", 1);
	w->noise_bytes += n + 1;
	if (w->noise_bytes > NOISE_MAX_BYTES)
		return lem_fail(err, LEM_E_ENGINE,
				"the worker floods its output with text that is no event");
	return 0;
}

static int take_bytes(struct worker_io *w, const char *p, size_t n, struct lem_error *err)
{
	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t k = nl ? (size_t)(nl - p) : n;
		int r = 0;

		if (w->line.len + k > LINE_MAX_BYTES)
			return lem_fail(err, LEM_E_ENGINE,
					"the worker sent a line longer than %d MiB",
					LINE_MAX_BYTES >> 20);
		if (!nl || w->line.len)
			str_addn(&w->line, p, k);
		if (!nl)
			return 0;
		r = w->line.len ? take_line(w, w->line.buf, w->line.len, err)
				: take_line(w, p, k, err);
		if (r < 0)
			return r;
		str_reset(&w->line);
		p += k + 1;
		n -= k + 1;
	}
	return 0;
}

/* Reads once; *any is set when bytes came. EOF is noted, not an error. */
static int read_stdout(struct worker_io *w, bool *any, struct lem_error *err)
{
	char buf[READ_BYTES];
	ssize_t n = read(w->proc->out, buf, sizeof(buf));

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		w->eof = true;
	if (n <= 0)
		return 0;
	*any = true;
	return take_bytes(w, buf, (size_t)n, err);
}

static bool read_stderr(struct worker_io *w)
{
	char buf[READ_BYTES];
	ssize_t n = w->proc->err >= 0 ? read(w->proc->err, buf, sizeof(buf)) : -1;

	if (n > 0)
		keep_log(w, buf, (size_t)n);
	else if (n == 0)
		close(steal_fd(&w->proc->err)); /* or poll would spin on it */
	return n > 0;
}

void worker_io_drain(struct worker_io *w)
{
	bool any = true;

	for (int i = 0; i < 1024 && w->proc->err >= 0 && read_stderr(w); i++)
		;
	for (int i = 0; i < 1024 && any && !w->eof && w->proc->out >= 0; i++) {
		any = false;
		if (read_stdout(w, &any, NULL) < 0)
			return;
	}
}

/* The end of a log that a person wants to see: the last few non-empty lines. */
static void last_lines(const struct str *log, char *buf, size_t size)
{
	size_t from = log->len, lines = 0;

	while (from > 0 && lines < 4 && log->len - from < size - 1) {
		from--;
		if (log->buf[from] == '\n' && from + 1 < log->len)
			lines++;
	}
	if (lines == 4 || (from && log->len - from >= size - 1))
		from++;
	lem_strlcpy(buf, str_c(log) + from, size);
	for (size_t n = strlen(buf); n && (buf[n - 1] == '\n' || buf[n - 1] == ' '); n--)
		buf[n - 1] = '\0';
}

static int fail_ended(struct worker_io *w, const char *doing, struct lem_error *err)
{
	int64_t patience_ns = clock_now_ns() + 2 * NS_PER_S;
	char how[320], tail[400];

	if (w->wait_until)
		(void)w->wait_until(w->end_arg, patience_ns);
	else
		(void)proc_wait_until(w->proc, patience_ns);
	worker_io_drain(w);
	if (w->describe_end)
		(void)w->describe_end(w->end_arg, how, sizeof(how));
	else
		proc_describe_end(w->proc, how, sizeof(how));
	last_lines(&w->log, tail, sizeof(tail));
	lem_fail(err, LEM_E_ENGINE, "the worker ended while %s: %s", doing, how);
	return lem_error_why(err, "%s%s", tail[0] ? "its last words: " : "it left no message",
			     tail);
}

static int fail_silent(struct worker_io *w, int64_t silence_ns, const char *doing,
		       struct lem_error *err)
{
	char buf[24], tail[400];

	last_lines(&w->log, tail, sizeof(tail));
	lem_fail(err, LEM_E_TIMEOUT, "the worker said nothing for %s while %s",
		 num_format_duration(silence_ns, buf, sizeof(buf)), doing);
	if (tail[0])
		(void)lem_error_why(err, "its log ends with: %s", tail);
	return lem_error_fix(err, "raise load_timeout_sec or request_timeout_sec in the engine's "
				  "section if this machine is that slow");
}

/* One wait. Reads both outputs, writes what is pending, honours cancel. */
static int pump(struct worker_io *w, const char *pending, size_t *sent, size_t n_pending,
		int timeout_ms, bool *any, struct lem_error *err)
{
	struct pollfd fds[4] = {
		{.fd = w->eof ? -1 : w->proc->out, .events = POLLIN},
		{.fd = w->proc->err, .events = POLLIN},
		{.fd = w->cancel_fd, .events = POLLIN},
		{.fd = *sent < n_pending ? w->proc->in : -1, .events = POLLOUT},
	};
	int r = 0;

	if (poll(fds, 4, timeout_ms) < 0 && errno != EINTR)
		return lem_fail_errno(err, errno, "cannot wait for the worker");
	if (fds[2].revents)
		return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
	if (fds[0].revents)
		r = read_stdout(w, any, err);
	if (r >= 0 && fds[1].revents)
		read_stderr(w); /* a log that goes on is no sign of life */
	if (r >= 0 && fds[3].revents) {
		ssize_t k = write(w->proc->in, pending + *sent, n_pending - *sent);

		if (k > 0)
			*sent += (size_t)k;
		else if (k < 0 && errno != EAGAIN && errno != EINTR)
			w->eof = true; /* it closed its input: it is ending */
	}
	if (w->tick)
		w->tick(w->tick_arg);
	return r;
}

int worker_io_send(struct worker_io *w, const char *line, int64_t t_deadline_ns,
		   struct lem_error *err)
{
	_cleanup_str_ struct str out = STR_INIT;
	size_t sent = 0;
	bool any = false;

	str_add(&out, line);
	str_addc(&out, '\n');
	while (sent < out.len) {
		int r;

		if (w->eof)
			return fail_ended(w, "taking a request", err);
		if (clock_now_ns() > t_deadline_ns)
			return lem_fail(err, LEM_E_TIMEOUT,
					"the worker does not read its requests");
		r = pump(w, out.buf, &sent, out.len, TICK_MS, &any, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool hand_out(struct worker_io *w, struct str *ret)
{
	const char *from = str_c(&w->ready) + w->ready_at;
	const char *nl =
		w->ready.len > w->ready_at ? memchr(from, '\n', w->ready.len - w->ready_at) : NULL;

	if (!nl)
		return false;
	str_reset(ret);
	str_addn(ret, from, (size_t)(nl - from));
	w->ready_at += (size_t)(nl - from) + 1;
	if (w->ready_at == w->ready.len) {
		str_reset(&w->ready);
		w->ready_at = 0;
	}
	return true;
}

int worker_io_next(struct worker_io *w, int64_t silence_ns, const char *doing, struct str *ret,
		   struct lem_error *err)
{
	int64_t t_heard_ns = clock_now_ns();
	size_t none = 0;

	for (;;) {
		bool any = false;
		int r;

		if (hand_out(w, ret))
			return 0;
		if (w->eof)
			return fail_ended(w, doing, err);
		r = pump(w, NULL, &none, 0, TICK_MS, &any, err);
		if (r < 0)
			return r;
		int64_t now = clock_now_ns();

		if (any)
			t_heard_ns = now;
		if (now - t_heard_ns > silence_ns)
			return fail_silent(w, silence_ns, doing, err);
	}
}
