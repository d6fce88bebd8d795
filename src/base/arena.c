#include "base/arena.h"

enum { BLOCK_BYTES = 16 * 1024 };

struct arena_block {
	struct arena_block *next;
	size_t used, cap;
	max_align_t data[];
};

void arena_release(struct arena *a)
{
	struct arena_block *b = a->head;

	while (b) {
		struct arena_block *next = b->next;

		free(b);
		b = next;
	}
	*a = (struct arena)ARENA_INIT;
}

static struct arena_block *block_add(struct arena *a, size_t size)
{
	size_t cap = MAX(size, (size_t)BLOCK_BYTES);
	struct arena_block *b = lem_calloc(1, sizeof(*b) + cap);

	b->cap = cap;
	b->next = a->head;
	a->head = b;
	return b;
}

void *arena_alloc(struct arena *a, size_t size)
{
	const size_t align = sizeof(max_align_t);
	struct arena_block *b = a->head;

	assert(size < SIZE_MAX / 2);
	size = MAX((size + align - 1) / align * align, align);
	if (!b || b->cap - b->used < size)
		b = block_add(a, size);
	void *p = (char *)b->data + b->used;

	b->used += size;
	a->total += size;
	return p;
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	size_t bytes;
	bool overflow = __builtin_mul_overflow(n, size, &bytes);

	assert(!overflow);
	return arena_alloc(a, bytes);
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *p = arena_alloc(a, len + 1);

	memcpy(p, s, len);
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return s ? arena_strndup(a, s, strlen(s)) : NULL;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n < 0)
		abort(); /* out of memory */
	return arena_strndup(a, text, (size_t)n);
}
