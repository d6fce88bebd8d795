#include "load/prompts.h"

#include <jansson.h>

#include "base/rand.h"
#include "sys/fs.h"

enum { FILE_MAX_BYTES = 1 << 30, PROMPTS_MAX = 10 * 1000 * 1000, PLAIN_IDS_FROM = 256 };

struct builder {
	struct prompt_set *set;
	size_t cap, limit;
};

void prompts_release(struct prompt_set *p)
{
	free(p->at);
	arena_release(&p->arena);
	*p = (struct prompt_set)PROMPT_SET_INIT;
}

static struct prompt *push(struct builder *b)
{
	struct prompt_set *s = b->set;

	if (s->n == b->cap) {
		b->cap = MAX(b->cap * 2, (size_t)64);
		s->at = lem_reallocarray(s->at, b->cap, sizeof(*s->at));
	}
	s->at[s->n] = (struct prompt){0};
	return &s->at[s->n++];
}

static bool full(const struct builder *b)
{
	return b->set->n >= b->limit;
}

static void push_text(struct builder *b, const char *text, size_t n)
{
	while (n && strchr(" \t\r\n", text[0])) {
		text++;
		n--;
	}
	while (n && strchr(" \t\r\n", text[n - 1]))
		n--;
	if (n && !full(b))
		push(b)->text = arena_strndup(&b->set->arena, text, n);
}

static void add_lines(struct builder *b, const struct str *file)
{
	const char *p = str_c(file), *end = p + file->len;

	while (p < end && !full(b)) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		push_text(b, p, n);
		p += n + 1;
	}
}

/* The text of one record: a string; the first human turn of a conversation; content or text of a
 * map (the rules existing files rely on). NULL when there is none. */
static const char *text_of(const json_t *v)
{
	static const char *const roles[] = {"role", "from"}, *const parts[] = {"content", "value",
									       "text"};

	if (json_is_string(v))
		return json_string_value(v);
	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *turn = json_array_get(v, i);

		for (size_t r = 0; r < ARRAY_LEN(roles); r++) {
			const char *role = json_string_value(json_object_get(turn, roles[r]));

			if (role && (str_eq(role, "user") || str_eq(role, "human")))
				return text_of(turn);
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(parts) && json_is_object(v); i++) {
		const char *s = json_string_value(json_object_get(v, parts[i]));

		if (s)
			return s;
	}
	return NULL;
}

static const char *record_text(const json_t *record, const char *column)
{
	static const char *const columns[] = {"text",  "prompt",  "question",      "instruction",
					      "input", "content", "conversations", "messages"};

	if (!json_is_object(record))
		return text_of(record);
	if (column)
		return text_of(json_object_get(record, column));
	for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
		const char *s = text_of(json_object_get(record, columns[i]));

		if (s)
			return s;
	}
	return NULL;
}

static int add_record(struct builder *b, const json_t *record, const char *column, const char *path,
		      size_t line, struct lem_error *err)
{
	const char *s = record_text(record, column);

	if (s) {
		push_text(b, s, strlen(s));
		return 0;
	}
	lem_fail(err, LEM_E_REFUSED, "record %zu has no prompt text%s%s", line,
		 column ? " in column " : "", column ? column : "");
	lem_error_where(err, "%s", path);
	return lem_error_fix(
		err, "name the column that holds the prompt: prompts.column or dataset.column");
}

static int fail_json(const char *path, size_t line, const json_error_t *je, struct lem_error *err)
{
	lem_fail(err, LEM_E_REFUSED, "the prompt file is not valid JSON: %s", je->text);
	return lem_error_where(err, "%s:%zu", path, line ? line : (size_t)MAX(je->line, 0));
}

static int add_jsonl(struct builder *b, const struct str *file, const char *column,
		     const char *path, struct lem_error *err)
{
	const char *p = str_c(file), *end = p + file->len;
	int r = 0;

	for (size_t line = 1; p < end && !full(b) && r >= 0; line++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
		json_error_t je;

		if (strspn(p, " \t\r") < n) {
			json_t *j = json_loadb(p, n, JSON_DECODE_ANY, &je);

			r = j ? add_record(b, j, column, path, line, err)
			      : fail_json(path, line, &je, err);
			json_decref(j);
		}
		p += n + 1;
	}
	return r;
}

static int add_json(struct builder *b, const struct str *file, const char *column, const char *path,
		    struct lem_error *err)
{
	json_error_t je;
	json_t *j = json_loadb(str_c(file), file->len, 0, &je);
	int r = 0;

	if (!j)
		return fail_json(path, 0, &je, err);
	if (!json_is_array(j))
		r = lem_fail(err, LEM_E_REFUSED,
			     "the prompt file %s must hold a JSON list of records", path);
	for (size_t i = 0; i < json_array_size(j) && !full(b) && r >= 0; i++)
		r = add_record(b, json_array_get(j, i), column, path, i + 1, err);
	json_decref(j);
	return r;
}

static int load_file(const struct experiment *e, const char *name, const char *column,
		     struct builder *b, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(e->root_dir, name);
	_cleanup_str_ struct str file = STR_INIT;
	int r = fs_read_file(path, FILE_MAX_BYTES, &file, err);

	if (r < 0) {
		err->code = LEM_E_REFUSED;
		return lem_error_context(err, "prompts");
	}
	if (memchr(str_c(&file), '\0', file.len))
		return lem_fail(err, LEM_E_REFUSED, "the prompt file %s is binary", path);
	if (str_ends(name, ".jsonl"))
		r = add_jsonl(b, &file, column, path, err);
	else if (str_ends(name, ".json"))
		r = add_json(b, &file, column, path, err);
	else
		add_lines(b, &file);
	if (r < 0)
		return r;
	if (b->set->n == 0)
		return lem_fail(err, LEM_E_REFUSED, "the prompt file %s holds no prompt", path);
	snprintf(b->set->source, sizeof(b->set->source), "file %.180s", name);
	return 0;
}

static void plan_synthetic(const struct experiment *e, struct builder *b)
{
	size_t n = (size_t)e->prompts.count;

	b->set->synthetic = true;
	for (size_t i = 0; i < n && !full(b); i++)
		push(b)->n_tokens = (size_t)MIN(e->prompts.input_tokens, e->max_input_tokens);
	snprintf(b->set->source, sizeof(b->set->source), "synthetic, %" PRId64 " tokens each",
		 e->prompts.input_tokens);
}

static size_t limit_of(const struct experiment *e)
{
	int64_t limit = PROMPTS_MAX;

	if (e->num_input_prompts.set)
		limit = MIN(limit, e->num_input_prompts.v);
	if (e->dataset.present && e->dataset.sample_size.set)
		limit = MIN(limit, e->dataset.sample_size.v);
	if (e->prompts.present && e->prompts.sample_size.set)
		limit = MIN(limit, e->prompts.sample_size.v);
	return (size_t)limit;
}

static void shuffle(struct prompt_set *s, uint64_t seed)
{
	struct rand r;

	rand_seed(&r, seed);
	for (size_t i = s->n; i > 1; i--) {
		size_t k = (size_t)rand_below(&r, i);
		struct prompt t = s->at[i - 1];

		s->at[i - 1] = s->at[k];
		s->at[k] = t;
	}
}

static bool is_local_file(const char *name)
{
	return str_ends(name, ".txt") || str_ends(name, ".jsonl") || str_ends(name, ".json");
}

static int load_source(const struct experiment *e, struct builder *b, struct lem_error *err)
{
	const char *hub = e->dataset.present ? e->dataset.name : e->prompts.dataset;

	if (e->dataset.present && is_local_file(e->dataset.name))
		return load_file(e, e->dataset.name, e->dataset.column, b, err);
	if (e->prompts.present && e->prompts.type == PROMPTS_FILE)
		return load_file(e, e->prompts.path, e->prompts.column, b, err);
	if (e->prompts.present && e->prompts.type == PROMPTS_SYNTHETIC) {
		plan_synthetic(e, b);
		return 0;
	}
	if (!hub) {
		lem_fail(err, LEM_E_REFUSED, "the experiment names no prompts");
		return lem_error_fix(err,
				     "add prompts: {type: file, path: prompts.txt}, or "
				     "prompts: {type: synthetic, count: 32, input_tokens: 128}");
	}
	lem_fail(err, LEM_E_REFUSED,
		 "the data set '%s' is on a hub; this version reads prompts from files", hub);
	return lem_error_fix(
		err, "save it as .jsonl or .txt and write prompts: {type: file, path: FILE}");
}

int prompts_load(const struct experiment *e, struct prompt_set *ret, struct lem_error *err)
{
	struct prompt_set set = PROMPT_SET_INIT;
	bool reorder = e->prompts.present && e->prompts.shuffle;
	struct builder b = {.set = &set, .limit = reorder ? PROMPTS_MAX : limit_of(e)};
	int r = load_source(e, &b, err);

	if (r < 0) {
		prompts_release(&set);
		return r;
	}
	if (reorder) {
		shuffle(&set, (uint64_t)e->prompts.seed);
		set.n = MIN(set.n, limit_of(e));
	}
	*ret = set;
	return 0;
}

void prompts_draw(struct prompt_set *p, const struct experiment *e, int64_t n_vocab)
{
	int64_t from = n_vocab > 4 * PLAIN_IDS_FROM ? PLAIN_IDS_FROM : 0;
	struct rand r;

	rand_seed(&r, (uint64_t)(e->random_seed.set ? e->random_seed.v : e->prompts.seed));
	for (size_t i = 0; i < p->n && p->synthetic; i++) {
		int32_t *ids = arena_array(&p->arena, p->at[i].n_tokens, sizeof(*ids));

		for (size_t k = 0; k < p->at[i].n_tokens; k++)
			ids[k] = (int32_t)(from +
					   (int64_t)rand_below(&r, (uint64_t)(n_vocab - from)));
		p->at[i].tokens = ids;
	}
}

const char *prompts_form(const struct prompt_set *p)
{
	size_t texts = 0;

	for (size_t i = 0; i < p->n; i++)
		texts += p->at[i].text != NULL;
	return !texts ? "token_ids" : texts == p->n ? "texts" : "mixed";
}

void prompts_hash(const struct prompt_set *p, char hex[DIGEST_HEX_SIZE])
{
	struct digest *d = digest_new();

	for (size_t i = 0; i < p->n; i++) {
		const struct prompt *q = &p->at[i];

		if (q->text)
			digest_update(d, q->text, strlen(q->text) + 1);
		else if (q->tokens)
			digest_update(d, q->tokens, q->n_tokens * sizeof(*q->tokens));
	}
	digest_final(d, hex);
	digest_free(d);
}
