/* How many tokens prompts or answers have: a number, or a map that says how they are spread. */
#include "config/impl.h"

/* Which keys belong to which distribution; the first ones are needed. */
static const struct {
	const char *needed[3], *also[3];
} keys_of[] = {
	[LENGTH_FIXED] = {{"tokens"}, {0}},
	[LENGTH_UNIFORM] = {{"min", "max"}, {0}},
	[LENGTH_LOGNORMAL] = {{"sigma"}, {"min", "max"}},
	[LENGTH_FILE] = {{"path"}, {0}},
};

struct lengths {
	struct config *c;
	const struct section *s;
	const struct node *map;
	struct length_config l;
	bool bad;
};

static const struct node *written(const struct lengths *b, const char *key)
{
	const struct node *n = node_get(b->map, key);

	return n && !scalar_is_null(n) ? n : NULL;
}

static struct finding *say(struct lengths *b, const char *code, const char *key, const char *what)
{
	const struct node *at = written(b, key);

	b->bad = true;
	return finding_add(b->c, SEVERITY_ERROR, code, option_path(&b->c->arena, b->s, key),
			   at ? at : b->map, "%s", what);
}

static void unknown_key(struct lengths *b, const struct node *child)
{
	const char *meant = option_did_you_mean(&b->c->arena, b->s, child->key);
	struct finding *f =
		finding_add(b->c, SEVERITY_ERROR, "C01",
			    option_path(&b->c->arena, b->s, child->key), child, "is not an option");

	b->bad = true;
	if (meant)
		finding_hint(b->c, f, "did you mean %s?", meant);
	else
		finding_hint(b->c, f,
			     "options: distribution, tokens, min, max, median, mean, sigma, path");
}

static bool is_in(const char *key, const char *const list[3])
{
	for (size_t i = 0; i < 3 && list[i]; i++)
		if (str_eq(list[i], key))
			return true;
	return false;
}

static bool belongs(enum length_distribution d, const char *key)
{
	return str_eq(key, "distribution") || is_in(key, keys_of[d].needed) ||
	       is_in(key, keys_of[d].also) ||
	       (d == LENGTH_LOGNORMAL && (str_eq(key, "median") || str_eq(key, "mean")));
}

/* What the keys that are there were probably meant for. */
static const char *likely(const struct lengths *b)
{
	if (written(b, "path"))
		return "file";
	if (written(b, "median") || written(b, "mean") || written(b, "sigma"))
		return "lognormal";
	return written(b, "min") || written(b, "max") ? "uniform" : "fixed";
}

static void take_keys(struct lengths *b)
{
	node_foreach(b->map, child)
	{
		const struct option *o = section_find(b->s, child->key);

		if (!o)
			unknown_key(b, child);
		else if (!scalar_is_null(child))
			b->bad |= !bind_value(b->c, b->s, o, child, (char *)&b->l + o->offset);
	}
}

static void check_keys(struct lengths *b)
{
	enum length_distribution d = b->l.distribution;
	const char *name = section_find(b->s, "distribution")->choices[d];

	for (size_t i = 0; i < 3 && keys_of[d].needed[i]; i++)
		if (!written(b, keys_of[d].needed[i]))
			finding_hint(b->c, say(b, "C05", keys_of[d].needed[i], "is missing"),
				     "distribution: %s needs it", name);
	node_foreach(b->map, child)
	{
		if (!scalar_is_null(child) && section_find(b->s, child->key) &&
		    !belongs(d, child->key))
			finding_hint(b->c, say(b, "C13", child->key, "is not used here"),
				     "distribution is %s; remove the key, or change that", name);
	}
	if (d == LENGTH_LOGNORMAL && !b->l.median.set == !b->l.mean.set)
		finding_hint(b->c,
			     say(b, b->l.mean.set ? "C14" : "C05", "median",
				 b->l.mean.set ? "and mean are both given" : "is missing"),
			     "write median or mean, one of the two");
	if (b->l.min.set && b->l.max.set && b->l.min.v > b->l.max.v)
		finding_hint(b->c, say(b, "C14", "min", "is more than max"), "swap the two");
}

/* Paths typed on the command line start where the user stands. */
static void resolve_path(struct lengths *b)
{
	const struct node *n = written(b, "path");
	_cleanup_free_ char *cwd = NULL;

	if (!n || n->layer->source != SOURCE_CLI || n->text[0] == '/')
		return;
	cwd = realpath(".", NULL);
	if (cwd)
		b->l.path = arena_printf(&b->c->arena, "%s/%s", cwd, n->text);
}

bool bind_lengths(struct config *c, const struct section *s, const struct option *o,
		  const struct node *n, struct length_config *ret)
{
	struct lengths b = {.c = c, .s = o->sub, .map = n, .l = {.set = true}};
	struct option number = *o;

	number.type = OPT_I64;
	if (n->kind == NODE_LIST) {
		b.bad = true;
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C02",
					 option_path(&c->arena, s, o->name), n,
					 "must be a number of tokens or a map, is %s",
					 node_show(&c->arena, n)),
			     "write %s: 128, or %s: {distribution: uniform, min: 32, max: 256}",
			     o->name, o->name);
	} else if (n->kind != NODE_MAP) {
		b.bad = !bind_value(c, s, &number, n, &b.l.tokens);
	} else if (!written(&b, "distribution") && !str_eq(likely(&b), "fixed")) {
		take_keys(&b);
		finding_hint(c, say(&b, "C05", "distribution", "is missing"),
			     "write distribution: %s", likely(&b));
	} else {
		take_keys(&b);
		if (!b.bad)
			check_keys(&b);
		if (!b.bad)
			resolve_path(&b);
	}
	if (!b.bad)
		*ret = b.l;
	return !b.bad;
}
