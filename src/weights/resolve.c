#include <limits.h>

#include "base/digest.h"
#include "sys/fs.h"
#include "weights/hub.h"
#include "weights/weights.h"

static int describe(const char *path, struct model_shape *ret, struct lem_error *err)
{
	return str_ends(path, ".json") ? hf_config_read_shape(path, ret, err)
				       : gguf_read_shape(path, ret, err);
}

/* "llama-1b", a config.json, or a folder that holds one. */
static int synthetic_shape(const char *name, const char *base_dir, struct model_shape *ret,
			   struct lem_error *err)
{
	const struct model_shape *named = weights_named_shape(name);
	_cleanup_free_ char *path = fs_join(base_dir, name);
	_cleanup_free_ char *inside = fs_join(path, "config.json");
	int r = 0;

	if (named)
		*ret = *named;
	else if (fs_is_dir(path) && fs_exists(inside))
		r = hf_config_read_shape(inside, ret, err);
	else if (str_ends(name, ".json"))
		r = hf_config_read_shape(path, ret, err);
	else {
		lem_fail(err, LEM_E_REFUSED, "there is no synthetic shape '%s'", name);
		return lem_error_fix(err, "use llama-15m, llama-160m, llama-1b, llama-3.1-8b, "
					  "qwen2.5-0.5b, gemma3-270m, or "
					  "the path of a config.json");
	}
	if (r < 0)
		return r;
	ret->weights = WEIGHTS_SYNTHETIC;
	ret->n_params = model_shape_params(ret);
	snprintf(ret->name, sizeof(ret->name), "synthetic %.70s", name);
	return 0;
}

/* "synthetic:SHAPE[:QUANT]"; SHAPE may be a path with colons of its own. */
static void split_synthetic(const char *model, const char *quant, char *name, size_t size,
			    const char **ret_quant)
{
	const char *rest = model + strlen("synthetic:"), *colon = strrchr(rest, ':');

	lem_strlcpy(name, rest, size);
	*ret_quant = quant ? quant : "q8_0";
	if (colon && !strchr(colon, '/') && !str_ends(colon, ".json") &&
	    (size_t)(colon - rest) < size) {
		name[colon - rest] = '\0';
		*ret_quant = colon + 1;
	}
}

/* A bare file name that is not beside the config is looked for in lem's cache of models, so that a
 * shared file can name what `setup` or a download put there. */
static char *local_path(const char *model_name, const char *base_dir)
{
	_cleanup_free_ char *path = fs_join(base_dir, model_name);
	_cleanup_free_ char *cache = fs_cache_dir();
	_cleanup_free_ char *cached = lem_asprintf("%s/models/%s", cache, model_name);

	if (!fs_exists(path) && !strchr(model_name, '/') && fs_exists(cached))
		return steal_ptr(cached);
	return steal_ptr(path);
}

int weights_local_shape(const char *model_name, const char *base_dir, struct model_shape *ret,
			struct lem_error *err)
{
	_cleanup_free_ char *path = local_path(model_name, base_dir);
	_cleanup_free_ char *inside = fs_join(path, "config.json");
	char name[PATH_MAX];
	const char *quant;

	if (str_starts(model_name, "synthetic:")) {
		split_synthetic(model_name, NULL, name, sizeof(name), &quant);
		return synthetic_shape(name, base_dir, ret, err);
	}
	if (str_starts(model_name, "hf:")) {
		_cleanup_free_ char *cached = hub_cached(model_name);

		if (cached)
			return gguf_read_shape(cached, ret, err);
	}
	if (fs_is_dir(path) && fs_exists(inside))
		return hf_config_read_shape(inside, ret, err);
	if (fs_exists(path) && !fs_is_dir(path))
		return describe(path, ret, err);
	return lem_fail(err, LEM_E_NOT_FOUND, "%s is not a local model", model_name);
}

/* Everything that changes a byte of the file is in its name. */
static char *synthetic_path(const struct model_shape *s, const char *label, const char *quant,
			    uint64_t seed)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	_cleanup_free_ char *what = lem_asprintf(
		"writer 2|%s|%" PRId64 "|%" PRId64 "|%" PRId64 "|%" PRId64 "|%" PRId64 "|%" PRId64
		"|%" PRId64 "|%" PRId64 "|%" PRId64 "|%d|%s|%" PRIu64 "|%s%s",
		s->architecture, s->n_layer, s->n_embd, s->n_ff, s->n_head, s->n_head_kv,
		s->head_dim, s->n_vocab, s->n_ctx_train, s->n_swa, s->tied_embeddings, quant, seed,
		s->name, s->has_tokenizer ? "|vocabulary 1" : "");
	char hex[DIGEST_HEX_SIZE], slug[48];
	size_t n = 0;

	digest_bytes(what, strlen(what), hex);
	for (const char *p = label; *p && n + 1 < sizeof(slug); p++)
		slug[n++] =
			strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-",
			       *p)
				? *p
				: '-';
	slug[n] = '\0';
	return lem_asprintf("%s/models/synthetic-%s-%s-%s%.12s.gguf", cache, slug, quant,
			    s->has_tokenizer ? "vocab-" : "", hex);
}

static bool keep_waiting(void *arg)
{
	const struct weights_request *q = arg;

	return !q->progress ||
	       q->progress(q->progress_arg, "waiting for another lem that makes this model", 0, 0);
}

static int resolve_synthetic(const struct weights_request *q, char **ret_path,
			     struct model_shape *ret_shape, struct lem_error *err)
{
	char name[PATH_MAX];
	const char *quant;
	struct model_shape shape;
	int r;

	split_synthetic(q->model_name, q->quant, name, sizeof(name), &quant);
	r = synthetic_shape(name, q->base_dir, &shape, err);
	if (r < 0)
		return r;
	shape.has_tokenizer = q->vocabulary;
	_cleanup_free_ char *path = synthetic_path(&shape, name, quant, q->seed);
	_cleanup_free_ char *lock_path = lem_asprintf("%s.lock", path);
	struct weights_request waiter = *q;
	/* one maker at a time; the others wait and then find the file */
	_cleanup_fd_ int lock = fs_lock(lock_path, keep_waiting, &waiter, err);

	if (lock < 0)
		return lock;
	/* one that cannot be read was damaged after it was made */
	if (!fs_exists(path) || gguf_read_shape(path, ret_shape, NULL) < 0)
		r = gguf_synthesize(&shape, quant, q->seed, path, q->progress, q->progress_arg,
				    err);
	if (r >= 0)
		r = gguf_read_shape(path, ret_shape, err);
	if (r < 0)
		return r;
	ret_shape->has_tokenizer = false; /* what it calls words are not words */
	*ret_path = steal_ptr(path);
	return 0;
}

static int resolve_local(const struct weights_request *q, char **ret_path,
			 struct model_shape *ret_shape, struct lem_error *err)
{
	_cleanup_free_ char *path = local_path(q->model_name, q->base_dir);
	int r;

	if (!fs_exists(path)) {
		lem_fail(err, LEM_E_REFUSED, "there is no model file %s", path);
		return lem_error_fix(err, "model_name takes a GGUF file, hf:ORG/REPO:FILE.gguf or "
					  "synthetic:llama-15m");
	}
	if (fs_is_dir(path)) {
		lem_fail(err, LEM_E_REFUSED,
			 "the model %s is a folder; this engine needs a GGUF file", path);
		return lem_error_fix(err, "name the .gguf file in it");
	}
	r = gguf_read_shape(path, ret_shape, err);
	if (r < 0) {
		if (err)
			err->code = LEM_E_REFUSED; /* known before anything is launched */
		return -LEM_E_REFUSED;
	}
	*ret_path = realpath(path, NULL);
	return *ret_path ? 0 : lem_fail_errno(err, errno, "cannot resolve %s", path);
}

int weights_resolve(const struct weights_request *q, char **ret_path, struct model_shape *ret_shape,
		    struct lem_error *err)
{
	char *path = NULL;
	int r;

	if (str_starts(q->model_name, "synthetic:"))
		return resolve_synthetic(q, ret_path, ret_shape, err);
	if (!str_starts(q->model_name, "hf:"))
		return resolve_local(q, ret_path, ret_shape, err);
	r = hub_fetch(q, &path, err);
	if (r >= 0)
		r = gguf_read_shape(path, ret_shape, err);
	if (r >= 0)
		*ret_path = path;
	else
		free(path);
	return r;
}

static int locate_synthetic(const struct weights_request *q, char **ret_path,
			    struct model_shape *ret_shape, struct lem_error *err)
{
	char name[PATH_MAX];
	const char *quant;
	int r;

	split_synthetic(q->model_name, q->quant, name, sizeof(name), &quant);
	r = synthetic_shape(name, q->base_dir, ret_shape, err);
	if (r < 0)
		return r;
	ret_shape->has_tokenizer = q->vocabulary;
	*ret_path = synthetic_path(ret_shape, name, quant, q->seed);
	ret_shape->has_tokenizer = false;
	return 0;
}

int weights_locate(const struct weights_request *q, char **ret_path, struct model_shape *ret_shape,
		   bool *ret_there, struct lem_error *err)
{
	_cleanup_free_ char *path = NULL;
	struct model_shape shape = {0};
	int r = 0;

	if (str_starts(q->model_name, "synthetic:"))
		r = locate_synthetic(q, &path, &shape, err);
	else if (!str_starts(q->model_name, "hf:"))
		r = resolve_local(q, &path, &shape, err);
	else if (!(path = hub_path(q->model_name)))
		path = lem_strdup(q->model_name); /* which of its files is known to the hub only */
	if (r < 0)
		return r;
	*ret_there = fs_exists(path);
	if (*ret_there)
		(void)gguf_read_shape(path, &shape, NULL);
	if (str_starts(q->model_name, "synthetic:"))
		shape.has_tokenizer = false;
	*ret_shape = shape;
	*ret_path = steal_ptr(path);
	return 0;
}
