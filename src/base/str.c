#include "base/str.h"

void str_release(struct str *s)
{
	free(s->buf);
	*s = (struct str)STR_INIT;
}

void str_reset(struct str *s)
{
	s->len = 0;
	if (s->buf)
		s->buf[0] = '\0';
}

void str_reserve(struct str *s, size_t extra)
{
	size_t need = s->len + extra + 1;

	if (need <= s->cap)
		return;
	s->cap = MAX(need, s->cap + s->cap / 2 + 32);
	s->buf = lem_realloc(s->buf, s->cap);
	s->buf[s->len] = '\0';
}

void str_addn(struct str *s, const char *bytes, size_t n)
{
	str_reserve(s, n);
	if (n)
		memcpy(s->buf + s->len, bytes, n);
	s->len += n;
	s->buf[s->len] = '\0';
}

void str_add(struct str *s, const char *text)
{
	str_addn(s, text, strlen(text));
}

void str_addc(struct str *s, char c)
{
	str_addn(s, &c, 1);
}

void str_vaddf(struct str *s, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	str_reserve(s, 63);
	n = vsnprintf(s->buf + s->len, s->cap - s->len, fmt, ap);
	assert(n >= 0);
	if ((size_t)n >= s->cap - s->len) {
		str_reserve(s, (size_t)n);
		vsnprintf(s->buf + s->len, s->cap - s->len, fmt, again);
	}
	va_end(again);
	s->len += (size_t)n;
}

void str_addf(struct str *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(s, fmt, ap);
	va_end(ap);
}

void str_set(struct str *s, const char *text)
{
	str_reset(s);
	str_add(s, text);
}

char *str_detach(struct str *s)
{
	str_reserve(s, 0);
	char *p = s->buf;

	*s = (struct str)STR_INIT;
	return p;
}

/* Three rows of the dynamic programme suffice for neighbour swaps; names here are short. */
size_t str_distance(const char *a, const char *b)
{
	enum { WIDTH = 96 };
	size_t rows[3][WIDTH + 1];
	size_t n = strnlen(a, WIDTH), m = strnlen(b, WIDTH);

	for (size_t j = 0; j <= m; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t *cur = rows[i % 3], *prev = rows[(i + 2) % 3], *prev2 = rows[(i + 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t cost = a[i - 1] != b[j - 1];
			size_t d = MIN(MIN(prev[j] + 1, cur[j - 1] + 1), prev[j - 1] + cost);

			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				d = MIN(d, prev2[j - 2] + 1);
			cur[j] = d;
		}
	}
	return rows[n % 3][m];
}

size_t str_utf8_length(const unsigned char *s, size_t n)
{
	size_t k = s[0] < 0x80   ? 1
		   : s[0] < 0xc2 ? 0
		   : s[0] < 0xe0 ? 2
		   : s[0] < 0xf0 ? 3
		   : s[0] < 0xf5 ? 4
				 : 0;

	if (k == 0 || k > n)
		return 0;
	for (size_t i = 1; i < k; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return k;
}

size_t str_utf8_valid(const char *bytes, size_t n)
{
	const unsigned char *s = (const unsigned char *)bytes;
	size_t i = 0, k;

	while (i < n && (k = str_utf8_length(s + i, n - i)))
		i += k;
	return i;
}

enum { SECRET_MIN = 3 }; /* less is no secret, and would blot out half the text */

static size_t common_length(const char *a, const char *b)
{
	size_t n = 0;

	while (a[n] && a[n] == b[n])
		n++;
	return n;
}

void str_blot(char *text, const char *secret)
{
	size_t n = strlen(secret);
	char *to = text;

	if (n < SECRET_MIN)
		return;
	for (const char *p = text; *p;) {
		size_t k = common_length(p, secret);

		if (k < n && (p[k] || k < SECRET_MIN)) {
			*to++ = *p++;
			continue;
		}
		memset(to, '*', SECRET_MIN); /* SECRET_MIN <= k: never beyond p + k */
		to += SECRET_MIN;
		p += k;
	}
	*to = '\0';
}
