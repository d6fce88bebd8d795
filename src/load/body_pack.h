/*
 * body_pack.h — pieces of bodies, stored small: what a piece has in common with the one before it,
 * at its beginning and at its end, is not stored again. Pure; no heap.
 *
 * Events of a stream differ in a few bytes, so that an answer that came at once takes a tenth of
 * its bytes: of memory to be reserved, written and read again. What came one by one is stored as
 * it is.
 */
#ifndef LEM_LOAD_BODY_PACK_H
#define LEM_LOAD_BODY_PACK_H

#include "base/base.h"

struct body_pack {
	char *out; /* where the next goes; the caller sees to the room */
	size_t len;
	const char *last; /* the piece before; NULL: none. Must stay while pieces are added. */
	size_t n_last;
};

/* Bytes that pieces of n bytes together can come to, when each piece cost 6 bytes and its own to
 * send, as chunks of HTTP/1.1 do, or there is only one. */
static inline size_t body_pack_most(size_t n)
{
	return 3 * n + 32;
}

void body_pack_add(struct body_pack *p, const char *piece, size_t n);

/* The pieces of one pack one after the other; returns their length. `to` has room for all. */
size_t body_unpack(const char *in, size_t n, char *to);

#endif
