#include "base/clock.h"
#include "gpu/cdi.h"
#include "gpu/route.h"
#include "run/life.h"

/* A runner's progress: a pull, which may take minutes. */
static void on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct life *l = arg;

	lem_strlcpy(l->runner_detail, what ? what : "", sizeof(l->runner_detail));
	l->detail = l->runner_detail;
	l->done = done;
	l->total = total;
	life_report(l);
}

/* On the host an engine goes to its container; where lem is already in one, it starts it there. */
static enum runner_kind choose_runner(const struct life *l)
{
	if (l->engine->model == MODEL_SERVED)
		return RUNNER_EXTERNAL;
	if (l->e->runner != RUNNER_AUTO)
		return l->e->runner;
	return l->engine->needs_container && !l->place.in_container ? RUNNER_DOCKER
								    : RUNNER_PROCESS;
}

static int find_runner(struct life *l, struct lem_error *err)
{
	enum runner_kind kind = choose_runner(l);
	bool foreign = kind == RUNNER_EXTERNAL && l->engine->model != MODEL_SERVED;

	l->runner = foreign ? NULL : runner_find(kind);
	l->session.runner = l->runner;
	l->session.context = (struct runner_context){
		.cancel_fd = l->req->cancel_fd, .progress = on_progress, .arg = l};
	if (l->runner)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED, "this version of lem cannot start an engine by %s",
		       kind == RUNNER_DOCKER  ? "Docker"
		       : kind == RUNNER_SLURM ? "Slurm"
					      : "an external runner");
	return lem_error_fix(err, "%s",
			     foreign ? "write backend: openai for a server that runs already"
				     : "write runner: process or runner: docker");
}

/* Devices of the host's CDI specifications, for an engine that does not tell its own. */
static void read_cdi(struct arena *a, struct gpu_engine_facts *f)
{
	struct cdi_registry reg;
	const char **names;

	cdi_read(f->cdi_spec_dirs, a, &reg);
	names = arena_array(a, reg.n + 1, sizeof(*names));
	for (size_t i = 0; i < reg.n; i++)
		names[i] = reg.at[i].name;
	f->cdi_devices = names;
}

/* A plan needs no daemon; a run does. */
static int ask_engine(struct life *l, struct gpu_engine_facts *ret, struct lem_error *err)
{
	struct arena *a = &l->rec->arena;
	struct lem_error own;
	int rc;

	*ret = (struct gpu_engine_facts){0};
	if (!l->runner->facts)
		return 0;
	rc = l->runner->facts(&l->session.context, a, ret, &own);
	if (rc < 0 && l->planning && own.code != LEM_E_INTERRUPTED) {
		run_record_note(l->rec, "no container engine answers: %s", own.what);
		*ret = (struct gpu_engine_facts){0};
		return 0;
	}
	if (rc < 0) {
		*err = own;
		if (err->code != LEM_E_INTERRUPTED)
			err->code = LEM_E_REFUSED; /* known before anything was started */
		return -(int)err->code;
	}
	ret->asked = true;
	l->rootless = ret->rootless;
	if (!ret->cdi_listed)
		read_cdi(a, ret);
	return 0;
}

/* Strings are in the record's arena already; what run_record_release frees is malloc'ed. */
static void keep(struct run_record *r, const struct gpu_binding *b)
{
	r->binding = *b;
	r->binding.gpus = NULL;
	if (!b->n)
		return;
	r->binding.gpus = lem_calloc(b->n, sizeof(*b->gpus));
	memcpy(r->binding.gpus, b->gpus, b->n * sizeof(*b->gpus));
}

static void tell_warnings(struct run_record *r)
{
	for (const char *const *w = r->binding.warnings; w && *w; w++)
		run_record_note(r, "%s", *w);
}

/* gpus only says what to meter: nobody was started on them. */
static void unproved(struct gpu_binding *b)
{
	lem_strlcpy(b->path, "external", sizeof(b->path));
	b->env = NULL;
	b->request = (struct gpu_device_request){0};
	if (b->n)
		lem_strlcpy(b->proof,
			    "lem did not start the server: that it runs on these GPUs, and alone, "
			    "is the config's word only",
			    sizeof(b->proof));
}

int life_bind(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct gpu_engine_facts facts;
	struct gpu_binding b = {0};
	int rc;

	gpu_place_read(&r->arena, &l->place);
	rc = find_runner(l, err);
	if (rc >= 0 && l->e->gpus.n && !l->planning && l->runner->tidy)
		l->runner->tidy(&l->session.context); /* before free memory is looked at (R26) */
	if (rc >= 0 && l->e->gpus.n && gpu_inventory_read(&l->inventory, err) < 0) {
		err->code = LEM_E_REFUSED;
		rc = -LEM_E_REFUSED;
	}
	if (rc >= 0)
		rc = ask_engine(l, &facts, err);
	if (rc < 0)
		return rc;
	const struct gpu_route_request q = {
		.items = l->e->gpus.at,
		.n = l->e->gpus.n,
		.target = l->runner->is_container ? GPU_TO_CONTAINER : GPU_TO_PROCESS,
		.place = &l->place,
		.engine = &facts,
		.processes = l->e->gpus.n,
	};

	if (gpu_route(&q, &l->inventory, &r->arena, &b, err) < 0) {
		err->code = LEM_E_REFUSED;
		return -LEM_E_REFUSED;
	}
	keep(r, &b);
	if (l->runner == &runner_external)
		unproved(&r->binding);
	tell_warnings(r);
	return 0;
}
