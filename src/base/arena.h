/*
 * arena.h — memory with one lifetime: a configuration, a run. Freed all at once.
 * Allocations are zeroed and aligned for any type. Not thread-safe.
 */
#ifndef LEM_BASE_ARENA_H
#define LEM_BASE_ARENA_H

#include "base/base.h"

struct arena_block;
struct arena {
	struct arena_block *head;
	size_t total; /* bytes handed out */
};

#define ARENA_INIT \
	{          \
		0  \
	}
#define _cleanup_arena_ _cleanup_(arena_release)

void arena_release(struct arena *a);
void *arena_alloc(struct arena *a, size_t size);
void *arena_array(struct arena *a, size_t n, size_t size);
char *arena_strdup(struct arena *a, const char *s); /* NULL in, NULL out */
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) _printf_(2, 3);

#define arena_new(a, type) ((type *)arena_alloc((a), sizeof(type)))

#endif
