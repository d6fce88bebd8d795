/* A campaign file taken apart: campaign keys out, what is left is the base of its overrides. */
#include "config/impl.h"

enum { MAX_COPIED = 1000000 }; /* nodes, all experiments of a file together */

struct cell {
	const char *config;      /* path of an experiment file; NULL: the rest of this file */
	const struct node *over; /* map merged over it; NULL: none */
};

struct config_cells {
	struct config *c; /* arena and findings; never bound */
	const char *path, *name;
	bool plain;
	const struct node *base; /* the rest of the file */
	const struct node *io;   /* of the file, for experiments that lie in files of their own */
	VEC(struct cell) cells;
};

/* Keys of the predecessor's campaigns and its later versions' studies. */
static const struct campaign_key {
	const char *name, *why, *hint;
	bool elsewhere; /* an experiment may have the key, wrongly: it makes no campaign */
} campaign_keys[] = {
	{"campaign_name", NULL, NULL},
	{"configs", NULL, NULL},
	{"experiments", NULL, NULL},
	{"grid", "comes later: a campaign is a list of experiments now",
	 "write the experiments of the grid as a list under experiments"},
	{"sweep", "comes later: a campaign is a list of experiments now",
	 "write the experiments of the sweep as a list under experiments"},
	{"execution", "comes later: each experiment runs once, in the order of the file",
	 "remove it, and run the campaign again for another cycle"},
	{"study_execution", "comes later: each experiment runs once, in the order of the file",
	 "remove it, and run the campaign again for another cycle"},
	{"group_by", "comes later: results are not grouped yet", "remove it"},
	{"cold_start", "comes later: every experiment starts its engine anew anyway", "remove it",
	 true},
	{"model", "belongs to the grid, which comes later", "write model_name", true},
	{"num_samples", "belongs to the grid, which comes later", "write dataset.sample_size",
	 true},
	{"health_check", "was removed: preflight runs before every experiment", "remove it", true},
	{"schedule", "was removed", "use cron or a systemd timer around lem campaign", true},
	{"daemon", "was removed", "use cron or a systemd timer around lem campaign", true},
	{"study_name", "is campaign_name here", "write campaign_name"},
};

static const struct campaign_key *find_key(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(campaign_keys); i++)
		if (str_eq(campaign_keys[i].name, name))
			return &campaign_keys[i];
	return NULL;
}

static bool is_campaign(const struct node *tree)
{
	node_foreach(tree, child)
	{
		const struct campaign_key *k = find_key(child->key);

		if (k && !k->elsewhere)
			return true;
	}
	return false;
}

/* Every finding of a campaign file as such has this code. */
static void refuse(struct config_cells *cells, const char *field, const struct node *at,
		   const char *hint, const char *fmt, ...) _printf_(5, 6);
static void refuse(struct config_cells *cells, const char *field, const struct node *at,
		   const char *hint, const char *fmt, ...)
{
	_cleanup_str_ struct str s = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	finding_hint(cells->c,
		     finding_add(cells->c, SEVERITY_ERROR, "C24", field, at, "%s", str_c(&s)), "%s",
		     hint);
}

static bool add_cell(struct config_cells *cells, const struct node *at, const char *config,
		     const struct node *over)
{
	if (cells->cells.n == CONFIG_MAX_CELLS) {
		refuse(cells, "experiments", at, "make several campaigns of it",
		       "has more than %d experiments", CONFIG_MAX_CELLS);
		return false;
	}
	*vec_push(&cells->cells) = (struct cell){config, over};
	return true;
}

static const char *as_path(struct config_cells *cells, const struct node *n, const char *field)
{
	struct arena *a = &cells->c->arena;

	if (n->kind == NODE_SCALAR && scalar_kind(n) == SCALAR_TEXT && n->text[0])
		return config_beside(a, cells->path, n->text);
	refuse(cells, field, n, "write the path of an experiment file, relative to this file",
	       "must be the path of an experiment file, is %s", node_show(a, n));
	return NULL;
}

static void take_configs(struct config_cells *cells, const struct node *list)
{
	if (list->kind != NODE_LIST) {
		refuse(cells, "configs", list, "write configs: [a.yaml, b.yaml]",
		       "must be a list of experiment files, is %s",
		       node_show(&cells->c->arena, list));
		return;
	}
	node_foreach(list, child)
	{
		const char *path = as_path(cells, child, "configs");

		if (path && !add_cell(cells, child, path, NULL))
			return;
	}
}

/* Do both say what one option is? */
static bool overlap(const struct node *a, const struct node *b)
{
	if (a->kind != NODE_MAP || b->kind != NODE_MAP)
		return true;
	node_foreach(b, child)
	{
		const struct node *same = node_get(a, child->key);

		if (same && overlap(same, child))
			return true;
	}
	return false;
}

/* {"a.b": v, c: w} as {a: {b: v}, c: w}; NULL after a finding. */
static const struct node *expand_dots(struct config_cells *cells, const struct node *map,
				      const char *field)
{
	struct arena *a = &cells->c->arena;
	const struct node *out = node_new(a, NODE_MAP, map->layer);

	node_foreach(map, child)
	{
		size_t budget = CONFIG_MAX_NODES;
		struct node *one, *copy = node_copy(a, child, &budget);

		if (!config_path_valid(child->key)) {
			refuse(cells, field, child, "write SECTION.OPTION or nested maps",
			       "has a key that is not the path of an option");
			return NULL;
		}
		one = config_nest(cells->c, map->layer, child->key, copy);
		for (struct node *n = one->first; n && n != copy; n = n->first) {
			n->line = child->line;
			n->column = child->column;
		}
		if (overlap(out, one)) {
			refuse(cells, field, child, "keep one of them",
			       "has %s, which is written twice: with dots and as a map",
			       child->key);
			return NULL;
		}
		out = node_merge(a, out, one);
	}
	return out;
}

/* The predecessor's form: a file and what is different from it. */
static bool take_reference(struct config_cells *cells, const struct node *item, const char *field)
{
	const struct node *over = node_get(item, "overrides");
	const char *path = NULL;

	node_foreach(item, child)
	{
		if (str_eq(child->key, "config"))
			path = as_path(cells, child, field);
		else if (!str_eq(child->key, "overrides"))
			refuse(cells, field, child, "move it below overrides",
			       "has %s beside config, where only overrides can stand", child->key);
	}
	if (over && scalar_is_null(over))
		over = NULL;
	if (over && over->kind != NODE_MAP)
		refuse(cells, field, over, "write overrides: {decoder: {temperature: 0}}",
		       "has overrides that are no map");
	else if (over)
		over = expand_dots(cells, over, field);
	return !path || add_cell(cells, item, path, over);
}

static bool take_item(struct config_cells *cells, const struct node *item, size_t number)
{
	const char *field = arena_printf(&cells->c->arena, "experiments[%zu]", number);
	const struct node *over;

	if (item->kind != NODE_MAP) {
		refuse(cells, field, item, "write - {backend: vllm, gpus: [0]}",
		       "must be a map of what is different in this experiment, is %s",
		       node_show(&cells->c->arena, item));
		return true;
	}
	if (node_get(item, "config"))
		return take_reference(cells, item, field);
	if (node_get(item, "overrides") || node_get(item, "_extends")) {
		refuse(cells, field, item, "add config: FILE.yaml, or write the options directly",
		       "has %s, but names no file to build on",
		       node_get(item, "overrides") ? "overrides" : "_extends");
		return true;
	}
	over = expand_dots(cells, item, field);
	return !over || add_cell(cells, item, NULL, over);
}

static void take_experiments(struct config_cells *cells, const struct node *list)
{
	size_t number = 0;

	if (list->kind != NODE_LIST) {
		refuse(cells, "experiments", list,
		       "write one item for each experiment: experiments: [{gpus: [0]}, …]",
		       "must be a list of overrides, is %s", node_show(&cells->c->arena, list));
		return;
	}
	node_foreach(list, child) if (!take_item(cells, child, number++)) return;
}

static void take_name(struct config_cells *cells, const struct node *n)
{
	if (n->kind == NODE_SCALAR && !scalar_is_null(n) && n->text[0])
		cells->name = n->text;
	else
		refuse(cells, "campaign_name", n, "write campaign_name: my-campaign",
		       "must be a name, is %s", node_show(&cells->c->arena, n));
}

/* What is not of the campaign goes to the base. */
static void take_key(struct config_cells *cells, const struct node *child, struct node *base)
{
	const struct campaign_key *k = find_key(child->key);
	size_t budget = CONFIG_MAX_NODES;

	if (!k)
		node_append(base, node_copy(&cells->c->arena, child, &budget));
	else if (k->why)
		refuse(cells, k->name, child, k->hint, "%s", k->why);
	else if (scalar_is_null(child) && !str_eq(k->name, "campaign_name"))
		; /* as if it were not written */
	else if (str_eq(k->name, "configs"))
		take_configs(cells, child);
	else if (str_eq(k->name, "experiments"))
		take_experiments(cells, child);
	else
		take_name(cells, child);
}

/* Each experiment gets a copy of the rest of the file. */
static void check_size(struct config_cells *cells)
{
	size_t budget = CONFIG_MAX_NODES;

	(void)node_copy(&cells->c->arena, cells->base, &budget);
	if ((CONFIG_MAX_NODES - budget) * cells->cells.n <= MAX_COPIED)
		return;
	refuse(cells, "experiments", cells->base, "make several campaigns of it",
	       "has too many experiments for options as many as these");
	vec_reset(&cells->cells);
}

/* Options that no experiment would get are a misunderstanding. */
static void check_base_is_used(struct config_cells *cells)
{
	bool all_elsewhere = cells->cells.n > 0;

	vec_foreach (&cells->cells, cell)
		all_elsewhere = all_elsewhere && cell->config;
	if (!all_elsewhere)
		return;
	node_foreach(cells->base, child) if (!str_eq(child->key, "io"))
		refuse(cells, child->key, child,
		       "move it into those files, or below overrides of each experiment",
		       "would be used by no experiment: all of them are files of their own");
}

static struct node *only(struct arena *a, const struct node *map, const char *key)
{
	const struct node *child = node_get(map, key);
	struct node *out = node_new(a, NODE_MAP, map->layer);
	size_t budget = CONFIG_MAX_NODES;

	if (!child)
		return NULL;
	node_append(out, node_copy(a, child, &budget));
	return out;
}

static void take_campaign(struct config_cells *cells, const struct node *tree)
{
	struct node *base = node_new(&cells->c->arena, NODE_MAP, tree->layer);

	base->line = tree->line;
	base->column = tree->column;
	cells->base = base;
	node_foreach(tree, child) take_key(cells, child, base);
	cells->io = only(&cells->c->arena, base, "io");
	check_base_is_used(cells);
	check_size(cells);
	if (!cells->cells.n && !cells->c->findings.n_errors)
		refuse(cells, "", tree, "add experiments: with one item for each of them",
		       "is a campaign without an experiment");
}

int config_cells_read(const char *path, struct config_cells **ret, struct lem_error *err)
{
	struct config_cells *cells = lem_calloc(1, sizeof(*cells));
	const struct node *tree;

	(void)err;
	cells->c = lem_calloc(1, sizeof(*cells->c));
	cells->path = arena_strdup(&cells->c->arena, path);
	tree = config_read_raw(cells->c, path);
	if (tree && is_campaign(tree)) {
		take_campaign(cells, tree);
	} else if (tree) {
		cells->plain = true;
		add_cell(cells, NULL, cells->path, NULL);
	}
	findings_finish(cells->c);
	*ret = cells;
	return 0;
}

void config_cells_free(struct config_cells *cells)
{
	if (!cells)
		return;
	vec_release(&cells->cells);
	config_free(cells->c);
	free(cells);
}

size_t config_cells_n(const struct config_cells *cells)
{
	return cells->cells.n;
}

bool config_cells_plain(const struct config_cells *cells)
{
	return cells->plain;
}

const char *config_cells_name(const struct config_cells *cells)
{
	return cells->name;
}

const struct finding_list *config_cells_findings(const struct config_cells *cells)
{
	return config_findings(cells->c);
}

const struct node *config_cell_tree(struct config *c, const struct config_cells *cells, size_t i)
{
	const struct cell *cell = &cells->cells.at[i];
	const struct node *tree;

	if (cell->config)
		tree = config_read_files(c, cell->config);
	else
		tree = config_read_tree(c, cells->path, cells->base);
	if (tree && cell->over)
		tree = node_merge(&c->arena, tree, config_normalise(c, cell->over));
	if (tree && cell->config && cells->io)
		tree = node_merge(&c->arena, tree, config_normalise(c, cells->io));
	return tree;
}
