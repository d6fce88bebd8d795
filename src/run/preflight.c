#include "base/clock.h"
#include "base/num.h"
#include "run/life.h"
#include "sys/fs.h"
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

static struct weights_request weights_request(struct life *l)
{
	return (struct weights_request){
		.model_name = l->e->model_name,
		.base_dir = l->e->root_dir,
		.quant = NULL,
		.seed = l->e->random_seed.set ? (uint64_t)l->e->random_seed.v : 0,
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

static int find_model(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct weights_request w = weights_request(l);
	char hex[65];
	int rc;

	r->model_name = arena_strdup(&r->arena, l->e->model_name);
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

	if (!l->prompts.synthetic && !s->has_tokenizer && !(l->planning && !s->n_layer)) {
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

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return n == strcspn(b, "=") && memcmp(a, b, n) == 0;
}

static bool is_named_in(const char *entry, const char *const *list)
{
	for (; list && *list; list++)
		if (same_name(entry, *list))
			return true;
	return false;
}

static size_t count_entries(const char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* What routes the GPUs stands last, once, and wins over whatever the engine or the config says. */
static const char *const *with_routing(const char *const *env, const char *const *routing,
				       struct arena *a)
{
	const char **all =
		arena_array(a, count_entries(env) + count_entries(routing) + 1, sizeof(*all));
	size_t n = 0;

	for (; env && *env; env++)
		if (!is_named_in(*env, routing))
			all[n++] = *env;
	for (; routing && *routing; routing++)
		all[n++] = *routing;
	return all;
}

static bool looks_secret(const char *entry)
{
	size_t n = strcspn(entry, "=");
	_cleanup_free_ char *name = lem_strndup(entry, n);

	return str_ends(name, "TOKEN") || str_ends(name, "_KEY") || strstr(name, "SECRET") ||
	       strstr(name, "PASSWORD");
}

/* The engine's own list, and whatever the config's env names like a secret. */
static const char *const *all_secrets(const struct launch_spec *s, struct arena *a)
{
	const char **all =
		arena_array(a, count_entries(s->secrets) + count_entries(s->env) + 1, sizeof(*all));
	size_t n = 0;

	for (const char *const *p = s->secrets; p && *p; p++)
		all[n++] = *p;
	for (const char *const *p = s->env; p && *p; p++)
		if (looks_secret(*p) && !is_named_in(*p, s->secrets))
			all[n++] = arena_strndup(a, *p, strcspn(*p, "="));
	return all;
}

/* HF_HOME, else its default; NULL when there is no such folder. The hub's files lie in "hub". */
static const char *hf_home(struct arena *a)
{
	const char *home = getenv("HF_HOME"), *cache = getenv("XDG_CACHE_HOME"),
		   *user = getenv("HOME");
	const char *path = home && *home     ? arena_strdup(a, home)
			   : cache && *cache ? arena_printf(a, "%s/huggingface", cache)
			   : user && *user   ? arena_printf(a, "%s/.cache/huggingface", user)
					     : NULL;

	return path && fs_is_dir(path) ? path : NULL;
}

static int launch(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	struct engine_request q = {
		.exp = l->e,
		.shape = &r->shape,
		.binding = &r->binding,
		.model_path = l->model_path,
		.program_dir = l->req->program_dir,
		.in_container = l->runner->is_container,
		.hf_cache = hf_home(&r->arena),
		.threads_default =
			l->host.cores_allowed >= 4 ? l->host.cores_allowed : l->host.cpus_allowed,
	};
	int rc = l->engine->launch(&q, &r->arena, &l->spec, err);

	if (rc < 0)
		return rc;
	l->spec.env = with_routing(l->spec.env, r->binding.env, &r->arena);
	l->spec.secrets = all_secrets(&l->spec, &r->arena);
	l->spec.binding = &r->binding;
	l->spec.run_id = l->req->run_id;
	l->spec.experiment = l->e->config_name;
	l->session.spec = &l->spec;
	return 0;
}

static int make_spec(struct life *l, struct lem_error *err)
{
	int rc = launch(l, err);

	if (rc < 0 || l->planning || !l->runner->check)
		return rc;
	rc = l->runner->check(&l->spec, &l->session.context, err);
	if (rc < 0 && err->code != LEM_E_INTERRUPTED)
		err->code = LEM_E_REFUSED; /* nothing was started yet */
	return rc < 0 ? -(int)err->code : 0;
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
	    (rc = life_bind(l, err)) < 0 || (rc = find_model(l, err)) < 0 ||
	    (rc = check_prompts(l, err)) < 0 || (rc = life_check_gpus(l, err)) < 0 ||
	    (rc = make_spec(l, err)) < 0)
		return rc;
	return check_memory(l, err);
}
