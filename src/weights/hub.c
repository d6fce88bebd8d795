#include "weights/hub.h"

#include <jansson.h>
#include <strings.h>

#include "sys/dl.h"
#include "sys/fs.h"

struct hub_file {
	char repo[160], file[256], endpoint[256];
	const char *token; /* NULL: none */
};

static const char *env_or(const char *name, const char *otherwise)
{
	const char *s = getenv(name);

	return s && *s ? s : otherwise;
}

/* Names become URLs and paths, so only harmless characters and no ".." are taken. */
static bool safe_name(const char *s)
{
	return *s && !strstr(s, "..") && s[0] != '/' &&
	       s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")] ==
		       '\0';
}

static int parse_name(const char *model_name, struct hub_file *h, struct lem_error *err)
{
	const char *rest = model_name + strlen("hf:"), *colon = strchr(rest, ':');
	size_t n = colon ? (size_t)(colon - rest) : strlen(rest);
	const char *slash = memchr(rest, '/', n);

	*h = (struct hub_file){.token = env_or("HF_TOKEN", NULL)};
	lem_strlcpy(h->endpoint, env_or("HF_ENDPOINT", "https://huggingface.co"),
		    sizeof(h->endpoint));
	while (str_ends(h->endpoint, "/"))
		h->endpoint[strlen(h->endpoint) - 1] = '\0';
	if (n < sizeof(h->repo)) {
		memcpy(h->repo, rest, n);
		h->repo[n] = '\0';
	}
	bool fits = !colon || lem_strlcpy(h->file, colon + 1, sizeof(h->file)) < sizeof(h->file);

	if (slash && fits && safe_name(h->repo) && (!colon || safe_name(h->file)))
		return 0;
	lem_fail(err, LEM_E_REFUSED, "'%s' does not name a model on a hub", model_name);
	return lem_error_fix(err, "write hf:ORG/REPO or hf:ORG/REPO:FILE.gguf");
}

struct progress {
	const struct weights_request *q;
	char what[300];
};

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
	const struct progress *p = arg;

	return !p->q->progress || p->q->progress(p->q->progress_arg, p->what, done, total);
}

/* Adds the .gguf files of a listing to names; gives their number, keeps the last one in h->file. */
static size_t gguf_files(const json_t *listing, struct hub_file *h, struct str *names)
{
	const json_t *entry;
	size_t i, n = 0;

	json_array_foreach (json_object_get(listing, "siblings"), i, entry) {
		const char *name = json_string_value(json_object_get(entry, "rfilename"));

		if (!name || !str_ends(name, ".gguf") || !safe_name(name) ||
		    strlen(name) >= sizeof(h->file))
			continue;
		lem_strlcpy(h->file, name, sizeof(h->file));
		str_addf(names, "%s%s", n++ ? ", " : "", name);
	}
	return n;
}

/* The only .gguf of the repository, or an error that lists them. */
static int choose_file(struct hub_file *h, const struct weights_request *req, struct lem_error *err)
{
	enum { LISTING_MAX_BYTES = 16 << 20 };
	_cleanup_free_ char *url = lem_asprintf("%s/api/models/%s", h->endpoint, h->repo);
	_cleanup_str_ struct str text = STR_INIT, names = STR_INIT;
	struct progress p = {.q = req, .what = "asking the hub for the model's files"};
	struct dl_request q = {.url = url, .bearer = h->token, .progress = on_progress, .arg = &p};
	size_t n;
	json_t *j;
	int r = dl_text(&q, LISTING_MAX_BYTES, &text, err);

	if (r < 0)
		return r;
	j = json_loadb(str_c(&text), text.len, 0, NULL);
	if (!json_is_array(json_object_get(j, "siblings"))) {
		json_decref(j);
		lem_fail(err, LEM_E_PARSE, "the hub's answer is not a list of files");
		lem_error_where(err, "%s", url);
		return lem_error_fix(err, "check HF_ENDPOINT, or name the file: hf:%s:FILE.gguf",
				     h->repo);
	}
	n = gguf_files(j, h, &names);
	json_decref(j);
	if (n == 1)
		return 0;
	h->file[0] = '\0';
	lem_fail(err, LEM_E_REFUSED, "the repository %s holds %s", h->repo,
		 n ? "several GGUF files" : "no GGUF file");
	return n ? lem_error_fix(err, "name one: hf:%s:FILE, with FILE of %.250s", h->repo,
				 str_c(&names))
		 : lem_error_fix(err, "choose a repository with GGUF files");
}

static bool looks_like_sha256(const char *s)
{
	return strlen(s) == 64 && s[strspn(s, "0123456789abcdef")] == '\0';
}

static int verify(const char *part, const char *wanted, const char *url, struct lem_error *err)
{
	char hex[65];
	int r;

	if (!looks_like_sha256(wanted))
		return 0;
	r = weights_sha256(part, hex, err);
	if (r < 0 || str_eq(hex, wanted))
		return r;
	unlink(part);
	lem_fail(err, LEM_E_IO, "the downloaded file has the wrong SHA-256: %s instead of %s", hex,
		 wanted);
	lem_error_where(err, "%s", url);
	return lem_error_fix(err, "it was removed; try again");
}

static int download(const struct weights_request *q, const struct hub_file *h, const char *path,
		    struct lem_error *err)
{
	_cleanup_free_ char *url =
		lem_asprintf("%s/%s/resolve/main/%s", h->endpoint, h->repo, h->file);
	_cleanup_free_ char *part = NULL;
	struct progress p = {.q = q};
	struct dl_request d = {.url = url, .bearer = h->token, .progress = on_progress, .arg = &p};
	struct dl_info info;
	int r;

	snprintf(p.what, sizeof(p.what), "downloading %s", h->file);
	r = dl_head(&d, &info, err);
	if (r < 0)
		return r;
	const char *version = info.linked_etag[0] ? info.linked_etag : info.etag;

	/* a part of another version of the file must not be continued */
	part = lem_asprintf("%s.%.16s.part", path,
			    looks_like_sha256(version) ? version : "unversioned");
	if (!looks_like_sha256(version))
		unlink(part);
	r = dl_file(&d, part, info.size, err);
	if (r >= 0)
		r = verify(part, version, url, err);
	if (r >= 0 && rename(part, path) < 0)
		r = lem_fail_errno(err, errno, "cannot store %s", path);
	if (r >= 0)
		fs_sync_parent(path);
	return r;
}

static bool keep_waiting(void *arg)
{
	const struct weights_request *q = arg;

	return !q->progress ||
	       q->progress(q->progress_arg, "waiting for another lem that downloads this model", 0,
			   0);
}

static bool is_offline(void)
{
	const char *s = env_or("HF_HUB_OFFLINE", "0");

	return str_eq(s, "1") || strcasecmp(s, "true") == 0 || strcasecmp(s, "yes") == 0 ||
	       strcasecmp(s, "on") == 0; /* as huggingface_hub reads it */
}

static int name_file(struct hub_file *h, const struct weights_request *q, struct lem_error *err)
{
	int r = parse_name(q->model_name, h, err);

	if (r < 0 || h->file[0])
		return r;
	if (!is_offline())
		return choose_file(h, q, err);
	lem_fail(err, LEM_E_REFUSED, "HF_HUB_OFFLINE is set and %s does not say which file",
		 q->model_name);
	return lem_error_fix(err, "name it: hf:%s:FILE.gguf", h->repo);
}

char *hub_path(const char *model_name)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	struct hub_file h;

	if (parse_name(model_name, &h, NULL) < 0 || !h.file[0])
		return NULL;
	return lem_asprintf("%s/models/%s/%s", cache, h.repo, h.file);
}

char *hub_cached(const char *model_name)
{
	_cleanup_free_ char *path = hub_path(model_name);

	return path && fs_exists(path) ? steal_ptr(path) : NULL;
}

int hub_fetch(const struct weights_request *q, char **ret_path, struct lem_error *err)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	struct weights_request waiter = *q;
	struct hub_file h;
	int r = name_file(&h, q, err);

	if (r < 0)
		return r;
	_cleanup_free_ char *path = lem_asprintf("%s/models/%s/%s", cache, h.repo, h.file);
	_cleanup_free_ char *lock_path = lem_asprintf("%s.lock", path);
	_cleanup_fd_ int lock = fs_lock(lock_path, keep_waiting, &waiter, err);

	if (lock < 0)
		return lock;
	if (!fs_exists(path) && is_offline()) {
		lem_fail(err, LEM_E_REFUSED, "HF_HUB_OFFLINE is set and the model is not here");
		lem_error_where(err, "%s", path);
		return lem_error_fix(err, "unset it to download the model");
	}
	if (!fs_exists(path) && (r = download(q, &h, path, err)) < 0)
		return r;
	*ret_path = steal_ptr(path);
	return 0;
}
