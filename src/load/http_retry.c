/* A server may close an idle connection just as the next request is sent on it. Nobody has failed
 * then: RFC 9112 section 9.3.1 has clients send such a request again. Once, on a fresh connection,
 * and never when a byte of an answer had come. */
#include "load/http_impl.h"

/* What comes later than this after the sending is no close that crossed it on its way. */
#define CROSSED_NS (1 * NS_PER_S)

/* Sending may fail while an answer lies there unread: 413 comes this way. */
static bool has_unread(const struct http_conn *c)
{
	char byte;

	return c->tls ? tls_conn_pending(c->tls)
		      : recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

bool http_retry_takes(struct http_loop *l, uint32_t i, enum http_load_failure f, int64_t now)
{
	const struct http_conn *c = &l->conns[i];
	uint32_t job = c->job;
	struct http_work *w = &l->work[job];

	if ((f != HTTP_LOAD_RESET && f != HTTP_LOAD_CLOSED_EARLY) || !c->served ||
	    l->jobs[job].n_bytes || w->was != HTTP_LOAD_OK ||
	    now - l->jobs[job].t_sent_ns > CROSSED_NS || has_unread(c))
		return false;
	w->was = (uint8_t)f;
	w->next_retry = HTTP_NONE;
	*(l->retry_last == HTTP_NONE ? &l->retry_first : &l->work[l->retry_last].next_retry) = job;
	l->retry_last = job;
	l->n_retried++;
	return true;
}

static uint32_t take_first(struct http_loop *l)
{
	uint32_t job = l->retry_first;

	l->retry_first = l->work[job].next_retry;
	if (l->retry_first == HTTP_NONE)
		l->retry_last = HTTP_NONE;
	return job;
}

void http_retry_begin(struct http_loop *l, int64_t now)
{
	while (l->retry_first != HTTP_NONE) {
		bool full = !l->n_unused && l->n_conns == l->max_conns;

		if (full && !l->n_idle)
			return; /* each that ends is an event, after which this is asked again */
		if (full)
			http_conn_close(l, l->idle[l->n_idle - 1]);
		http_conn_dial(l, take_first(l), now);
	}
}

enum http_load_failure http_retry_failure(const struct http_loop *l, uint32_t job,
					  enum http_load_failure f)
{
	bool reached = f != HTTP_LOAD_CONNECT && f != HTTP_LOAD_TLS;

	return reached || l->work[job].was == HTTP_LOAD_OK
		       ? f
		       : (enum http_load_failure)l->work[job].was;
}

void http_retry_cancel(struct http_loop *l, int64_t now)
{
	while (l->retry_first != HTTP_NONE)
		http_loop_ended(l, take_first(l), HTTP_LOAD_CANCELLED,
				"ended before it was complete", now);
}
