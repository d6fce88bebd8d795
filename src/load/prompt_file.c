#include "load/prompt_file.h"

#include <jansson.h>
#include <math.h>

#include "base/str.h"

struct reader {
	const struct prompt_file *q;
	struct prompt_set *set;
	size_t at;         /* line or record, 1-based */
	bool conversation; /* the first record is one */
};

struct prompt *prompt_set_push(struct prompt_set *s)
{
	if (s->n == s->cap) {
		s->cap = MAX(s->cap * 2, (size_t)64);
		s->at = lem_reallocarray(s->at, s->cap, sizeof(*s->at));
	}
	s->at[s->n] = (struct prompt){0};
	return &s->at[s->n++];
}

static bool full(const struct reader *r)
{
	return r->set->n >= MIN(r->q->limit, (size_t)PROMPTS_MAX);
}

/* NULL: it is blank, and skipped. */
static struct prompt *push_text(struct reader *r, const char *text, size_t n)
{
	struct prompt *p;

	while (n && strchr(" \t\r\n", text[0])) {
		text++;
		n--;
	}
	while (n && strchr(" \t\r\n", text[n - 1]))
		n--;
	if (!n) {
		r->set->n_skipped++;
		return NULL;
	}
	p = prompt_set_push(r->set);
	p->text = arena_strndup(&r->set->arena, text, n);
	return p;
}

static void add_lines(struct reader *r, const char *p, const char *end)
{
	while (p < end && !full(r)) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);

		for (size_t i = 0; i < n; i++)
			if (!strchr(" \t\r", p[i])) {
				r->set->n_records++;
				(void)push_text(r, p, n);
				break;
			}
		p += n + (nl != NULL);
	}
}

/* ---- records ---- */

static int bad_record(const struct reader *r, struct lem_error *err)
{
	if (r->q->form == PROMPT_JSONL)
		return lem_error_where(err, "%.200s:%zu", r->q->name, r->at);
	return lem_error_where(err, "%.200s, record %zu", r->q->name, r->at);
}

static bool has_role(const json_t *turn, const char *const *names)
{
	static const char *const roles[] = {"role", "from"};

	for (size_t i = 0; i < ARRAY_LEN(roles); i++) {
		const char *role = json_string_value(json_object_get(turn, roles[i]));

		for (size_t k = 0; role && names[k]; k++)
			if (str_eq(role, names[k]))
				return true;
	}
	return false;
}

static const char *first_of(const json_t *map, const char *const *keys)
{
	const char *s = NULL;

	for (size_t i = 0; keys[i] && !s; i++)
		s = json_string_value(json_object_get(map, keys[i]));
	return s;
}

static const char *turn_text(const json_t *turn)
{
	static const char *const parts[] = {"content", "value", "text", NULL};

	return first_of(turn, parts);
}

/* What is asked, and what was answered; NULL where there is none. */
struct exchange {
	bool is_list; /* a conversation, or a list that should be one */
	const char *text, *reply;
};

static void read_turns(const json_t *list, struct exchange *x)
{
	static const char *const asks[] = {"user", "human", NULL}, *const answers[] = {
									   "assistant", "gpt",
									   "chatgpt",   "model",
									   "bot",       "bing",
									   "bard",      NULL};

	x->is_list = true;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *turn = json_array_get(list, i);

		if (x->text) {
			if (has_role(turn, answers))
				x->reply = turn_text(turn);
			return;
		}
		if (has_role(turn, asks))
			x->text = turn_text(turn);
	}
}

/* A string; a conversation; content or text of a map (the rules existing files rely on). */
static void read_value(const json_t *v, struct exchange *x)
{
	if (json_is_string(v))
		x->text = json_string_value(v);
	else if (json_is_array(v))
		read_turns(v, x);
	else
		x->text = turn_text(v);
}

static void read_record(const json_t *record, const char *column, struct exchange *x)
{
	static const char *const columns[] = {"text",  "prompt",  "question",      "instruction",
					      "input", "content", "conversations", "messages"};
	static const char *const replies[] = {"output", "response", "completion", "answer", NULL};

	if (!json_is_object(record)) {
		read_value(record, x);
		return;
	}
	if (column)
		read_value(json_object_get(record, column), x);
	for (size_t i = 0; i < ARRAY_LEN(columns) && !column && !x->text; i++)
		read_value(json_object_get(record, columns[i]), x);
	if (!x->reply)
		x->reply = first_of(record, replies);
}

/* 1: it was there; 0: it was not. */
static int read_length(const struct reader *r, const json_t *record, int32_t *ret,
		       struct lem_error *err)
{
	static const char *const keys[] = {"output_tokens", "output_length"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const json_t *j = json_object_get(record, keys[i]);
		json_int_t v = json_integer_value(j);

		if (!j || json_is_null(j))
			continue;
		if (!json_is_integer(j) || v < 1 || v > PROMPT_TOKENS_MAX) {
			(void)lem_fail(err, LEM_E_REFUSED, "%s must be a whole number from 1 to %d",
				       keys[i], PROMPT_TOKENS_MAX);
			return bad_record(r, err);
		}
		*ret = (int32_t)v;
		return 1;
	}
	return 0;
}

static int push_ids(struct reader *r, const json_t *list, struct lem_error *err)
{
	size_t n = json_array_size(list);
	struct prompt *p;
	int32_t *ids;

	if (!n || n > PROMPT_TOKENS_MAX) {
		(void)lem_fail(err, LEM_E_REFUSED,
			       "prompt_token_ids must be a list of 1 to %d token ids",
			       PROMPT_TOKENS_MAX);
		return bad_record(r, err);
	}
	ids = arena_array(&r->set->arena, n, sizeof(*ids));
	for (size_t i = 0; i < n; i++) {
		const json_t *j = json_array_get(list, i);
		json_int_t v = json_integer_value(j);

		if (!json_is_integer(j) || v < 0 || v >= INT32_MAX) {
			(void)lem_fail(err, LEM_E_REFUSED,
				       "element %zu of prompt_token_ids is no token id", i + 1);
			return bad_record(r, err);
		}
		ids[i] = (int32_t)v;
		r->set->max_id = MAX(r->set->max_id, ids[i]);
	}
	p = prompt_set_push(r->set);
	p->tokens = ids;
	p->n_tokens = n;
	return 0;
}

static int32_t estimate(const char *reply, double chars_per_token)
{
	double chars = 0;

	for (; *reply; reply++)
		chars += ((unsigned char)*reply & 0xc0) != 0x80; /* not the rest of a character */
	return (int32_t)fmin(fmax(round(chars / chars_per_token), 1), PROMPT_TOKENS_MAX);
}

static int fail_no_text(const struct reader *r, struct lem_error *err)
{
	const char *column = r->q->column;

	(void)lem_fail(err, LEM_E_REFUSED, "record %zu has no prompt text%s%s", r->at,
		       column ? " in column " : "", column ? column : "");
	(void)lem_error_where(err, "%.200s", r->q->name);
	return lem_error_fix(
		err, "name the column that holds the prompt: prompts.column or dataset.column");
}

static int add_text(struct reader *r, const json_t *record, int32_t length, struct lem_error *err)
{
	struct exchange x = {0};
	bool estimated = r->q->chars_per_token > 0 && !length;
	struct prompt *p;

	read_record(record, r->q->column, &x);
	r->conversation |= r->set->n_records == 1 && x.is_list;
	if (!x.text && !x.is_list)
		return fail_no_text(r, err);
	if (!x.text || (estimated && (!x.reply || !*x.reply))) {
		r->set->n_skipped++;
		return 0;
	}
	p = push_text(r, x.text, strlen(x.text));
	if (p)
		p->output_tokens = estimated ? estimate(x.reply, r->q->chars_per_token) : length;
	return 0;
}

static int add_record(struct reader *r, const json_t *record, struct lem_error *err)
{
	const json_t *ids = json_object_get(record, "prompt_token_ids");
	int32_t length = 0;
	int rc = read_length(r, record, &length, err);

	r->set->n_records++;
	if (rc < 0)
		return rc;
	if (!ids || json_is_null(ids))
		return add_text(r, record, length, err);
	rc = push_ids(r, ids, err);
	if (rc >= 0)
		r->set->at[r->set->n - 1].output_tokens = length;
	return rc;
}

static int fail_json(const struct reader *r, size_t line, const json_error_t *je,
		     struct lem_error *err)
{
	lem_fail(err, LEM_E_REFUSED, "the prompt file is not valid JSON: %s", je->text);
	return lem_error_where(err, "%.200s:%zu", r->q->name,
			       line ? line : (size_t)MAX(je->line, 0));
}

static int add_jsonl(struct reader *r, const char *p, const char *end, struct lem_error *err)
{
	int rc = 0;

	for (r->at = 1; p < end && !full(r) && rc >= 0; r->at++) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p), blank = 0;
		json_error_t je;

		while (blank < n && strchr(" \t\r", p[blank]))
			blank++;
		if (blank < n) {
			json_t *j = json_loadb(p, n, JSON_DECODE_ANY, &je);

			rc = j ? add_record(r, j, err) : fail_json(r, r->at, &je, err);
			json_decref(j);
		}
		p += n + (nl != NULL);
	}
	return rc;
}

static int add_json(struct reader *r, const char *bytes, size_t n, struct lem_error *err)
{
	json_error_t je;
	json_t *j = json_loadb(bytes, n, 0, &je);
	int rc = 0;

	if (!j)
		return fail_json(r, 0, &je, err);
	if (!json_is_array(j))
		rc = lem_fail(err, LEM_E_REFUSED,
			      "the prompt file %.200s must hold a JSON list of records",
			      r->q->name);
	for (r->at = 1; r->at <= json_array_size(j) && !full(r) && rc >= 0; r->at++)
		rc = add_record(r, json_array_get(j, r->at - 1), err);
	json_decref(j);
	return rc;
}

int prompt_file_parse(const char *bytes, size_t n, const struct prompt_file *q,
		      struct prompt_set *set, const char **ret_form, struct lem_error *err)
{
	static const char *const forms[] = {"text", "jsonl", "json"};
	struct reader r = {.q = q, .set = set};
	int rc = 0;

	if (n && memchr(bytes, '\0', n))
		return lem_fail(err, LEM_E_REFUSED, "the prompt file %.200s is binary", q->name);
	if (n >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0) {
		bytes += 3;
		n -= 3;
	}
	if (q->form == PROMPT_JSONL)
		rc = add_jsonl(&r, bytes, bytes + n, err);
	else if (q->form == PROMPT_JSON)
		rc = add_json(&r, bytes, n, err);
	else
		add_lines(&r, bytes, bytes + n);
	if (rc < 0)
		return rc;
	if (set->n == 0)
		return lem_fail(err, LEM_E_REFUSED, "the prompt file %.200s holds no prompt",
				q->name);
	*ret_form = r.conversation ? "sharegpt" : forms[q->form];
	return 0;
}
