/* The tables as JSON Schema 2020-12, for editors. Null is allowed everywhere: it asks for the
 * default. */
#include "config/impl.h"

static void type_or_null(struct jsonw *w, const char *type)
{
	jsonw_array(w, "type");
	jsonw_str(w, NULL, type);
	jsonw_str(w, NULL, "null");
	jsonw_end_array(w);
}

static void add_range(struct jsonw *w, const struct option *o)
{
	if (!option_has_range(o))
		return;
	jsonw_f64(w, o->above ? "exclusiveMinimum" : "minimum", o->min);
	jsonw_f64(w, "maximum", o->max);
}

static void add_choices(struct jsonw *w, const struct option *o)
{
	jsonw_array(w, "enum");
	for (size_t i = 0; o->choices[i]; i++)
		jsonw_str(w, NULL, o->choices[i]);
	for (const struct choice_alias *a = o->choice_aliases; a && a->old; a++)
		jsonw_str(w, NULL, a->old);
	if (o->type == OPT_COMPILE) {
		jsonw_bool(w, NULL, false);
		jsonw_bool(w, NULL, true);
	}
	if (o->type != OPT_STR_LIST)
		jsonw_null(w, NULL);
	jsonw_end_array(w);
}

static void add_gpus(struct jsonw *w)
{
	jsonw_array(w, "type");
	jsonw_str(w, NULL, "array");
	jsonw_str(w, NULL, "integer");
	jsonw_str(w, NULL, "string");
	jsonw_str(w, NULL, "null");
	jsonw_end_array(w);
	jsonw_bool(w, "uniqueItems", true);
	jsonw_object(w, "items");
	jsonw_array(w, "type");
	jsonw_str(w, NULL, "integer");
	jsonw_str(w, NULL, "string");
	jsonw_end_array(w);
	jsonw_i64(w, "minimum", 0);
	jsonw_end_object(w);
}

static void add_list(struct jsonw *w, const struct option *o)
{
	jsonw_array(w, "type");
	jsonw_str(w, NULL, "array");
	if (o->type == OPT_STR_LIST)
		jsonw_str(w, NULL, "string");
	jsonw_str(w, NULL, "null");
	jsonw_end_array(w);
	jsonw_object(w, "items");
	if (o->choices)
		add_choices(w, o);
	else
		jsonw_str(w, "type", o->type == OPT_STR_LIST ? "string" : "number");
	if (o->type == OPT_F64_LIST)
		add_range(w, o);
	jsonw_end_object(w);
}

static void add_int_or_auto(struct jsonw *w, const struct option *o)
{
	jsonw_array(w, "anyOf");
	jsonw_object(w, NULL);
	type_or_null(w, "integer");
	add_range(w, o);
	jsonw_end_object(w);
	jsonw_object(w, NULL);
	jsonw_str(w, "const", "auto");
	jsonw_end_object(w);
	jsonw_end_array(w);
}

static void add_bytes(struct jsonw *w, const struct option *o)
{
	jsonw_array(w, "type");
	jsonw_str(w, NULL, "integer");
	jsonw_str(w, NULL, "string");
	jsonw_str(w, NULL, "null");
	jsonw_end_array(w);
	add_range(w, o);
}

static void add_section(struct jsonw *w, const struct section *s);

static void add_lengths(struct jsonw *w, const struct option *o)
{
	jsonw_array(w, "anyOf");
	jsonw_object(w, NULL);
	type_or_null(w, "integer");
	add_range(w, o);
	jsonw_end_object(w);
	jsonw_object(w, NULL);
	add_section(w, o->sub);
	jsonw_end_object(w);
	jsonw_end_array(w);
}

static void add_type(struct jsonw *w, const struct option *o)
{
	switch (o->type) {
	case OPT_BOOL: type_or_null(w, "boolean"); break;
	case OPT_I64:
	case OPT_MAYBE_I64:
		type_or_null(w, "integer");
		add_range(w, o);
		break;
	case OPT_F64:
	case OPT_MAYBE_F64:
		type_or_null(w, "number");
		add_range(w, o);
		break;
	case OPT_STR:
		type_or_null(w, "string");
		jsonw_i64(w, "minLength", 1);
		break;
	case OPT_CHOICE:
	case OPT_ENUM:
	case OPT_COMPILE: add_choices(w, o); break;
	case OPT_STR_LIST:
	case OPT_F64_LIST: add_list(w, o); break;
	case OPT_KV: type_or_null(w, "object"); break;
	case OPT_GPUS: add_gpus(w); break;
	case OPT_I64_OR_AUTO: add_int_or_auto(w, o); break;
	case OPT_BYTES: add_bytes(w, o); break;
	case OPT_LENGTHS: add_lengths(w, o); break;
	case OPT_MAP: break;
	}
}

static void add_default(struct jsonw *w, const struct option *o)
{
	struct node n = {.kind = NODE_SCALAR, .plain = true, .text = o->def};
	_cleanup_str_ struct str json = STR_INIT;

	if (!o->def)
		return;
	if (str_eq(o->def, "[0]")) {
		str_add(&json, o->def);
	} else if (o->def[0] == '[') {
		str_addf(&json, "[\"%.*s\"]", (int)strlen(o->def) - 2, o->def + 1);
	} else {
		node_json(&n, &json);
	}
	jsonw_raw(w, "default", str_c(&json));
}

static void add_key(struct jsonw *w, const struct option *o, const char *name, const char *old_of)
{
	jsonw_object(w, name);
	if (old_of) {
		_cleanup_free_ char *text = lem_asprintf("Another name of %s.", old_of);

		jsonw_str(w, "description", text);
	} else if (o->help || o->sub) {
		jsonw_str(w, "description", o->help ? o->help : o->sub->help);
	}
	if (o->type == OPT_MAP) {
		add_section(w, o->sub);
	} else {
		add_type(w, o);
		add_default(w, o);
	}
	jsonw_end_object(w);
}

static void add_section(struct jsonw *w, const struct section *s)
{
	jsonw_array(w, "type");
	jsonw_str(w, NULL, "object");
	if (s->shorthand) {
		jsonw_str(w, NULL, "string");
		jsonw_str(w, NULL, "array");
		jsonw_str(w, NULL, "boolean");
	}
	if (s->path[0])
		jsonw_str(w, NULL, "null");
	jsonw_end_array(w);
	jsonw_bool(w, "additionalProperties", false);
	jsonw_object(w, "properties");
	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i], *now;

		if (option_is_key(o))
			add_key(w, o, o->name, NULL);
		else if (o->verdict == RENAME && o->silent && (now = option_at(o->to, NULL)))
			add_key(w, now, o->name, o->to);
	}
	if (!s->path[0]) {
		jsonw_object(w, "_extends");
		jsonw_str(w, "description", section_find(s, "_extends")->help);
		jsonw_str(w, "type", "string");
		jsonw_end_object(w);
	}
	jsonw_end_object(w);
}

/* Required, unless a base file or an alias gives it. */
static void any_of_required(struct jsonw *w, const char *const *names)
{
	jsonw_object(w, NULL);
	jsonw_array(w, "anyOf");
	for (; *names; names++) {
		jsonw_object(w, NULL);
		jsonw_array(w, "required");
		jsonw_str(w, NULL, *names);
		jsonw_end_array(w);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	jsonw_end_object(w);
}

void config_schema_json(struct str *out)
{
	static const char *const config_name[] = {"config_name", "_extends", NULL};
	static const char *const model_name[] = {"model_name", "model", "_extends", NULL};
	static const char *const prompts[] = {"dataset", "prompts", "_extends", NULL};
	struct jsonw w;

	jsonw_init(&w, out, 1);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "$schema", "https://json-schema.org/draft/2020-12/schema");
	jsonw_str(&w, "title", "lem experiment");
	add_section(&w, &section_experiment);
	jsonw_array(&w, "allOf");
	any_of_required(&w, config_name);
	any_of_required(&w, model_name);
	any_of_required(&w, prompts);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}
