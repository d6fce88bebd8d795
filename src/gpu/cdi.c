#include "gpu/cdi.h"

#include <ctype.h>
#include <dirent.h>
#include <libfyaml.h>
#include <sys/stat.h>

#include "base/str.h"
#include "base/vec.h"
#include "sys/fs.h"

enum { SPEC_MAX_BYTES = 4 << 20, DIRS_MAX = 16, FILES_MAX = 1024, NAME_MAX_BYTES = 256 };

/* A device and the host paths that a container with it needs, those of the whole spec included. */
struct parsed {
	struct cdi_device device;
	VEC(const char *) paths;
};

struct parse {
	struct arena *a;
	const char *file;
	VEC(struct parsed) devices;
	VEC(const char *) common;
	struct lem_error *err;
};

static void parse_release(struct parse *p)
{
	for (size_t i = 0; i < p->devices.n; i++)
		vec_release(&p->devices.at[i].paths);
	vec_release(&p->devices);
	vec_release(&p->common);
}

/* ---- one specification ---- */

static struct fy_node *get(struct fy_node *map, const char *key)
{
	return map && fy_node_is_mapping(map)
		       ? fy_node_mapping_lookup_value_by_simple_key(map, key, strlen(key))
		       : NULL;
}

/* A text that is not empty; NULL for anything else. An alias is not followed: nobody writes one. */
static const char *get_text(struct parse *p, struct fy_node *map, const char *key)
{
	struct fy_node *n = get(map, key);
	size_t len = 0;
	const char *s;

	if (!n || !fy_node_is_scalar(n) || fy_node_is_alias(n))
		return NULL;
	s = fy_node_get_scalar(n, &len);
	return s && len && !memchr(s, '\0', len) ? arena_strndup(p->a, s, len) : NULL;
}

/* An error at a node, or at the file as a whole when it is NULL. */
static int bad(struct parse *p, struct fy_node *at, const char *fmt, ...) _printf_(3, 4);
static int bad(struct parse *p, struct fy_node *at, const char *fmt, ...)
{
	struct fy_token *token = at && fy_node_is_scalar(at) ? fy_node_get_scalar_token(at) : NULL;
	const struct fy_mark *m = token ? fy_token_start_mark(token) : NULL;
	char what[300];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)lem_fail(p->err, LEM_E_PARSE, "%.128s is not a CDI specification: %s", p->file, what);
	if (m)
		(void)lem_error_where(p->err, "%s:%d:%d", p->file, m->line + 1, m->column + 1);
	else
		(void)lem_error_where(p->err, "%s", p->file);
	return lem_error_fix(p->err, "make it anew: sudo nvidia-ctk cdi generate --output=FILE");
}

/* "vendor.com/class", as the specification wants it: letters, digits, "_", "-" and "." (vendor). */
static bool is_kind(const char *s)
{
	const char *slash = strchr(s, '/');

	if (!slash || slash == s || !slash[1] || strchr(slash + 1, '/'))
		return false;
	for (const char *p = s; *p; p++)
		if (p != slash && !isalnum((unsigned char)*p) &&
		    !strchr(p < slash ? "_-." : "_-", *p))
			return false;
	return isalpha((unsigned char)s[0]) && isalpha((unsigned char)slash[1]);
}

static bool is_device_name(const char *s)
{
	size_t n = strlen(s);

	for (const char *p = s; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_-.:", *p))
			return false;
	return n <= NAME_MAX_BYTES && isalnum((unsigned char)s[0]) &&
	       isalnum((unsigned char)s[n - 1]);
}

/* Host paths of one list of the edits: `key` of each item, else `otherwise`. */
static void take_paths(struct parse *p, struct fy_node *edits, const char *list, const char *key,
		       const char *otherwise, const char ***at, size_t *n, size_t *cap)
{
	struct fy_node *items = get(edits, list), *item;
	void *iter = NULL;

	while (items && fy_node_is_sequence(items) &&
	       (item = fy_node_sequence_iterate(items, &iter))) {
		const char *path = get_text(p, item, key);

		if (!path && otherwise)
			path = get_text(p, item, otherwise);
		if (!path)
			continue;
		*at = vec_grow_(*at, *n, cap, 1, sizeof(**at));
		(*at)[(*n)++] = path;
	}
}

static void take_edits(struct parse *p, struct fy_node *edits, const char ***at, size_t *n,
		       size_t *cap)
{
	take_paths(p, edits, "deviceNodes", "hostPath", "path", at, n, cap);
	take_paths(p, edits, "mounts", "hostPath", NULL, at, n, cap);
	take_paths(p, edits, "hooks", "path", NULL, at, n, cap);
}

static int take_device(struct parse *p, struct fy_node *item, const char *kind)
{
	const char *name = get_text(p, item, "name");
	struct parsed *d;

	if (!name)
		return bad(p, NULL, "device %zu has no name", p->devices.n);
	if (!is_device_name(name))
		return bad(p, get(item, "name"), "`%.80s` is not a device name", name);
	d = vec_push(&p->devices);
	d->device.name = arena_printf(p->a, "%s=%s", kind, name);
	d->device.spec = p->file;
	for (size_t i = 0; i + 1 < p->devices.n; i++)
		if (str_eq(p->devices.at[i].device.name, d->device.name))
			return bad(p, get(item, "name"), "it names the device %.80s twice", name);
	take_edits(p, get(item, "containerEdits"), &d->paths.at, &d->paths.n, &d->paths.cap);
	return 0;
}

static int take_document(struct parse *p, struct fy_node *root)
{
	struct fy_node *devices = get(root, "devices"), *item;
	const char *kind = get_text(p, root, "kind");
	void *iter = NULL;

	if (!root || !fy_node_is_mapping(root))
		return bad(p, root, "it is not a map");
	if (!get_text(p, root, "cdiVersion"))
		return bad(p, get(root, "cdiVersion"), "it has no cdiVersion");
	if (!kind || !is_kind(kind))
		return bad(p, get(root, "kind"), "its kind is not VENDOR/CLASS: %.80s",
			   kind ? kind : "(none)");
	if (!devices || !fy_node_is_sequence(devices))
		return bad(p, devices, "it has no list of devices");
	take_edits(p, get(root, "containerEdits"), &p->common.at, &p->common.n, &p->common.cap);
	while ((item = fy_node_sequence_iterate(devices, &iter))) {
		int r = take_device(p, item, kind);

		if (r < 0)
			return r;
	}
	return 0;
}

static int fail_syntax(struct parse *p, struct fy_diag *diag)
{
	void *iter = NULL;
	const struct fy_diag_error *first = fy_diag_errors_iterate(diag, &iter);

	(void)bad(p, NULL, "%s", first ? first->msg : "no YAML or JSON document");
	return first ? lem_error_where(p->err, "%s:%d:%d", p->file, first->line, first->column)
		     : -LEM_E_PARSE;
}

/* JSON is read as YAML, of which it is a part. */
static int parse_text(struct parse *p, const char *text, size_t n)
{
	struct fy_parse_cfg cfg = {.search_path = "",
				   .flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2};
	struct fy_diag_cfg dcfg;
	struct fy_document *doc;
	int r;

	/* libfyaml 0.7.12 does not come back from "%" and bytes that are no text. */
	if (memchr(text, '\0', n) || str_utf8_valid(text, n) != n)
		return bad(p, NULL, "it is a binary file, or not UTF-8");
	fy_diag_cfg_default(&dcfg);
	dcfg.fp = NULL;
	dcfg.colorize = false;
	cfg.diag = fy_diag_create(&dcfg);
	if (!cfg.diag)
		return bad(p, NULL, "the YAML library has no memory");
	fy_diag_set_collect_errors(cfg.diag, true);
	doc = fy_document_build_from_string(&cfg, text, n);
	r = doc ? take_document(p, fy_document_root(doc)) : fail_syntax(p, cfg.diag);
	if (doc)
		fy_document_destroy(doc);
	fy_diag_destroy(cfg.diag);
	return r;
}

int cdi_parse(const char *text, size_t n, const char *file, struct arena *a,
	      struct cdi_registry *ret, struct lem_error *err)
{
	static const char *const none[] = {NULL};
	struct parse p = {.a = a, .file = arena_strdup(a, file), .err = err};
	int r = parse_text(&p, text, n);

	if (r >= 0) {
		*ret = (struct cdi_registry){
			.at = arena_array(a, p.devices.n + 1, sizeof(*ret->at)),
			.n = p.devices.n,
			.problems = none};
		for (size_t i = 0; i < p.devices.n; i++)
			ret->at[i] = p.devices.at[i].device;
	}
	parse_release(&p);
	return r;
}

/* ---- the folders ---- */

struct known {
	struct cdi_device device;
	size_t dir; /* rank of its folder */
	bool conflict;
};

struct reading {
	struct arena *a;
	VEC(struct known) devices;
	VEC(const char *) problems;
};

/* Only what is surely not there: a path that cannot be looked at is not called missing. */
static const char *first_missing(const char *const *paths, size_t n)
{
	struct stat st;

	for (size_t i = 0; i < n; i++)
		if (stat(paths[i], &st) < 0 && (errno == ENOENT || errno == ENOTDIR))
			return paths[i];
	return NULL;
}

static struct known *find(struct reading *r, const char *name)
{
	vec_foreach (&r->devices, k)
		if (str_eq(k->device.name, name))
			return k;
	return NULL;
}

/* Later folders win; two files of one folder that define the same device make it unusable, as the
 * CDI libraries of the container engines have it. */
static void merge(struct reading *r, const struct cdi_device *d, size_t dir)
{
	struct known *k = find(r, d->name);

	if (k && k->dir == dir && !k->conflict) {
		k->conflict = true;
		*vec_push(&r->problems) = arena_printf(
			r->a, "%s and %s both define %s: it cannot be used; remove one",
			k->device.spec, d->spec, d->name);
		return;
	}
	if (k && k->dir == dir)
		return;
	if (!k)
		k = vec_push(&r->devices);
	*k = (struct known){.device = *d, .dir = dir};
}

static void add_problem(struct reading *r, const struct lem_error *e)
{
	*vec_push(&r->problems) =
		arena_printf(r->a, "%s%s%s%s%s%s", e->what, *e->why ? ": " : "", e->why,
			     *e->where ? " (" : "", e->where, *e->where ? ")" : "");
}

static void read_spec(struct reading *r, const char *path, size_t dir)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct parse p = {.a = r->a, .file = arena_strdup(r->a, path), .err = &err};
	int rc = fs_read_file(path, SPEC_MAX_BYTES, &text, &err);

	if (rc >= 0)
		rc = parse_text(&p, str_c(&text), text.len);
	if (rc < 0)
		add_problem(r, &err);
	for (size_t i = 0; i < p.devices.n && rc >= 0; i++) {
		struct parsed *d = &p.devices.at[i];

		d->device.missing = first_missing(d->paths.at, d->paths.n);
		if (!d->device.missing)
			d->device.missing = first_missing(p.common.at, p.common.n);
		merge(r, &d->device, dir);
	}
	parse_release(&p);
}

static int is_spec(const struct dirent *e)
{
	return e->d_name[0] != '.' && (str_ends(e->d_name, ".json") ||
				       str_ends(e->d_name, ".yaml") || str_ends(e->d_name, ".yml"));
}

static void read_dir(struct reading *r, const char *dir, size_t rank)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_spec, alphasort);

	if (n < 0 && errno != ENOENT && errno != ENOTDIR)
		*vec_push(&r->problems) =
			arena_printf(r->a, "cannot read the folder %s: %s", dir, strerror(errno));
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *path = fs_join(dir, names[i]->d_name);

		if (i == FILES_MAX)
			*vec_push(&r->problems) = arena_printf(
				r->a, "%s holds more than %d specifications; the rest is not read",
				dir, FILES_MAX);
		if (i < FILES_MAX && !fs_is_dir(path))
			read_spec(r, path, rank);
		free(names[i]);
	}
	free(names);
}

static void read_listed(struct reading *r, const char *list)
{
	_cleanup_free_ char *copy = lem_strdup(list);
	char *save = NULL;
	size_t rank = 0;

	for (char *dir = strtok_r(copy, ":", &save); dir && rank < DIRS_MAX;
	     dir = strtok_r(NULL, ":", &save))
		read_dir(r, dir, rank++);
}

/* What is left without conflicts goes into the arena. */
static void finish(struct reading *r, struct cdi_registry *ret)
{
	const char **problems = arena_array(r->a, r->problems.n + 1, sizeof(*problems));

	*ret = (struct cdi_registry){
		.at = arena_array(r->a, r->devices.n + 1, sizeof(*ret->at)),
		.problems = problems,
	};
	vec_foreach (&r->devices, k)
		if (!k->conflict)
			ret->at[ret->n++] = k->device;
	for (size_t i = 0; i < r->problems.n; i++)
		problems[i] = r->problems.at[i];
	vec_release(&r->devices);
	vec_release(&r->problems);
}

void cdi_read(const char *const *dirs, struct arena *a, struct cdi_registry *ret)
{
	struct reading r = {.a = a};
	const char *list = getenv("LEM_CDI_DIRS");

	for (size_t i = 0; dirs && dirs[i] && i < DIRS_MAX; i++)
		read_dir(&r, dirs[i], i);
	if (!dirs)
		read_listed(&r, list && *list ? list : "/etc/cdi:/var/run/cdi");
	finish(&r, ret);
}
