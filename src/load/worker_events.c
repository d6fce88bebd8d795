#include "load/worker_events.h"

#include <jansson.h>

static void json_cleanup(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(json_cleanup)

enum { MAX_RESULTS = 1 << 24, MAX_DEVICES = 1024, MAX_COUNTS = 64 };

static int parse_object(const char *line, json_t **ret, struct lem_error *err)
{
	json_error_t je;
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, &je);

	if (j && json_is_object(j)) {
		*ret = j;
		return 0;
	}
	json_decref(j);
	lem_fail(err, LEM_E_PARSE, "the worker sent a line that is not a JSON object");
	return lem_error_why(err, "%s; it begins: %.80s", j ? "another JSON value" : je.text, line);
}

int worker_event_kind(const char *line, enum worker_event *ret, struct lem_error *err)
{
	static const struct {
		const char *name;
		enum worker_event kind;
	} kinds[] = {{"loaded", WORKER_LOADED},
		     {"done", WORKER_DONE},
		     {"error", WORKER_ERROR},
		     {"stopped", WORKER_STOPPED}};
	_cleanup_json_ json_t *j = NULL;
	const char *name;
	int r = parse_object(line, &j, err);

	if (r < 0)
		return r;
	name = json_string_value(json_object_get(j, "event"));
	if (!name)
		return lem_fail(err, LEM_E_PARSE,
				"the worker sent an object without an event name: %.80s", line);
	*ret = WORKER_OTHER;
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (str_eq(name, kinds[i].name))
			*ret = kinds[i].kind;
	return 0;
}

/* An integer field in [0, INT64_MAX]; absent or of another type fails. */
static int get_count(const json_t *j, const char *key, int64_t *ret, struct lem_error *err)
{
	const json_t *v = json_object_get(j, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return lem_fail(err, LEM_E_PARSE, "the worker's event lacks a valid '%s'", key);
	*ret = json_integer_value(v);
	return 0;
}

static int64_t count_or_zero(const json_t *j, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(j, key));

	return v > 0 ? v : 0;
}

static void copy_text(const json_t *j, const char *key, char *buf, size_t size)
{
	const char *s = json_string_value(json_object_get(j, key));

	lem_strlcpy(buf, s ? s : "", size);
}

static void parse_shape(const json_t *m, struct model_shape *s)
{
	char weights[16];

	*s = (struct model_shape){0};
	copy_text(m, "architecture", s->architecture, sizeof(s->architecture));
	copy_text(m, "name", s->name, sizeof(s->name));
	copy_text(m, "quant", s->quant, sizeof(s->quant));
	copy_text(m, "weights", weights, sizeof(weights));
	s->n_layer = count_or_zero(m, "n_layer");
	s->n_embd = count_or_zero(m, "n_embd");
	s->n_ff = count_or_zero(m, "n_ff");
	s->n_head = count_or_zero(m, "n_head");
	s->n_head_kv = count_or_zero(m, "n_head_kv");
	s->head_dim = count_or_zero(m, "head_dim");
	s->n_vocab = count_or_zero(m, "n_vocab");
	s->n_ctx_train = count_or_zero(m, "n_ctx_train");
	s->n_params = count_or_zero(m, "n_params");
	s->size_bytes = (uint64_t)count_or_zero(m, "size_bytes");
	s->has_tokenizer = json_is_true(json_object_get(m, "has_tokenizer"));
	s->weights = str_eq(weights, "synthetic") ? WEIGHTS_SYNTHETIC
		     : str_eq(weights, "real")    ? WEIGHTS_REAL
						  : WEIGHTS_UNKNOWN;
}

static int parse_devices(const json_t *list, struct arena *a, struct worker_loaded *ret,
			 struct lem_error *err)
{
	size_t n = json_array_size(list);

	if (n > MAX_DEVICES)
		return lem_fail(err, LEM_E_PARSE, "the worker claims %zu devices", n);
	ret->devices = arena_array(a, n, sizeof(*ret->devices));
	ret->n_devices = n;
	for (size_t i = 0; i < n; i++) {
		const json_t *d = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(d, "name"));

		ret->devices[i].name = arena_strdup(a, name ? name : "?");
		ret->devices[i].uuid =
			arena_strdup(a, json_string_value(json_object_get(d, "uuid")));
	}
	return 0;
}

int worker_parse_loaded(const char *line, struct arena *a, struct worker_loaded *ret,
			struct lem_error *err)
{
	_cleanup_json_ json_t *j = NULL;
	struct worker_loaded l = {0};
	const json_t *engine;
	const char *s;
	int64_t protocol = 0;

	if (parse_object(line, &j, err) < 0 || get_count(j, "protocol", &protocol, err) < 0 ||
	    get_count(j, "t_start_ns", &l.t_start_ns, err) < 0 ||
	    get_count(j, "t_ns", &l.t_ns, err) < 0)
		return -LEM_E_PARSE;
	if (protocol != 1)
		return lem_fail(err, LEM_E_UNSUPPORTED,
				"the worker speaks protocol %" PRId64 ", this lem speaks 1",
				protocol);
	engine = json_object_get(j, "engine");
	s = json_string_value(json_object_get(engine, "name"));
	l.engine_name = arena_strdup(a, s ? s : "unknown");
	s = json_string_value(json_object_get(engine, "version"));
	l.engine_version = arena_strdup(a, s ? s : "unknown");
	_cleanup_free_ char *text =
		engine ? json_dumps(engine, JSON_COMPACT | JSON_SORT_KEYS) : NULL;

	l.engine_json = arena_strdup(a, text ? text : "{}");
	parse_shape(json_object_get(j, "model"), &l.shape);
	if (parse_devices(json_object_get(j, "devices"), a, &l, err) < 0)
		return -LEM_E_PARSE;
	*ret = l;
	return 0;
}

static int parse_result(const json_t *j, struct arena *a, struct worker_result *r,
			struct lem_error *err)
{
	const char *text = json_string_value(json_object_get(j, "text"));

	if (get_count(j, "id", &r->id, err) < 0 ||
	    get_count(j, "input_tokens", &r->input_tokens, err) < 0 ||
	    get_count(j, "output_tokens", &r->output_tokens, err) < 0)
		return -LEM_E_PARSE;
	copy_text(j, "finish", r->finish, sizeof(r->finish));
	r->truncated = json_is_true(json_object_get(j, "truncated"));
	r->text = arena_strdup(a, text);
	return 0;
}

/* Counts of other types, and more than MAX_COUNTS, are left out: they enter no figure. */
static void parse_counts(json_t *counts, struct arena *a, struct worker_done *d)
{
	const char *name;
	json_t *v;

	d->counts = arena_array(a, MAX_COUNTS, sizeof(*d->counts));
	json_object_foreach (counts, name, v)
		if (json_is_integer(v) && json_integer_value(v) >= 0 && d->n_counts < MAX_COUNTS)
			d->counts[d->n_counts++] =
				(struct worker_count){arena_strdup(a, name), json_integer_value(v)};
}

int worker_parse_done(const char *line, struct arena *a, struct worker_done *ret,
		      struct lem_error *err)
{
	_cleanup_json_ json_t *j = NULL;
	struct worker_done d = {0};
	const json_t *list;

	if (parse_object(line, &j, err) < 0 || get_count(j, "run", &d.run, err) < 0 ||
	    get_count(j, "t_start_ns", &d.t_start_ns, err) < 0 ||
	    get_count(j, "t_ns", &d.t_ns, err) < 0)
		return -LEM_E_PARSE;
	list = json_object_get(j, "results");
	if (!json_is_array(list) || json_array_size(list) > MAX_RESULTS)
		return lem_fail(err, LEM_E_PARSE, "the worker's 'done' has no list of results");
	d.n_results = json_array_size(list);
	d.results = arena_array(a, d.n_results, sizeof(*d.results));
	for (size_t i = 0; i < d.n_results; i++)
		if (parse_result(json_array_get(list, i), a, &d.results[i], err) < 0)
			return -LEM_E_PARSE;
	parse_counts(json_object_get(j, "counts"), a, &d);
	*ret = d;
	return 0;
}

int worker_parse_error(const char *line, struct lem_error *err)
{
	_cleanup_json_ json_t *j = NULL;
	const char *code, *message;

	if (parse_object(line, &j, err) < 0)
		return -LEM_E_PARSE;
	code = json_string_value(json_object_get(j, "code"));
	message = json_string_value(json_object_get(j, "message"));
	lem_fail(err, LEM_E_ENGINE, "%s",
		 message ? message : "the worker reported an error without a message");
	return lem_error_where(err, "worker error %s", code ? code : "unknown");
}

/*
 * `tokens` lines are numerous (one per step), and simple: they are scanned by hand. Keys may come
 * in any order; values are unsigned integers without sign, or the array of ids.
 */
static const char *scan_i64(const char *p, const char *end, int64_t *ret)
{
	int64_t v = 0;
	const char *from = p;

	for (; p < end && *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *p - '0', &v))
			return NULL;
	}
	*ret = v;
	return p > from ? p : NULL;
}

static bool find_i64(const char *line, const char *end, const char *key, int64_t *ret)
{
	const char *p = memmem(line, (size_t)(end - line), key, strlen(key));

	return p && scan_i64(p + strlen(key), end, ret);
}

static int scan_ids(const char *p, const char *end, int64_t *ids, size_t cap, size_t *ret_n,
		    struct lem_error *err)
{
	size_t n = 0;

	while (p < end && *p != ']') {
		if (n == cap)
			return lem_fail(err, LEM_E_PARSE,
					"a step of the worker names more than %zu requests", cap);
		p = scan_i64(p, end, &ids[n]);
		if (!p || p >= end || (*p != ',' && *p != ']'))
			return lem_fail(err, LEM_E_PARSE,
					"a step of the worker has a malformed list of requests");
		n++;
		p += *p == ',';
	}
	if (p >= end)
		return lem_fail(err, LEM_E_PARSE, "a step of the worker is cut off");
	*ret_n = n;
	return 0;
}

/* The list after key; an absent one is empty unless it must be there. */
static int find_ids(const char *line, size_t n, const char *key, bool required, int64_t *ids,
		    size_t cap, size_t *ret_n, struct lem_error *err)
{
	const char *p = memmem(line, n, key, strlen(key));

	*ret_n = 0;
	if (!p && required)
		return lem_fail(err, LEM_E_PARSE, "a step of the worker lacks its requests");
	return p ? scan_ids(p + strlen(key), line + n, ids, cap, ret_n, err) : 0;
}

int worker_parse_tokens(const char *line, size_t n, struct worker_step *ret, struct lem_error *err)
{
	const char *end = line + n;
	struct worker_step s = *ret;
	int r;

	if (!find_i64(line, end, "\"run\":", &s.run) ||
	    !find_i64(line, end, "\"start_ns\":", &s.start_ns) ||
	    !find_i64(line, end, "\"end_ns\":", &s.end_ns) ||
	    !find_i64(line, end, "\"prefill\":", &s.prefill))
		return lem_fail(err, LEM_E_PARSE,
				"a step of the worker lacks its run, stamps or prefill: %.*s",
				(int)MIN(n, (size_t)80), line);
	s.out = s.replica = 0;
	find_i64(line, end, "\"out\":", &s.out);
	find_i64(line, end, "\"replica\":", &s.replica);
	r = find_ids(line, n, "\"ids\":[", true, s.ids, s.cap, &s.n_ids, err);
	if (r >= 0)
		r = find_ids(line, n, "\"started\":[", false, s.started, s.cap, &s.n_started, err);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}
