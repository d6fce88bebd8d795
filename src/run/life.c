#include "run/life.h"

#include <math.h>
#include <poll.h>

#include "base/clock.h"
#include "run/drive.h"

void life_end_phase(struct life *l)
{
	struct run_record *r = l->rec;

	if (r->n_phases && !r->phases[r->n_phases - 1].t_end_ns)
		r->phases[r->n_phases - 1].t_end_ns = clock_now_ns();
}

void life_phase(struct life *l, enum run_phase p, int64_t expected_ns)
{
	struct run_record *r = l->rec;

	life_end_phase(l);
	assert(r->n_phases < ARRAY_LEN(r->phases));
	l->phase = p;
	l->t_phase_ns = clock_now_ns();
	if (l->sampler)
		sampler_mark(
			l->sampler); /* the edge's joules are told apart by reads close to it */
	if (l->watch)
		watch_mark(l->watch);
	l->t_end_hint_ns = expected_ns > 0 ? l->t_phase_ns + expected_ns : 0;
	l->detail = "";
	l->tokens_before = l->tokens_rate = 0;
	l->done = l->total = 0;
	l->t_rate_ns = l->t_phase_ns;
	l->rate = NAN;
	r->phases[r->n_phases++] = (struct phase_span){.phase = p, .t_start_ns = l->t_phase_ns};
	life_report(l);
}

/* Output tokens per second since the last point at least a second ago (workers report five times a
 * second). */
static void update_rate(struct life *l, int64_t now)
{
	int64_t tokens = l->tokens_before + l->session.io.out_tokens;

	if ((l->phase != PHASE_WARMUP && l->phase != PHASE_MEASURE) || l->engine->http)
		return; /* what a server has sent is read when the window is over */
	if (now - l->t_rate_ns < NS_PER_S)
		return;
	l->rate = (double)(tokens - l->tokens_rate) / ((double)(now - l->t_rate_ns) / 1e9);
	l->t_rate_ns = now;
	l->tokens_rate = tokens;
}

void life_report(struct life *l)
{
	int64_t now = clock_now_ns();
	struct run_progress p;

	if (!l->req->progress)
		return;
	update_rate(l, now);
	p = (struct run_progress){
		.phase = l->phase,
		.detail = l->detail,
		.elapsed_ns = now - l->t_phase_ns,
		.left_ns = l->t_end_hint_ns ? MAX(l->t_end_hint_ns - now, INT64_C(0)) : -1,
		.tokens_per_s = l->rate,
		.watts = l->sampler ? sampler_watts_now(l->sampler) : NAN,
		.done = l->done,
		.total = l->total,
		.level = l->level,
		.n_levels = l->n_levels,
	};
	l->req->progress(l->req->progress_arg, &p);
}

void life_release(struct life *l)
{
	session_release(&l->session);
	life_server_close(l);
	drive_release(l);
	life_remove_files(l);
	prompts_release(&l->prompts);
	gpu_inventory_release(&l->inventory);
	free(l->model_path);
}

bool life_is_cancelled(const struct life *l)
{
	struct pollfd fd = {.fd = l->req->cancel_fd, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

int life_idle(struct life *l, int64_t until_ns, struct lem_error *err)
{
	enum { REPORT_MS = 200 };

	for (;;) {
		int64_t left = until_ns - clock_now_ns();
		struct pollfd fd = {.fd = l->req->cancel_fd, .events = POLLIN};

		if (left <= 0)
			return 0;
		if (poll(&fd, 1, (int)MIN(left / NS_PER_MS + 1, (int64_t)REPORT_MS)) > 0)
			return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
		life_report(l);
	}
}
