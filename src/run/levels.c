#include "run/levels.h"

#include <math.h>
#include <poll.h>

#include "base/clock.h"
#include "energy/energy.h"
#include "run/life.h"
#include "run/overload.h"
#include "run/traffic.h"

/* How long readings go on after a window's end before they are copied: the mark's reads of a GPU's
 * counter are over after two steps, and the driver's ring of samples is emptied once a second. */
#define EDGE_GPU_NS (1200 * NS_PER_MS)
#define EDGE_CPU_NS (300 * NS_PER_MS)
/* Beside the window: start, warm-up, what is in flight at the end. */
#define AROUND_NS (900 * NS_PER_S)

size_t run_n_levels(const struct experiment *e)
{
	return e->traffic.present ? MAX(e->traffic.rates.n, e->traffic.concurrencies.n) : 0;
}

/* ---- before the launch ---- */

static void choose(struct life *l, size_t level)
{
	const struct traffic_config *all = &l->req->exp->traffic;
	struct traffic_config *t = &l->level_exp.traffic;

	l->level = level;
	if (all->rates.n)
		t->rate = (struct maybe_f64){true, all->rates.at[level]};
	else
		t->concurrency = (struct maybe_i64){true, (int64_t)all->concurrencies.at[level]};
}

void levels_begin(struct life *l)
{
	const struct traffic_config *t = &l->req->exp->traffic;

	l->n_levels = run_n_levels(l->req->exp);
	if (!l->n_levels)
		return;
	l->level_exp = *l->req->exp;
	l->e = &l->level_exp;
	choose(l, 0);
	for (size_t i = 0; i < t->concurrencies.n; i++)
		l->most_in_flight = MAX(l->most_in_flight, (size_t)t->concurrencies.at[i]);
}

int levels_check(struct life *l, struct lem_error *err)
{
	int rc = 0;

	for (size_t i = 0; i < l->n_levels && rc >= 0 && !l->most_in_flight; i++) {
		struct traffic_plan t = {.n_prompts = l->prompts.n, .batch_ms = NAN};

		choose(l, i);
		rc = traffic_make(l->e, &t, err);
		traffic_release(&t);
		if (rc < 0)
			(void)lem_error_context(err, "traffic.rates, load %zu of %zu", i + 1,
						l->n_levels);
	}
	if (l->n_levels)
		choose(l, 0);
	/* the warm-up computes as many requests together as any load will */
	if (l->most_in_flight)
		l->level_exp.traffic.concurrency.v = (int64_t)l->most_in_flight;
	return rc;
}

void levels_describe(struct life *l)
{
	const struct traffic_config *all = &l->req->exp->traffic;
	struct level_record *v = &l->rec->level;

	if (!l->n_levels)
		return;
	*v = (struct level_record){
		.launch_id = l->level ? v->launch_id : l->rec->run_id,
		.index = (int64_t)l->level,
		.n = (int64_t)l->n_levels,
		.rate_hz = all->rates.n ? all->rates.at[l->level] : (double)NAN,
		.in_flight = all->rates.n ? 0 : (int64_t)all->concurrencies.at[l->level],
	};
}

int64_t levels_duration_ns(const struct life *l)
{
	const struct traffic_config *t = &l->e->traffic;
	double s = t->settle_sec + (t->duration_sec.set ? t->duration_sec.v : 600);

	return l->n_levels ? (int64_t)((double)l->n_levels * 2 * s * 1e9) + AROUND_NS : 0;
}

/* ---- what belongs to a level of all that was read ---- */

static void cut(struct life *l, struct sample_set *s)
{
	const struct run_record *r = l->rec;
	struct energy_span spans[ARRAY_LEN(r->phases) + 1];
	size_t n = 0, late = MIN(l->late_before, s->n_late);

	for (size_t i = 0; i < r->n_phases; i++)
		if (r->phases[i].phase == PHASE_BASELINE ||
		    r->phases[i].phase == PHASE_BASELINE_RESIDENT ||
		    r->phases[i].phase == PHASE_MEASURE)
			spans[n++] = (struct energy_span){r->phases[i].t_start_ns,
							  r->phases[i].t_end_ns};
	if (r->window_end_ns)
		spans[n++] = (struct energy_span){r->window_start_ns, r->window_end_ns};
	energy_cut(s, spans, n);
	memmove(s->late_ns, s->late_ns + late, (s->n_late - late) * sizeof(*s->late_ns));
	l->late_before = s->n_late;
	s->n_late -= late;
}

void levels_cut(struct life *l)
{
	if (l->n_levels && l->sampler)
		cut(l, &l->rec->samples);
}

/* ---- between two levels ---- */

/* Ends early, as an error, when the server does or somebody interrupts. */
static int pause_until(struct life *l, int64_t t_ns, const char *doing, struct lem_error *err)
{
	enum { REPORT_MS = 200 };

	for (;;) {
		int64_t left_ns = t_ns - clock_now_ns();
		struct pollfd p = {.fd = l->server.stop_fd, .events = POLLIN};
		int rc = life_server_stopped(l, doing, err);

		if (rc < 0 || left_ns <= 0)
			return rc;
		(void)poll(&p, 1, (int)MIN(left_ns / NS_PER_MS + 1, (int64_t)REPORT_MS));
		life_report(l);
	}
}

/* The record as it will be stored. */
static int complete(struct life *l, struct lem_error *err)
{
	int rc = life_end_watch(l, 0, err);

	if (rc < 0)
		return rc;
	life_end_phase(l);
	life_server_log(l);
	if (l->sampler) {
		sampler_snapshot(l->sampler, &l->rec->samples);
		cut(l, &l->rec->samples);
	}
	life_conclude(l, 0, NULL);
	return 0;
}

/* What the level that was handed out left in the record. */
static void forget(struct life *l)
{
	struct run_record *r = l->rec;

	free(r->requests);
	free(r->token_stamps_ns);
	free(r->stamp_tokens);
	r->requests = NULL;
	r->token_stamps_ns = NULL;
	r->stamp_tokens = NULL;
	r->n_requests = r->n_requests_asked = r->n_token_stamps = 0;
	sample_set_release(&r->samples);
	r->samples = (struct sample_set){0};
	free(r->binding.foreigners);
	r->binding.foreigners = NULL;
	r->binding.n_foreigners = 0;
	r->binding.guard[0] = '\0';
	r->binding.guard_level = GPU_GUARD_NONE;
	r->n_phases = l->launch_phases;
	r->n_notes = l->launch_notes;
	r->window_start_ns = r->window_end_ns = 0;
	r->server.metrics_before = r->server.metrics_after = NULL;
	r->server.client_cpu_ns = r->server.n_retried = -1;
	r->server.urgency[0] = '\0';
	l->faults = 0;
}

/* Without an id there is no next run: the record says that nothing of one was begun. */
static int next(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	char id[128];
	int rc;

	forget(l);
	r->t_start_ns = 0;
	rc = l->req->level_id(l->req->level_arg, id, sizeof(id), err);
	if (rc < 0)
		return rc;
	choose(l, l->level + 1);
	r->run_id = arena_strdup(&r->arena, id);
	r->wall_start_ns = clock_wall_ns();
	r->t_start_ns = clock_now_ns();
	r->t_end_ns = 0;
	levels_describe(l);
	return 0;
}

/* From the end of one window to the start of the next. The level is handed out as soon as its
 * readings are there, so that nothing that happens meanwhile or later can cost it: the engine may
 * end and a signal may come, both are noticed afterwards. */
static int hand_over(struct life *l, struct lem_error *err)
{
	int64_t edge_ns = l->rec->binding.n ? EDGE_GPU_NS : EDGE_CPU_NS, t0_ns = clock_now_ns(),
		settled_ns = t0_ns + (int64_t)(l->e->traffic.settle_sec * 1e9);
	int rc, paused;

	life_phase(l, PHASE_DRAIN, settled_ns - t0_ns);
	if (l->energy_readable || l->watch)
		clock_sleep_until_ns(t0_ns + edge_ns);
	rc = complete(l, err);
	if (rc < 0)
		return rc;
	l->req->level_done(l->req->level_arg, l->rec);
	paused = pause_until(l, settled_ns, "the pause between two loads", err);
	rc = next(l, paused < 0 ? NULL : err);
	if (paused < 0)
		return paused;
	if (rc >= 0)
		life_start_watch(l, &l->session.running);
	return rc;
}

static bool is_last(const struct life *l)
{
	char why[160];

	return l->level + 1 == l->n_levels ||
	       (l->e->traffic.stop_when_overloaded && overload_seen(l->rec, why, sizeof(why)));
}

int levels_measure(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;

	if (!l->n_levels)
		return life_measure(l, err);
	assert(l->req->level_done && l->req->level_id);
	choose(l, 0);
	life_end_phase(l);
	l->launch_phases = r->n_phases;
	l->launch_notes = r->n_notes;
	for (;;) {
		int rc = life_measure(l, err);

		if (rc < 0 || is_last(l))
			return rc;
		rc = hand_over(l, err);
		if (rc < 0)
			return rc;
	}
}
