/* The merged tree into the experiment, with defaults, and a record of where each value came from.
 */
#include "config/impl.h"

static struct value *new_value(struct config *c)
{
	struct value *grown;

	if (c->n_values == c->cap_values) {
		c->cap_values = c->cap_values ? c->cap_values * 2 : 192;
		grown = arena_array(&c->arena, c->cap_values, sizeof(*grown));
		if (c->n_values)
			memcpy(grown, c->values, c->n_values * sizeof(*grown));
		c->values = grown;
	}
	return &c->values[c->n_values++];
}

/* A default's text is plain YAML: a scalar, or a list of one. */
static void bind_default(struct config *c, const struct section *s, const struct option *o,
			 void *field)
{
	size_t n = o->def ? strlen(o->def) : 0;
	struct node item = {.kind = NODE_SCALAR, .plain = true},
		    list = {.kind = NODE_LIST, .first = &item, .n = 1};
	bool is_list = n && o->def[0] == '[', ok;

	if (!o->def)
		return; /* the experiment was zeroed: null, empty */
	item.text = is_list ? arena_strndup(&c->arena, o->def + 1, n - 2) : o->def;
	ok = bind_value(c, s, o, is_list ? &list : &item, field);
	assert(ok && "defaults satisfy their own option");
	(void)ok;
}

static void bind_option(struct config *c, const struct section *s, const struct option *o,
			void *field, const struct node *n, bool active)
{
	struct value *v = new_value(c);

	*v = (struct value){.section = s, .option = o, .field = field};
	if (n && scalar_is_null(n)) {
		v->reset = n;
		n = NULL;
	}
	if (n) {
		v->node = n;
		v->source = n->layer->source;
		v->invalid = !bind_value(c, s, o, n, field);
	}
	if (!n || v->invalid)
		bind_default(c, s, o, field);
	if (!n && o->required && active && !c->syntax_failed)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C05",
					 option_path(&c->arena, s, o->name),
					 config_where(c, s->path), "is missing"),
			     "write %s: … (%s)", o->name, o->help);
}

static void bind_section(struct config *c, const struct section *s, char *base,
			 const struct node *map, bool active)
{
	enum backend b = c->exp.backend;

	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i];
		const struct node *n = node_get(map, o->name);
		struct value *v;

		if (!option_is_key(o))
			continue;
		if (o->type != OPT_MAP) {
			bind_option(c, s, o, base + o->offset, n, active);
			continue;
		}
		if (o->sub->is_engine && o->sub->backend != b && !n)
			continue;
		v = new_value(c);
		*v = (struct value){.section = s, .option = o, .field = base + o->offset};
		if (n && n->kind == NODE_MAP) {
			v->node = n;
			v->source = n->layer->source;
		}
		if (o->sub->present)
			*(bool *)(base + o->offset + o->sub->present - 1) = v->node != NULL;
		bind_section(c, o->sub, base + o->offset, v->node, v->node || !o->sub->present);
	}
}

/* Keys written beside the preset win over it. */
static void expand_decoder_preset(struct config *c)
{
	const struct decoder_preset *p = NULL;

	for (size_t i = 0; i < n_decoder_presets; i++)
		if (str_eq(decoder_presets[i].name, c->exp.decoder.preset))
			p = &decoder_presets[i];
	for (size_t i = 0; p && i < c->n_values; i++) {
		struct value *v = &c->values[i];
		const char *text = NULL;

		if (v->section != &section_decoder || v->node)
			continue;
		if (str_eq(v->option->name, "temperature"))
			text = p->temperature;
		else if (str_eq(v->option->name, "do_sample"))
			text = p->do_sample;
		else if (str_eq(v->option->name, "top_p"))
			text = p->top_p;
		else if (str_eq(v->option->name, "repetition_penalty"))
			text = p->repetition_penalty;
		if (text) {
			struct node n = {.kind = NODE_SCALAR, .plain = true, .text = text};

			bind_value(c, v->section, v->option, &n, v->field);
			v->source = SOURCE_PRESET;
			v->detail = arena_printf(&c->arena, "decoder.preset %s", p->name);
		}
	}
}

static struct value *find_value(const struct config *c, const char *path)
{
	for (size_t i = 0; i < c->n_values; i++) {
		struct value *v = &c->values[i];
		size_t n = strlen(v->section->path);

		if (n == 0 && strcmp(v->option->name, path) == 0)
			return v;
		if (n && strncmp(path, v->section->path, n) == 0 && path[n] == '.' &&
		    strcmp(path + n + 1, v->option->name) == 0)
			return v;
	}
	return NULL;
}

/* Paths in a file start at its folder, paths typed on the command line where the user stands. */
static void resolve_typed_path(struct config *c, const char *option)
{
	struct value *v = find_value(c, option);
	_cleanup_free_ char *cwd = NULL;
	const char **path;

	if (!v->node || v->source != SOURCE_CLI || v->invalid || v->node->text[0] == '/')
		return;
	path = v->field;
	cwd = realpath(".", NULL);
	if (cwd)
		*path = arena_printf(&c->arena, "%s/%s", cwd, *path);
}

/* What was not written, but follows from what was. */
static void derive(struct config *c)
{
	struct experiment *e = &c->exp;
	struct value *gpus = find_value(c, "gpus"),
		     *detect = find_value(c, "warmup.convergence_detection");

	/* The embedded engine runs on the CPU unless told otherwise; of a server we only know what
	 * we are told. */
	if (!gpus->node && !gpus->reset &&
	    (e->backend == BACKEND_LLAMACPP || e->backend == BACKEND_OPENAI)) {
		e->gpus.n = 0;
		gpus->detail = arena_printf(&c->arena, "backend %s", backend_name(e->backend));
	}
	if (e->warmup.requests.set && !detect->node) {
		e->warmup.convergence_detection = false;
		detect->detail = "warmup.requests is a fixed number";
	}
	if (e->prompts.input_tokens.distribution == LENGTH_FILE &&
	    !config_written(c, "prompts.count")) {
		e->prompts.count = 0;
		find_value(c, "prompts.count")->detail = "as many as the file of lengths has";
	}
	resolve_typed_path(c, "prompts.path");
	resolve_typed_path(c, "traffic.trace");
	e->vllm.tensor_parallel_auto =
		e->backend == BACKEND_VLLM && !e->vllm.tensor_parallel_size.set;
}

void config_bind(struct config *c, const struct node *root)
{
	c->root = root;
	c->exp.backend = config_backend_of(root, BACKEND_PYTORCH);
	bind_section(c, &section_experiment, (char *)&c->exp, root, true);
	c->exp.backend = config_backend_of(root, BACKEND_PYTORCH);
	expand_decoder_preset(c);
	derive(c);
}

void config_rename(struct config *c, const char *name, const char *why)
{
	struct value *v = find_value(c, "config_name");

	c->exp.config_name = arena_strdup(&c->arena, name);
	v->detail = arena_strdup(&c->arena, why);
}

const struct value *config_value(const struct config *c, const char *path)
{
	return find_value(c, path);
}

const struct node *config_where(const struct config *c, const char *path)
{
	const struct value *v = find_value(c, path);
	const char *dot = strrchr(path, '.');
	_cleanup_free_ char *parent = dot ? lem_strndup(path, (size_t)(dot - path)) : NULL;

	if (v && v->node)
		return v->node;
	return parent ? config_where(c, parent) : c->root;
}

bool config_written(const struct config *c, const char *path)
{
	const struct value *v = find_value(c, path);

	return v && v->node;
}

bool config_invalid(const struct config *c, const char *path)
{
	const struct value *v = find_value(c, path);

	return v && v->invalid;
}
