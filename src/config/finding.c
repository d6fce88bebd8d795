#include "config/impl.h"

static const char *const severity_names[] = {"info", "warning", "error"};

static struct finding *link_finding(struct config *c, int order)
{
	struct finding_link *l = arena_new(&c->arena, struct finding_link);

	l->order = order;
	if (c->last)
		c->last->next = l;
	else
		c->first = l;
	c->last = l;
	return &l->f;
}

static void count(struct finding_list *list, enum severity severity)
{
	list->n++;
	list->n_errors += severity == SEVERITY_ERROR;
	list->n_warnings += severity == SEVERITY_WARNING;
}

/* Keys come from outside: they must not steer a terminal, nor fill it. */
static const char *safe_field(struct arena *a, const char *field)
{
	enum { SHOWN = 120 };
	char *s = arena_strndup(a, field, SHOWN);

	for (char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return strlen(field) > SHOWN ? arena_printf(a, "%s…", s) : s;
}

static struct finding *add(struct config *c, enum severity severity, const char *code,
			   const char *field, const struct layer *layer, int line, int column,
			   const char *fmt, va_list ap) _printf_(8, 0);
static struct finding *add(struct config *c, enum severity severity, const char *code,
			   const char *field, const struct layer *layer, int line, int column,
			   const char *fmt, va_list ap)
{
	_cleanup_str_ struct str message = STR_INIT;
	struct finding *f;

	count(&c->findings, severity);
	if (c->findings.n > CONFIG_MAX_FINDINGS) {
		c->n_left_out++;
		return NULL;
	}
	str_vaddf(&message, fmt, ap);
	f = link_finding(c, layer ? layer->order : 0);
	f->severity = severity;
	f->code = code;
	f->field = safe_field(&c->arena, field);
	f->file = layer && layer->source == SOURCE_FILE ? layer->file : NULL;
	f->origin = layer && !f->file ? layer->detail : NULL;
	f->line = line;
	f->column = column;
	f->message = arena_strdup(&c->arena, str_c(&message));
	return f;
}

struct finding *finding_add(struct config *c, enum severity severity, const char *code,
			    const char *field, const struct node *at, const char *fmt, ...)
{
	struct finding *f;
	va_list ap;

	va_start(ap, fmt);
	f = add(c, severity, code, field, at ? at->layer : NULL, at ? at->line : 0,
		at ? at->column : 0, fmt, ap);
	va_end(ap);
	return f;
}

struct finding *finding_in(struct config *c, enum severity severity, const char *code,
			   const char *field, const struct layer *layer, int line, int column,
			   const char *fmt, ...)
{
	struct finding *f;
	va_list ap;

	va_start(ap, fmt);
	f = add(c, severity, code, field, layer, line, column, fmt, ap);
	va_end(ap);
	return f;
}

void finding_hint(struct config *c, struct finding *f, const char *fmt, ...)
{
	_cleanup_str_ struct str s = STR_INIT;
	va_list ap;

	if (!f)
		return;
	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	f->suggestion = arena_strdup(&c->arena, str_c(&s));
}

static int by_place(const void *va, const void *vb)
{
	const struct finding_link *a = *(const struct finding_link *const *)va;
	const struct finding_link *b = *(const struct finding_link *const *)vb;

	if (a->order != b->order)
		return a->order < b->order ? -1 : 1;
	if (a->f.line != b->f.line)
		return a->f.line < b->f.line ? -1 : 1;
	if (a->f.column != b->f.column)
		return a->f.column < b->f.column ? -1 : 1;
	return a->f.sequence < b->f.sequence ? -1 : 1; /* qsort is not stable */
}

void findings_finish(struct config *c)
{
	VEC(struct finding_link *) v = VEC_INIT;
	struct finding *f;

	if (c->n_left_out) {
		size_t left_out = c->n_left_out;

		f = link_finding(c, INT32_MAX);
		f->severity = SEVERITY_ERROR;
		f->code = "C00";
		f->field = "";
		f->message = arena_printf(&c->arena, "%zu more findings are not shown", left_out);
		f->suggestion = "mend the ones above first";
		c->findings.n_errors += c->findings.n_errors == 0;
	}
	for (struct finding_link *l = c->first; l; l = l->next) {
		l->f.sequence = (int)v.n;
		*vec_push(&v) = l;
	}
	if (v.n)
		qsort(v.at, v.n, sizeof(*v.at), by_place);
	c->findings.n = v.n;
	c->findings.at = arena_array(&c->arena, v.n, sizeof(*c->findings.at));
	for (size_t i = 0; i < v.n; i++)
		c->findings.at[i] = v.at[i]->f;
	vec_release(&v);
}

static void add_place(const struct finding *f, struct str *out)
{
	if (f->file)
		str_add(out, f->file);
	else if (f->origin)
		str_add(out, f->origin);
	if (f->file && f->line)
		str_addf(out, ":%d:%d", f->line, f->column);
	if (f->file || f->origin)
		str_add(out, ": ");
}

void config_findings_text(const struct finding_list *list, struct str *out)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct finding *f = &list->at[i];

		add_place(f, out);
		str_addf(out, "%s %s %s%s%s\n", severity_names[f->severity], f->code, f->field,
			 f->field[0] ? ": " : "", f->message);
		if (f->suggestion)
			str_addf(out, "  hint: %s\n", f->suggestion);
	}
}

void config_findings_json(const struct finding_list *list, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_array(&w, NULL);
	for (size_t i = 0; i < list->n; i++) {
		const struct finding *f = &list->at[i];

		jsonw_object(&w, NULL);
		jsonw_str(&w, "severity", severity_names[f->severity]);
		jsonw_str(&w, "code", f->code);
		jsonw_str(&w, "field", f->field);
		jsonw_str(&w, "file", f->file);
		if (f->file && f->line) {
			jsonw_i64(&w, "line", f->line);
			jsonw_i64(&w, "column", f->column);
		} else {
			jsonw_null(&w, "line");
			jsonw_null(&w, "column");
		}
		jsonw_str(&w, "message", f->message);
		jsonw_str(&w, "suggestion", f->suggestion);
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
}
