/*
 * Bytes of a YAML or JSON file to a tree of nodes, by libfyaml's event stream. Anchors are expanded
 * here, against a budget, so that a small file cannot become a huge tree; so are merge keys (<<).
 */
#include "config/impl.h"

#include <libfyaml.h>

struct anchor {
	const char *name;
	struct node *node;
};

struct frame {
	struct node *node;
	const char *anchor;
	const char *key; /* of the value that comes next; NULL: a key comes next */
	int key_line, key_column;
	struct node *merges; /* list of maps named by << */
};

struct parser {
	struct config *c;
	const struct layer *layer;
	struct fy_parser *fyp;
	struct fy_diag *diag;
	bool json;
	struct frame stack[CONFIG_MAX_DEPTH];
	int depth;
	VEC(struct anchor) anchors;
	size_t budget;
	struct node *root;
	int documents;
	bool failed;
};

static void bad(struct parser *p, int line, int column, const char *message, const char *hint)
{
	struct finding *f;

	/* A file beyond repair gives one clear finding, not a cascade. */
	if (!p->failed) {
		f = finding_in(p->c, SEVERITY_ERROR, "C06", "", p->layer, line, column, "%s",
			       message);
		if (hint)
			finding_hint(p->c, f, "%s", hint);
	}
	p->failed = true;
}

static void event_place(struct fy_event *e, int *line, int *column)
{
	const struct fy_mark *m = fy_event_start_mark(e);

	*line = m ? m->line + 1 : 0;
	*column = m ? m->column + 1 : 0;
}

static void bad_event(struct parser *p, struct fy_event *e, const char *message, const char *hint)
{
	int line, column;

	event_place(e, &line, &column);
	bad(p, line, column, message, hint);
}

static const char *token_text(struct parser *p, struct fy_token *t)
{
	size_t n = 0;
	const char *s = t ? fy_token_get_text(t, &n) : NULL;

	return s ? arena_strndup(&p->c->arena, s, n) : NULL;
}

/* A node that may be a value of a list, of a map, or the document. */
static void put(struct parser *p, struct node *n)
{
	struct frame *top = p->depth ? &p->stack[p->depth - 1] : NULL;

	if (!top) {
		p->root = n;
		return;
	}
	if (top->node->kind == NODE_LIST) {
		node_append(top->node, n);
		return;
	}
	if (strcmp(top->key, "<<") == 0) {
		if (!top->merges)
			top->merges = node_new(&p->c->arena, NODE_LIST, p->layer);
		node_append(top->merges, n);
	} else {
		n->key = top->key;
		n->line = top->key_line;
		n->column = top->key_column;
		node_append(top->node, n);
	}
	top->key = NULL;
}

static bool key_expected(const struct parser *p)
{
	return p->depth && p->stack[p->depth - 1].node->kind == NODE_MAP &&
	       !p->stack[p->depth - 1].key;
}

static bool spend(struct parser *p, struct fy_event *e)
{
	if (p->budget == 0) {
		bad_event(p, e, "has more than 50000 values, anchors expanded",
			  "a configuration has a few dozen; repeated aliases multiply");
		return false;
	}
	p->budget--;
	return true;
}

static struct node *new_node(struct parser *p, struct fy_event *e, enum node_kind kind)
{
	struct node *n = node_new(&p->c->arena, kind, p->layer);

	event_place(e, &n->line, &n->column);
	return n;
}

static void remember(struct parser *p, const char *anchor, struct node *n)
{
	struct anchor *a;

	if (!anchor)
		return;
	a = vec_push(&p->anchors);
	a->name = anchor;
	a->node = n;
}

static bool tag_is_text(struct fy_token *tag)
{
	size_t n = 0;
	const char *s = fy_token_get_text(tag, &n);

	return s && ((n == 5 && memcmp(s, "!!str", 5) == 0) ||
		     (n == 21 && memcmp(s, "tag:yaml.org,2002:str", 21) == 0));
}

static bool tag_refused(struct parser *p, struct fy_event *e, struct fy_token *tag)
{
	if (!tag)
		return false;
	bad_event(p, e, "a YAML tag (!…) has no meaning in a configuration", "remove the tag");
	return true;
}

static void on_scalar(struct parser *p, struct fy_event *e)
{
	struct fy_token *t = e->scalar.value;
	struct node *n;
	size_t len = 0;
	const char *s = t ? fy_token_get_text(t, &len) : "";

	if (e->scalar.tag && !tag_is_text(e->scalar.tag) && tag_refused(p, e, e->scalar.tag))
		return;
	if (s && memchr(s, '\0', len)) {
		bad_event(p, e, "a text contains a NUL character", "remove the \\0");
		return;
	}
	if (!spend(p, e))
		return;
	n = new_node(p, e, NODE_SCALAR);
	n->text = arena_strndup(&p->c->arena, s ? s : "", s ? len : 0);
	n->plain = !e->scalar.tag && (!t || fy_scalar_token_get_style(t) == FYSS_PLAIN);
	if (key_expected(p)) {
		struct frame *top = &p->stack[p->depth - 1];

		top->key = n->text;
		top->key_line = n->line;
		top->key_column = n->column;
		return;
	}
	remember(p, token_text(p, e->scalar.anchor), n);
	put(p, n);
}

static void on_start(struct parser *p, struct fy_event *e, enum node_kind kind,
		     struct fy_token *anchor, struct fy_token *tag)
{
	if (tag_refused(p, e, tag))
		return;
	if (key_expected(p)) {
		bad_event(p, e, "a key must be a word, not a list or a map", NULL);
		return;
	}
	if (p->depth == CONFIG_MAX_DEPTH) {
		bad_event(p, e, "is nested more than 64 levels deep",
			  "no option lies deeper than three");
		return;
	}
	if (!spend(p, e))
		return;
	p->stack[p->depth++] = (struct frame){
		.node = new_node(p, e, kind),
		.anchor = token_text(p, anchor),
	};
}

static int by_key(const void *va, const void *vb)
{
	const struct node *a = *(const struct node *const *)va,
			  *b = *(const struct node *const *)vb;
	int d = strcmp(a->key, b->key);

	if (d)
		return d;
	if (a->line != b->line)
		return a->line < b->line ? -1 : 1;
	return a->column < b->column ? -1 : 1;
}

/* Dotted path of a key in the map that was just completed. */
static char *path_of(struct parser *p, const char *key)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (int i = 0; i < p->depth; i++)
		if (p->stack[i].key)
			str_addf(&s, "%s.", p->stack[i].key);
	str_add(&s, key);
	return arena_strdup(&p->c->arena, str_c(&s));
}

static void refuse_duplicates(struct parser *p, const struct node *map)
{
	VEC(const struct node *) keys = VEC_INIT;
	struct finding *f;

	node_foreach(map, child) * vec_push(&keys) = child;
	if (keys.n > 1)
		qsort(keys.at, keys.n, sizeof(*keys.at), by_key);
	for (size_t i = 1; i < keys.n; i++) {
		const struct node *k = keys.at[i];

		if (strcmp(keys.at[i - 1]->key, k->key) != 0)
			continue;
		f = finding_add(p->c, SEVERITY_ERROR, "C09", path_of(p, k->key), k,
				"is written twice, first in line %d", keys.at[i - 1]->line);
		finding_hint(p->c, f, "keep one of them");
	}
	vec_release(&keys);
}

/* Keys of merged maps that the map does not have itself; earlier merges win (YAML 1.1, <<). */
static void apply_merge(struct parser *p, struct node *map, const struct node *from)
{
	if (from->kind == NODE_LIST) {
		node_foreach(from, child) apply_merge(p, map, child);
		return;
	}
	if (from->kind != NODE_MAP) {
		bad(p, map->line, map->column, "<< must name a map, or a list of maps", NULL);
		return;
	}
	node_foreach(from, child)
	{
		struct node *copy;

		if (node_get(map, child->key))
			continue;
		copy = node_copy(&p->c->arena, child, &p->budget);
		if (!copy) {
			bad(p, map->line, map->column,
			    "has more than 50000 values, anchors expanded",
			    "a configuration has a few dozen; repeated aliases multiply");
			return;
		}
		node_append(map, copy);
	}
}

static void on_end(struct parser *p)
{
	struct frame f = p->stack[--p->depth];

	if (f.node->kind == NODE_MAP)
		refuse_duplicates(p, f.node);
	if (f.merges)
		apply_merge(p, f.node, f.merges);
	remember(p, f.anchor, f.node);
	put(p, f.node);
}

static void on_alias(struct parser *p, struct fy_event *e)
{
	const char *name = token_text(p, e->alias.anchor);
	const struct node *target = NULL;
	struct node *copy;

	if (key_expected(p)) {
		bad_event(p, e, "an alias (*) cannot be a key", NULL);
		return;
	}
	for (size_t i = p->anchors.n; i > 0 && !target; i--)
		if (str_eq(p->anchors.at[i - 1].name, name))
			target = p->anchors.at[i - 1].node;
	if (!target) {
		bad_event(p, e, "an alias (*) names an anchor (&) that is not complete before it",
			  NULL);
		return;
	}
	copy = node_copy(&p->c->arena, target, &p->budget);
	if (!copy) {
		spend(p, e);
		return;
	}
	copy->key = NULL;
	event_place(e, &copy->line, &copy->column);
	put(p, copy);
}

static void on_event(struct parser *p, struct fy_event *e)
{
	switch (e->type) {
	case FYET_DOCUMENT_START:
		if (p->documents++)
			bad_event(p, e, "holds more than one document (---)",
				  "put each experiment into its own file");
		break;
	case FYET_SCALAR: on_scalar(p, e); break;
	case FYET_ALIAS: on_alias(p, e); break;
	case FYET_MAPPING_START:
		on_start(p, e, NODE_MAP, e->mapping_start.anchor, e->mapping_start.tag);
		break;
	case FYET_SEQUENCE_START:
		on_start(p, e, NODE_LIST, e->sequence_start.anchor, e->sequence_start.tag);
		break;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END: on_end(p); break;
	default: break;
	}
}

/* What most often lies behind the parser's words. */
static const char *syntax_hint(const char *message)
{
	static const char *const hints[][2] = {
		{"tab", "indent with spaces"},
		{"indent", "keys of one map start in the same column"},
		{"plain scalar cannot start", "put the value in quotes"},
		{"nested block mapping", "a value with a colon needs quotes"},
		{"value after mapping", "write key: value, with a space after the colon"},
		{"multiline plain key", "write key: value, with a space after the colon"},
		{"expected ':'", "write key: value, with a space after the colon"},
		{"closing bracket", "close the [ of a list with ]"},
		{"missing comma in flow",
		 "close the { of a map with }, and put commas between its entries"},
		{"closing quote", "close the quote"},
		{"invalid escape", "use single quotes, or write two backslashes"},
		{"Multi line plain", "JSON needs quotes around texts and has no comments"},
		{"single quoted", "use double quotes"},
	};

	for (size_t i = 0; i < ARRAY_LEN(hints); i++)
		if (strstr(message, hints[i][0]))
			return hints[i][1];
	return NULL;
}

static void report_diag(struct parser *p)
{
	struct fy_diag_error *err;
	void *iter = NULL;

	while ((err = fy_diag_errors_iterate(p->diag, &iter))) {
		_cleanup_free_ char *message =
			lem_asprintf("is not valid %s: %s", p->json ? "JSON" : "YAML", err->msg);

		bad(p, err->line, err->column, message, syntax_hint(err->msg));
	}
	bad(p, 1, 1, p->json ? "is not valid JSON" : "is not valid YAML", NULL);
}

static bool parser_open(struct parser *p, const char *bytes, size_t n)
{
	struct fy_diag_cfg dcfg;
	struct fy_parse_cfg cfg = {
		.search_path = "",
		.flags = FYPCF_QUIET | FYPCF_DEFAULT_VERSION_1_2 |
			 (p->json ? FYPCF_JSON_FORCE : FYPCF_JSON_NONE),
	};

	fy_diag_cfg_default(&dcfg);
	dcfg.fp = NULL;
	dcfg.colorize = false;
	p->diag = fy_diag_create(&dcfg);
	if (!p->diag)
		return false;
	fy_diag_set_collect_errors(p->diag, true);
	cfg.diag = p->diag;
	p->fyp = fy_parser_create(&cfg);
	return p->fyp && fy_parser_set_string(p->fyp, bytes, n) == 0;
}

static void parser_close(struct parser *p)
{
	if (p->fyp)
		fy_parser_destroy(p->fyp);
	if (p->diag)
		fy_diag_destroy(p->diag);
	vec_release(&p->anchors);
}

struct node *config_parse(struct config *c, const struct layer *layer, const char *bytes, size_t n,
			  bool json)
{
	struct parser p = {.c = c, .layer = layer, .json = json, .budget = CONFIG_MAX_NODES};
	struct fy_event *e;

	if (!parser_open(&p, bytes, n))
		bad(&p, 0, 0, "cannot be parsed: the YAML library has no memory", NULL);
	while (!p.failed && (e = fy_parser_parse(p.fyp))) {
		on_event(&p, e);
		fy_parser_event_free(p.fyp, e);
	}
	if (!p.failed && (fy_parser_get_stream_error(p.fyp) || p.depth))
		report_diag(&p);
	parser_close(&p);
	if (p.failed)
		return NULL;
	if (!p.root) {
		p.root = node_new(&c->arena, NODE_SCALAR, layer);
		p.root->text = "";
		p.root->plain = true;
	}
	return p.root;
}
