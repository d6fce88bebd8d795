/*
 * One layer's tree to the tree of today's keys: old keys are moved or refused, unknown ones
 * refused. Layers are normalised one by one, before they are merged, so that an old spelling in a
 * base file and the new one in the file on top meet under one key.
 */
#include "config/impl.h"

struct norm {
	struct config *c;
	const struct node *src; /* the layer as written */
	struct node *out;
};

static void take(struct norm *n, const struct section *s, struct node *dst, const struct node *src);

static struct node *child_of(struct node *map, const char *key)
{
	for (struct node *child = map->first; child; child = child->next)
		if (strcmp(child->key, key) == 0)
			return child;
	return NULL;
}

static struct node *new_like(struct norm *n, const struct node *like, const char *key)
{
	struct node *m = node_new(&n->c->arena, NODE_MAP, like->layer);

	m->key = key;
	m->line = like->line;
	m->column = like->column;
	return m;
}

static void not_a_map(struct norm *n, const struct section *sub, const char *path,
		      const struct node *child)
{
	struct finding *f =
		finding_add(n->c, SEVERITY_ERROR, "C02", path, child,
			    "must be a map of options, is %s", node_show(&n->c->arena, child));
	bool on;

	if (sub && section_find(sub, "enabled") && scalar_bool(child, &on))
		finding_hint(n->c, f, "write %s: {enabled: %s}", path, on ? "true" : "false");
	else
		finding_hint(n->c, f, "write its options below it, indented");
}

/* {shorthand: value} for a section that is written as a plain value; NULL: it may not be. */
static const struct node *expand_shorthand(struct norm *n, const struct section *s,
					   const struct node *child)
{
	struct node *map, *value;
	size_t budget = CONFIG_MAX_NODES;

	if (!s->shorthand || child->kind == NODE_MAP)
		return NULL;
	map = new_like(n, child, child->key);
	value = node_copy(&n->c->arena, child, &budget);
	value->key = s->shorthand;
	node_append(map, value);
	return map;
}

static void conflict(struct norm *n, const char *path, const struct node *old,
		     const struct node *child, const char *written)
{
	struct finding *f;

	if (str_eq(old->written, written))
		return; /* the same key twice: C09 was said by the parser */
	f = finding_add(n->c, SEVERITY_ERROR, "C14", path, child,
			"is written twice: as %s and as %s", old->written ? old->written : path,
			written ? written : path);
	finding_hint(n->c, f, "keep %s", path);
}

static void keep_map(struct norm *n, const struct option *o, const char *path, struct node *dst,
		     const struct node *child, const char *written)
{
	struct node *old = child_of(dst, o->name), *map;

	if (child->kind != NODE_MAP) {
		child = expand_shorthand(n, o->sub, child);
		if (!child)
			return;
	}
	if (old && old->kind != NODE_MAP) {
		conflict(n, path, old, child, written ? written : path);
		return;
	}
	map = old;
	if (map && !written) { /* made by an old key before, written in full now */
		map->written = NULL;
		map->line = child->line;
		map->column = child->column;
	}
	if (!map) {
		map = new_like(n, child, o->name);
		map->written = written;
		node_append(dst, map);
	}
	take(n, o->sub, map, child);
}

static void keep(struct norm *n, const struct section *s, const struct option *o, struct node *dst,
		 const struct node *child, const char *written)
{
	struct node *old = child_of(dst, o->name), *copy;
	size_t budget = CONFIG_MAX_NODES;
	char *path = option_path(&n->c->arena, s, o->name);

	if (o->type == OPT_MAP && !scalar_is_null(child)) {
		if (child->kind != NODE_MAP && !o->sub->shorthand)
			not_a_map(n, o->sub, path, child);
		else
			keep_map(n, o, path, dst, child, written);
		return;
	}
	if (old) {
		conflict(n, path, old, child, written);
		return;
	}
	copy = node_copy(&n->c->arena, child, &budget);
	copy->key = o->name;
	copy->written = written;
	node_append(dst, copy);
}

/* The map at a section's path in the new tree, made if needed; NULL: a plain value stands there. */
static struct node *map_at(struct norm *n, const struct section *s, const struct node *like,
			   const char *written)
{
	struct node *m = n->out;
	const char *p = s->path;

	while (*p) {
		size_t len = strcspn(p, ".");
		char *key = arena_strndup(&n->c->arena, p, len);
		struct node *child = child_of(m, key);

		if (!child) {
			child = new_like(n, like, key);
			child->written = written;
			node_append(m, child);
		}
		if (child->kind != NODE_MAP)
			return NULL;
		m = child;
		p += len + (p[len] == '.');
	}
	return m;
}

/* "@engine.extra_args" -> "vllm.extra_args"; NULL when the layer does not name its engine. */
static const char *resolve_target(struct norm *n, const char *to)
{
	const struct node *b = node_get(n->src, "backend");

	if (!str_starts(to, "@engine."))
		return to;
	if (!b)
		b = node_get(n->src, "engine");
	if (!b || b->kind != NODE_SCALAR)
		return NULL;
	return arena_printf(&n->c->arena, "%s.%s",
			    str_eq(b->text, "transformers") ? "pytorch" : b->text,
			    strchr(to, '.') + 1);
}

static void refuse_moved(struct norm *n, const char *old_path, const struct node *child)
{
	struct finding *f = finding_add(n->c, SEVERITY_ERROR, "C11", old_path, child,
					"has no place that is the same for every engine");

	finding_hint(n->c, f,
		     "write extra_args in the section of the engine, such as vllm.extra_args");
}

static void move(struct norm *n, const struct option *old, const char *old_path,
		 const struct node *child)
{
	const char *to = resolve_target(n, old->to);
	const struct section *s = NULL;
	const struct option *o = to ? option_at(to, &s) : NULL;
	struct node *map;

	if (!o || (!option_is_key(o) && o->verdict != RENAME)) {
		refuse_moved(n, old_path, child);
		return;
	}
	if (o->verdict == RENAME) { /* tensorrt.extra_args has another name there */
		move(n, o, old_path, child);
		return;
	}
	if (!old->silent && !str_eq(old_path, to))
		finding_hint(n->c,
			     finding_add(n->c, SEVERITY_INFO, "C10", old_path, child,
					 "is an old name, still read; today it is %s", to),
			     "write %s", to);
	map = map_at(n, s, child, old_path);
	if (map)
		keep(n, s, o, map, child, old_path);
}

/* A map of old keys, each of which goes its own way. */
static void take_old_map(struct norm *n, const struct section *old, const char *path,
			 const struct node *child)
{
	const struct node *map = child;

	if (scalar_is_null(child))
		return;
	if (child->kind != NODE_MAP)
		map = expand_shorthand(n, old, child);
	if (!map)
		not_a_map(n, NULL, path, child);
	else
		take(n, old, NULL, map);
}

/* The old map did nothing unless enabled; its rate had a default. */
static void take_old_traffic(struct norm *n, const struct option *o, const struct node *child)
{
	const struct node *enabled = node_get(child, "enabled");
	struct node *traffic, *rate;
	struct finding *f;
	bool on = false;

	if (child->kind == NODE_MAP && (!enabled || (scalar_bool(enabled, &on) && !on))) {
		finding_add(n->c, SEVERITY_INFO, "C10", "traffic_simulation", child,
			    "is not enabled, so it is left out");
		return;
	}
	take_old_map(n, o->sub, "traffic_simulation", child);
	if (child->kind != NODE_MAP)
		return;
	traffic = map_at(n, &section_traffic, child, "traffic_simulation");
	if (traffic && !child_of(traffic, "rate")) {
		rate = node_new(&n->c->arena, NODE_SCALAR, child->layer);
		rate->key = "rate";
		rate->text = "1.0"; /* its default for target_qps */
		rate->plain = true;
		rate->line = child->line;
		rate->column = child->column;
		node_append(traffic, rate);
	}
	f = finding_add(n->c, SEVERITY_INFO, "C10", "traffic_simulation", child,
			"is read as traffic, and arrivals are open loop now: a slow engine no "
			"longer slows them down");
	finding_hint(n->c, f, "write traffic with arrival, rate and seed instead");
}

static void refuse_old(struct norm *n, const struct option *o, const char *path,
		       const struct node *child)
{
	struct finding *f = finding_add(n->c, SEVERITY_ERROR, o->code ? o->code : "C11", path,
					child, "%s", o->help);

	finding_hint(n->c, f, "%s", o->to);
}

static void list_names(struct str *s, const struct section *section)
{
	enum { SHOWN = 12 };
	size_t shown = 0;

	for (size_t i = 0; i < section->n; i++) {
		const struct option *o = &section->options[i];

		if (o->verdict == REJECT || (!option_is_key(o) && section->is_engine))
			continue;
		if (shown == SHOWN) {
			str_add(s, ", …");
			return;
		}
		str_addf(s, "%s%s", shown++ ? ", " : "", o->name);
	}
}

static void refuse_unknown(struct norm *n, const struct section *s, const struct node *child)
{
	struct arena *a = &n->c->arena;
	char *path = option_path(a, s, child->key);
	_cleanup_str_ struct str names = STR_INIT;
	struct finding *f =
		finding_add(n->c, SEVERITY_ERROR, "C01", path, child, "is not an option");
	const char *meant;

	if (!f)
		return;
	meant = option_did_you_mean(a, s, child->key);
	if (meant) {
		finding_hint(n->c, f, "did you mean %s?", meant);
		return;
	}
	if (!s->path[0]) {
		finding_hint(n->c, f,
			     "see `lem config reference` for every option; extra_metadata takes "
			     "notes of your own");
		return;
	}
	list_names(&names, s);
	finding_hint(n->c, f, "options of %s: %s", s->path, str_c(&names));
}

static void take_one(struct norm *n, const struct section *s, struct node *dst,
		     const struct node *child)
{
	const struct option *o = section_find(s, child->key);
	char *path;

	if (!o) {
		refuse_unknown(n, s, child);
		return;
	}
	if (o->verdict == KEEP) {
		keep(n, s, o, dst, child, NULL);
		return;
	}
	path = option_path(&n->c->arena, s, o->name);
	if (o->verdict == REJECT)
		refuse_old(n, o, path, child);
	else if (o->verdict == RENAME && o->sub == &section_old_traffic)
		take_old_traffic(n, o, child);
	else if (o->verdict == RENAME && o->sub)
		take_old_map(n, o->sub, path, child);
	else if (o->verdict == RENAME)
		move(n, o, path, child);
	else if (!o->silent)
		finding_add(n->c, SEVERITY_INFO, "C10", path, child, "is left out: %s", o->help);
}

static void take(struct norm *n, const struct section *s, struct node *dst, const struct node *src)
{
	node_foreach(src, child) take_one(n, s, dst, child);
}

/* What the later versions meant by saying nothing differs from what lem means. */
static void warn_later_defaults(struct norm *n)
{
	static const struct {
		const char *path, *now, *then;
	} defaults[] = {
		{"task.max_input_tokens", "max_input_tokens", "256"},
		{"task.max_output_tokens", "max_output_tokens", "256"},
		{"task.random_seed", "random_seed", "42"},
		{"task.dataset.n_prompts", "dataset.sample_size", "100"},
	};
	const struct node *task = node_get(n->src, "task");
	_cleanup_str_ struct str missing = STR_INIT;
	struct finding *f;

	if (!task || task->kind != NODE_MAP)
		return;
	for (size_t i = 0; i < ARRAY_LEN(defaults); i++)
		if (!node_at(n->src, defaults[i].path) && !node_at(n->src, defaults[i].now))
			str_addf(&missing, "%s%s: %s", missing.len ? ", " : "", defaults[i].now,
				 defaults[i].then);
	if (!missing.len)
		return;
	f = finding_add(n->c, SEVERITY_WARNING, "C16", "task", task,
			"was written for a program with other defaults; values left out mean "
			"something else here");
	finding_hint(n->c, f, "to measure the same as then, write %s", str_c(&missing));
}

static bool is_campaign(struct norm *n)
{
	const struct node *name = node_get(n->src, "campaign_name");
	struct finding *f;

	if (!name)
		return false;
	f = finding_add(n->c, SEVERITY_ERROR, "C15", "campaign_name", name,
			"makes this a campaign file; a single experiment was expected");
	finding_hint(n->c, f, "run it with lem campaign, or name one of its experiment files");
	n->c->syntax_failed = true;
	return true;
}

struct node *config_normalise(struct config *c, const struct node *tree)
{
	struct norm n = {.c = c, .src = tree, .out = node_new(&c->arena, NODE_MAP, tree->layer)};

	n.out->line = tree->line;
	n.out->column = tree->column;
	if (is_campaign(&n))
		return n.out;
	take(&n, &section_experiment, n.out, tree);
	warn_later_defaults(&n);
	return n.out;
}
