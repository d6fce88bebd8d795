/* The layers beside files: the preset below them, the command line above. */
#include "config/impl.h"

enum { ORDER_PRESET = 900, ORDER_CLI = 1000 };

static struct layer *new_layer(struct config *c, enum source source, int order, const char *detail)
{
	struct layer *l = arena_new(&c->arena, struct layer);

	l->source = source;
	l->order = order;
	l->detail = detail;
	return l;
}

enum backend config_backend_of(const struct node *root, enum backend fallback)
{
	const struct node *n = node_get(root, "backend");

	if (!n || n->kind != NODE_SCALAR)
		return fallback;
	if (str_eq(n->text, "transformers"))
		return BACKEND_PYTORCH;
	for (enum backend b = 0; b < BACKEND_COUNT; b++)
		if (str_eq(n->text, backend_name(b)))
			return b;
	return fallback;
}

/* What a preset says about other engines is not said: it has only one place to stand. */
static struct node *without_others(struct config *c, const struct node *preset, enum backend b)
{
	struct node *out = node_new(&c->arena, NODE_MAP, preset->layer);

	node_foreach(preset, child)
	{
		const struct option *o = section_find(&section_experiment, child->key);
		size_t budget = CONFIG_MAX_NODES;

		if (!o || option_honoured(o, b))
			node_append(out, node_copy(&c->arena, child, &budget));
	}
	return out;
}

static const struct node *unknown_preset(struct config *c, const struct layer *layer,
					 const char *name)
{
	_cleanup_str_ struct str names = STR_INIT;
	struct finding *f;

	for (size_t i = 0; i < config_preset_count(); i++)
		str_addf(&names, "%s%s", i ? ", " : "", config_preset_name(i));
	f = finding_in(c, SEVERITY_ERROR, "C17", "", layer, 0, 0, "there is no preset %s", name);
	finding_hint(c, f, "presets: %s", str_c(&names));
	return NULL;
}

const struct node *config_preset_layer(struct config *c, const char *name, const struct node *above)
{
	const struct preset *p = preset_find(name);
	struct layer *layer = new_layer(c, SOURCE_PRESET, ORDER_PRESET,
					arena_printf(&c->arena, "preset %s", name));
	const struct node *tree, *backend;
	struct finding *f;
	enum backend b;

	if (!p)
		return unknown_preset(c, layer, name);
	if (p->refused) {
		f = finding_in(c, SEVERITY_ERROR, "C17", "", layer, 0, 0, "cannot be used: %s",
			       p->refused);
		finding_hint(c, f, "write the options into a file instead");
		return NULL;
	}
	tree = config_parse(c, layer, p->yaml, strlen(p->yaml), false);
	assert(tree && "presets are valid YAML");
	b = config_backend_of(above, config_backend_of(tree, BACKEND_PYTORCH));
	backend = node_get(tree, "backend");
	if (backend && !str_eq(backend->text, backend_name(b))) {
		f = finding_add(c, SEVERITY_ERROR, "C17", "backend", node_get(above, "backend"),
				"is %s, but the preset %s is for %s", backend_name(b), name,
				backend->text);
		finding_hint(c, f, "choose another preset, or backend: %s", backend->text);
		return NULL;
	}
	return without_others(c, tree, b);
}

bool config_path_valid(const char *path)
{
	bool start = true;

	for (; *path; path++) {
		if (*path == '.' ? start : (unsigned char)*path <= ' ')
			return false;
		start = *path == '.';
	}
	return !start;
}

/* {a: {b: value}} for "a.b". */
struct node *config_nest(struct config *c, const struct layer *layer, const char *path,
			 struct node *value)
{
	struct node *root = node_new(&c->arena, NODE_MAP, layer), *m = root;

	for (;;) {
		size_t n = strcspn(path, ".");
		struct node *child = path[n] ? node_new(&c->arena, NODE_MAP, layer) : value;

		child->key = arena_strndup(&c->arena, path, n);
		node_append(m, child);
		if (!path[n])
			return root;
		m = child;
		path += n + 1;
	}
}

static void clear_places(struct node *n)
{
	n->line = n->column = 0;
	for (struct node *child = n->first; child; child = child->next)
		clear_places(child);
}

static struct node *override_tree(struct config *c, const struct config_override *o)
{
	bool set = !o->flag || str_eq(o->flag, "--set");
	struct layer *layer =
		new_layer(c, SOURCE_CLI, ORDER_CLI,
			  set ? arena_printf(&c->arena, "--set %s=%s", o->path, o->value)
			      : arena_printf(&c->arena, "%s %s", o->flag, o->value));
	struct node *value;

	if (!config_path_valid(o->path)) {
		finding_hint(
			c,
			finding_in(c, SEVERITY_ERROR, "C01", o->path, layer, 0, 0,
				   "is not the path of an option"),
			"write --set SECTION.OPTION=VALUE, such as --set decoder.temperature=0");
		return NULL;
	}
	value = config_parse(c, layer, o->value, strlen(o->value), false);
	if (!value)
		return NULL;
	clear_places(value);
	return config_normalise(c, config_nest(c, layer, o->path, value));
}

const struct node *config_override_layer(struct config *c, const struct config_override *o,
					 size_t n)
{
	const struct node *all = NULL;

	for (size_t i = 0; i < n; i++) {
		const struct node *one = override_tree(c, &o[i]);

		if (one)
			all = node_merge(&c->arena, all, one);
		else
			c->syntax_failed = true;
	}
	return all;
}
