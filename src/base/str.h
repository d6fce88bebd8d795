/*
 * str.h — a growable byte string, always NUL-terminated once it has storage.
 * `struct str s = STR_INIT;` … `str_release(&s)` or `_cleanup_str_ struct str s = STR_INIT;`
 */
#ifndef LEM_BASE_STR_H
#define LEM_BASE_STR_H

#include "base/base.h"

struct str {
	char *buf; /* NULL while empty and unallocated; use str_c() to read it as a C string */
	size_t len, cap;
};

#define STR_INIT  \
	{         \
		0 \
	}
#define _cleanup_str_ _cleanup_(str_release)

void str_release(struct str *s);
void str_reset(struct str *s); /* len 0, keeps the storage */
void str_reserve(struct str *s, size_t extra);
void str_add(struct str *s, const char *text);
void str_addn(struct str *s, const char *bytes, size_t n);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) _printf_(2, 3);
void str_vaddf(struct str *s, const char *fmt, va_list ap) _printf_(2, 0);
void str_set(struct str *s, const char *text);
char *str_detach(struct str *s); /* the caller owns the result, never NULL */

static inline const char *str_c(const struct str *s)
{
	return s->buf ? s->buf : "";
}

/* Length of the well-formed UTF-8 sequence at s (n > 0 bytes), 0 if there is none (RFC 3629). */
size_t str_utf8_length(const unsigned char *s, size_t n);
/* Offset of the first byte that is no UTF-8, or n. */
size_t str_utf8_valid(const char *bytes, size_t n);

/* Replaces a secret of 3 bytes and more by "***", wherever it stands in the text, and as much of it
 * as fitted at the text's end. The text does not get longer. */
void str_blot(char *text, const char *secret);

/* Edit distance (insert, delete, replace, swap of neighbours), for "did you mean". */
size_t str_distance(const char *a, const char *b);

#endif
