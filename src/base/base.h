/*
 * base.h — what every file includes: fixed-width types, cleanup attributes, small helpers, and the
 * list of banned functions. libc only.
 */
#ifndef LEM_BASE_BASE_H
#define LEM_BASE_BASE_H

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
/* Each use gets names of its own, so that MIN(MIN(a, b), c) shadows nothing. */
#define LEM_PICK_(op, a, b, x, y)      \
	({                             \
		__typeof__(a) x = (a); \
		__typeof__(b) y = (b); \
		x op y ? x : y;        \
	})
#define LEM_PASTE_(a, b)         a##b
#define LEM_NAME_(a, b)          LEM_PASTE_(a, b)
#define LEM_PICK_N_(op, a, b, n) LEM_PICK_(op, a, b, LEM_NAME_(pick_a_, n), LEM_NAME_(pick_b_, n))
#define MIN(a, b)                LEM_PICK_N_(<, a, b, __COUNTER__)
#define MAX(a, b)                LEM_PICK_N_(>, a, b, __COUNTER__)

#define _printf_(f, a) __attribute__((format(printf, f, a)))
#define _unused_       __attribute__((unused))
#define _must_check_   __attribute__((warn_unused_result))
#define _cleanup_(f)   __attribute__((cleanup(f)))

#define NS_PER_S  INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)
#define NS_PER_US INT64_C(1000)

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void cleanup_fclose(FILE **f)
{
	if (*f)
		fclose(*f);
}

/* Closes without disturbing errno, so that it may run between a failure and its report. */
static inline void cleanup_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

#define _cleanup_free_   _cleanup_(cleanup_free)
#define _cleanup_fd_     _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* Hands a pointer (or fd) over: the cleanup attribute of the source then does nothing. */
#define steal_ptr(p)                         \
	({                                   \
		__typeof__(p) stolen_ = (p); \
		(p) = NULL;                  \
		stolen_;                     \
	})

static inline int steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

static inline bool str_eq(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

static inline bool str_ends(const char *s, const char *suffix)
{
	size_t n = strlen(s), k = strlen(suffix);

	return n >= k && memcmp(s + n - k, suffix, k) == 0;
}

/* Out of memory is not an operating error that a caller could mend: these abort with a message. */
void *lem_malloc(size_t size);
void *lem_calloc(size_t n, size_t size);
void *lem_realloc(void *p, size_t size);
void *lem_reallocarray(void *p, size_t n, size_t size);
char *lem_strdup(const char *s); /* NULL in, NULL out */
char *lem_strndup(const char *s, size_t n);
char *lem_asprintf(const char *fmt, ...) _printf_(1, 2);

/* Copies at most size-1 bytes and always terminates; returns strlen(src), so >= size means cut. */
size_t lem_strlcpy(char *dst, const char *src, size_t size);

#include "base/banned.h"

#endif
