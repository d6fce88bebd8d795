/*
 * vec.h — a growable array of one type.
 *
 *   VEC(int64_t) stamps = VEC_INIT;
 *   *vec_push(&stamps) = now;          // the new element is zeroed first
 *   vec_foreach(&stamps, p) use(*p);
 *   vec_release(&stamps);
 *
 * Growing moves the elements: keep indices, not pointers. Elements that own memory are the
 * caller's.
 */
#ifndef LEM_BASE_VEC_H
#define LEM_BASE_VEC_H

#include "base/base.h"

#define VEC(type)              \
	struct {               \
		type *at;      \
		size_t n, cap; \
	}
#define VEC_INIT  \
	{         \
		0 \
	}

#define vec_reserve(v, extra) \
	((v)->at = vec_grow_((v)->at, (v)->n, &(v)->cap, (extra), sizeof(*(v)->at)))
#define vec_push(v)                                        \
	((void)((v)->n < (v)->cap || vec_reserve((v), 1)), \
	 memset(&(v)->at[(v)->n], 0, sizeof(*(v)->at)), &(v)->at[(v)->n++])
#define vec_reset(v) ((v)->n = 0)
#define vec_release(v)                 \
	do {                           \
		free((v)->at);         \
		(v)->at = NULL;        \
		(v)->n = (v)->cap = 0; \
	} while (0)
#define vec_foreach(v, p) for (__typeof__((v)->at) p = (v)->at; p && p < (v)->at + (v)->n; p++)

void *vec_grow_(void *at, size_t n, size_t *cap, size_t extra, size_t elem_size);

#endif
