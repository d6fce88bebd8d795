#include "run/session.h"

#include "base/clock.h"

enum { SEND_TIMEOUT_S = 60, STOP_TIMEOUT_S = 10, HURRY_GRACE_S = 2 };

static bool wait_until(void *arg, int64_t t_ns)
{
	struct session *s = arg;

	return s->runner->wait_until(&s->running, t_ns);
}

static char *describe_end(void *arg, char *buf, size_t size)
{
	struct session *s = arg;

	return s->runner->describe_end(&s->running, buf, size);
}

int session_start(struct session *s, struct lem_error *err)
{
	int r = s->runner->start(s->spec, &s->context, &s->running, err);

	if (r < 0)
		return r;
	s->started = true;
	s->next_run = 1;
	worker_io_init(&s->io, &s->running.proc, s->context.cancel_fd);
	s->io.wait_until = wait_until;
	s->io.describe_end = describe_end;
	s->io.end_arg = s;
	return 0;
}

/* The next event that is not of an unknown kind; `error` events become errors. */
static int next_event(struct session *s, int64_t silence_ns, const char *doing,
		      enum worker_event wanted, struct str *line, struct lem_error *err)
{
	enum { UNKNOWN_EVENTS_MAX = 1000 };

	for (int i = 0; i < UNKNOWN_EVENTS_MAX; i++) {
		enum worker_event kind;
		int r = worker_io_next(&s->io, silence_ns, doing, line, err);

		if (r >= 0)
			r = worker_event_kind(str_c(line), &kind, err);
		if (r < 0)
			return r;
		if (kind == WORKER_ERROR)
			return worker_parse_error(str_c(line), err);
		if (kind == wanted)
			return 0;
		if (kind != WORKER_OTHER)
			return lem_fail(err, LEM_E_ENGINE,
					"the worker sent an unexpected event while %s: %.80s",
					doing, str_c(line));
	}
	return lem_fail(err, LEM_E_ENGINE,
			"the worker keeps sending events of unknown kinds while %s", doing);
}

int session_load(struct session *s, struct arena *a, struct worker_loaded *ret,
		 struct lem_error *err)
{
	_cleanup_str_ struct str line = STR_INIT;
	int r = worker_io_send(&s->io, s->spec->load_json,
			       clock_now_ns() + SEND_TIMEOUT_S * NS_PER_S, err);

	if (r >= 0)
		r = next_event(s, s->spec->load_timeout_ns, "loading the model", WORKER_LOADED,
			       &line, err);
	return r < 0 ? r : worker_parse_loaded(str_c(&line), a, ret, err);
}

int session_run(struct session *s, const char *request, size_t max_steps, size_t max_ids,
		struct arena *a, int64_t *ret_t_asked_ns, struct worker_done *ret,
		struct lem_error *err)
{
	_cleanup_str_ struct str line = STR_INIT;
	int64_t run = s->next_run++;
	int r;

	worker_io_begin_run(&s->io, max_steps, max_ids);
	*ret_t_asked_ns = clock_now_ns();
	r = worker_io_send(&s->io, request, *ret_t_asked_ns + SEND_TIMEOUT_S * NS_PER_S, err);
	if (r >= 0)
		r = next_event(s, s->silence_ns, "generating", WORKER_DONE, &line, err);
	if (r >= 0)
		r = worker_parse_done(str_c(&line), a, ret, err);
	if (r >= 0 && ret->run != run)
		r = lem_fail(err, LEM_E_ENGINE,
			     "the worker ended run %" PRId64 " when run %" PRId64 " was asked for",
			     ret->run, run);
	return r;
}

void session_stop(struct session *s, bool in_a_hurry)
{
	if (!s->started)
		return;
	if (!in_a_hurry && !s->io.eof && s->spec->channel == CHANNEL_WORKER &&
	    worker_io_send(&s->io, "{\"op\":\"stop\"}", clock_now_ns() + STOP_TIMEOUT_S * NS_PER_S,
			   NULL) >= 0)
		(void)wait_until(s, clock_now_ns() + STOP_TIMEOUT_S * NS_PER_S);
	s->runner->stop(&s->running, in_a_hurry ? HURRY_GRACE_S * NS_PER_S : s->spec->stop_grace_ns,
			in_a_hurry ? -1 : s->context.cancel_fd);
	s->started = false;
}

void session_release(struct session *s)
{
	session_stop(s, true);
	worker_io_release(&s->io);
}
