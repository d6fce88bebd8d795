#include "run/drive.h"

#include <math.h>
#include <poll.h>

#include "base/clock.h"
#include "load/http_body.h"
#include "load/http_load.h"
#include "run/answers.h"
#include "run/life.h"
#include "run/traffic.h"

/* Ids below this are in every vocabulary worth the name. */
enum { VOCABULARY_ASSUMED = 1024, READY_TOKENS = 16, DRAIN_SLACK_S = 5, DEATH_PATIENCE_MS = 2000 };

/* ---- prompts as requests ---- */

static void settle_vocabulary(struct life *l)
{
	struct run_record *r = l->rec;

	if (r->shape.n_vocab < 2)
		life_look_at_model(l); /* the engine may have fetched it */
	if (r->shape.n_vocab < 2 && l->prompts.synthetic)
		run_record_note(r,
				"the model's vocabulary is not known here: synthetic prompts use "
				"ids below %d",
				VOCABULARY_ASSUMED);
	life_draw_prompts(l, r->shape.n_vocab < 2 ? VOCABULARY_ASSUMED : r->shape.n_vocab);
}

static int make_bodies(struct life *l, struct lem_error *err)
{
	int rc = 0;

	drive_release(l); /* a server that was given up may have had some */
	l->bodies = lem_calloc(l->prompts.n, sizeof(*l->bodies));
	for (size_t i = 0; i < l->prompts.n && rc >= 0; i++) {
		const struct http_body_request q = {.exp = l->e,
						    .prompt = &l->prompts.at[i],
						    .model = l->server.model,
						    .chat = l->server.chat};

		rc = http_body(&q, &l->bodies[i], err);
	}
	return rc;
}

static bool wants_prefix_cache(const struct experiment *e)
{
	switch (e->backend) {
	case BACKEND_VLLM: return e->vllm.enable_prefix_caching;
	case BACKEND_SGLANG: return !e->sglang.disable_radix_cache;
	case BACKEND_TENSORRT: return e->tensorrt.enable_kv_cache_reuse;
	case BACKEND_LLAMACPP: return e->llamacpp.cache_prompt;
	default: return false;
	}
}

int drive_prepare(struct life *l, struct lem_error *err)
{
	int rc = life_tokenize(l, err);

	if (rc < 0)
		return rc;
	settle_vocabulary(l);
	l->rec->server.prefix_cache = wants_prefix_cache(l->e);
	l->rec->server.arrivals = l->e->traffic.present;
	return make_bodies(l, err);
}

void drive_release(struct life *l)
{
	for (size_t i = 0; i < l->prompts.n && l->bodies; i++)
		str_release(&l->bodies[i]);
	free(l->bodies);
	l->bodies = NULL;
}

/* ---- one call of the client ---- */

struct drive {
	struct life *l;
	const char *doing;
	int64_t ramp_ns, end_ns; /* edges of the window within the call; 0: none */
	bool ramped;
};

static void on_tick(const struct http_load_progress *p, void *arg)
{
	struct drive *d = arg;
	struct life *l = d->l;

	if (d->ramp_ns && !d->ramped && p->elapsed_ns >= d->ramp_ns) {
		d->ramped = true;
		sampler_mark(l->sampler);
	}
	if (d->end_ns && p->elapsed_ns >= d->end_ns && l->phase == PHASE_MEASURE)
		life_phase(l, PHASE_DRAIN, 0);
	l->done = l->t_rate_ns ? p->n_done + p->n_failed : 0;
	l->total = p->n_jobs;
	life_report(l);
}

static struct http_load_request request(struct drive *d)
{
	const struct server *s = &d->l->server;
	struct http_load_request q = HTTP_LOAD_REQUEST_INIT;

	q.target = (struct http_target){
		.host = s->host,
		.port = (uint16_t)s->port,
		.path = s->path,
		.tls = s->tls,
		.tls_verify = s->tls_verify,
		.headers = s->headers,
	};
	q.limits.request_timeout_ns = d->l->spec.silence_ns;
	q.cancel_fd = s->stop_fd;
	q.tick = on_tick;
	q.arg = d;
	return q;
}

/* The jobs of prompts [0, n), wrapping around. */
static struct http_job *jobs_of(const struct life *l, size_t n, const double *at_ns)
{
	struct http_job *jobs = lem_calloc(n, sizeof(*jobs));

	for (size_t i = 0; i < n; i++) {
		const struct str *body = &l->bodies[i % l->prompts.n];
		const struct prompt *p = &l->prompts.at[i % l->prompts.n];

		jobs[i] = (struct http_job){
			.body = str_c(body),
			.body_len = body->len,
			.at_ns = at_ns ? at_ns[i] : 0,
			.output_tokens = (int32_t)MIN(prompt_forced(p, l->e), (int64_t)INT32_MAX),
			.input_tokens = (int32_t)http_body_input_tokens(l->e, p),
			.stream = true,
		};
	}
	return jobs;
}

static bool lost_connections(const struct http_load_result *res)
{
	return res->by_failure[HTTP_LOAD_RESET] || res->by_failure[HTTP_LOAD_CLOSED_EARLY] ||
	       res->by_failure[HTTP_LOAD_CONNECT];
}

/* Its connections may end before its end is told, most of all that of a container. */
static void wait_for_death(const struct life *l)
{
	struct pollfd p = {.fd = l->server.stop_fd, .events = POLLIN};

	if (l->server.pump)
		(void)poll(&p, 1, DEATH_PATIENCE_MS);
}

/* Calls; the result is there also when the server ended or somebody interrupted. */
static int call(struct drive *d, const struct http_load_request *q, struct http_load_result *ret,
		bool *ret_have, struct lem_error *err)
{
	int rc;

	*ret_have = false;
	rc = http_load_run(q, ret, err);
	if (rc < 0)
		return lem_error_context(err, "%s", d->doing);
	*ret_have = true;
	if (lost_connections(ret))
		wait_for_death(d->l);
	rc = life_server_stopped(d->l, d->doing, err);
	/* without a connection nothing is sent, and all has failed; what was never due has not */
	if (rc < 0 || ret->n_ok || ret->by_failure[HTTP_LOAD_NOT_SENT] == ret->n_jobs)
		return rc;
	*err = ret->first_failure;
	if (err->code == LEM_E_NONE)
		(void)lem_fail(err, LEM_E_ENGINE, "no request was answered");
	return lem_error_context(err, "every request failed while %s", d->doing);
}

/* ---- readiness ---- */

static int fail_length(const struct life *l, int32_t got, int64_t asked, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_ENGINE, "the server gave %d tokens where %" PRId64 " were forced",
		       got, asked);
	(void)lem_error_why(err, "a forced length (min_output_tokens = max_output_tokens, or one "
				 "of the prompts' own) is sent as ignore_eos and min_tokens, which "
				 "this server does not honour");
	return lem_error_fix(err, "%s",
			     l->e->backend == BACKEND_OPENAI
				     ? "write what it knows in openai.extra_body, or "
				       "min_output_tokens: 0"
				     : "write min_output_tokens: 0");
}

/* A failure is told as time may heal it: see is_final in server.c. */
static int judge_one(const struct life *l, const struct http_load_result *res, int64_t asked,
		     struct lem_error *err)
{
	const struct http_load_job *j = &res->jobs[0];

	if (j->failure == HTTP_LOAD_OK && prompt_forced(&l->prompts.at[0], l->e) &&
	    j->completion_tokens >= 0 && j->completion_tokens != asked)
		return fail_length(l, j->completion_tokens, asked, err);
	if (j->failure == HTTP_LOAD_OK)
		return 0;
	*err = res->first_failure;
	switch (j->failure) {
	case HTTP_LOAD_DNS: err->code = LEM_E_NOT_FOUND; break;
	case HTTP_LOAD_TLS: err->code = LEM_E_REFUSED; break;
	case HTTP_LOAD_4XX:
	case HTTP_LOAD_REDIRECT:
	case HTTP_LOAD_BAD_BODY:
	case HTTP_LOAD_ERROR_BODY:
	case HTTP_LOAD_EMPTY: err->code = LEM_E_ENGINE; break;
	default: err->code = LEM_E_IO;
	}
	return -(int)err->code;
}

int drive_one(struct life *l, int64_t left_ns, struct lem_error *err)
{
	_cleanup_http_load_result_ struct http_load_result res = {0};
	struct drive d = {.l = l, .doing = "waiting for a first token"};
	struct http_load_request q = request(&d);
	_cleanup_str_ struct str body = STR_INIT;
	int64_t forced = prompt_forced(&l->prompts.at[0], l->e),
		tokens = MIN(forced ? forced : l->e->max_output_tokens, (int64_t)READY_TOKENS);
	const struct http_body_request b = {.exp = l->e,
					    .prompt = &l->prompts.at[0],
					    .model = l->server.model,
					    .chat = l->server.chat,
					    .max_output_tokens = tokens};
	struct http_job job = {.stream = true, .output_tokens = forced ? (int32_t)tokens : 0};
	int rc = http_body(&b, &body, err);

	if (rc < 0)
		return rc;
	job.body = str_c(&body);
	job.body_len = body.len;
	q.jobs = &job;
	q.n_jobs = 1;
	q.plan.mode = HTTP_LOAD_ALL;
	q.limits.total_ns = left_ns;
	q.no_pinning = true;
	rc = http_load_run(&q, &res, err);
	return rc < 0 ? rc : judge_one(l, &res, tokens, err);
}

/* ---- warm-up ---- */

int drive_warm_once(struct life *l, struct lem_error *err)
{
	_cleanup_http_load_result_ struct http_load_result res = {0};
	struct warmup_record *w = &l->rec->warmup;
	const struct traffic_config *t = &l->e->traffic;
	struct drive d = {.l = l, .doing = "warming up"};
	struct http_load_request q = request(&d);
	size_t n = MIN(l->batch, l->prompts.n);
	_cleanup_free_ struct http_job *jobs = NULL;
	bool have;
	int rc;

	if (t->present && t->concurrency.set)
		n = (size_t)t->concurrency.v;
	jobs = jobs_of(l, n, NULL);
	q.jobs = jobs;
	q.n_jobs = n;
	q.plan.mode = HTTP_LOAD_ALL;
	rc = call(&d, &q, &res, &have, err);
	if (rc < 0)
		return rc;
	w->latency_ms[w->n++] = (double)(res.t_end_ns - res.t_start_ns) / 1e6;
	return 0;
}

/* ---- offline: everything at once, again and again ---- */

/* In words, once for a run; the classes are counted anyway. */
static void tell_failure(struct run_record *r, const struct lem_error *first)
{
	static const char start[] = "the first failure: ";

	for (size_t i = 0; i < r->n_notes; i++)
		if (str_starts(r->notes[i], start))
			return;
	if (first->code != LEM_E_NONE)
		run_record_note(r, "%s%s%s%s", start, first->what, first->fix[0] ? "; " : "",
				first->fix);
}

static void keep(struct life *l, const struct http_load_result *res, const struct answers *a)
{
	struct run_record *r = l->rec;

	answers_take(r, a, &l->faults);
	r->server.client_cpu_ns =
		MAX(r->server.client_cpu_ns, INT64_C(0)) + res->cpu_ns - res->spin_ns;
	r->server.n_retried += (int64_t)res->n_retried;
	lem_strlcpy(r->server.urgency, res->urgency ? res->urgency : "", sizeof(r->server.urgency));
	tell_failure(r, &res->first_failure);
	if (res->n_waited)
		run_record_note(r, "%zu requests waited for a free connection", res->n_waited);
}

static int one_pass(struct life *l, int64_t pass, struct lem_error *err)
{
	_cleanup_http_load_result_ struct http_load_result res = {0};
	struct drive d = {.l = l, .doing = "generating"};
	struct http_load_request q = request(&d);
	_cleanup_free_ struct http_job *jobs = jobs_of(l, l->prompts.n, NULL);
	struct run_record *r = l->rec;
	bool have;
	int rc;

	q.jobs = jobs;
	q.n_jobs = l->prompts.n;
	q.plan = (struct http_load_plan){.mode = l->e->streaming ? HTTP_LOAD_CLOSED : HTTP_LOAD_ALL,
					 .in_flight = 1};
	q.keep_text = l->e->save_outputs && pass == 0;
	rc = call(&d, &q, &res, &have, err);
	if (have) {
		const struct answers a = {.result = &res,
					  .prompts = &l->prompts,
					  .pass = pass,
					  .forced = l->forced_tokens,
					  .closed = l->e->streaming};

		r->window_start_ns = r->window_start_ns ? r->window_start_ns : res.t_start_ns;
		r->window_end_ns = MAX(r->window_end_ns, res.t_end_ns);
		keep(l, &res, &a);
	}
	return rc;
}

static int passes(struct life *l, struct lem_error *err)
{
	int64_t min_ns = (int64_t)(l->e->window.min_duration_sec * 1e9);

	life_phase(l, PHASE_MEASURE, min_ns);
	for (int64_t pass = 0; pass < l->e->window.max_passes; pass++) {
		int rc = one_pass(l, pass, err);

		if (rc < 0 || l->rec->window_end_ns - l->rec->window_start_ns >= min_ns)
			return rc;
	}
	run_record_note(l->rec,
			"window.max_passes = %" PRId64
			" ended the window before window.min_duration_sec",
			l->e->window.max_passes);
	return 0;
}

/* ---- server mode: requests at their times ---- */

/* The quickest batch of the warm-up bounds how many requests a closed loop can come to. */
static struct traffic_plan plan_of(const struct life *l)
{
	const struct warmup_record *w = &l->rec->warmup;
	double quickest = NAN;

	for (size_t i = 0; i < w->n; i++)
		quickest = fmin(quickest, w->latency_ms[i]);
	return (struct traffic_plan){
		.n_prompts = l->prompts.n,
		.batch_ms = quickest,
		.batch_n = l->most_in_flight,
		.recorded_ns = l->prompts.at_ns,
	};
}

/* complete: the window's whole length has passed. */
static void set_window(struct life *l, const struct traffic_plan *t,
		       const struct http_load_result *res, bool complete)
{
	struct run_record *r = l->rec;

	r->window_start_ns = res->t_start_ns + t->ramp_ns;
	r->window_end_ns = res->t_end_ns;
	if (t->duration_ns && (complete || res->t_end_ns > res->t_start_ns + t->duration_ns))
		r->window_end_ns = res->t_start_ns + t->duration_ns;
	r->window_end_ns = MAX(r->window_end_ns, r->window_start_ns);
}

/* The window goes on after the last answer when nothing arrives for a while. */
static int wait_for_end(struct life *l, const struct traffic_plan *t,
			const struct http_load_result *res, struct lem_error *err)
{
	bool ran_dry = !t->at_ns && res->n_sent == res->n_jobs;

	if (!t->duration_ns)
		return 0;
	if (ran_dry && res->t_end_ns < res->t_start_ns + t->duration_ns) {
		run_record_note(l->rec, "the closed loop had no more requests after %zu",
				res->n_jobs);
		return 0;
	}
	return life_idle(l, res->t_start_ns + t->duration_ns, err);
}

static int arrivals(struct life *l, struct lem_error *err)
{
	_cleanup_http_load_result_ struct http_load_result res = {0};
	struct traffic_plan t = plan_of(l);
	struct drive d = {.l = l, .doing = "generating"};
	struct http_load_request q = request(&d);
	_cleanup_free_ struct http_job *jobs = NULL;
	bool have;
	int rc = traffic_make(l->e, &t, err);

	if (rc < 0) {
		traffic_release(&t);
		return rc;
	}
	jobs = jobs_of(l, t.n, t.at_ns);
	q.jobs = jobs;
	q.n_jobs = t.n;
	q.plan = t.plan;
	q.limits.stop_sending_ns = t.duration_ns;
	if (t.duration_ns)
		q.limits.total_ns = t.duration_ns + l->spec.silence_ns + DRAIN_SLACK_S * NS_PER_S;
	q.keep_text = l->e->save_outputs;
	d.ramp_ns = t.ramp_ns;
	d.end_ns = t.duration_ns;
	life_phase(l, PHASE_MEASURE, t.duration_ns);
	rc = call(&d, &q, &res, &have, err);
	if (rc >= 0)
		rc = wait_for_end(l, &t, &res, err);
	if (have) {
		const struct answers a = {.result = &res,
					  .prompts = &l->prompts,
					  .forced = l->forced_tokens,
					  .uncounted_ns = t.ramp_ns,
					  .counted_end_ns = t.duration_ns,
					  .closed = !t.at_ns};

		set_window(l, &t, &res, clock_now_ns() >= res.t_start_ns + t.duration_ns);
		keep(l, &res, &a);
	}
	traffic_release(&t);
	return rc;
}

int drive_measure(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	int rc;

	r->window_start_ns = r->window_end_ns = 0;
	r->server.n_retried = 0;
	r->server.metrics_before = life_server_metrics(l);
	rc = l->e->traffic.present ? arrivals(l, err) : passes(l, err);
	life_end_phase(l);
	r->server.metrics_after = life_server_metrics(l);
	return rc;
}
