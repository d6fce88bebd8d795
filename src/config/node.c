#include "config/node.h"

#include "base/jsonw.h"
#include "base/num.h"

#include <strings.h>

struct node *node_new(struct arena *a, enum node_kind kind, const struct layer *layer)
{
	struct node *n = arena_new(a, struct node);

	n->kind = kind;
	n->layer = layer;
	return n;
}

void node_append(struct node *parent, struct node *child)
{
	if (parent->last)
		parent->last->next = child;
	else
		parent->first = child;
	parent->last = child;
	parent->n++;
}

const struct node *node_get(const struct node *map, const char *key)
{
	if (!map || map->kind != NODE_MAP)
		return NULL;
	node_foreach(map, child) if (strcmp(child->key, key) == 0) return child;
	return NULL;
}

const struct node *node_at(const struct node *root, const char *dotted)
{
	while (root) {
		size_t n = strcspn(dotted, ".");
		_cleanup_free_ char *key = lem_strndup(dotted, n);

		root = node_get(root, key);
		if (!dotted[n])
			return root;
		dotted += n + 1;
	}
	return NULL;
}

/* All but the children and the place among siblings. */
static struct node *copy_head(struct arena *a, const struct node *n)
{
	struct node *copy = arena_new(a, struct node);

	*copy = *n;
	copy->first = copy->last = copy->next = NULL;
	copy->n = 0;
	return copy;
}

struct node *node_copy(struct arena *a, const struct node *n, size_t *budget)
{
	struct node *copy;

	if (*budget == 0)
		return NULL;
	--*budget;
	copy = copy_head(a, n);
	node_foreach(n, child)
	{
		struct node *c = node_copy(a, child, budget);

		if (!c)
			return NULL;
		node_append(copy, c);
	}
	return copy;
}

/* Trees of files are bounded when they are read, so that copies of them are bounded too. */
static struct node *copy_all(struct arena *a, const struct node *n)
{
	size_t budget = SIZE_MAX;

	return node_copy(a, n, &budget);
}

struct node *node_merge(struct arena *a, const struct node *base, const struct node *over)
{
	struct node *m;

	if (!base || !over || base->kind != NODE_MAP || over->kind != NODE_MAP)
		return copy_all(a, over ? over : base);
	m = copy_head(a, over);
	node_foreach(base, child)
	{
		const struct node *o = node_get(over, child->key);

		node_append(m, o ? node_merge(a, child, o) : copy_all(a, child));
	}
	node_foreach(over, child) if (!node_get(base, child->key))
		node_append(m, copy_all(a, child));
	return m;
}

static bool is_one_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

/* [-+]? ( 0 | [1-9][0-9]* ): a leading zero means octal to some readers, so it is no integer here.
 */
static bool looks_int(const char *s)
{
	s += *s == '-' || *s == '+';
	if (*s == '0')
		return !s[1];
	return *s && !s[strspn(s, "0123456789")];
}

static bool looks_float(const char *s)
{
	size_t digits;

	s += *s == '-' || *s == '+';
	digits = strspn(s, "0123456789");
	if (digits > 1 && *s == '0')
		return false;
	s += digits;
	if (*s == '.') {
		size_t n = strspn(++s, "0123456789");

		digits += n;
		s += n;
	}
	if (!digits)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		return *s && !s[strspn(s, "0123456789")];
	}
	return !*s;
}

static bool looks_nonfinite(const char *s)
{
	static const char *const words[] = {".inf", ".Inf", ".INF",     "inf",
					    "Inf",  "INF",  "Infinity", NULL};
	static const char *const nan[] = {".nan", ".NaN", ".NAN", "nan", "NaN", "NAN", NULL};

	return is_one_of(s, nan) || is_one_of(s + (*s == '-' || *s == '+'), words);
}

bool scalar_is_null(const struct node *n)
{
	static const char *const words[] = {"", "~", "null", "Null", "NULL", NULL};

	return n->kind == NODE_SCALAR && n->plain && is_one_of(n->text, words);
}

enum scalar_kind scalar_kind(const struct node *n)
{
	static const char *const bools[] = {"true",  "True",  "TRUE", "false",
					    "False", "FALSE", NULL};
	int64_t i;
	double f;

	if (!n->plain)
		return SCALAR_TEXT;
	if (scalar_is_null(n))
		return SCALAR_NULL;
	if (is_one_of(n->text, bools))
		return SCALAR_BOOL;
	if (looks_int(n->text) && num_parse_i64(n->text, &i))
		return SCALAR_INT;
	if (looks_float(n->text))
		return num_parse_f64(n->text, &f) ? SCALAR_FLOAT : SCALAR_NONFINITE;
	return looks_nonfinite(n->text) ? SCALAR_NONFINITE : SCALAR_TEXT;
}

bool scalar_bool(const struct node *n, bool *ret)
{
	static const char *const yes[] = {"true", "yes", "on", NULL}, *const no[] = {"false", "no",
										     "off", NULL};

	if (n->kind != NODE_SCALAR || !n->plain)
		return false;
	for (size_t i = 0; yes[i]; i++) {
		if (strcasecmp(n->text, yes[i]) == 0 || strcasecmp(n->text, no[i]) == 0) {
			*ret = strcasecmp(n->text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

static void show_text(struct str *s, const struct node *n)
{
	enum { SHOWN = 60 };
	bool quoted = scalar_kind(n) == SCALAR_TEXT;
	size_t len = strlen(n->text), cut = MIN(len, (size_t)SHOWN);

	/* Not in the middle of a UTF-8 sequence. */
	while (cut < len && cut > 0 && ((unsigned char)n->text[cut] & 0xc0) == 0x80)
		cut--;
	if (quoted)
		str_addc(s, '"');
	for (size_t i = 0; i < cut; i++)
		str_addc(s,
			 (unsigned char)n->text[i] < 0x20 || n->text[i] == 0x7f ? ' ' : n->text[i]);
	if (cut < len)
		str_add(s, "…");
	if (quoted)
		str_addc(s, '"');
}

static void show_list(struct str *s, const struct node *n)
{
	enum { SHOWN = 8 };
	size_t i = 0;

	str_addc(s, '[');
	node_foreach(n, child)
	{
		if (i == SHOWN) {
			str_add(s, ", …");
			break;
		}
		str_add(s, i++ ? ", " : "");
		if (child->kind == NODE_SCALAR)
			show_text(s, child);
		else
			str_add(s, "…");
	}
	str_addc(s, ']');
}

const char *node_show(struct arena *a, const struct node *n)
{
	_cleanup_str_ struct str s = STR_INIT;

	if (n->kind == NODE_MAP)
		return "a map";
	if (n->kind == NODE_LIST)
		show_list(&s, n);
	else if (scalar_is_null(n))
		str_add(&s, "null");
	else
		show_text(&s, n);
	return arena_strdup(a, str_c(&s));
}

static void scalar_json(struct jsonw *w, const char *key, const struct node *n)
{
	int64_t i = 0;
	double f = 0;

	switch (scalar_kind(n)) {
	case SCALAR_NULL: jsonw_null(w, key); break;
	case SCALAR_BOOL: jsonw_bool(w, key, n->text[0] == 't' || n->text[0] == 'T'); break;
	case SCALAR_INT:
		num_parse_i64(n->text, &i);
		jsonw_i64(w, key, i);
		break;
	case SCALAR_FLOAT:
		num_parse_f64(n->text, &f);
		jsonw_f64(w, key, f);
		break;
	case SCALAR_NONFINITE:
	case SCALAR_TEXT: jsonw_str(w, key, n->text); break;
	}
}

static void write_json(struct jsonw *w, const char *key, const struct node *n)
{
	if (n->kind == NODE_SCALAR) {
		scalar_json(w, key, n);
		return;
	}
	if (n->kind == NODE_MAP)
		jsonw_object(w, key);
	else
		jsonw_array(w, key);
	node_foreach(n, child) write_json(w, child->key, child);
	if (n->kind == NODE_MAP)
		jsonw_end_object(w);
	else
		jsonw_end_array(w);
}

void node_json(const struct node *n, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	write_json(&w, NULL, n);
}
