#include <math.h>

#include "base/clock.h"
#include "load/worker_request.h"
#include "run/drive.h"
#include "run/life.h"
#include "run/warmup.h"

/* The slice of prompts of one run, as a request, sent and awaited. */
static int run_slice(struct life *l, const struct run_slice *slice, struct arena *a,
		     int64_t *ret_t_asked_ns, struct worker_done *ret, struct lem_error *err)
{
	_cleanup_str_ struct str request = STR_INIT;

	int rc;

	worker_run_request(l->e, &l->prompts, slice, &request);
	rc = worker_run_fits(&l->prompts, request.len, err);
	if (rc < 0)
		return rc;
	return session_run(&l->session, str_c(&request),
			   worker_run_max_steps(l->e, &l->prompts, slice->n), slice->n, a,
			   ret_t_asked_ns, ret, err);
}

static int warm_once(struct life *l, struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct warmup_record *w = &l->rec->warmup;
	struct run_slice slice = {.run = l->session.next_run, .from = 0, .n = l->batch};
	struct worker_done done;
	int64_t t_asked;
	int rc = run_slice(l, &slice, &a, &t_asked, &done, err);

	if (rc < 0)
		return lem_error_context(err, "warm-up");
	w->latency_ms[w->n++] = (double)(done.t_ns - done.t_start_ns) / 1e6;
	l->tokens_before += l->session.io.out_tokens;
	l->session.io.out_tokens = 0;
	return 0;
}

int life_warm_up(struct life *l, struct lem_error *err)
{
	const struct warmup_config *c = &l->e->warmup;
	struct warmup_record *w = &l->rec->warmup;
	enum warmup_state state = WARMUP_MORE;
	int64_t most = MAX(c->max_prompts, c->requests.set ? c->requests.v : 0);

	w->enabled = c->enabled;
	w->target_cv = c->cv_threshold;
	w->final_cv = NAN;
	if (!c->enabled)
		return 0;
	life_phase(l, PHASE_WARMUP, 0);
	w->latency_ms = lem_calloc((size_t)most + 1, sizeof(*w->latency_ms));
	l->total = (uint64_t)most;
	while (state == WARMUP_MORE) {
		int rc = l->engine->http ? drive_warm_once(l, err) : warm_once(l, err);

		if (rc < 0)
			return rc;
		l->done = w->n;
		state = warmup_judge(c, w->latency_ms, w->n, &w->final_cv);
	}
	w->converged = state == WARMUP_CONVERGED;
	return 0;
}

/* Times from the worker when it told them, from lem otherwise. */
static void extend_window(struct run_record *r, const struct pass *p)
{
	int64_t end = r->n_steps ? r->steps[r->n_steps - 1].t_end_ns : p->t_asked_ns;

	if (!r->window_start_ns)
		r->window_start_ns = p->done ? p->done->t_start_ns : p->t_asked_ns;
	r->window_end_ns = MAX(r->window_end_ns, p->done ? p->done->t_ns : end);
}

/* Between passes, outside of any step: what came is turned into records. */
static void keep_pass(struct life *l, struct pass *p, const struct worker_done *done)
{
	p->tokens = str_c(&l->session.io.tokens);
	p->tokens_len = l->session.io.tokens.len;
	p->done = done;
	assemble_pass(l->rec, p, l->forced_tokens, &l->faults);
	extend_window(l->rec, p);
	l->tokens_before += l->session.io.out_tokens;
	l->session.io.out_tokens = 0;
	str_reset(&l->session.io.tokens);
}

static int measure_pass(struct life *l, int64_t number, struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct pass p = {
		.run = l->session.next_run,
		.first_id = (int64_t)l->rec->n_requests,
		.n = l->prompts.n,
		.n_prompts = l->prompts.n,
		.prompts = &l->prompts,
		.pass = number,
	};
	struct run_slice slice = {
		.run = p.run,
		.first_id = p.first_id,
		.n = p.n,
		.save_text = l->e->save_outputs && number == 0,
	};
	struct worker_done done;
	int rc = run_slice(l, &slice, &a, &p.t_asked_ns, &done, err);

	l->rec->n_requests_asked += p.n;
	keep_pass(l, &p, rc < 0 ? NULL : &done);
	if (rc >= 0)
		life_count(l, &done);
	return rc;
}

static int measure_passes(struct life *l, struct lem_error *err)
{
	int64_t min_ns = (int64_t)(l->e->window.min_duration_sec * 1e9);

	life_phase(l, PHASE_MEASURE, min_ns);
	l->rec->window_start_ns = l->rec->window_end_ns = 0;
	for (int64_t pass = 0; pass < l->e->window.max_passes; pass++) {
		int rc = measure_pass(l, pass, err);

		if (rc < 0)
			return rc;
		if (l->rec->window_end_ns - l->rec->window_start_ns >= min_ns)
			return 0;
	}
	run_record_note(l->rec,
			"window.max_passes = %" PRId64
			" ended the window before window.min_duration_sec",
			l->e->window.max_passes);
	return 0;
}

int life_measure(struct life *l, struct lem_error *err)
{
	int rc = l->engine->http ? drive_measure(l, err) : measure_passes(l, err);

	life_tell_counts(l);
	return rc;
}
