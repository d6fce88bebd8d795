#include "config/impl.h"

void config_free(struct config *c)
{
	if (!c)
		return;
	arena_release(&c->arena);
	free(c);
}

bool config_ok(const struct config *c)
{
	return c->findings.n_errors == 0;
}

const struct experiment *config_experiment(const struct config *c)
{
	return &c->exp;
}

const struct finding_list *config_findings(const struct config *c)
{
	return &c->findings;
}

static const struct node *merge(struct config *c, const struct node *base, const struct node *over)
{
	if (!base || !over)
		return base ? base : over;
	return node_merge(&c->arena, base, over);
}

/* All layers, low to high, as one tree. */
static const struct node *merge_layers(struct config *c, const struct config_request *req)
{
	const struct node *file = NULL, *cli, *above, *preset, *all;

	c->exp.root_dir = ".";
	if (req->cells)
		file = config_cell_tree(c, req->cells, req->cell);
	else if (req->path)
		file = config_read_files(c, req->path);
	cli = config_override_layer(c, req->overrides, req->n_overrides);
	above = merge(c, file, cli);
	preset = req->preset ? config_preset_layer(c, req->preset, above) : NULL;
	all = merge(c, preset, above);
	if ((req->path || req->cells) && !file)
		return NULL; /* whatever else is said would follow from that */
	return all ? all : node_new(&c->arena, NODE_MAP, NULL);
}

static const char *value_json(struct config *c, const struct value *v)
{
	_cleanup_str_ struct str json = STR_INIT;
	struct jsonw w;

	if (!v)
		return "null";
	jsonw_init(&w, &json, 0);
	option_json(&w, NULL, v->option, v->field);
	return arena_strdup(&c->arena, str_c(&json));
}

static bool from_cli(const struct value *v)
{
	const struct node *n = v->node ? v->node : v->reset;

	return v->option->type != OPT_MAP && n && n->layer->source == SOURCE_CLI;
}

/* What each overridden value would have been: the same load without the command line. */
static int record_overrides(struct config *c, const struct config_request *req,
			    struct lem_error *err)
{
	struct config_request without = *req;
	struct config *before = NULL;
	int r;

	if (!req->n_overrides)
		return 0;
	without.n_overrides = 0;
	without.shape = NULL;
	r = config_load(&without, &before, err);
	if (r < 0)
		return r;
	c->overrides = arena_array(&c->arena, c->n_values, sizeof(*c->overrides));
	for (size_t i = 0; i < c->n_values; i++) {
		const struct value *v = &c->values[i];
		struct override_record *rec = &c->overrides[c->n_overrides];

		if (!from_cli(v))
			continue;
		rec->path = option_path(&c->arena, v->section, v->option->name);
		rec->new_json = value_json(c, v);
		rec->original_json = value_json(c, config_value(before, rec->path));
		c->n_overrides++;
	}
	config_free(before);
	return 0;
}

int config_load(const struct config_request *req, struct config **ret, struct lem_error *err)
{
	struct config *c = lem_calloc(1, sizeof(*c));
	const struct node *all = merge_layers(c, req);
	int r;

	if (all) {
		config_bind(c, all);
		r = record_overrides(c, req, err);
		if (r < 0) {
			config_free(c);
			return r;
		}
	}
	if (all && !c->syntax_failed)
		config_check(c, req);
	findings_finish(c);
	*ret = c;
	return 0;
}
