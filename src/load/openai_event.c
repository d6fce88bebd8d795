#include "load/openai_event.h"

#include "load/json_scan.h"

static bool is(const char *key, size_t n, const char *what)
{
	return n == strlen(what) && memcmp(key, what, n) == 0;
}

/* A string is a text of the answer; anything else (null) is passed over. */
static bool text(struct json_scan *s, struct openai_event *e)
{
	struct json_string t;

	if (json_scan_peek(s) != '"')
		return json_scan_skip(s);
	if (!json_scan_string(s, &t))
		return false;
	e->n_text += t.n_decoded;
	if (e->n_parts < OPENAI_PARTS)
		e->parts[e->n_parts++] = (struct openai_text){t.raw, t.n};
	return true;
}

static bool finish(struct json_scan *s, struct openai_event *e)
{
	struct json_string t;

	if (json_scan_peek(s) != '"')
		return json_scan_skip(s);
	if (!json_scan_string(s, &t))
		return false;
	lem_strlcpy(e->finish, "other", sizeof(e->finish));
	if (t.n && t.n < sizeof(e->finish)) {
		memcpy(e->finish, t.raw, t.n);
		e->finish[t.n] = 0;
	}
	return true;
}

/* Tool calls are output too: their bytes count as they are written, an empty list as none. */
static bool tool_calls(struct json_scan *s, struct openai_event *e)
{
	const char *from;
	char c = json_scan_peek(s);

	from = s->at;
	if (!json_scan_skip(s))
		return false;
	if (c == '[' && s->at - from > 2) {
		e->tools = true;
		e->n_text += (size_t)(s->at - from);
	}
	return true;
}

static bool on_delta(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct openai_event *e = arg;

	if (is(key, n, "content") || is(key, n, "reasoning_content") || is(key, n, "reasoning"))
		return text(s, e);
	if (is(key, n, "tool_calls"))
		return tool_calls(s, e);
	if (is(key, n, "role"))
		e->role = true;
	return json_scan_skip(s);
}

static bool on_choice(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct openai_event *e = arg;

	if (is(key, n, "text"))
		return text(s, e);
	if (is(key, n, "finish_reason"))
		return finish(s, e);
	if ((is(key, n, "delta") || is(key, n, "message")) && json_scan_peek(s) == '{')
		return json_scan_object(s, on_delta, e);
	return json_scan_skip(s);
}

static bool on_choices(struct json_scan *s, size_t i, void *arg)
{
	struct openai_event *e = arg;

	if (i)
		return json_scan_skip(s);
	e->has_choice = true;
	return json_scan_object(s, on_choice, e);
}

static bool on_details(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct openai_event *e = arg;

	if (is(key, n, "cached_tokens"))
		return json_scan_count(s, &e->cached_tokens);
	return json_scan_skip(s);
}

static bool on_usage(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct openai_event *e = arg;

	if (is(key, n, "prompt_tokens"))
		return json_scan_count(s, &e->prompt_tokens);
	if (is(key, n, "completion_tokens"))
		return json_scan_count(s, &e->completion_tokens);
	if (is(key, n, "prompt_tokens_details") && json_scan_peek(s) == '{')
		return json_scan_object(s, on_details, e);
	return json_scan_skip(s);
}

/* llama-server's word on tokens so far, in each chunk (timings_per_token). */
struct timings {
	int32_t cache_n, prompt_n, predicted_n; /* −1: not told */
};

static bool on_timing(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct timings *t = arg;

	if (is(key, n, "cache_n"))
		return json_scan_count(s, &t->cache_n);
	if (is(key, n, "prompt_n"))
		return json_scan_count(s, &t->prompt_n);
	if (is(key, n, "predicted_n"))
		return json_scan_count(s, &t->predicted_n);
	return json_scan_skip(s);
}

/* Counts as usage where there is none; prompt_n is without what came from the cache. */
static bool timings(struct json_scan *s, struct openai_event *e)
{
	struct timings t = {-1, -1, -1};

	if (!json_scan_object(s, on_timing, &t))
		return false;
	if (t.predicted_n < 0 || e->has_usage)
		return true;
	e->has_usage = true;
	e->completion_tokens = t.predicted_n;
	if (t.prompt_n < 0 || t.cache_n < 0 || t.prompt_n > INT32_MAX - t.cache_n)
		return true;
	e->prompt_tokens = t.prompt_n + t.cache_n;
	e->cached_tokens = t.cache_n;
	return true;
}

static bool message(struct json_scan *s, struct openai_event *e)
{
	struct json_string t;

	if (json_scan_peek(s) != '"')
		return json_scan_skip(s);
	if (!json_scan_string(s, &t))
		return false;
	e->error_message = (struct openai_text){t.raw, t.n};
	return true;
}

static bool on_error(struct json_scan *s, const char *key, size_t n, void *arg)
{
	return is(key, n, "message") ? message(s, arg) : json_scan_skip(s);
}

/* {"error": {"message": …}} or {"error": "…"}; null is none. */
static bool error(struct json_scan *s, struct openai_event *e)
{
	char c = json_scan_peek(s);

	e->has_error = c != 'n';
	return c == '{' ? json_scan_object(s, on_error, e) : message(s, e);
}

static bool object_kind(struct json_scan *s, struct openai_event *e)
{
	struct json_string t;

	if (json_scan_peek(s) != '"')
		return json_scan_skip(s);
	if (!json_scan_string(s, &t))
		return false;
	e->has_error |= is(t.raw, t.n, "error");
	return true;
}

static bool on_top(struct json_scan *s, const char *key, size_t n, void *arg)
{
	struct openai_event *e = arg;

	if (is(key, n, "choices") && json_scan_peek(s) == '[')
		return json_scan_array(s, on_choices, e);
	if (is(key, n, "usage") && json_scan_peek(s) == '{') {
		e->has_usage = true;
		return json_scan_object(s, on_usage, e);
	}
	if (is(key, n, "timings") && json_scan_peek(s) == '{')
		return timings(s, e);
	if (is(key, n, "error"))
		return error(s, e);
	if (is(key, n, "object"))
		return object_kind(s, e);
	if (is(key, n, "message") && !e->error_message.raw)
		return message(s, e);
	return json_scan_skip(s);
}

static void remember(struct openai_memo *m, const char *json, size_t n,
		     const struct openai_event *e)
{
	const struct openai_text *t = &e->parts[0];

	m->json = NULL;
	if (e->n_parts != 1 || *e->finish || e->has_usage || e->has_error || e->role || e->tools ||
	    !e->has_choice || e->error_message.raw)
		return;
	m->json = json;
	m->n = n;
	m->prefix = (size_t)(t->raw - json);
	m->suffix = n - m->prefix - t->n;
}

/* The same bytes around one string are the same event but for that text: how many, or 0. */
static size_t match(const struct openai_memo *m, const char *json, size_t most, size_t *ret_decoded)
{
	struct json_scan s = {.at = json + m->prefix, .end = json + most};

	if (!m->json || most < m->prefix + m->suffix || memcmp(json, m->json, m->prefix) != 0 ||
	    !json_scan_chars(&s, ret_decoded) || (size_t)(s.end - s.at) < m->suffix ||
	    memcmp(s.at, m->json + m->n - m->suffix, m->suffix) != 0)
		return 0;
	return (size_t)(s.at - json) + m->suffix;
}

static void recall(const struct openai_memo *m, const char *json, size_t n, size_t decoded,
		   struct openai_event *ret)
{
	*ret = (struct openai_event){
		.has_choice = true,
		.parts = {{json + m->prefix, n - m->prefix - m->suffix}},
		.n_parts = 1,
		.n_text = decoded,
		.prompt_tokens = -1,
		.completion_tokens = -1,
		.cached_tokens = -1,
	};
}

size_t openai_event_next(const struct openai_memo *m, const char *json, size_t most,
			 struct openai_event *ret)
{
	size_t decoded, n = match(m, json, most, &decoded);

	if (n)
		recall(m, json, n, decoded, ret);
	return n;
}

const char *openai_event_read(const char *json, size_t n, struct openai_memo *memo,
			      struct openai_event *ret)
{
	struct json_scan s = {.at = json, .end = json + n};
	struct openai_event e = {.prompt_tokens = -1, .completion_tokens = -1, .cached_tokens = -1};
	size_t decoded;

	if (memo && n && match(memo, json, n, &decoded) == n) {
		recall(memo, json, n, decoded, ret);
		return NULL;
	}
	if (!json_scan_object(&s, on_top, &e) || !json_scan_end(&s))
		return s.bad;
	if (memo)
		remember(memo, json, n, &e);
	*ret = e;
	return NULL;
}

static unsigned hex_at(const char *p)
{
	unsigned x = 0;

	for (int i = 0; i < 4; i++)
		x = x * 16 + (unsigned)(p[i] <= '9' ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	return x;
}

static void add_utf8(struct str *out, unsigned u)
{
	char b[4];

	if (u < 0x80) {
		str_addc(out, (char)u);
	} else if (u < 0x800) {
		b[0] = (char)(0xc0 | u >> 6);
		b[1] = (char)(0x80 | (u & 0x3f));
		str_addn(out, b, 2);
	} else if (u < 0x10000) {
		b[0] = (char)(0xe0 | u >> 12);
		b[1] = (char)(0x80 | (u >> 6 & 0x3f));
		b[2] = (char)(0x80 | (u & 0x3f));
		str_addn(out, b, 3);
	} else {
		b[0] = (char)(0xf0 | u >> 18);
		b[1] = (char)(0x80 | (u >> 12 & 0x3f));
		b[2] = (char)(0x80 | (u >> 6 & 0x3f));
		b[3] = (char)(0x80 | (u & 0x3f));
		str_addn(out, b, 4);
	}
}

/* p is on the backslash of a checked escape; returns the bytes it takes. */
static size_t decode_escape(const char *p, const char *end, struct str *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	unsigned u, low;

	if (p[1] != 'u') {
		str_addc(out, to[strchr(from, p[1]) - from]);
		return 2;
	}
	u = hex_at(p + 2);
	if (u < 0xd800 || u >= 0xe000) {
		add_utf8(out, u);
		return 6;
	}
	if (u < 0xdc00 && end - p >= 12 && p[6] == '\\' && p[7] == 'u') {
		low = hex_at(p + 8);
		if (low >= 0xdc00 && low < 0xe000) {
			add_utf8(out, 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00));
			return 12;
		}
	}
	add_utf8(out, 0xfffd);
	return 6;
}

void openai_text_decode(const struct openai_text *t, struct str *out)
{
	const char *p = t->raw, *end = t->raw + t->n;

	while (p < end) {
		const char *slash = memchr(p, '\\', (size_t)(end - p));

		str_addn(out, p, (size_t)((slash ? slash : end) - p));
		p = slash ? slash + decode_escape(slash, end, out) : end;
	}
}
