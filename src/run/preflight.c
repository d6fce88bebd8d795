#include "base/clock.h"
#include "base/num.h"
#include "gpu/id.h"
#include "run/life.h"
#include "weights/weights.h"

/* Everything that can be known to be wrong before anything is started. */

static bool on_weights_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct life *l = arg;
	struct lem_error ignored;

	l->detail = what;
	l->done = done;
	l->total = total;
	life_report(l);
	return life_idle(l, clock_now_ns() + 1, &ignored) ==
	       0; /* only looks at the cancel descriptor */
}

static int find_model(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct weights_request w = {
		.model_name = l->e->model_name,
		.base_dir = l->e->root_dir,
		.quant = NULL,
		.seed = l->e->random_seed.set ? (uint64_t)l->e->random_seed.v : 0,
		.progress = on_weights_progress,
		.progress_arg = l,
	};
	char hex[65];
	int rc = weights_resolve(&w, &l->model_path, &r->shape, err);

	if (rc >= 0)
		rc = weights_sha256(l->model_path, hex, err);
	if (rc < 0)
		return rc;
	r->model_name = arena_strdup(&r->arena, l->e->model_name);
	r->model_path = arena_strdup(&r->arena, l->model_path);
	r->model_sha256 = arena_strdup(&r->arena, hex);
	return 0;
}

/* gpus: of the config → UUIDs, once; everything later goes by them. */
static int bind_gpus(struct life *l, struct lem_error *err)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b = {0};
	struct run_record *r = l->rec;
	int rc;

	lem_strlcpy(r->binding.path, l->e->gpus.n ? "process" : "none", sizeof(r->binding.path));
	if (l->e->gpus.n == 0)
		return 0;
	rc = gpu_inventory_read(&inv, err);
	if (rc >= 0)
		rc = gpu_resolve(&inv, l->e->gpus.at, l->e->gpus.n, getenv("CUDA_VISIBLE_DEVICES"),
				 &a, &b, err);
	if (rc < 0) {
		err->code = LEM_E_REFUSED;
		return rc;
	}
	r->binding.n = b.n;
	r->binding.gpus = lem_calloc(b.n, sizeof(*b.gpus));
	memcpy(r->binding.gpus, b.gpus, b.n * sizeof(*b.gpus));
	return 0;
}

static int check_memory(const struct life *l, struct lem_error *err)
{
	const struct model_shape *s = &l->rec->shape;
	char need[24], have[24];

	if (l->rec->binding.n || s->size_bytes < l->host.memory_available_bytes ||
	    !l->host.memory_available_bytes)
		return 0;
	lem_fail(err, LEM_E_REFUSED, "the weights need %s of memory, %s are available",
		 num_format_bytes(s->size_bytes, need, sizeof(need)),
		 num_format_bytes(l->host.memory_available_bytes, have, sizeof(have)));
	return lem_error_fix(err, "choose a smaller model or quantisation, or free memory");
}

static int check_prompts(struct life *l, struct lem_error *err)
{
	const struct model_shape *s = &l->rec->shape;
	int64_t longest = l->e->max_input_tokens + l->e->max_output_tokens;

	if (!l->prompts.synthetic && !s->has_tokenizer) {
		lem_fail(err, LEM_E_REFUSED, "the prompts are text, but '%s' has no tokenizer",
			 l->e->model_name);
		return lem_error_fix(
			err, "use prompts: {type: synthetic, count: 32, input_tokens: 128}");
	}
	if (s->n_ctx_train && longest > s->n_ctx_train)
		run_record_note(l->rec,
				"max_input_tokens + max_output_tokens = %" PRId64
				" is more than the %" PRId64 " tokens the model was made for",
				longest, s->n_ctx_train);
	return 0;
}

/* min_output_tokens = max_output_tokens asks for exactly that many. */
static int64_t forced_tokens(const struct experiment *e)
{
	return e->min_output_tokens == e->max_output_tokens ? e->max_output_tokens : 0;
}

static int make_spec(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct engine_request q = {
		.exp = l->e,
		.shape = &r->shape,
		.binding = &r->binding,
		.model_path = l->model_path,
		.program_dir = l->req->program_dir,
		.threads_default =
			l->host.cores_allowed >= 4 ? l->host.cores_allowed : l->host.cpus_allowed,
	};
	const struct runner_ops *runner = runner_find(l->e->runner);
	int rc = l->engine->launch(&q, &r->arena, &l->spec, err);

	if (rc < 0)
		return rc;
	if (!runner)
		return lem_fail(err, LEM_E_REFUSED,
				"this version of lem starts engines as processes only");
	l->session.runner = runner;
	l->session.spec = &l->spec;
	const struct runner_context c = {.cancel_fd = l->req->cancel_fd};

	return runner->check(&l->spec, &c, err);
}

static int find_engine(struct life *l, struct lem_error *err)
{
	l->engine = engine_find(l->e->backend);
	if (l->engine)
		return 0;
	lem_fail(err, LEM_E_REFUSED, "this version of lem cannot start %s yet",
		 backend_name(l->e->backend));
	return lem_error_fix(err,
			     "engines it can start: %s; the configuration itself can be checked "
			     "with 'lem config "
			     "validate'",
			     engine_names());
}

int life_preflight(struct life *l, struct lem_error *err)
{
	int rc;

	host_read(&l->host);
	l->batch = l->e->streaming ? 1 : (size_t)l->e->llamacpp.batch_size;
	l->forced_tokens = forced_tokens(l->e);
	if ((rc = find_engine(l, err)) < 0 || (rc = prompts_load(l->e, &l->prompts, err)) < 0 ||
	    (rc = bind_gpus(l, err)) < 0 || (rc = find_model(l, err)) < 0 ||
	    (rc = check_prompts(l, err)) < 0 || (rc = make_spec(l, err)) < 0)
		return rc;
	return check_memory(l, err);
}
