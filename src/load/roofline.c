#include "load/roofline.h"

#include <math.h>

#include "load/arrival.h"
#include "load/openai.h"

enum { CONNECTIONS_MAX = 2048 };

static const int32_t prompt[] = {1, 2, 3, 4, 5, 6, 7, 8};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Nearest rank; x is sorted by this. */
static struct roofline_spread spread(double *x, size_t n)
{
	struct roofline_spread s = {.n = n, .p50 = NAN, .p99 = NAN, .max = NAN};

	if (!n)
		return s;
	qsort(x, n, sizeof(*x), by_value);
	s.p50 = x[(n * 50 + 99) / 100 - 1];
	s.p99 = x[(n * 99 + 99) / 100 - 1];
	s.max = x[n - 1];
	return s;
}

static int64_t sent_by_server(const struct null_server *s, const char *hex)
{
	char digits[9] = {0};

	memcpy(digits, hex, 8);
	return null_server_sent_ns(s, strtoul(digits, NULL, 16));
}

/* What the server noted as sent, 0 where it did not: in step with r->chunks; malloc'ed. */
static int64_t *sent_times(const struct http_load_result *r, const struct null_server *s)
{
	int64_t *sent = lem_calloc(r->n_chunks + 1, sizeof(*sent));

	for (size_t i = 0; i < r->n_jobs; i++) {
		const struct http_load_job *j = &r->jobs[i];

		if (!j->text || strlen(j->text) != 8 * j->n_chunks)
			continue;
		for (size_t k = 0; k < j->n_chunks; k++)
			sent[j->first_chunk + k] = sent_by_server(s, j->text + 8 * k);
	}
	return sent;
}

static struct roofline_spread stamp_error(const struct http_load_result *r, const int64_t *sent)
{
	_cleanup_free_ double *x = lem_calloc(r->n_chunks + 1, sizeof(*x));
	size_t n = 0;

	for (size_t i = 0; i < r->n_chunks; i++)
		if (sent[i])
			x[n++] = (double)(r->chunks[i].t_ns - sent[i]) / 1e3;
	return spread(x, n);
}

/* Gaps as seen here against gap_ns, or, when sent is given, against those of the server. */
static struct roofline_spread itl_error(const struct http_load_result *r, int64_t gap_ns,
					const int64_t *sent)
{
	_cleanup_free_ double *x = lem_calloc(r->n_chunks + 1, sizeof(*x));
	size_t n = 0;

	for (size_t i = 0; i < r->n_jobs; i++)
		for (size_t k = 1; k < r->jobs[i].n_chunks; k++) {
			size_t c = r->jobs[i].first_chunk + k;
			int64_t truth = sent ? sent[c] - sent[c - 1] : gap_ns;

			if (!sent || (sent[c] && sent[c - 1]))
				x[n++] = fabs((double)(r->chunks[c].t_ns - r->chunks[c - 1].t_ns -
						       truth)) /
					 1e3;
		}
	return spread(x, n);
}

/* How far the server was from its own script: a case in which it was far measured the server. */
static struct roofline_spread itl_server(const struct http_load_result *r, int64_t gap_ns,
					 const int64_t *sent)
{
	_cleanup_free_ double *x = lem_calloc(r->n_chunks + 1, sizeof(*x));
	size_t n = 0;

	for (size_t i = 0; i < r->n_jobs; i++)
		for (size_t k = 1; k < r->jobs[i].n_chunks; k++) {
			size_t c = r->jobs[i].first_chunk + k;

			if (sent[c] && sent[c - 1])
				x[n++] = fabs((double)(sent[c] - sent[c - 1] - gap_ns)) / 1e3;
		}
	return spread(x, n);
}

static struct roofline_spread e2e(const struct http_load_result *r)
{
	_cleanup_free_ double *x = lem_calloc(r->n_jobs + 1, sizeof(*x));
	size_t n = 0;

	for (size_t i = 0; i < r->n_jobs; i++)
		if (r->jobs[i].failure == HTTP_LOAD_OK)
			x[n++] = (double)(r->jobs[i].t_last_ns - r->jobs[i].t_scheduled_ns) / 1e6;
	return spread(x, n);
}

static void figures(const struct roofline_case *c, const struct http_load_result *r,
		    const struct null_server *s, struct roofline_figures *ret)
{
	*ret = (struct roofline_figures){
		.n_ok = r->n_ok,
		.n_failed = r->n_jobs - r->n_ok,
		.n_chunks = r->n_chunks,
		.wall_s = (double)(r->t_end_ns - r->t_start_ns) / 1e9,
		.cpu_s = (double)(r->prepare_cpu_ns + r->cpu_ns + r->parse_cpu_ns) / 1e9,
		.prepare_s = (double)r->prepare_cpu_ns / 1e9,
		.loop_s = (double)r->cpu_ns / 1e9,
		.parse_s = (double)r->parse_cpu_ns / 1e9,
		.busy = r->busy,
		.lag_us = {.n = r->lag.n,
			   .p50 = (double)r->lag.p50_ns / 1e3,
			   .p99 = (double)r->lag.p99_ns / 1e3,
			   .max = (double)r->lag.max_ns / 1e3},
		.e2e_ms = e2e(r),
		.urgency = r->urgency,
		.first_failure = r->first_failure,
	};
	ret->requests_per_cpu_s = (double)ret->n_ok / ret->cpu_s;
	ret->chunks_per_cpu_s = (double)ret->n_chunks / ret->cpu_s;
	if (r->n_receives)
		ret->kernel_stamps = (double)r->n_kernel_stamps / (double)r->n_receives;
	if (c->script.gap_ns)
		ret->itl_script_us = itl_error(r, c->script.gap_ns, NULL);
	if (s && c->script.record) {
		_cleanup_free_ int64_t *sent = sent_times(r, s);

		ret->stamp_us = stamp_error(r, sent);
		ret->itl_error_us = itl_error(r, 0, sent);
		ret->itl_server_us = itl_server(r, c->script.gap_ns, sent);
	}
}

static int plan_jobs(const struct roofline_case *c, const struct str *body, struct http_job *jobs,
		     struct lem_error *err)
{
	const struct arrival_spec spec = {.kind = ARRIVAL_CONSTANT, .rate_hz = c->rate_hz};
	_cleanup_free_ double *at = lem_calloc(c->n, sizeof(*at));
	int r = 0;

	if (c->plan.mode == HTTP_LOAD_OPEN)
		r = arrival_schedule(&spec, at, c->n, err);
	for (size_t i = 0; i < c->n; i++)
		jobs[i] = (struct http_job){.body = body->buf,
					    .body_len = body->len,
					    .at_ns = at[i],
					    .output_tokens = c->tokens,
					    .input_tokens = ARRAY_LEN(prompt),
					    .stream = true};
	return r;
}

static int measure(const struct roofline_case *c, const struct null_server *s,
		   struct roofline_figures *ret, struct lem_error *err)
{
	const struct openai_ask ask = {.dialect = OPENAI_VLLM,
				       .model = "null",
				       .tokens = prompt,
				       .n_tokens = ARRAY_LEN(prompt),
				       .max_tokens = c->tokens,
				       .exact = true,
				       .stream = true};
	_cleanup_free_ struct http_job *jobs = lem_calloc(c->n, sizeof(*jobs));
	_cleanup_http_load_result_ struct http_load_result result = {0};
	_cleanup_str_ struct str body = STR_INIT;
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;
	int r = openai_body(&ask, &body, err);

	if (r >= 0)
		r = plan_jobs(c, &body, jobs, err);
	if (r < 0)
		return r;
	q.target.host = "127.0.0.1";
	q.target.port = s ? null_server_port(s) : c->port;
	q.target.path = openai_path(OPENAI_COMPLETIONS);
	q.jobs = jobs;
	q.n_jobs = c->n;
	q.plan = c->plan;
	q.preconnect = c->preconnect;
	q.no_pinning = c->ordinary;
	/* both ends of a connection may be descriptors of this process */
	q.limits.max_connections = MAX(c->preconnect, (size_t)CONNECTIONS_MAX);
	q.keep_text = c->script.record > 0;
	q.limits.total_ns = c->total_ns ?: 60 * NS_PER_S;
	q.tick = c->tick;
	q.arg = c->arg;
	r = http_load_run(&q, &result, err);
	if (r >= 0)
		figures(c, &result, s, ret);
	return r;
}

int roofline_run(const struct roofline_case *c, struct roofline_figures *ret, struct lem_error *err)
{
	_cleanup_null_server_ struct null_server *s = NULL;
	int r = c->port ? 0 : null_server_start(&c->script, &s, err);

	return r < 0 ? r : measure(c, s, ret, err);
}
