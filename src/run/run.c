#include "run/run.h"

#include <math.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "run/environment.h"
#include "run/levels.h"
#include "run/life.h"

/* Two hours of readings at the default periods, or as long as several loads take; a longer run
 * keeps its window's edges (dropped is counted). */
#define METERED_NS (2 * 3600 * NS_PER_S)

static struct meter_request meter_request(const struct life *l, const char **names)
{
	const struct energy_config *c = &l->e->energy;
	bool automatic = c->meters.n == 0 || str_eq(c->meters.at[0], "auto");

	for (size_t i = 0; i < c->meters.n; i++)
		names[i] = c->meters.at[i];
	return (struct meter_request){
		.binding = &l->rec->binding,
		.meters = automatic ? NULL : names,
		.estimate_watts_per_core =
			c->estimate_watts_per_core.set ? c->estimate_watts_per_core.v : 0,
		.counter_hz = c->counter_hz,
		.max_duration_ns = MAX(METERED_NS, levels_duration_ns(l)),
	};
}

static int start_meters(struct life *l, struct lem_error *err)
{
	_cleanup_free_ const char **names = lem_calloc(l->e->energy.meters.n + 1, sizeof(*names));
	struct meter_request q = meter_request(l, names);
	_cleanup_free_ struct meter_status *status = NULL;
	size_t n = 0;
	int rc = meter_probe(&q, &status, &n, err);

	for (size_t i = 0; i < n && rc >= 0; i++) /* of psys no figure is made */
		l->energy_readable |= status[i].usable && !str_eq(status[i].meter, "self") &&
				      !str_eq(status[i].meter, "estimate") &&
				      !str_eq(status[i].device, "psys");
	return rc < 0 ? rc : sampler_start(&q, &l->sampler, err);
}

/* Idle power with or without the engine resident; only where joules can be read. */
static int baseline(struct life *l, enum run_phase phase, struct lem_error *err)
{
	const struct baseline_config *c = &l->e->baseline;
	int64_t ns = (int64_t)(c->duration_sec * 1e9);

	if (!c->enabled)
		return 0;
	if (!l->energy_readable && c->required) {
		lem_fail(err, LEM_E_REFUSED,
			 "baseline.required is set, but no energy meter can be read here");
		return lem_error_fix(
			err,
			"see 'energy' in the result of a run without it for each meter's reason");
	}
	if (!l->energy_readable)
		return 0;
	life_phase(l, phase, ns);
	return life_idle(l, clock_now_ns() + ns, err);
}

static void prefer(int64_t *field, int64_t reported)
{
	if (reported > 0)
		*field = reported;
}

/* The engine's word counts for what it reports; the rest stays as the file's header says. */
static void take_loaded(struct life *l, const struct worker_loaded *w)
{
	struct run_record *r = l->rec;
	struct model_shape *s = &r->shape;

	r->engine_version = w->engine_version;
	r->engine_build_json = w->engine_json;
	prefer(&s->n_layer, w->shape.n_layer);
	prefer(&s->n_embd, w->shape.n_embd);
	prefer(&s->n_ff, w->shape.n_ff);
	prefer(&s->n_head, w->shape.n_head);
	prefer(&s->n_head_kv, w->shape.n_head_kv);
	prefer(&s->head_dim, w->shape.head_dim);
	prefer(&s->n_vocab, w->shape.n_vocab);
	prefer(&s->n_ctx_train, w->shape.n_ctx_train);
	prefer(&s->n_params, w->shape.n_params);
	s->has_tokenizer = w->shape.has_tokenizer;
	if (!s->quant[0] || str_eq(s->quant, "other"))
		lem_strlcpy(s->quant, w->shape.quant, sizeof(s->quant));
	if (w->shape.weights != s->weights)
		run_record_note(
			r, "the engine and the file disagree on whether the weights are synthetic");
}

/* Looking at process lists is a second witness: without it a run goes on, and says so. */
void life_start_watch(struct life *l, const struct running *engine)
{
	struct gpu_binding *b = &l->rec->binding;
	struct lem_error err;

	if (l->runner == &runner_external) {
		lem_strlcpy(b->guard, b->n ? "which processes are the server's is not known" : "",
			    sizeof(b->guard));
		return;
	}
	if (b->n && watch_start_with(b, engine, &l->watch, &err) < 0)
		(void)snprintf(b->guard, sizeof(b->guard),
			       "the driver's process lists could not be watched: %.100s", err.what);
}

/* Between the proof and a started engine nobody on the GPUs is judged. */
static int start_engine(struct life *l, struct lem_error *err)
{
	int rc = session_start(&l->session, err);

	if (l->watch)
		watch_resume(l->watch, rc < 0 ? NULL : &l->session.running);
	if (rc < 0)
		return lem_error_context(err, "starting the engine");
	l->detail = "";
	l->session.io.tick = (void (*)(void *))(void *)life_report;
	l->session.io.tick_arg = l;
	l->rec->image_digest = arena_strdup(&l->rec->arena, l->session.running.image_digest);
	if (l->session.running.host_pid > 0)
		sampler_watch_pid(l->sampler, l->session.running.host_pid);
	return 0;
}

/* The prompts, once the vocabulary is known. */
void life_draw_prompts(struct life *l, int64_t n_vocab)
{
	char hex[DIGEST_HEX_SIZE];

	prompts_draw(&l->prompts, l->e, n_vocab);
	prompts_hash(&l->prompts, hex);
	l->rec->prompts_hash = arena_strdup(&l->rec->arena, hex);
	l->rec->prompts_form = prompts_form(&l->prompts);
}

/* Between the choice of a port and its use minutes may pass, in which somebody else took it. Where
 * the port was lem's choice it chooses another. */
static bool may_move(struct life *l, const struct lem_error *err)
{
	const char *network = l->spec.network;
	bool ours = l->runner == &runner_process || (network && str_eq(network, "host"));

	if (err->code != LEM_E_ENGINE || !ours || l->spec.port <= 0)
		return false;
	life_server_log(l);
	return life_port_was_taken(l);
}

static int move_away(struct life *l, struct lem_error *err)
{
	int was = l->spec.port, rc;

	if (l->watch)
		watch_pause(l->watch);
	session_stop(&l->session, true);
	life_server_close(l);
	session_release(&l->session); /* with the log, which the server's end leaves there */
	life_remove_files(l);
	rc = life_launch_elsewhere(l, err);
	if (rc < 0)
		return rc;
	run_record_note(l->rec,
			"port %d was taken by somebody else before the engine listened on it; it "
			"was started again on %d",
			was, l->spec.port);
	return 0;
}

static int load_server(struct life *l, struct lem_error *err)
{
	enum { PORTS = 3 };
	_Static_assert((int)PORTS <= (int)WATCH_ENGINES_MAX,
		       "each try is an engine of the watch's");

	for (int tries = 1;; tries++) {
		struct lem_error now = LEM_ERROR_INIT; /* forgotten when another try succeeds */
		int rc = start_engine(l, err);

		if (rc < 0)
			return rc;
		rc = life_server_ready(l, &now);
		if (rc >= 0)
			return 0;
		if (tries == PORTS || !may_move(l, &now)) {
			*err = now;
			return lem_error_context(err, "%s",
						 l->runner == &runner_external
							 ? "asking the server"
							 : "starting the server");
		}
		if ((rc = move_away(l, err)) < 0)
			return rc;
	}
}

static int load(struct life *l, struct lem_error *err)
{
	struct worker_loaded w;
	int rc;

	life_phase(l, PHASE_LOAD, 0);
	if (l->watch)
		watch_pause(l->watch);
	if ((rc = life_prove(l, err)) < 0)
		return rc;
	if (l->engine->http)
		return load_server(l, err);
	if ((rc = start_engine(l, err)) < 0)
		return rc;
	rc = session_load(&l->session, &l->rec->arena, &w, err);
	if (rc < 0)
		return lem_error_context(err, "loading the model");
	take_loaded(l, &w);
	rc = life_check_loaded(l, &w, err);
	if (rc < 0)
		return rc;
	if (l->rec->shape.n_vocab < 2)
		return lem_fail(err, LEM_E_ENGINE,
				"the engine reports a vocabulary of %" PRId64 " tokens",
				l->rec->shape.n_vocab);
	life_draw_prompts(l, l->rec->shape.n_vocab);
	return 0;
}

static int check_watch(const struct life *l, struct lem_error *err)
{
	return l->watch ? watch_check(l->watch, err) : 0;
}

static int live(struct life *l, struct lem_error *err)
{
	int rc;

	life_certify(l);
	if ((rc = start_meters(l, err)) < 0 || (rc = life_can_prove(l, err)) < 0)
		return rc;
	life_start_watch(l, NULL);
	if ((rc = baseline(l, PHASE_BASELINE, err)) < 0 || (rc = load(l, err)) < 0 ||
	    (rc = life_warm_up(l, err)) < 0 || (rc = check_watch(l, err)) < 0 ||
	    (rc = baseline(l, PHASE_BASELINE_RESIDENT, err)) < 0)
		return rc;
	return levels_measure(l, err);
}

/* The last look is taken while the engine is still there. What it shows may end a run that went
 * well until then. */
int life_end_watch(struct life *l, int rc, struct lem_error *err)
{
	struct lem_error seen;
	bool trouble = l->watch && watch_check(l->watch, &seen) < 0;

	if (!l->watch)
		return rc;
	watch_stop(l->watch, l->rec->window_start_ns, &l->rec->binding);
	l->watch = NULL;
	if (rc >= 0 && l->rec->binding.guard_level == GPU_GUARD_STRAY && !trouble)
		return lem_fail(err, LEM_E_ROUTING, "%s", l->rec->binding.guard);
	if (!trouble ||
	    (rc < 0 && (err->code == LEM_E_INTERRUPTED || str_eq(err->what, seen.what))))
		return rc;
	if (rc < 0) /* how the engine told it */
		(void)lem_error_why(&seen, "%.200s; %.200s", err->what, err->why);
	*err = seen;
	return -(int)err->code;
}

static const char *error_as_json(const struct lem_error *err, struct arena *a)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "code", lem_code_name(err->code));
	jsonw_str(&w, "what", err->what);
	jsonw_str(&w, "where", err->where[0] ? err->where : NULL);
	jsonw_str(&w, "why", err->why[0] ? err->why : NULL);
	jsonw_str(&w, "fix", err->fix[0] ? err->fix : NULL);
	jsonw_end_object(&w);
	return arena_strdup(a, str_c(&s));
}

static double goal(const struct maybe_f64 *ms)
{
	return ms->set ? ms->v : (double)NAN;
}

static void describe(struct life *l)
{
	_cleanup_str_ struct str env = STR_INIT;
	const struct run_request *q = l->req;
	struct run_record *r = l->rec;
	struct arena *a = &r->arena;

	environment_json(&l->host, &env);
	r->run_id = arena_strdup(a, q->run_id);
	r->config_name = arena_strdup(a, l->e->config_name);
	r->config_path = arena_strdup(a, l->e->path);
	r->config_hash = arena_strdup(a, q->config_hash);
	r->config_json = arena_strdup(a, q->config_json);
	r->provenance_json = arena_strdup(a, q->provenance_json);
	r->cli_overrides_json = arena_strdup(a, q->cli_overrides_json);
	r->environment_json = arena_strdup(a, str_c(&env));
	r->engine_name = l->engine->name;
	r->engine_mode = l->engine->mode(l->e);
	r->slo = (struct slo_limits){goal(&l->e->slo.ttft_ms), goal(&l->e->slo.tpot_ms),
				     goal(&l->e->slo.e2e_ms)};
	r->wall_start_ns = clock_wall_ns();
	r->t_start_ns = clock_now_ns();
	levels_describe(l);
}

void life_conclude(struct life *l, int rc, struct lem_error *err)
{
	struct run_record *r = l->rec;
	char *log = arena_strndup(&r->arena, str_c(&l->session.io.log), l->session.io.log.len);

	life_scrub(l, rc < 0 ? err : NULL, log);
	r->log_tail = log;
	r->status = rc >= 0                          ? RUN_COMPLETED
		    : err->code == LEM_E_INTERRUPTED ? RUN_INTERRUPTED
						     : RUN_FAILED;
	if (rc < 0)
		r->error_json = error_as_json(err, &r->arena);
	if (l->faults)
		run_record_note(r, "worker_faults: %zu", l->faults);
	r->t_end_ns = clock_now_ns();
}

/* One process of an engine may be killed while the others go on, or hang. */
static void tell_kills(const struct life *l, int rc, struct lem_error *err)
{
	const struct oom_watch *w = &l->session.running.oom;
	int64_t kills = oom_watch_kills(w);
	struct lem_error old = *err;

	if (!kills || (rc < 0 && strstr(err->what, "because memory ran out")))
		return;
	run_record_note(l->rec,
			"%" PRId64 " processes %s were killed by the kernel because memory ran out "
			"during the run (%.200s)",
			kills, w->machine ? "of this machine" : "in the engine's memory group",
			w->name);
	if (rc < 0 && err->code != LEM_E_INTERRUPTED)
		(void)lem_error_why(err,
				    "meanwhile %" PRId64 " processes were killed by the kernel "
				    "because memory ran out (%.120s)%s%.200s",
				    kills, w->name, old.why[0] ? "; " : "", old.why);
}

/* Gives the run's last word: the outcome may be worse than rc. */
static int finish(struct life *l, int rc, struct lem_error *err)
{
	struct run_record *r = l->rec;

	life_phase(l, PHASE_STOP, 0);
	rc = life_end_watch(l, rc, err);
	tell_kills(l, rc, err);
	life_server_log(l);
	if (rc < 0) {
		life_blame(l, err);
		life_recall(l, err);
	}
	session_stop(&l->session, rc < 0);
	life_server_close(l);
	if (l->sampler)
		sampler_stop(l->sampler, &r->samples);
	life_end_phase(l);
	levels_cut(l);
	life_conclude(l, rc, err);
	return rc;
}

/* What preflight found doubtful is told before anything is started, not only in the report. */
static void tell_doubts(const struct life *l)
{
	for (size_t i = 0; i < l->rec->n_notes && l->req->warn; i++)
		l->req->warn(l->req->warn_arg, l->rec->notes[i]);
}

int run_experiment(const struct run_request *req, struct run_record *rec, struct lem_error *err)
{
	struct life l = {.req = req, .e = req->exp, .rec = rec};
	struct lem_error own;
	int rc;

	if (!err)
		err = &own;
	l.t_phase_ns = clock_now_ns();
	l.phase = PHASE_PREFLIGHT;
	l.detail = "";
	levels_begin(&l);
	rc = life_preflight(&l, err);
	if (rc >= 0)
		rc = levels_check(&l, err);
	tell_doubts(&l);
	if (rc >= 0) {
		describe(&l);
		rc = live(&l, err);
		rc = finish(&l, rc, err);
	}
	life_release(&l);
	return rc;
}

int run_plan(const struct run_request *req, struct run_record *rec, struct run_plan *ret,
	     struct lem_error *err)
{
	struct life l = {.req = req, .e = req->exp, .rec = rec, .planning = true, .detail = ""};
	int rc;

	l.t_phase_ns = clock_now_ns();
	levels_begin(&l);
	rc = life_preflight(&l, err);
	if (rc >= 0)
		rc = levels_check(&l, err);
	if (rc >= 0) {
		struct launch_spec *spec = arena_new(&rec->arena, struct launch_spec);

		*spec = l.spec;
		*ret = (struct run_plan){.spec = spec,
					 .binding = &rec->binding,
					 .runner = l.runner,
					 .rootless = l.rootless};
	}
	life_release(&l);
	return rc;
}
