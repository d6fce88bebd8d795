#include <dirent.h>

#include "base/clock.h"
#include "run/life.h"
#include "sys/fs.h"
#include "weights/weights.h"

/* model_name → what the engine is told: a GGUF file, a folder, or the id of a model on the hub. */

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

/* A snapshot of it lies in the cache: huggingface_hub's layout, hub/models--ORG--NAME/snapshots. */
static bool is_cached(const char *home, const char *id)
{
	_cleanup_str_ struct str path = STR_INIT;
	struct dirent *e;
	bool any = false;
	DIR *d;

	if (!home)
		return false;
	str_addf(&path, "%s/hub/models--", home);
	for (const char *p = id; *p; p++)
		str_add(&path, *p == '/' ? "--" : (char[]){*p, '\0'});
	str_add(&path, "/snapshots");
	d = opendir(str_c(&path));
	while (d && !any && (e = readdir(d)))
		any = e->d_name[0] != '.';
	if (d)
		closedir(d);
	return any;
}

static bool is_path(const char *name)
{
	return name[0] == '/' || name[0] == '.' || name[0] == '~';
}

/* Engines that read Hugging Face models fetch what is on the hub themselves. */
static int find_hf(struct life *l, struct lem_error *err)
{
	const char *name = l->e->model_name;
	_cleanup_free_ char *path = fs_join(l->e->root_dir, name);

	if (str_starts(name, "synthetic:")) {
		(void)lem_fail(err, LEM_E_REFUSED, "%s cannot be given the synthetic model %s yet",
			       l->engine->name, name);
		return lem_error_fix(err, "name a model of the hub or a folder with config.json");
	}
	(void)weights_local_shape(name, l->e->root_dir, &l->rec->shape, NULL);
	if (fs_is_dir(path)) {
		l->model_path = realpath(path, NULL);
		return l->model_path ? 0 : lem_fail_errno(err, errno, "cannot resolve %s", path);
	}
	if (is_path(name)) {
		(void)lem_fail(err, LEM_E_REFUSED, "there is no model folder %s", path);
		return lem_error_fix(err,
				     "%s reads a folder with config.json, or a model of the "
				     "hub such as Qwen/Qwen2.5-0.5B",
				     l->engine->name);
	}
	l->model_path = lem_strdup(str_starts(name, "hf:") ? name + 3 : name);
	l->model_cached = is_cached(l->hf_home, l->model_path);
	return 0;
}

int life_find_model(struct life *l, struct lem_error *err)
{
	struct run_record *r = l->rec;
	int rc;

	l->hf_home = hf_home(&r->arena);
	r->model_name = arena_strdup(&r->arena, l->e->model_name);
	rc = l->engine->model == MODEL_GGUF ? find_gguf(l, err) : find_hf(l, err);
	if (rc >= 0)
		r->model_path = arena_strdup(&r->arena, l->model_path);
	return rc;
}
