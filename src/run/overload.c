#include "run/overload.h"

#include <math.h>

#include "run/streams.h"
#include "stats/stats.h"

#define LOST_SHARE    0.05
#define BACKLOG_SHARE 0.10
#define CHANCE        3.0 /* times the root of what is in flight */
#define RISE          0.05
#define BEYOND        0.9 /* quantile of the first third */

enum { BACKLOG_MIN = 20, THIRD_MIN = 8 };

struct seen {
	int64_t due_ns, end_ns; /* INT64_MAX: it never ended */
	bool answered;
};

struct view {
	struct seen *at;
	size_t n;
	int64_t t0_ns, t1_ns; /* of the arrivals that are looked at */
};

/* It left without an answer because the server had no room or no time for it; not sent: every
 * connection waited for the server until the end. */
static bool is_lost(const struct request_record *q)
{
	return str_eq(q->failure, "http_429") || str_eq(q->failure, "timeout") ||
	       str_eq(q->failure, "cancelled") || str_eq(q->failure, "not_sent");
}

/* Requests that failed in another way were gone at once, as far as is known: they are no queue. */
static void look(const struct run_record *r, struct view *v)
{
	v->at = lem_calloc(r->n_requests + 1, sizeof(*v->at));
	v->t0_ns = r->window_start_ns;
	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];
		bool answered = request_answered(q) && q->t_last_ns;

		if ((!answered && !is_lost(q)) || str_eq(q->failure, "http_429"))
			continue;
		v->at[v->n++] = (struct seen){.due_ns = q->t_scheduled_ns,
					      .end_ns = answered ? q->t_last_ns : INT64_MAX,
					      .answered = answered};
		v->t1_ns = MAX(v->t1_ns, q->t_scheduled_ns);
	}
	v->t1_ns = MIN(v->t1_ns, r->window_end_ns);
}

static bool turned_away(const struct run_record *r, char *why, size_t size)
{
	size_t n = 0, lost = 0;

	for (size_t i = 0; i < r->n_requests; i++) {
		n += !r->requests[i].uncounted;
		lost += !r->requests[i].uncounted && is_lost(&r->requests[i]);
	}
	if (n < BACKLOG_MIN || (double)lost <= LOST_SHARE * (double)n)
		return false;
	(void)snprintf(why, size, "%zu of %zu requests were turned away or not served in time",
		       lost, n);
	return true;
}

static int64_t in_flight(const struct view *v, int64_t t_ns)
{
	int64_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		n += v->at[i].due_ns <= t_ns && v->at[i].end_ns > t_ns;
	return n;
}

static size_t due_between(const struct view *v, int64_t from_ns, int64_t to_ns)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		n += v->at[i].due_ns > from_ns && v->at[i].due_ns <= to_ns;
	return n;
}

/* Latencies from the schedule, ms, of the answered requests that were due in a stretch. */
static struct latency_stats latencies(const struct view *v, int64_t from_ns, int64_t to_ns,
				      double *room)
{
	size_t n = 0;

	for (size_t i = 0; i < v->n; i++)
		if (v->at[i].answered && v->at[i].due_ns > from_ns && v->at[i].due_ns <= to_ns)
			room[n++] = (double)(v->at[i].end_ns - v->at[i].due_ns) / 1e6;
	return stats_latency(room, n, "none");
}

/* Whether the first to come were served soon enough for a steady state to be seen afterwards. */
static bool fills_quickly(const struct view *v, double *room)
{
	int64_t quarter_ns = (v->t1_ns - v->t0_ns) / 4;
	struct latency_stats early = latencies(v, INT64_MIN, v->t0_ns + quarter_ns, room);

	return early.n && early.p50 <= (double)quarter_ns / 1e6;
}

static bool backlog_grew(const struct view *v, double *room, char *why, size_t size)
{
	int64_t span_ns = v->t1_ns - v->t0_ns, half_ns = v->t0_ns + span_ns / 2;
	int64_t a = in_flight(v, half_ns), b = in_flight(v, half_ns + span_ns / 4),
		c = in_flight(v, v->t1_ns);
	size_t due = due_between(v, half_ns, v->t1_ns);
	double seconds = (double)(v->t1_ns - half_ns) / 1e9;

	if (due < BACKLOG_MIN || !(a < b && b < c) ||
	    (double)(c - a) < BACKLOG_SHARE * (double)due ||
	    (double)(c - a) < CHANCE * sqrt((double)c) || !fills_quickly(v, room))
		return false;
	(void)snprintf(why, size,
		       "%.3g requests/s came, it finished %.3g; %" PRId64
		       " were in flight at half time, %" PRId64 " at the end",
		       (double)due / seconds, ((double)due - (double)(c - a)) / seconds, a, c);
	return true;
}

static bool latency_rose(const struct view *v, double *room, char *why, size_t size)
{
	int64_t from_ns = v->t0_ns + (v->t1_ns - v->t0_ns) / 4, third_ns = (v->t1_ns - from_ns) / 3;
	struct latency_stats t[3];
	double beyond = 0, apart_ms = 2 * (double)third_ns / 1e6;

	for (int k = 0; k < 3; k++) {
		int64_t begin_ns = from_ns + k * third_ns;

		t[k] = latencies(v, begin_ns, k == 2 ? v->t1_ns : begin_ns + third_ns, room);
		if (t[k].n < THIRD_MIN)
			return false;
		if (k == 0) /* stats_latency has sorted them */
			beyond = stats_quantile_sorted(room, t[0].n, BEYOND);
	}
	if (!(t[0].p50 < t[1].p50 && t[1].p50 < t[2].p50) || t[2].p50 <= beyond ||
	    t[2].p50 - t[0].p50 < RISE * apart_ms)
		return false;
	(void)snprintf(why, size,
		       "the median time to the whole answer rose from %.3g s to %.3g s within the "
		       "window",
		       t[0].p50 / 1e3, t[2].p50 / 1e3);
	return true;
}

bool overload_seen(const struct run_record *r, char *why, size_t size)
{
	struct view v = {0};
	double *room;
	bool seen;

	if (r->status != RUN_COMPLETED || !r->server.used || !r->server.arrivals ||
	    r->window_end_ns <= r->window_start_ns || !r->engine_mode ||
	    !str_eq(r->engine_mode, "server/open"))
		return false;
	look(r, &v);
	room = lem_calloc(v.n + 1, sizeof(*room));
	seen = turned_away(r, why, size) ||
	       (v.t1_ns > v.t0_ns &&
		(backlog_grew(&v, room, why, size) || latency_rose(&v, room, why, size)));
	free(room);
	free(v.at);
	return seen;
}
