#include "base/jsonw.h"

#include <math.h>

enum { DEPTH_MAX = 60 };

void jsonw_init(struct jsonw *w, struct str *out, int indent)
{
	*w = (struct jsonw){.out = out, .indent = indent};
}

static void newline(struct jsonw *w)
{
	if (!w->indent)
		return;
	str_addc(w->out, '\n');
	for (int i = 0; i < w->depth * w->indent; i++)
		str_addc(w->out, ' ');
}

static void put_escaped(struct str *out, unsigned char c)
{
	switch (c) {
	case '"': str_add(out, "\\\""); return;
	case '\\': str_add(out, "\\\\"); return;
	case '\n': str_add(out, "\\n"); return;
	case '\r': str_add(out, "\\r"); return;
	case '\t': str_add(out, "\\t"); return;
	default: str_addf(out, "\\u%04x", c); return;
	}
}

static void put_string(struct str *out, const char *value, size_t n)
{
	const unsigned char *s = (const unsigned char *)value;
	size_t i = 0;

	str_addc(out, '"');
	while (i < n) {
		size_t k = str_utf8_length(s + i, n - i);

		if (k == 0) {
			str_add(out, "\xef\xbf\xbd");
			i++;
		} else if (s[i] < 0x20 || s[i] == '"' || s[i] == '\\' || s[i] == 0x7f) {
			put_escaped(out, s[i++]);
		} else {
			str_addn(out, value + i, k);
			i += k;
		}
	}
	str_addc(out, '"');
}

static void begin_value(struct jsonw *w, const char *key)
{
	if (w->depth) {
		if (w->nonempty >> w->depth & 1)
			str_addc(w->out, ',');
		w->nonempty |= UINT64_C(1) << w->depth;
		newline(w);
	}
	if (key) {
		put_string(w->out, key, strlen(key));
		str_add(w->out, w->indent ? ": " : ":");
	}
}

static void open_level(struct jsonw *w, const char *key, char c)
{
	begin_value(w, key);
	str_addc(w->out, c);
	assert(w->depth < DEPTH_MAX);
	w->depth++;
	w->nonempty &= ~(UINT64_C(1) << w->depth);
}

static void close_level(struct jsonw *w, char c)
{
	bool any = w->nonempty >> w->depth & 1;

	assert(w->depth > 0);
	w->depth--;
	if (any)
		newline(w);
	str_addc(w->out, c);
}

void jsonw_object(struct jsonw *w, const char *key)
{
	open_level(w, key, '{');
}

void jsonw_array(struct jsonw *w, const char *key)
{
	open_level(w, key, '[');
}

void jsonw_end_object(struct jsonw *w)
{
	close_level(w, '}');
}

void jsonw_end_array(struct jsonw *w)
{
	close_level(w, ']');
}

void jsonw_strn(struct jsonw *w, const char *key, const char *value, size_t n)
{
	begin_value(w, key);
	put_string(w->out, value, n);
}

void jsonw_str(struct jsonw *w, const char *key, const char *value)
{
	if (value)
		jsonw_strn(w, key, value, strlen(value));
	else
		jsonw_null(w, key);
}

void jsonw_i64(struct jsonw *w, const char *key, int64_t value)
{
	begin_value(w, key);
	str_addf(w->out, "%" PRId64, value);
}

void jsonw_u64(struct jsonw *w, const char *key, uint64_t value)
{
	begin_value(w, key);
	str_addf(w->out, "%" PRIu64, value);
}

void jsonw_f64(struct jsonw *w, const char *key, double value)
{
	char buf[40];

	if (!isfinite(value)) {
		jsonw_null(w, key);
		return;
	}
	begin_value(w, key);
	for (int digits = 6; digits <= 17; digits++) {
		snprintf(buf, sizeof(buf), "%.*g", digits, value);
		if (strtod(buf, NULL) == value)
			break;
	}
	str_add(w->out, buf);
}

void jsonw_bool(struct jsonw *w, const char *key, bool value)
{
	begin_value(w, key);
	str_add(w->out, value ? "true" : "false");
}

void jsonw_null(struct jsonw *w, const char *key)
{
	begin_value(w, key);
	str_add(w->out, "null");
}

void jsonw_raw(struct jsonw *w, const char *key, const char *json)
{
	begin_value(w, key);
	str_add(w->out, json);
}
