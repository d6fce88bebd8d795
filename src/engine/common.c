#include "engine/common.h"

#include <jansson.h>
#include <stdarg.h>
#include <strings.h>

/* ---- words ---- */

void words_add(struct words *w, const char *word)
{
	if (w->n + 1 >= w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 16;
		const char **grown = arena_array(w->a, cap, sizeof(*grown));

		if (w->n)
			memcpy(grown, w->at, w->n * sizeof(*grown));
		w->at = grown;
		w->cap = cap;
	}
	w->at[w->n++] = word;
	w->at[w->n] = NULL;
}

static _printf_(2, 0) void words_vaddf(struct words *w, const char *fmt, va_list ap)
{
	_cleanup_str_ struct str s = STR_INIT;

	str_vaddf(&s, fmt, ap);
	words_add(w, arena_strdup(w->a, str_c(&s)));
}

void words_addf(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	words_vaddf(w, fmt, ap);
	va_end(ap);
}

void words_opt(struct words *w, const char *flag, const char *fmt, ...)
{
	va_list ap;

	words_add(w, flag);
	va_start(ap, fmt);
	words_vaddf(w, fmt, ap);
	va_end(ap);
}

void words_flag(struct words *w, const char *flag, bool on)
{
	if (on)
		words_add(w, flag);
}

const char *const *words_end(struct words *w)
{
	if (!w->at)
		w->at = arena_array(w->a, 1, sizeof(*w->at));
	return w->at;
}

const char *engine_plain_text(const char *json, struct arena *a)
{
	json_t *j = json_loads(json, JSON_DECODE_ANY, NULL);
	const char *text = arena_strdup(a, json_is_string(j) ? json_string_value(j) : json);

	json_decref(j);
	return text;
}

/* ---- models ---- */

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static bool is_path(const char *name)
{
	return name[0] == '/' || name[0] == '.' || name[0] == '~';
}

bool engine_dummy_weights(const struct engine_request *req)
{
	return req->shape->weights == WEIGHTS_SYNTHETIC;
}

/* Read-only and offline when everything is here already: a run then neither waits for the network
 * nor changes the cache. Code that comes with a model is copied to HF_MODULES_CACHE, which must be
 * writable all the same. */
static void add_hf_cache(struct launch_draft *d)
{
	const struct engine_request *q = d->req;

	if (!d->to_fetch)
		words_add(&d->env, "HF_HUB_OFFLINE=1");
	if (!d->of_hub || !q->hf_cache)
		return;
	if (!q->in_container) {
		words_addf(&d->env, "HF_HOME=%s", q->hf_cache);
		return;
	}
	words_add(&d->env, "HF_HOME=" IN_HF_CACHE);
	words_addf(&d->binds, "%s:" IN_HF_CACHE "%s", q->hf_cache, d->to_fetch ? "" : ":ro");
	if (!d->to_fetch && q->exp->trust_remote_code)
		words_add(&d->env, "HF_MODULES_CACHE=/tmp/hf-modules");
}

/* Snapshots in the hub's cache are links to files beside them: the cache is shown as a whole. */
static const char *in_hf_cache(struct launch_draft *d, const char *path)
{
	const char *cache = d->req->hf_cache;
	size_t n = cache ? strlen(cache) : 0;

	if (!n || strncmp(path, cache, n) != 0 || path[n] != '/')
		return NULL;
	d->of_hub = true;
	return arena_printf(d->a, IN_HF_CACHE "%s", path + n);
}

/* A folder of this host, as the engine sees it. */
static const char *show_folder(struct launch_draft *d, const char *path, const char *name)
{
	const char *inside;

	if (!d->req->in_container)
		return path;
	inside = in_hf_cache(d, path);
	if (inside)
		return inside;
	inside = arena_printf(d->a, IN_MODELS "/%s", name);
	words_addf(&d->binds, "%s:%s:ro", path, inside);
	return inside;
}

const char *engine_model(struct launch_draft *d)
{
	const char *path = d->req->model_path;

	if (path[0] == '/')
		return show_folder(d, path, base_name(path));
	d->of_hub = true;
	d->to_fetch |= !d->req->model_cached;
	return path;
}

const char *engine_host_path(struct launch_draft *d, const char *path)
{
	const struct engine_request *q = d->req;

	if (path[0] == '/')
		return path;
	if (path[0] != '~' || (path[1] && path[1] != '/')) {
		while (str_starts(path, "./"))
			path += 2;
		return str_eq(path, ".") ? q->base_dir
					 : arena_printf(d->a, "%s/%s", q->base_dir, path);
	}
	if (q->home_dir)
		return arena_printf(d->a, "%s%s", q->home_dir, path + 1);
	lem_fail(d->err, LEM_E_REFUSED, "'%s' begins with ~, but HOME is not set", path);
	lem_error_fix(d->err, "write the full path");
	return NULL;
}

const char *engine_second_model(struct launch_draft *d, const char *name, const char *what)
{
	const char *path;

	if (!is_path(name)) {
		d->of_hub = d->to_fetch = true; /* nobody has looked whether it is in the cache */
		return name;
	}
	path = engine_host_path(d, name);
	return path ? show_folder(d, path, what) : NULL;
}

/* ---- extra arguments ---- */

static const char *option_name(struct launch_draft *d, const char *key, char dash, const char *no)
{
	char *name = arena_printf(d->a, "--%s%s", no, key + strspn(key, "-"));

	for (char *p = name + 2; *p; p++)
		if (*p == '-' || *p == '_')
			*p = dash;
	return name;
}

static int add_extra(struct launch_draft *d, const struct kv *kv, char dash, bool has_no)
{
	json_t *j = json_loads(kv->json, JSON_DECODE_ANY, NULL), *item;
	const char *name = option_name(d, kv->key, dash, "");
	size_t i;
	int rc = 0;

	if (json_is_true(j)) {
		words_add(&d->argv, name);
	} else if (json_is_false(j) && has_no) {
		words_add(&d->argv, option_name(d, kv->key, dash, dash == '-' ? "no-" : "no_"));
	} else if (json_is_false(j)) {
		lem_fail(d->err, LEM_E_REFUSED,
			 "the extra argument %s is false, but this engine can only switch it on",
			 kv->key);
		rc = lem_error_fix(d->err, "remove it");
	} else if (json_is_array(j)) {
		words_add(&d->argv, name);
		json_array_foreach (j, i, item) {
			char *text = json_dumps(item, JSON_ENCODE_ANY | JSON_COMPACT);

			words_add(&d->argv, engine_plain_text(text, d->a));
			free(text);
		}
	} else if (!json_is_null(j)) {
		words_opt(&d->argv, name, "%s", engine_plain_text(kv->json, d->a));
	}
	json_decref(j);
	return rc;
}

int engine_extra_args(struct launch_draft *d, const struct kv_list *extra, char dash, bool has_no)
{
	int rc = 0;

	for (size_t i = 0; i < extra->n && rc >= 0; i++)
		rc = add_extra(d, &extra->at[i], dash, has_no);
	return rc;
}

/* ---- environment ---- */

static bool is_set_by(const struct kv_list *user, const char *entry)
{
	size_t n = strcspn(entry, "=");

	for (size_t i = 0; i < user->n; i++)
		if (strlen(user->at[i].key) == n && memcmp(user->at[i].key, entry, n) == 0)
			return true;
	return false;
}

static const char *const *environment(struct launch_draft *d)
{
	const struct kv_list *user = &d->req->exp->env;
	struct words all = {.a = d->a};

	/* the config may change the engine's own; what routes the GPUs is added after both
	 * (src/run) */
	for (size_t i = 0; i < d->env.n; i++)
		if (!is_set_by(user, d->env.at[i]))
			words_add(&all, d->env.at[i]);
	for (size_t i = 0; i < user->n; i++)
		words_addf(&all, "%s=%s", user->at[i].key,
			   engine_plain_text(user->at[i].json, d->a));
	return words_end(&all);
}

static const char *const *secrets(const char *const *env, struct arena *a)
{
	struct words names = {.a = a};

	for (; *env; env++) {
		size_t n = strcspn(*env, "=");

		if (config_is_secret(*env, n))
			words_add(&names, arena_strndup(a, *env, n));
	}
	return words_end(&names);
}

/* ---- the container ---- */

static int add_volumes(struct launch_draft *d)
{
	const struct str_list *v = &d->req->exp->docker.volumes;

	for (size_t i = 0; i < v->n; i++) {
		size_t n = strcspn(v->at[i], ":");
		const char *host = arena_strndup(d->a, v->at[i], n);
		const char *path = engine_host_path(d, host);

		if (!path)
			return -(int)d->err->code;
		words_addf(&d->binds, "%s%s", path, v->at[i] + n);
	}
	return 0;
}

static int fail_image(const struct engine_request *q, struct lem_error *err)
{
	const char *name = backend_name(q->exp->backend);

	lem_fail(err, LEM_E_REFUSED, "there is no image for %s that lem could choose", name);
	return lem_error_fix(err, "name one: docker: {image: …}, or use runner: process");
}

static int fail_network(struct lem_error *err)
{
	lem_fail(err, LEM_E_REFUSED,
		 "docker.network is none, but this engine is a server that lem must reach");
	return lem_error_fix(err, "remove it: the port is published on 127.0.0.1 only");
}

/* Passed through from lem's own environment by its name, so that gated models can be fetched. */
static void add_token(struct launch_draft *d)
{
	if (d->req->hf_token && d->to_fetch)
		words_addf(&d->env, "HF_TOKEN=%s", d->req->hf_token);
}

int engine_finish(struct launch_draft *d, const char *image, struct launch_spec *ret)
{
	const struct engine_request *q = d->req;
	const struct docker_config *c = &q->exp->docker;

	if (engine_find(q->exp->backend)->model == MODEL_HF)
		add_hf_cache(d);
	if (q->in_container) {
		ret->image = c->image ? c->image : image;
		if (!ret->image)
			return fail_image(q, d->err);
		if (ret->channel == CHANNEL_HTTP && str_eq(c->network, "none"))
			return fail_network(d->err);
		if (add_volumes(d) < 0)
			return -d->err->code;
		add_token(d);
		ret->pull = c->pull;
		ret->network = c->network;
		ret->user = c->user;
		ret->shm_bytes = c->shm_size.set ? c->shm_size.v : 0;
	}
	ret->engine = backend_name(q->exp->backend);
	ret->argv = words_end(&d->argv);
	ret->env = environment(d);
	ret->binds = words_end(&d->binds);
	ret->secrets = secrets(ret->env, d->a);
	ret->gpus_needed = q->binding->n;
	return 0;
}

const char *engine_http_mode(const struct experiment *e)
{
	if (e->traffic.present)
		return e->traffic.concurrency.set ? "server/closed" : "server/open";
	return e->streaming ? "offline/streaming" : "offline/continuous";
}

void engine_listen(struct launch_draft *d, int port, double load_timeout_s,
		   double request_timeout_s, struct launch_spec *ret)
{
	const char *host = d->req->in_container ? "0.0.0.0" : "127.0.0.1";

	/* on the host's own network the container's port is the host's */
	if (d->req->port && (!d->req->in_container || str_eq(d->req->exp->docker.network, "host")))
		port = d->req->port;
	if (str_eq(d->req->exp->docker.network, "host"))
		host = "127.0.0.1";
	words_opt(&d->argv, "--host", "%s", host);
	words_opt(&d->argv, "--port", "%d", port);
	ret->port = port;
	ret->channel = CHANNEL_HTTP;
	ret->stop_grace_ns = SERVER_STOP_GRACE_S * NS_PER_S;
	ret->load_timeout_ns = (int64_t)(load_timeout_s * 1e9);
	ret->silence_ns = (int64_t)(request_timeout_s * 1e9);
}
