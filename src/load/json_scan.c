#include "load/json_scan.h"

#include "base/str.h"

static bool bad(struct json_scan *s, const char *why)
{
	if (!s->bad)
		s->bad = why;
	return false;
}

static void blanks(struct json_scan *s)
{
	while (s->at < s->end &&
	       (*s->at == ' ' || *s->at == '\t' || *s->at == '\n' || *s->at == '\r'))
		s->at++;
}

char json_scan_peek(struct json_scan *s)
{
	blanks(s);
	return s->at < s->end ? *s->at : 0;
}

static bool take(struct json_scan *s, char c, const char *why)
{
	if (json_scan_peek(s) != c || s->at == s->end)
		return bad(s, why);
	s->at++;
	return true;
}

static int hex4(const char *p)
{
	int x = 0;

	for (int i = 0; i < 4; i++) {
		char c = p[i];
		int d = c >= '0' && c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;

		if (d < 0 || d > 15 || (d > 9 && (c | 0x20) < 'a'))
			return -1;
		x = x * 16 + d;
	}
	return x;
}

/* s->at is on the backslash. A pair of surrogates makes 4 bytes, a lone one U+FFFD. */
static bool escape(struct json_scan *s, size_t *decoded)
{
	const char *p = s->at;
	int u, low;

	if (s->end - p < 2 || !p[1] || !strchr("\"\\/bfnrtu", p[1]))
		return bad(s, "an escape that JSON does not have");
	if (p[1] != 'u') {
		s->at += 2;
		(*decoded)++;
		return true;
	}
	if (s->end - p < 6 || (u = hex4(p + 2)) < 0)
		return bad(s, "a \\u without four hex digits");
	s->at += 6;
	if (u >= 0xd800 && u < 0xdc00 && s->end - s->at >= 6 && s->at[0] == '\\' &&
	    s->at[1] == 'u' && (low = hex4(s->at + 2)) >= 0xdc00 && low < 0xe000) {
		s->at += 6;
		*decoded += 4;
		return true;
	}
	*decoded += u < 0x80 ? 1 : u < 0x800 ? 2 : 3;
	return true;
}

/* How many of the next bytes are plain ASCII without quote, backslash or control; 8 at a time. */
static size_t plain(const char *p, const char *end)
{
	const uint64_t ones = UINT64_C(0x0101010101010101), high = ones << 7;
	const char *from = p;

	for (; end - p >= 8; p += 8) {
		uint64_t x, quote, slash;

		memcpy(&x, p, 8);
		quote = x ^ (ones * '"');
		slash = x ^ (ones * '\\');
		if ((x | (x - ones * 0x20) | (quote - ones) | (slash - ones)) & high)
			break;
	}
	while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
	       *p != '\\')
		p++;
	return (size_t)(p - from);
}

bool json_scan_chars(struct json_scan *s, size_t *ret_decoded)
{
	size_t decoded = 0, k;

	for (;;) {
		k = plain(s->at, s->end);
		decoded += k;
		s->at += k;
		if (s->at == s->end || *s->at == '"')
			break;
		if (*s->at == '\\') {
			if (!escape(s, &decoded))
				return false;
			continue;
		}
		k = str_utf8_length((const unsigned char *)s->at, (size_t)(s->end - s->at));
		if (!k || (unsigned char)*s->at < 0x20)
			return bad(s, k ? "a control character in a string"
					: "text that is not UTF-8");
		decoded += k;
		s->at += k;
	}
	*ret_decoded = decoded;
	return true;
}

bool json_scan_string(struct json_scan *s, struct json_string *ret)
{
	if (!take(s, '"', "a string is missing"))
		return false;
	ret->raw = s->at;
	if (!json_scan_chars(s, &ret->n_decoded))
		return false;
	ret->n = (size_t)(s->at - ret->raw);
	if (s->at == s->end)
		return bad(s, "a string without an end");
	s->at++;
	return true;
}

static size_t digits(struct json_scan *s)
{
	const char *from = s->at;

	while (s->at < s->end && *s->at >= '0' && *s->at <= '9')
		s->at++;
	return (size_t)(s->at - from);
}

static bool number(struct json_scan *s)
{
	const char *first;

	if (s->at < s->end && *s->at == '-')
		s->at++;
	first = s->at;
	if (!digits(s) || (*first == '0' && s->at - first > 1))
		return bad(s, "a number that JSON does not have");
	if (s->at < s->end && *s->at == '.') {
		s->at++;
		if (!digits(s))
			return bad(s, "a number that ends with a point");
	}
	if (s->at < s->end && (*s->at | 0x20) == 'e') {
		s->at++;
		if (s->at < s->end && (*s->at == '+' || *s->at == '-'))
			s->at++;
		if (!digits(s))
			return bad(s, "a number without its exponent");
	}
	return true;
}

static bool word(struct json_scan *s, const char *what)
{
	size_t n = strlen(what);

	if ((size_t)(s->end - s->at) < n || memcmp(s->at, what, n) != 0)
		return bad(s, "a word that JSON does not have");
	s->at += n;
	return true;
}

bool json_scan_count(struct json_scan *s, int32_t *ret)
{
	char c = json_scan_peek(s);
	const char *from = s->at;
	int64_t x = 0;

	if (!json_scan_skip(s))
		return false;
	if (c < '0' || c > '9')
		return true;
	for (const char *p = from; p < s->at; p++) {
		if (*p < '0' || *p > '9' || x > INT32_MAX / 10)
			return true;
		x = x * 10 + (*p - '0');
	}
	if (x <= INT32_MAX)
		*ret = (int32_t)x;
	return true;
}

static bool enter(struct json_scan *s)
{
	if (++s->depth > JSON_SCAN_DEPTH)
		return bad(s, "nesting deeper than 64");
	s->at++;
	return true;
}

bool json_scan_object(struct json_scan *s,
		      bool (*on)(struct json_scan *s, const char *key, size_t n, void *arg),
		      void *arg)
{
	struct json_string key;

	if (json_scan_peek(s) != '{')
		return bad(s, "an object is missing");
	if (!enter(s))
		return false;
	for (bool first = true; json_scan_peek(s) != '}' || !first; first = false) {
		if (!json_scan_string(s, &key) || !take(s, ':', "a key without a colon") ||
		    !on(s, key.raw, key.n, arg))
			return false;
		if (json_scan_peek(s) == '}')
			break;
		if (!take(s, ',', "an object that is cut off"))
			return false;
	}
	s->depth--;
	return take(s, '}', "an object that is cut off");
}

bool json_scan_array(struct json_scan *s, bool (*on)(struct json_scan *s, size_t i, void *arg),
		     void *arg)
{
	size_t i = 0;

	if (json_scan_peek(s) != '[')
		return bad(s, "an array is missing");
	if (!enter(s))
		return false;
	while (i || json_scan_peek(s) != ']') {
		if (!on(s, i++, arg))
			return false;
		if (json_scan_peek(s) == ']')
			break;
		if (!take(s, ',', "an array that is cut off"))
			return false;
	}
	s->depth--;
	return take(s, ']', "an array that is cut off");
}

static bool skip_member(struct json_scan *s, const char *key, size_t n, void *arg)
{
	(void)key;
	(void)n;
	(void)arg;
	return json_scan_skip(s);
}

static bool skip_entry(struct json_scan *s, size_t i, void *arg)
{
	(void)i;
	(void)arg;
	return json_scan_skip(s);
}

bool json_scan_skip(struct json_scan *s)
{
	struct json_string text;

	switch (json_scan_peek(s)) {
	case '{': return json_scan_object(s, skip_member, NULL);
	case '[': return json_scan_array(s, skip_entry, NULL);
	case '"': return json_scan_string(s, &text);
	case 't': return word(s, "true");
	case 'f': return word(s, "false");
	case 'n': return word(s, "null");
	case 0: return bad(s, "a value is missing");
	default: return number(s);
	}
}

bool json_scan_end(struct json_scan *s)
{
	return (!json_scan_peek(s) && s->at == s->end) || bad(s, "more than one JSON value");
}
