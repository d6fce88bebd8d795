/* Effective values, where they came from, and their hash. */
#include <strings.h>

#include "base/digest.h"
#include "config/impl.h"

static const char *const backend_names[] = {"pytorch", "vllm",     "tensorrt",
					    "sglang",  "llamacpp", "openai"};
static const char *const precision_names[] = {"float32", "float16", "bfloat16"};
static const char *const source_names[] = {"default", "preset", "file", "cli"};

#define HIDDEN "\"***\""

static bool ends_with(const char *name, size_t n, const char *end)
{
	size_t k = strlen(end);

	return n >= k && strncasecmp(name + n - k, end, k) == 0;
}

bool config_is_secret(const char *name, size_t n)
{
	static const char *const ends[] = {"TOKEN", "_KEY", "APIKEY", "SECRET", "CREDENTIALS"};
	char text[128];

	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (ends_with(name, n, ends[i]))
			return true;
	lem_strlcpy(text, name, MIN(n + 1, sizeof(text)));
	return strcasestr(text, "PASSWORD") || strcasestr(text, "PASSWD");
}

const char *backend_name(enum backend b)
{
	return (size_t)b < ARRAY_LEN(backend_names) ? backend_names[b] : "?";
}

const char *precision_name(enum precision p)
{
	return (size_t)p < ARRAY_LEN(precision_names) ? precision_names[p] : "?";
}

static void list_json(struct jsonw *w, const char *key, const struct str_list *l, bool numbers)
{
	jsonw_array(w, key);
	for (size_t i = 0; i < l->n; i++) {
		if (numbers && !l->at[i][strspn(l->at[i], "0123456789")])
			jsonw_raw(w, NULL, l->at[i]);
		else
			jsonw_str(w, NULL, l->at[i]);
	}
	jsonw_end_array(w);
}

/* hide: variables of the environment, some of which are secrets. */
static void kv_json(struct jsonw *w, const char *key, const struct kv_list *l, bool hide)
{
	jsonw_object(w, key);
	for (size_t i = 0; i < l->n; i++) {
		const struct kv *v = &l->at[i];
		bool hidden = hide && config_is_secret(v->key, strlen(v->key));

		jsonw_raw(w, v->key, hidden ? HIDDEN : v->json);
	}
	jsonw_end_object(w);
}

static void maybe_i64_json(struct jsonw *w, const char *key, const struct maybe_i64 *m)
{
	if (m->set)
		jsonw_i64(w, key, m->v);
	else
		jsonw_null(w, key);
}

static void maybe_f64_json(struct jsonw *w, const char *key, const struct maybe_f64 *m)
{
	if (m->set)
		jsonw_f64(w, key, m->v);
	else
		jsonw_null(w, key);
}

static void f64_list_json(struct jsonw *w, const char *key, const struct f64_list *l)
{
	jsonw_array(w, key);
	for (size_t i = 0; i < l->n; i++)
		jsonw_f64(w, NULL, l->at[i]);
	jsonw_end_array(w);
}

/* A number when it is one; else the keys that say something. */
static void lengths_json(struct jsonw *w, const char *key, const struct option *o,
			 const struct length_config *l)
{
	if (!l->set) {
		jsonw_null(w, key);
		return;
	}
	if (l->distribution == LENGTH_FIXED) {
		jsonw_i64(w, key, l->tokens);
		return;
	}
	jsonw_object(w, key);
	for (size_t i = 0; i < o->sub->n; i++) {
		const struct option *so = &o->sub->options[i];
		const void *field = (const char *)l + so->offset;
		bool said = so->type == OPT_ENUM ||
			    (so->type == OPT_MAYBE_I64 && ((const struct maybe_i64 *)field)->set) ||
			    (so->type == OPT_MAYBE_F64 && ((const struct maybe_f64 *)field)->set) ||
			    (so->type == OPT_STR && *(const char *const *)field);

		if (said)
			option_json(w, so->name, so, field);
	}
	jsonw_end_object(w);
}

void option_json(struct jsonw *w, const char *key, const struct option *o, const void *field)
{
	const char *text;

	switch (o->type) {
	case OPT_BOOL: jsonw_bool(w, key, *(const bool *)field); break;
	case OPT_I64: jsonw_i64(w, key, *(const int64_t *)field); break;
	case OPT_F64: jsonw_f64(w, key, *(const double *)field); break;
	case OPT_BYTES:
	case OPT_MAYBE_I64: maybe_i64_json(w, key, field); break;
	case OPT_MAYBE_F64: maybe_f64_json(w, key, field); break;
	case OPT_STR:
	case OPT_CHOICE: jsonw_str(w, key, *(const char *const *)field); break;
	case OPT_ENUM: jsonw_str(w, key, o->choices[*(const unsigned *)field]); break;
	case OPT_STR_LIST: list_json(w, key, field, false); break;
	case OPT_GPUS: list_json(w, key, field, true); break;
	case OPT_F64_LIST: f64_list_json(w, key, field); break;
	case OPT_KV: kv_json(w, key, field, str_eq(o->name, "env")); break;
	case OPT_LENGTHS: lengths_json(w, key, o, field); break;
	case OPT_I64_OR_AUTO:
		if (((const struct maybe_i64 *)field)->set)
			maybe_i64_json(w, key, field);
		else
			jsonw_str(w, key, "auto");
		break;
	case OPT_COMPILE:
		text = *(const char *const *)field;
		if (text)
			jsonw_str(w, key, text);
		else
			jsonw_bool(w, key, false);
		break;
	case OPT_MAP: break;
	}
}

/* Whether a section has anything to say: optional ones only when they were written. */
static bool section_is_there(const struct section *s, const char *base)
{
	return !s->present || s->is_engine || *(const bool *)(base + s->present - 1);
}

static bool is_shown(const struct config *c, const struct option *o)
{
	return option_is_key(o) && option_honoured(o, c->exp.backend);
}

static void effective(struct jsonw *w, const struct config *c, const struct section *s,
		      const char *base)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i];

		if (!is_shown(c, o))
			continue;
		if (o->type != OPT_MAP) {
			option_json(w, o->name, o, base + o->offset);
		} else if (!section_is_there(o->sub, base + o->offset)) {
			jsonw_null(w, o->name);
		} else {
			jsonw_object(w, o->name);
			effective(w, c, o->sub, base + o->offset);
			jsonw_end_object(w);
		}
	}
}

void config_effective_json(const struct config *c, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	effective(&w, c, &section_experiment, (const char *)&c->exp);
	jsonw_end_object(&w);
}

/* "env.NAME" of a secret, and env as a whole: it may hold one. n: of the path. */
static bool hides_secret(const char *path, size_t n)
{
	if (n < 3 || memcmp(path, "env", 3) != 0)
		return false;
	return n == 3 || (path[3] == '.' && config_is_secret(path + 4, n - 4));
}

/* "--set env.HF_TOKEN=VALUE" without the value. */
static void add_layer_detail(const char *detail, struct str *s)
{
	const char *space = strchr(detail, ' '), *path = space ? space + 1 : detail;
	size_t n = strcspn(path, "=");

	if (path[n] && hides_secret(path, n))
		str_addf(s, "%.*s=***", (int)(path + n - detail), detail);
	else
		str_add(s, detail);
}

static const char *value_detail(const struct value *v, struct str *s)
{
	str_reset(s);
	if (v->detail) {
		str_add(s, v->detail);
	} else if (v->reset) {
		str_add(s, "reset by null");
		if (v->reset->layer->file)
			str_addf(s, " in %s:%d", v->reset->layer->file, v->reset->line);
	} else if (v->node && v->node->layer->file) {
		str_addf(s, "%s:%d", v->node->layer->file, v->node->line);
		if (v->node->written)
			str_addf(s, " as %s", v->node->written);
	} else if (v->node) {
		add_layer_detail(v->node->layer->detail, s);
	}
	return s->len ? str_c(s) : NULL;
}

static const struct value *value_of(const struct config *c, const void *field,
				    const struct option *o)
{
	for (size_t i = 0; i < c->n_values; i++)
		if (c->values[i].field == field && c->values[i].option == o)
			return &c->values[i];
	return NULL;
}

static void add_comment(const struct config *c, const struct option *o, const void *field,
			struct str *out)
{
	_cleanup_str_ struct str detail = STR_INIT;
	const struct value *v = value_of(c, field, o);
	const char *text;

	if (!v)
		return;
	text = value_detail(v, &detail);
	if (v->source == SOURCE_DEFAULT)
		str_addf(out, "  # default%s%s%s", text ? " (" : "", text ? text : "",
			 text ? ")" : "");
	else
		str_addf(out, "  # %s", text ? text : source_names[v->source]);
}

/* JSON is YAML, so a value's JSON will do; plain words lose their quotes for the eye. */
static void add_yaml_value(const struct option *o, const void *field, struct str *out)
{
	_cleanup_str_ struct str json = STR_INIT;
	struct jsonw w;
	struct node n = {.kind = NODE_SCALAR, .plain = true};
	size_t len;

	jsonw_init(&w, &json, 0);
	option_json(&w, NULL, o, field);
	len = json.len;
	if (len > 2 && json.buf[0] == '"' &&
	    strspn(json.buf + 1,
		   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-") ==
		    len - 2 &&
	    json.buf[1] != '-') {
		bool is_bool;

		json.buf[len - 1] = '\0';
		n.text = json.buf + 1;
		if (scalar_kind(&n) == SCALAR_TEXT && !scalar_bool(&n, &is_bool)) {
			str_add(out, n.text);
			return;
		}
		json.buf[len - 1] = '"';
	}
	str_add(out, str_c(&json));
}

static void yaml_section(const struct config *c, const struct section *s, const char *base,
			 int indent, bool provenance, struct str *out)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct option *o = &s->options[i];
		const char *field = base + o->offset;

		if (!is_shown(c, o))
			continue;
		str_addf(out, "%*s%s:", indent, "", o->name);
		if (o->type == OPT_MAP && section_is_there(o->sub, field)) {
			str_addc(out, '\n');
			yaml_section(c, o->sub, field, indent + 2, provenance, out);
			continue;
		}
		str_addc(out, ' ');
		if (o->type == OPT_MAP)
			str_add(out, "null");
		else
			add_yaml_value(o, field, out);
		if (provenance)
			add_comment(c, o, field, out);
		str_addc(out, '\n');
	}
}

void config_effective_yaml(const struct config *c, bool provenance, struct str *out)
{
	yaml_section(c, &section_experiment, (const char *)&c->exp, 0, provenance, out);
}

static bool value_is_shown(const struct config *c, const struct value *v)
{
	const struct section *s = v->section;
	const struct value *parent;

	if (v->option->type == OPT_MAP || !is_shown(c, v->option))
		return false;
	if (!s->path[0] || !s->present || s->is_engine)
		return true;
	parent = config_value(c, s->path);
	return parent && parent->node;
}

static void provenance_entry(struct jsonw *w, const struct value *v, const char *path)
{
	_cleanup_str_ struct str detail = STR_INIT;

	jsonw_object(w, path);
	option_json(w, "value", v->option, v->field);
	jsonw_str(w, "source", source_names[v->source]);
	jsonw_str(w, "source_detail", value_detail(v, &detail));
	jsonw_end_object(w);
}

void config_provenance_json(const struct config *c, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	for (size_t i = 0; i < c->n_values; i++) {
		const struct value *v = &c->values[i];
		_cleanup_free_ char *path =
			lem_asprintf("%s%s%s", v->section->path, v->section->path[0] ? "." : "",
				     v->option->name);

		if (value_is_shown(c, v))
			provenance_entry(&w, v, path);
	}
	jsonw_end_object(&w);
}

void config_overrides_json(const struct config *c, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	for (size_t i = 0; i < c->n_overrides; i++) {
		const char *path = c->overrides[i].path;
		bool hidden = hides_secret(path, strlen(path));

		jsonw_object(&w, path);
		jsonw_raw(&w, "new", hidden ? HIDDEN : c->overrides[i].new_json);
		jsonw_raw(&w, "original", hidden ? HIDDEN : c->overrides[i].original_json);
		jsonw_end_object(&w);
	}
	jsonw_end_object(&w);
}

static int by_name(const void *va, const void *vb)
{
	const struct option *a = *(const struct option *const *)va,
			    *b = *(const struct option *const *)vb;

	return strcmp(a->name, b->name);
}

/* The effective values with sorted keys, without those that cannot change the measurement. */
static void hashed(struct jsonw *w, const struct config *c, const struct section *s,
		   const char *base)
{
	const struct option *sorted[128];
	size_t n = 0;

	assert(s->n <= ARRAY_LEN(sorted));
	for (size_t i = 0; i < s->n; i++)
		if (is_shown(c, &s->options[i]) && !s->options[i].outside_hash)
			sorted[n++] = &s->options[i];
	if (n)
		qsort(sorted, n, sizeof(sorted[0]), by_name);
	for (size_t i = 0; i < n; i++) {
		const char *field = base + sorted[i]->offset;

		if (sorted[i]->type != OPT_MAP) {
			option_json(w, sorted[i]->name, sorted[i], field);
		} else if (!section_is_there(sorted[i]->sub, field)) {
			jsonw_null(w, sorted[i]->name);
		} else {
			jsonw_object(w, sorted[i]->name);
			hashed(w, c, sorted[i]->sub, field);
			jsonw_end_object(w);
		}
	}
}

void config_hash(const struct config *c, char hex17[17])
{
	_cleanup_str_ struct str json = STR_INIT;
	char hex[DIGEST_HEX_SIZE];
	struct jsonw w;

	jsonw_init(&w, &json, 0);
	jsonw_object(&w, NULL);
	hashed(&w, c, &section_experiment, (const char *)&c->exp);
	jsonw_end_object(&w);
	digest_bytes(str_c(&json), json.len, hex);
	lem_strlcpy(hex17, hex, 17);
}
