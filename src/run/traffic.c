#include "run/traffic.h"

#include <math.h>

#include "base/num.h"
#include "base/str.h"
#include "load/arrival.h"
#include "sys/fs.h"

enum { REQUESTS_MAX = 10 * 1000 * 1000, TRACE_MAX_BYTES = 256 << 20 };

static int too_many(struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED, "traffic asks for more than %d requests in one run",
		       REQUESTS_MAX);
	return lem_error_fix(err, "lower traffic.rate or traffic.duration_sec");
}

/* ---- recorded times ---- */

static int bad_line(const char *path, size_t number, const char *why, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED, "%s:%zu: %s", path, number, why);
	return lem_error_fix(err, "write one arrival time in seconds a line, ascending");
}

/* One number of seconds a line, from the first on; empty lines and those that begin with # do not
 * count. */
static int read_trace(const char *path, double **ret, size_t *ret_n, struct lem_error *err)
{
	_cleanup_str_ struct str file = STR_INIT;
	_cleanup_free_ double *at = NULL;
	size_t n = 0, cap = 0, number = 0;
	int rc = fs_read_file(path, TRACE_MAX_BYTES, &file, err);
	char *line = file.buf, *next;

	if (rc < 0) {
		err->code = LEM_E_REFUSED;
		return -LEM_E_REFUSED;
	}
	for (; line && *line; line = next) {
		char *end = line + strcspn(line, "\n");
		double s;

		next = *end ? end + 1 : end;
		*end = '\0';
		number++;
		line[strcspn(line, "\r")] = '\0';
		if (!*line || *line == '#')
			continue;
		if (!num_parse_f64(line, &s) || !isfinite(s) || s < 0 || s > 1e9)
			return bad_line(path, number, "this is no time in seconds", err);
		if (n && s * 1e9 < at[n - 1])
			return bad_line(path, number, "this is earlier than the line before", err);
		if (n == cap) {
			cap = MAX(cap * 2, (size_t)256);
			at = lem_reallocarray(at, cap, sizeof(*at));
		}
		at[n++] = s * 1e9;
	}
	if (!n)
		return bad_line(path, number, "there is no arrival in this file", err);
	*ret = at;
	at = NULL;
	*ret_n = n;
	return 0;
}

/* ---- open loop ---- */

static enum arrival_kind kind_of(enum arrival a)
{
	switch (a) {
	case TRAFFIC_CONSTANT: return ARRIVAL_CONSTANT;
	case TRAFFIC_GAMMA: return ARRIVAL_GAMMA;
	case TRAFFIC_TRACE: return ARRIVAL_TRACE;
	default: return ARRIVAL_POISSON;
	}
}

/* More arrivals than any duration needs, cut at its end; doubled in the unlikely case that they do
 * not reach it. mean: how many are expected. */
static int fill(const struct arrival_spec *s, double duration_ns, double mean,
		struct traffic_plan *t, struct lem_error *err)
{
	size_t n = t->n_prompts;

	if (duration_ns > 0 && mean > REQUESTS_MAX)
		return too_many(err);
	if (duration_ns > 0)
		n = (size_t)(mean + 10 * sqrt(mean) + 16);
	for (;; n *= 2) {
		int rc;

		if (n > 2 * (size_t)REQUESTS_MAX)
			return too_many(err);
		t->at_ns = lem_reallocarray(t->at_ns, n, sizeof(*t->at_ns));
		rc = arrival_schedule(s, t->at_ns, n, err);
		if (rc < 0)
			return rc;
		if (duration_ns <= 0 || t->at_ns[n - 1] >= duration_ns)
			break;
	}
	while (duration_ns > 0 && n > 1 && t->at_ns[n - 1] >= duration_ns)
		n--;
	t->n = n;
	return 0;
}

static double rate_of(const struct arrival_spec *s, const struct traffic_config *c)
{
	double span;

	if (s->kind != ARRIVAL_TRACE)
		return c->rate.v;
	span = s->trace_ns[s->n_trace - 1] - s->trace_ns[0];
	return span > 0 ? (double)s->n_trace / (span * s->trace_scale / 1e9) : 1;
}

/* The mean number of arrivals; a rate that changes does so evenly, and not at all afterwards. */
static double expected(const struct arrival_spec *s, const struct traffic_config *c,
		       double duration_ns)
{
	double rate_hz = rate_of(s, c), ramp_s = fmin(s->ramp_ns, duration_ns) / 1e9, at_end_hz;

	if (!(s->ramp_ns > 0))
		return duration_ns / 1e9 * rate_hz;
	at_end_hz = rate_hz + (s->ramp_to_hz - rate_hz) * ramp_s * 1e9 / s->ramp_ns;
	return (rate_hz + at_end_hz) / 2 * ramp_s + (duration_ns / 1e9 - ramp_s) * at_end_hz;
}

static void set_ramp(const struct traffic_config *c, struct arrival_spec *s)
{
	const struct maybe_f64 *over = c->ramp_over_sec.set ? &c->ramp_over_sec : &c->duration_sec;

	if (!c->ramp_to_rate.set || !over->set || s->kind == ARRIVAL_TRACE)
		return;
	s->ramp_to_hz = c->ramp_to_rate.v;
	s->ramp_ns = over->v * 1e9;
}

static int open_loop(const struct experiment *e, struct traffic_plan *t, struct lem_error *err)
{
	const struct traffic_config *c = &e->traffic;
	_cleanup_free_ double *trace = NULL;
	struct arrival_spec s = {
		.kind = kind_of(c->arrival),
		.rate_hz = c->rate.set ? c->rate.v : 1,
		.burstiness = c->burstiness,
		.trace_scale = c->trace_scale > 0 ? c->trace_scale : 1,
		.seed = (uint64_t)(c->seed.set          ? c->seed.v
				   : e->random_seed.set ? e->random_seed.v
							: 0),
	};
	int rc = 0;

	if (s.kind == ARRIVAL_TRACE && c->trace)
		rc = read_trace(c->trace, &trace, &s.n_trace, err);
	else if (s.kind == ARRIVAL_TRACE)
		s.n_trace = t->recorded_ns ? t->n_prompts : 0;
	if (rc < 0)
		return rc;
	if (s.kind == ARRIVAL_TRACE && !s.n_trace)
		return lem_fail(err, LEM_E_REFUSED, "the prompts come without arrival times");
	s.trace_ns = trace ? trace : t->recorded_ns;
	set_ramp(c, &s);
	t->plan.mode = HTTP_LOAD_OPEN;
	if (s.kind == ARRIVAL_TRACE && !t->duration_ns) {
		t->n_prompts = s.n_trace; /* each recorded arrival once */
	}
	return fill(&s, (double)t->duration_ns, expected(&s, c, (double)t->duration_ns), t, err);
}

/* ---- closed loop ---- */

/* Enough that the loop does not run dry: four times what the quickest warm-up promises. */
static int closed_loop(const struct traffic_config *c, struct traffic_plan *t,
		       struct lem_error *err)
{
	double in_flight = (double)c->concurrency.v, n = (double)t->n_prompts;
	double batch = t->batch_n ? (double)t->batch_n : in_flight;

	t->plan = (struct http_load_plan){.mode = HTTP_LOAD_CLOSED,
					  .in_flight = (size_t)c->concurrency.v};
	if (t->duration_ns && isnan(t->batch_ms))
		n = 1000 * in_flight;
	else if (t->duration_ns)
		n = 4 * batch * ((double)t->duration_ns / 1e6 / fmax(t->batch_ms, 0.1) + 1);
	if (n > REQUESTS_MAX && !t->duration_ns)
		return too_many(err);
	t->n = (size_t)fmin(n, REQUESTS_MAX);
	return 0;
}

int traffic_make(const struct experiment *e, struct traffic_plan *t, struct lem_error *err)
{
	const struct traffic_config *c = &e->traffic;

	t->duration_ns = c->duration_sec.set ? (int64_t)(c->duration_sec.v * 1e9) : 0;
	t->ramp_ns = (int64_t)(c->ramp_sec * 1e9);
	return c->concurrency.set ? closed_loop(c, t, err) : open_loop(e, t, err);
}

void traffic_release(struct traffic_plan *t)
{
	free(t->at_ns);
	t->at_ns = NULL;
}
