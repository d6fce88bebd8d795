#include "run/life.h"
#include "sys/fs.h"
#include "weights/weights.h"

/* model_name → what the engine is told: a GGUF file, a folder, or the id of a model on the hub. */

static bool on_weights_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct life *l = arg;

	l->detail = what;
	l->done = done;
	l->total = total;
	life_report(l);
	return !life_is_cancelled(l);
}

static struct weights_request weights_request(struct life *l)
{
	return (struct weights_request){
		.model_name = l->e->model_name,
		.base_dir = l->e->root_dir,
		.quant = NULL,
		.seed = l->e->random_seed.set ? (uint64_t)l->e->random_seed.v : 0,
		.vocabulary = l->engine->needs_vocabulary,
		.progress = on_weights_progress,
		.progress_arg = l,
	};
}

/* Where the model is or would be; a plan makes and fetches nothing. */
static int plan_model(struct life *l, struct lem_error *err)
{
	struct weights_request w = weights_request(l);
	bool there = false;
	int rc = weights_locate(&w, &l->model_path, &l->rec->shape, &there, err);

	if (rc >= 0 && !there)
		run_record_note(l->rec, "the model is not here yet; a run makes or fetches %s",
				l->model_path);
	return rc;
}

static int find_gguf(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct weights_request w = weights_request(l);
	char hex[65];
	int rc;

	if (l->planning)
		return plan_model(l, err);
	rc = weights_resolve(&w, &l->model_path, &r->shape, err);
	if (rc >= 0)
		rc = weights_sha256(l->model_path, hex, err);
	if (rc < 0)
		return rc;
	r->model_path = arena_strdup(&r->arena, l->model_path);
	r->model_sha256 = arena_strdup(&r->arena, hex);
	return 0;
}

/* Engines that read Hugging Face models fetch what is on the hub themselves. */
static int find_hf(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct weights_request w = weights_request(l);
	_cleanup_free_ char *home = weights_hf_home();
	struct weights_hf m;
	int rc;

	if (home && fs_is_dir(home))
		l->hf_home = arena_strdup(&r->arena, home);
	rc = weights_resolve_hf(&w, l->hf_home, l->planning, &m, err);
	if (rc < 0)
		return rc;
	l->model_path = m.model;
	l->model_cached = m.cached;
	r->shape = m.shape;
	if (m.absent)
		run_record_note(r, "the model is not here yet; %s %s",
				m.model[0] == '/' ? "a run makes" : "the engine fetches", m.model);
	return 0;
}

/* Its shape, where this machine has its config.json; what a server really runs is its affair. */
void life_look_at_model(struct life *l)
{
	struct run_record *r = l->rec;
	struct weights_request w = weights_request(l);
	_cleanup_free_ char *home = weights_hf_home();
	struct weights_hf m;

	if (weights_resolve_hf(&w, home && fs_is_dir(home) ? home : NULL, true, &m, NULL) < 0)
		m = (struct weights_hf){0};
	if (m.shape.n_layer) {
		m.shape.weights =
			l->engine->model == MODEL_SERVED ? WEIGHTS_UNKNOWN : m.shape.weights;
		r->shape = m.shape;
	} else if (l->engine->model == MODEL_SERVED) {
		r->shape = (struct model_shape){.has_tokenizer = true};
	}
	free(m.model);
}

int life_find_model(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	int rc;

	r->model_name = arena_strdup(&r->arena, l->e->model_name);
	if (l->engine->model == MODEL_SERVED) {
		life_look_at_model(l);
		return 0;
	}
	rc = l->engine->model == MODEL_GGUF ? find_gguf(l, err) : find_hf(l, err);
	if (rc >= 0)
		r->model_path = arena_strdup(&r->arena, l->model_path);
	return rc;
}
