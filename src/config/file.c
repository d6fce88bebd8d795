/* A file and what it extends: bounded reads, text checks, the config root. */
#include "base/num.h"
#include "config/impl.h"
#include "sys/fs.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

struct chain {
	struct config *c;
	const char *root_real; /* folder that no file of the chain may leave */
	const char *seen[CONFIG_MAX_EXTENDS];
	int n;
};

static bool refuse(struct config *c, const struct layer *layer, const char *hint, const char *fmt,
		   ...) _printf_(4, 5);

static bool refuse(struct config *c, const struct layer *layer, const char *hint, const char *fmt,
		   ...)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct finding *f;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	f = finding_in(c, SEVERITY_ERROR, "C07", "", layer, 0, 0, "%s", str_c(&s));
	if (hint)
		finding_hint(c, f, "%s", hint);
	return false;
}

static bool extension(const char *path, bool *ret_json)
{
	*ret_json = str_ends(path, ".json");
	return *ret_json || str_ends(path, ".yaml") || str_ends(path, ".yml");
}

static bool starts_with_bytes(const struct str *s, const char *bytes, size_t n)
{
	return s->len >= n && memcmp(s->buf, bytes, n) == 0;
}

/* Refuses what is not text before a YAML parser sees it. */
static bool check_text(struct config *c, const struct layer *layer, const struct str *s)
{
	size_t bad;
	int line = 1;

	if (starts_with_bytes(s, "\xff\xfe", 2) || starts_with_bytes(s, "\xfe\xff", 2))
		return refuse(c, layer, "save the file as UTF-8", "is UTF-16 text");
	if (s->len && memchr(s->buf, '\0', s->len))
		return refuse(c, layer, "a configuration is a text file", "is a binary file");
	bad = str_utf8_valid(str_c(s), s->len);
	if (bad == s->len)
		return true;
	for (size_t i = 0; i < bad; i++)
		line += s->buf[i] == '\n';
	finding_hint(c,
		     finding_in(c, SEVERITY_ERROR, "C07", "", layer, line, 1,
				"is not UTF-8 text (byte 0x%02x in this line)",
				(unsigned char)s->buf[bad]),
		     "save the file as UTF-8");
	return false;
}

static bool read_text(struct config *c, const struct layer *layer, const char *path,
		      struct str *text)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct stat st;

	if (stat(path, &st) < 0)
		return refuse(c, layer, errno == ENOENT ? "check the path" : NULL,
			      "cannot be read: %s", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return refuse(c, layer, "name a file in it", "is a folder");
	if (!S_ISREG(st.st_mode))
		return refuse(c, layer, "name a regular file", "is not a regular file");
	if (st.st_size > CONFIG_MAX_BYTES) {
		char size[24];

		num_format_bytes((uint64_t)st.st_size, size, sizeof(size));
		return refuse(c, layer, "is it the right file?",
			      "is too large for a configuration: %s, 1 MiB is the limit", size);
	}
	if (fs_read_file(path, CONFIG_MAX_BYTES, text, &err) < 0)
		return refuse(c, layer, "check its permissions", "cannot be read: %s",
			      err.why[0] ? err.why : err.what);
	return check_text(c, layer, text);
}

static struct layer *new_layer(struct config *c, const char *path, int order)
{
	struct layer *l = arena_new(&c->arena, struct layer);

	l->source = SOURCE_FILE;
	l->file = arena_strdup(&c->arena, path);
	l->order = order;
	return l;
}

/* The tree of one file, still with _extends; NULL after a finding. */
static const struct node *read_one(struct config *c, const struct layer *layer, const char *path)
{
	_cleanup_str_ struct str text = STR_INIT;
	struct finding *f;
	struct node *tree;
	size_t bom;
	bool json;

	if (!extension(path, &json)) {
		refuse(c, layer, "rename it to .yaml, .yml or .json",
		       "has an extension that is neither YAML nor JSON");
		return NULL;
	}
	if (!read_text(c, layer, path, &text))
		return NULL;
	bom = starts_with_bytes(&text, "\xef\xbb\xbf", 3) ? 3 : 0;
	tree = config_parse(c, layer, str_c(&text) + bom, text.len - bom, json);
	if (!tree || tree->kind == NODE_MAP)
		return tree;
	if (scalar_is_null(tree)) {
		f = finding_in(c, SEVERITY_ERROR, "C15", "", layer, 0, 0, "is empty");
		finding_hint(c, f,
			     "a configuration needs at least config_name, model_name and prompts");
	} else {
		f = finding_add(c, SEVERITY_ERROR, "C15", "", tree,
				"must be a map of options, is %s",
				tree->kind == NODE_LIST ? "a list" : node_show(&c->arena, tree));
		finding_hint(c, f, "write lines of the form key: value");
	}
	return NULL;
}

static char *dir_of(struct arena *a, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return arena_strdup(a, ".");
	return arena_strndup(a, path, slash == path ? 1 : (size_t)(slash - path));
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return str_eq(dir, "/") || (strncmp(path, dir, n) == 0 && path[n] == '/');
}

static const char *real(struct arena *a, const char *path)
{
	_cleanup_free_ char *r = realpath(path, NULL);

	return arena_strdup(a, r);
}

static const struct node *read_chain(struct chain *ch, const char *path,
				     const struct node *named_by);

static const struct node *bad_extends(struct config *c, const struct node *n, const char *hint,
				      const char *fmt, ...) _printf_(4, 5);

static const struct node *bad_extends(struct config *c, const struct node *n, const char *hint,
				      const char *fmt, ...)
{
	_cleanup_str_ struct str s = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	finding_hint(c, finding_add(c, SEVERITY_ERROR, "C08", "_extends", n, "%s", str_c(&s)), "%s",
		     hint);
	return NULL;
}

static const struct node *read_base(struct chain *ch, const char *path, const struct node *n)
{
	struct arena *a = &ch->c->arena;
	const char *dir, *name, *base, *base_real;

	if (n->kind != NODE_SCALAR || scalar_kind(n) != SCALAR_TEXT || !n->text[0])
		return bad_extends(ch->c, n, "write _extends: base.yaml",
				   "must be the path of one file, is %s", node_show(a, n));
	if (n->text[0] == '/')
		return bad_extends(ch->c, n, "write the path relative to this file",
				   "must be a relative path, is %s", n->text);
	name = n->text;
	while (str_starts(name, "./"))
		name += 2;
	dir = dir_of(a, path);
	base = strchr(path, '/') ? arena_printf(a, "%s/%s", dir, name) : name;
	base_real = real(a, base);
	if (!base_real)
		return bad_extends(ch->c, n, "the path is relative to the file that says _extends",
				   "names %s, which cannot be found", base);
	if (!is_below(base_real, ch->root_real))
		return bad_extends(ch->c, n, "copy the base next to the configuration",
				   "names %s, which lies outside the folder of the configuration",
				   n->text);
	return read_chain(ch, base, n);
}

/* What the tree of one file extends below it, and today's keys. */
static const struct node *finish_one(struct chain *ch, const char *path, const struct node *tree)
{
	struct config *c = ch->c;
	const struct node *base = NULL, *extends = node_get(tree, "_extends"), *own;

	if (extends && !scalar_is_null(extends)) {
		base = read_base(ch, path, extends);
		c->syntax_failed |= !base;
	}
	own = config_normalise(c, tree);
	return base ? node_merge(&c->arena, base, own) : own;
}

static const struct node *read_chain(struct chain *ch, const char *path,
				     const struct node *named_by)
{
	struct config *c = ch->c;
	const struct layer *layer = new_layer(c, path, ch->n);
	const struct node *tree;
	const char *path_real = real(&c->arena, path);

	for (int i = 0; path_real && i < ch->n; i++)
		if (str_eq(ch->seen[i], path_real))
			return bad_extends(c, named_by, "remove one of the _extends",
					   "closes a circle: %s is already being extended", path);
	if (ch->n == CONFIG_MAX_EXTENDS)
		return bad_extends(c, named_by, "build on fewer files",
				   "is more than 16 files deep at %s", path);
	ch->seen[ch->n++] = path_real;
	tree = read_one(c, layer, path);
	if (!tree) {
		c->syntax_failed = true;
		return NULL;
	}
	return finish_one(ch, path, tree);
}

/* Relative paths of the experiment start at this file. */
static void start_chain(struct chain *ch, const char *path)
{
	struct config *c = ch->c;

	c->exp.path = arena_strdup(&c->arena, path);
	c->exp.root_dir = dir_of(&c->arena, path);
	ch->root_real = real(&c->arena, c->exp.root_dir);
	if (!ch->root_real)
		ch->root_real = c->exp.root_dir;
}

const struct node *config_read_files(struct config *c, const char *path)
{
	struct chain ch = {.c = c};

	start_chain(&ch, path);
	return read_chain(&ch, path, NULL);
}

const struct node *config_read_tree(struct config *c, const char *path, const struct node *tree)
{
	struct chain ch = {.c = c};

	start_chain(&ch, path);
	ch.seen[ch.n++] = real(&c->arena, path);
	return finish_one(&ch, path, tree);
}

const struct node *config_read_raw(struct config *c, const char *path)
{
	return read_one(c, new_layer(c, path, 0), path);
}

char *config_beside(struct arena *a, const char *path, const char *name)
{
	if (name[0] == '/' || !strchr(path, '/'))
		return arena_strdup(a, name);
	return arena_printf(a, "%s/%s", dir_of(a, path), name);
}
