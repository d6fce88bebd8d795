#include "run/streams.h"

#include <math.h>

#include "stats/stats.h"

bool request_answered(const struct request_record *q)
{
	return q->finish[0] && !str_eq(q->finish, "error");
}

static const int64_t *stamps_of(const struct run_record *r, const struct request_record *q)
{
	return r->token_stamps_ns + q->first_stamp;
}

/* Tokens that came with chunk k. */
static double tokens_of(const struct run_record *r, const struct request_record *q, int64_t k)
{
	int32_t told = r->stamp_tokens ? r->stamp_tokens[q->first_stamp + (size_t)k] : -1;

	return told >= 0 ? told : (double)q->output_tokens / (double)q->n_stamps;
}

static bool in_window(const struct run_record *r, int64_t t_ns)
{
	return t_ns >= r->window_start_ns && t_ns <= r->window_end_ns;
}

/* ---- counts ---- */

static double output_in_window(const struct run_record *r, const struct request_record *q)
{
	double n = 0;
	int64_t inside = 0;

	for (int64_t k = 0; k < q->n_stamps; k++) {
		if (!in_window(r, stamps_of(r, q)[k]))
			continue;
		n += tokens_of(r, q, k);
		inside++;
	}
	return inside == q->n_stamps && inside ? (double)q->output_tokens : n;
}

static void add_failure(struct summary *s, const char *name)
{
	for (size_t i = 0; i < s->n_failures; i++)
		if (str_eq(s->failures[i].name, name)) {
			s->failures[i].n++;
			return;
		}
	if (s->n_failures == SUMMARY_MAX_FAILURES)
		return;
	lem_strlcpy(s->failures[s->n_failures].name, name, sizeof(s->failures[0].name));
	s->failures[s->n_failures++].n = 1;
}

static void check_length(struct summary *s, const struct request_record *q)
{
	if (!request_answered(q) || q->uncounted)
		return;
	s->lengths_untold += !q->output_tokens;
	s->lengths_differ += q->output_tokens && q->output_tokens_asked &&
			     q->output_tokens != q->output_tokens_asked;
}

void streams_count(const struct run_record *r, struct summary *s)
{
	double output = 0;

	s->cached_tokens = -1;
	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		output += output_in_window(r, q);
		s->input_tokens += in_window(r, q->t_first_ns) ? q->input_tokens : 0;
		s->chunks += q->n_stamps;
		if (q->cached_tokens >= 0)
			s->cached_tokens = MAX(s->cached_tokens, INT64_C(0)) + q->cached_tokens;
		if (q->failure[0] && !q->uncounted)
			add_failure(s, q->failure);
		check_length(s, q);
	}
	s->output_tokens = llround(output);
}

void streams_spread(const struct run_record *r, double *output, double *all, int n)
{
	int64_t t0 = r->window_start_ns, ns = r->window_end_ns - t0;

	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		if (q->n_stamps && in_window(r, q->t_first_ns))
			all[(q->t_first_ns - t0) * n / (ns + 1)] += (double)q->input_tokens;
		for (int64_t k = 0; k < q->n_stamps; k++) {
			int64_t t = stamps_of(r, q)[k];
			double tokens = tokens_of(r, q, k);

			if (!in_window(r, t))
				continue;
			output[(t - t0) * n / (ns + 1)] += tokens;
			all[(t - t0) * n / (ns + 1)] += tokens;
		}
	}
}

/* ---- gaps ---- */

struct gaps {
	double *chunk, *token;
	size_t n_chunk, n_token;
	size_t n_answers;
	size_t n_untold; /* answers with a chunk of which it is not known how many tokens it holds
			  */
};

/* Of so many answers the gaps by token may be left out; with more they are not those of the run. */
#define UNTOLD_SHARE 0.01

/* As many chunks as tokens: each holds one. */
static int64_t whole_tokens(const struct run_record *r, const struct request_record *q, int64_t k)
{
	int32_t told = r->stamp_tokens ? r->stamp_tokens[q->first_stamp + (size_t)k] : -1;

	if (told >= 0)
		return told;
	return q->n_stamps == q->output_tokens ? 1 : -1;
}

static void add_gaps(struct gaps *g, const struct run_record *r, const struct request_record *q)
{
	const int64_t *t = stamps_of(r, q);

	bool told = true;

	for (int64_t k = 1; k < q->n_stamps; k++)
		told &= whole_tokens(r, q, k) >= 0;
	g->n_answers++;
	g->n_untold += !told;
	for (int64_t k = 1; k < q->n_stamps; k++) {
		double ms = (double)(t[k] - t[k - 1]) / 1e6;
		int64_t tokens = told ? whole_tokens(r, q, k) : 0;

		g->chunk[g->n_chunk++] = ms;
		for (int64_t i = 0; i < tokens && g->token; i++)
			g->token[g->n_token++] = ms / (double)tokens;
	}
}

/* Room for a gap of every token; a stored number may lie, so it is bounded. */
static size_t count_tokens(const struct run_record *r)
{
	enum { TOKENS_MAX = 500 * 1000 * 1000 };
	size_t n = 0;

	for (size_t i = 0; i < r->n_requests; i++)
		for (int64_t k = 0; k < r->requests[i].n_stamps; k++) {
			n += (size_t)MAX(whole_tokens(r, &r->requests[i], k), INT64_C(0));
			if (n > TOKENS_MAX)
				return 0;
		}
	return n;
}

static size_t count_stamps(const struct run_record *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_requests; i++)
		n += (size_t)r->requests[i].n_stamps;
	return n;
}

void streams_gaps(const struct run_record *r, struct summary *s)
{
	size_t room = r->server.used ? count_tokens(r) : 0;
	struct gaps g = {0};

	if (!r->server.used) {
		s->itl_chunk = stats_latency(NULL, 0, "the engine was not driven over HTTP");
		return;
	}
	g.chunk = lem_calloc(count_stamps(r) + 1, sizeof(double));
	g.token = room ? lem_calloc(room, sizeof(double)) : NULL;
	for (size_t i = 0; i < r->n_requests; i++)
		if (!r->requests[i].uncounted && request_answered(&r->requests[i]))
			add_gaps(&g, r, &r->requests[i]);
	s->itl_chunk = stats_latency(g.chunk, g.n_chunk, "no answer came in several chunks");
	s->chunks_untold = (int64_t)g.n_untold;
	if ((double)g.n_untold > UNTOLD_SHARE * (double)g.n_answers || (g.n_chunk && !g.n_token))
		s->itl = stats_latency(NULL, 0,
				       "the server does not tell how many tokens a chunk holds; "
				       "see the gaps between chunks");
	else
		s->itl = stats_latency(g.token, g.n_token, "no answer came in several chunks");
	free(g.chunk);
	free(g.token);
}

/* ---- the client ---- */

/* The time in which it worked: the window, and what was in flight around it. */
static double worked_s(const struct run_record *r)
{
	int64_t from_ns = r->window_start_ns, to_ns = r->window_end_ns;

	for (size_t i = 0; i < r->n_requests; i++) {
		from_ns = MIN(from_ns, r->requests[i].t_scheduled_ns);
		to_ns = MAX(to_ns, r->requests[i].t_last_ns);
	}
	return (double)(to_ns - from_ns) / 1e9;
}

/* The time in which requests were to be sent. Of a schedule only that of its arrivals: what is
 * still being answered long after needs no requests. Everything at once has no rate of its own. */
static double sending_s(const struct run_record *r)
{
	int64_t from_ns = INT64_MAX, to_ns = 0;

	for (size_t i = 0; i < r->n_requests && r->server.arrivals; i++) {
		from_ns = MIN(from_ns, r->requests[i].t_scheduled_ns);
		to_ns = MAX(to_ns, r->requests[i].t_scheduled_ns);
	}
	return to_ns > from_ns ? (double)(to_ns - from_ns) / 1e9 : worked_s(r);
}

static struct quantity exactly(double v, const char *method)
{
	return quantity_of(v, v, v, method);
}

static struct quantity roofline(double per_cpu_s)
{
	if (!isfinite(per_cpu_s) || per_cpu_s <= 0)
		return quantity_unknown("not measured before this run; see notes");
	return exactly(per_cpu_s, "in bursts, against a server without a model");
}

static struct quantity headroom(const struct quantity *can, double needed_per_s)
{
	if (!can->known)
		return *can;
	if (!(needed_per_s > 0))
		return quantity_unknown("nothing was asked of the client");
	return exactly(can->value / needed_per_s, "a CPU-second's worth / a second's need");
}

static void no_client(struct summary *s)
{
	static const char none[] = "the engine was not driven over HTTP";

	s->lag = stats_latency(NULL, 0, none);
	s->client_busy = s->roofline_requests = s->roofline_chunks = s->headroom_requests =
		s->headroom_chunks = quantity_unknown(none);
}

void streams_client(const struct run_record *r, struct summary *s)
{
	_cleanup_free_ double *ms = lem_calloc(r->n_requests + 1, sizeof(*ms));
	double seconds = worked_s(r), sending = sending_s(r);
	size_t n = 0;

	if (!r->server.used) {
		no_client(s);
		return;
	}
	for (size_t i = 0; i < r->n_requests; i++)
		if (r->requests[i].t_sent_ns)
			ms[n++] =
				(double)(r->requests[i].t_sent_ns - r->requests[i].t_scheduled_ns) /
				1e6;
	s->lag = stats_latency(ms, n, "no request was sent");
	if (r->server.client_cpu_ns < 0 || seconds <= 0)
		s->client_busy = quantity_unknown("not measured");
	else
		s->client_busy = exactly((double)r->server.client_cpu_ns / 1e9 / seconds,
					 "CPU seconds of the client's thread / time it worked");
	s->roofline_requests = roofline(r->server.roofline_requests_per_cpu_s);
	s->roofline_chunks = roofline(r->server.roofline_chunks_per_cpu_s);
	s->headroom_requests =
		headroom(&s->roofline_requests, sending > 0 ? (double)n / sending : 0);
	s->headroom_chunks =
		headroom(&s->roofline_chunks, seconds > 0 ? (double)s->chunks / seconds : 0);
}
