#include "base/base.h"

static void die_oom(size_t size)
{
	fprintf(stderr, "lem: out of memory (%zu bytes)\n", size);
	abort();
}

void *lem_malloc(size_t size)
{
	void *p = malloc(size ? size : 1);

	if (!p)
		die_oom(size);
	return p;
}

void *lem_calloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		die_oom(n);
	return p;
}

void *lem_realloc(void *p, size_t size)
{
	void *q = realloc(p, size ? size : 1);

	if (!q)
		die_oom(size);
	return q;
}

void *lem_reallocarray(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		die_oom(SIZE_MAX);
	return lem_realloc(p, bytes);
}

char *lem_strdup(const char *s)
{
	return s ? lem_strndup(s, strlen(s)) : NULL;
}

char *lem_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = lem_malloc(len + 1);

	memcpy(p, s, len);
	p[len] = '\0';
	return p;
}

char *lem_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *p = NULL;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0)
		die_oom(0);
	return p;
}

size_t lem_strlcpy(char *dst, const char *src, size_t size)
{
	size_t n = strlen(src);

	if (size) {
		size_t k = MIN(n, size - 1);

		memcpy(dst, src, k);
		dst[k] = '\0';
	}
	return n;
}
