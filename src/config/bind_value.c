/* One scalar, list or free map into the field of its option, or a finding that says what was
 * expected. */
#include "base/num.h"
#include "config/impl.h"

#include <math.h>
#include <strings.h>

struct place {
	struct config *c;
	const struct option *o;
	const struct node *n;
	char *path;
};

/* "must be EXPECTED, is VALUE"; the finding, for a hint. */
static struct finding *wrong(const struct place *p, const char *code, const char *expected)
{
	return finding_add(p->c, SEVERITY_ERROR, code, p->path, p->n, "must be %s, is %s", expected,
			   node_show(&p->c->arena, p->n));
}

static void hint_default(const struct place *p, struct finding *f)
{
	if (p->o->def)
		finding_hint(p->c, f, "the default is %s", p->o->def);
}

static void show_number(double v, char *buf, size_t size)
{
	snprintf(buf, size, fabs(v) < 1e16 && v == floor(v) ? "%.0f" : "%g", v);
}

static void refuse_range(const struct place *p, const char *kind)
{
	char lo[32], hi[32], expected[128];
	const struct option *o = p->o;

	show_number(o->min, lo, sizeof(lo));
	show_number(o->max, hi, sizeof(hi));
	if (o->above && o->max >= 1e6)
		snprintf(expected, sizeof(expected), "%s above %s", kind, lo);
	else if (o->above)
		snprintf(expected, sizeof(expected), "%s above %s and at most %s", kind, lo, hi);
	else
		snprintf(expected, sizeof(expected), "%s from %s to %s", kind, lo, hi);
	hint_default(p, wrong(p, "C03", expected));
}

static bool in_range(const struct option *o, double v)
{
	return !option_has_range(o) || ((o->above ? v > o->min : v >= o->min) && v <= o->max);
}

/* What a text that was meant as a number most likely means. */
static void hint_number(const struct place *p, struct finding *f)
{
	const char *s = p->n->text;
	struct node plain = *p->n;
	enum scalar_kind kind;

	plain.plain = true;
	kind = scalar_kind(&plain);
	if (!p->n->plain && (kind == SCALAR_INT || kind == SCALAR_FLOAT))
		finding_hint(p->c, f, "remove the quotes");
	else if (s[0] == '0' && s[1] && strspn(s, "0123456789") == strlen(s))
		finding_hint(p->c, f, "a leading zero means octal to some programs; write %s",
			     s + strspn(s, "0"));
	else if (s[0] == '0' && s[1] && strchr("xXoObB", s[1]))
		finding_hint(p->c, f, "write it as a decimal number");
	else if ((p->o->type == OPT_F64 || p->o->type == OPT_MAYBE_F64) && s[0] &&
		 strspn(s, "0123456789,") == strlen(s))
		finding_hint(p->c, f, "write a point instead of the comma");
	else if (strchr("0123456789", s[0]) && s[0] && strspn(s, "0123456789_,") == strlen(s))
		finding_hint(p->c, f, "write the digits without separators");
	else
		hint_default(p, f);
}

static bool is_scalar(const struct place *p, const char *expected)
{
	if (p->n->kind == NODE_SCALAR)
		return true;
	hint_default(p, wrong(p, "C02", expected));
	return false;
}

static bool read_i64(const struct place *p, int64_t *ret)
{
	double f = 0;
	int64_t v;

	if (!is_scalar(p, "an integer"))
		return false;
	switch (scalar_kind(p->n)) {
	case SCALAR_INT:
		num_parse_i64(p->n->text, &v);
		if (!in_range(p->o, (double)v)) {
			refuse_range(p, "an integer");
			return false;
		}
		*ret = v;
		return true;
	case SCALAR_FLOAT:
		num_parse_f64(p->n->text, &f);
		if (fabs(f) >= 1e18) {
			refuse_range(p, "an integer");
			return false;
		}
		if (f == floor(f))
			finding_hint(p->c, wrong(p, "C02", "an integer"), "write %.0f", f);
		else
			hint_default(p, wrong(p, "C02", "an integer"));
		return false;
	default: hint_number(p, wrong(p, "C02", "an integer")); return false;
	}
}

static bool read_f64(const struct place *p, double *ret)
{
	double v;

	if (!is_scalar(p, "a number"))
		return false;
	switch (scalar_kind(p->n)) {
	case SCALAR_INT:
	case SCALAR_FLOAT:
		num_parse_f64(p->n->text, &v);
		if (!in_range(p->o, v)) {
			refuse_range(p, "a number");
			return false;
		}
		*ret = v;
		return true;
	case SCALAR_NONFINITE: hint_default(p, wrong(p, "C02", "a finite number")); return false;
	default: hint_number(p, wrong(p, "C02", "a number")); return false;
	}
}

static bool read_bool(const struct place *p, bool *ret)
{
	if (scalar_bool(p->n, ret))
		return true;
	if (p->n->kind == NODE_SCALAR && !p->n->plain)
		finding_hint(p->c, wrong(p, "C02", "true or false"), "write it without quotes");
	else
		hint_default(p, wrong(p, "C02", "true or false"));
	return false;
}

static bool read_text(const struct place *p, const char **ret)
{
	if (!is_scalar(p, "a text"))
		return false;
	if (scalar_kind(p->n) != SCALAR_TEXT) {
		finding_hint(p->c, wrong(p, "C02", "a text"), "put it in quotes: \"%s\"",
			     p->n->text);
		return false;
	}
	if (!p->n->text[0] || !p->n->text[strspn(p->n->text, " \t\r\n")]) {
		finding_hint(
			p->c, finding_add(p->c, SEVERITY_ERROR, "C03", p->path, p->n, "is empty"),
			"%s",
			p->o->required ? "give it a value" : "leave the key out, or write null");
		return false;
	}
	*ret = p->n->text;
	return true;
}

static void list_choices(const struct option *o, struct str *s)
{
	for (size_t i = 0; o->choices[i]; i++)
		str_addf(s, "%s%s", i ? ", " : "", o->choices[i]);
}

/* Words of other programs for the same thing. */
static const char *other_word(const char *text, const char *const *choices)
{
	static const char *const words[][2] = {
		{"fp16", "float16"},
		{"half", "float16"},
		{"bf16", "bfloat16"},
		{"fp32", "float32"},
		{"float", "float32"},
		{"llama.cpp", "llamacpp"},
		{"llama", "llamacpp"},
		{"hf", "pytorch"},
		{"torch", "pytorch"},
		{"trt", "tensorrt"},
		{"trtllm", "tensorrt"},
		{"tensorrt-llm", "tensorrt"},
		{"tensorrt_llm", "tensorrt"},
		{"greedy", "deterministic"},
		{"random", "shuffled"},
		{"exponential", "poisson"},
		{"uniform", "constant"},
		{"rapl", "rapl_powercap"},
		{"flash", "flash_attention_2"},
		{"awq", "int4_awq"},
		{"gptq", "int4_gptq"},
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		for (size_t k = 0; strcasecmp(words[i][0], text) == 0 && choices[k]; k++)
			if (str_eq(choices[k], words[i][1]))
				return choices[k];
	return name_nearest(text, choices);
}

/* Index of the choice; -1 after a finding. */
static int read_choice(const struct place *p, const struct node *n)
{
	const struct option *o = p->o;
	_cleanup_str_ struct str expected = STR_INIT;
	const char *text = n->kind == NODE_SCALAR ? n->text : "", *near;
	struct finding *f;

	for (const struct choice_alias *a = o->choice_aliases; a && a->old; a++)
		if (strcmp(text, a->old) == 0)
			text = a->now;
	for (int i = 0; o->choices[i]; i++)
		if (n->kind == NODE_SCALAR && strcmp(text, o->choices[i]) == 0)
			return i;
	str_add(&expected, o->choices[1] ? "one of " : "");
	list_choices(o, &expected);
	f = finding_add(p->c, SEVERITY_ERROR, "C04", p->path, n, "must be %s, is %s",
			str_c(&expected), node_show(&p->c->arena, n));
	near = other_word(text, o->choices);
	if (strcmp(text, "llama-server") == 0)
		finding_hint(p->c, f, "write llamacpp, and llamacpp: {server: true}");
	else if (near)
		finding_hint(p->c, f, "did you mean %s?", near);
	else
		hint_default(p, f);
	return -1;
}

static bool read_compile(const struct place *p, const char **ret)
{
	bool on;
	int i;

	if (scalar_bool(p->n, &on)) {
		*ret = on ? p->o->choices[0] : NULL;
		return true;
	}
	i = read_choice(p, p->n);
	if (i < 0)
		return false;
	*ret = p->o->choices[i];
	return true;
}

static bool read_i64_or_auto(const struct place *p, struct maybe_i64 *ret)
{
	int64_t v;

	if (p->n->kind == NODE_SCALAR && str_eq(p->n->text, "auto")) {
		ret->set = false;
		return true;
	}
	if (!read_i64(p, &v))
		return false;
	*ret = (struct maybe_i64){.set = true, .v = v};
	return true;
}

/* 17179869184, 16g, "512m": num_parse_bytes knows the units. */
static bool read_bytes(const struct place *p, struct maybe_i64 *ret)
{
	uint64_t v;

	if (p->n->kind != NODE_SCALAR || !num_parse_bytes(p->n->text, &v)) {
		finding_hint(p->c, wrong(p, "C02", "a size"), "write it like 16g or 512m");
		return false;
	}
	if (!in_range(p->o, (double)v)) {
		char lo[24], hi[24];

		num_format_bytes((uint64_t)p->o->min, lo, sizeof(lo));
		num_format_bytes((uint64_t)p->o->max, hi, sizeof(hi));
		finding_add(p->c, SEVERITY_ERROR, "C03", p->path, p->n,
			    "must be a size from %s to %s, is %s", lo, hi,
			    node_show(&p->c->arena, p->n));
		return false;
	}
	*ret = (struct maybe_i64){.set = true, .v = (int64_t)v};
	return true;
}

static bool is_list(const struct place *p, const char *of)
{
	if (p->n->kind == NODE_LIST)
		return true;
	wrong(p, "C02", of);
	return false;
}

static bool read_str_list(const struct place *p, struct str_list *ret)
{
	struct arena *a = &p->c->arena;
	bool one = p->n->kind == NODE_SCALAR;
	struct str_list list = {.n = 0};

	if (!one && !is_list(p, "a list of texts"))
		return false;
	list.at = arena_array(a, one ? 1 : p->n->n, sizeof(*list.at));
	for (const struct node *item = one ? p->n : p->n->first; item;
	     item = one ? NULL : item->next) {
		struct place ip = {p->c, p->o, item, p->path};
		int i = p->o->choices ? read_choice(&ip, item) : 0;

		if (i < 0 || (!p->o->choices && !read_text(&ip, &list.at[list.n])))
			return false;
		if (p->o->choices)
			list.at[list.n] = p->o->choices[i];
		list.n++;
	}
	*ret = list;
	return true;
}

static bool read_f64_list(const struct place *p, struct f64_list *ret)
{
	struct f64_list list = {.n = 0};

	if (!is_list(p, "a list of numbers"))
		return false;
	list.at = arena_array(&p->c->arena, p->n->n, sizeof(*list.at));
	node_foreach(p->n, item)
	{
		struct place ip = {p->c, p->o, item, p->path};

		if (!read_f64(&ip, &list.at[list.n++]))
			return false;
	}
	*ret = list;
	return true;
}

static const struct node *find_nonfinite(const struct node *n)
{
	const struct node *bad = NULL;

	if (n->kind == NODE_SCALAR)
		return scalar_kind(n) == SCALAR_NONFINITE ? n : NULL;
	for (const struct node *child = n->first; child && !bad; child = child->next)
		bad = find_nonfinite(child);
	return bad;
}

static bool read_kv(const struct place *p, struct kv_list *ret)
{
	struct kv_list list = {.n = 0};
	const struct node *bad;

	if (p->n->kind != NODE_MAP) {
		finding_hint(p->c, wrong(p, "C02", "a map"),
			     "write lines of the form key: value below it");
		return false;
	}
	bad = find_nonfinite(p->n);
	if (bad) {
		finding_add(p->c, SEVERITY_ERROR, "C02", p->path, bad,
			    "must hold finite numbers, has %s", bad->text);
		return false;
	}
	list.at = arena_array(&p->c->arena, p->n->n, sizeof(*list.at));
	node_foreach(p->n, child)
	{
		_cleanup_str_ struct str json = STR_INIT;

		node_json(child, &json);
		list.at[list.n].key = child->key;
		list.at[list.n++].json = arena_strdup(&p->c->arena, str_c(&json));
	}
	*ret = list;
	return true;
}

static bool bind_number(const struct place *p, void *field)
{
	int64_t i;
	double f;

	switch (p->o->type) {
	case OPT_I64: return read_i64(p, field);
	case OPT_MAYBE_I64:
		if (!read_i64(p, &i))
			return false;
		*(struct maybe_i64 *)field = (struct maybe_i64){.set = true, .v = i};
		return true;
	case OPT_F64: return read_f64(p, field);
	default:
		if (!read_f64(p, &f))
			return false;
		*(struct maybe_f64 *)field = (struct maybe_f64){.set = true, .v = f};
		return true;
	}
}

bool bind_value(struct config *c, const struct section *s, const struct option *o,
		const struct node *n, void *field)
{
	/* The path is only needed for findings, but those are rare and paths are short. */
	struct place p = {c, o, n, option_path(&c->arena, s, o->name)};
	int i;

	switch (o->type) {
	case OPT_BOOL: return read_bool(&p, field);
	case OPT_I64:
	case OPT_MAYBE_I64:
	case OPT_F64:
	case OPT_MAYBE_F64: return bind_number(&p, field);
	case OPT_STR: return read_text(&p, field);
	case OPT_CHOICE:
		i = read_choice(&p, n);
		if (i >= 0)
			*(const char **)field = o->choices[i];
		return i >= 0;
	case OPT_ENUM:
		i = read_choice(&p, n);
		if (i >= 0)
			*(unsigned *)field = (unsigned)i;
		return i >= 0;
	case OPT_STR_LIST: return read_str_list(&p, field);
	case OPT_F64_LIST: return read_f64_list(&p, field);
	case OPT_KV: return read_kv(&p, field);
	case OPT_GPUS: return bind_gpus(c, n, field);
	case OPT_COMPILE: return read_compile(&p, field);
	case OPT_I64_OR_AUTO: return read_i64_or_auto(&p, field);
	case OPT_BYTES: return read_bytes(&p, field);
	case OPT_LENGTHS: return bind_lengths(c, s, o, n, field);
	case OPT_MAP: break;
	}
	return false;
}
