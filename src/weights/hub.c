#include "weights/hub.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/file.h>

#include "base/digest.h"
#include "sys/dl.h"
#include "sys/fs.h"

struct hub_file {
	char repo[160], file[256];
	const char *endpoint, *token;
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

	*h = (struct hub_file){.endpoint = env_or("HF_ENDPOINT", "https://huggingface.co"),
			       .token = env_or("HF_TOKEN", NULL)};
	if (n < sizeof(h->repo)) {
		memcpy(h->repo, rest, n);
		h->repo[n] = '\0';
	}
	if (colon)
		lem_strlcpy(h->file, colon + 1, sizeof(h->file));
	if (slash && safe_name(h->repo) && (!colon || safe_name(h->file)))
		return 0;
	lem_fail(err, LEM_E_REFUSED, "'%s' does not name a model on a hub", model_name);
	return lem_error_fix(err, "write hf:ORG/REPO or hf:ORG/REPO:FILE.gguf");
}

/* The only .gguf of the repository, or an error that lists them. */
static int choose_file(struct hub_file *h, struct lem_error *err)
{
	enum { LISTING_MAX_BYTES = 16 << 20 };
	_cleanup_free_ char *url = lem_asprintf("%s/api/models/%s", h->endpoint, h->repo);
	_cleanup_str_ struct str text = STR_INIT, names = STR_INIT;
	struct dl_request q = {.url = url, .bearer = h->token};
	size_t n = 0, i;
	json_t *j, *entry;
	int r = dl_text(&q, LISTING_MAX_BYTES, &text, err);

	if (r < 0)
		return r;
	j = json_loadb(str_c(&text), text.len, 0, NULL);
	json_array_foreach (json_object_get(j, "siblings"), i, entry) {
		const char *name = json_string_value(json_object_get(entry, "rfilename"));

		if (!name || !str_ends(name, ".gguf") || !safe_name(name))
			continue;
		lem_strlcpy(h->file, name, sizeof(h->file));
		str_addf(&names, "%s%s", n++ ? ", " : "", name);
	}
	json_decref(j);
	if (n == 1)
		return 0;
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

struct progress {
	const struct weights_request *q;
	char what[300];
};

static bool on_progress(void *arg, uint64_t done, uint64_t total)
{
	const struct progress *p = arg;

	return !p->q->progress || p->q->progress(p->q->progress_arg, p->what, done, total);
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
	int r = dl_head(&d, &info, err);

	if (r < 0)
		return r;
	snprintf(p.what, sizeof(p.what), "downloading %s", h->file);
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
	return r;
}

int hub_fetch(const struct weights_request *q, char **ret_path, struct lem_error *err)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	bool offline = str_eq(env_or("HF_HUB_OFFLINE", "0"), "1");
	struct hub_file h;
	int r = parse_name(q->model_name, &h, err);

	if (r >= 0 && !h.file[0])
		r = offline ? lem_fail(err, LEM_E_REFUSED,
				       "HF_HUB_OFFLINE=1: name the file too, hf:%s:FILE.gguf",
				       h.repo)
			    : choose_file(&h, err);
	if (r < 0)
		return r;
	_cleanup_free_ char *path = lem_asprintf("%s/models/%s/%s", cache, h.repo, h.file);
	_cleanup_free_ char *dir = lem_strdup(path);
	_cleanup_free_ char *lock_name = lem_asprintf("%s.lock", path);

	*strrchr(dir, '/') = '\0';
	if (fs_mkdirs(dir, err) < 0)
		return -LEM_E_IO;
	_cleanup_fd_ int lock = open(lock_name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	while (lock >= 0 && flock(lock, LOCK_EX) < 0 && errno == EINTR)
		;
	if (!fs_exists(path) && offline)
		return lem_fail(err, LEM_E_REFUSED, "HF_HUB_OFFLINE=1, and %s is not in the cache",
				path);
	if (!fs_exists(path) && (r = download(q, &h, path, err)) < 0)
		return r;
	*ret_path = steal_ptr(path);
	return 0;
}
