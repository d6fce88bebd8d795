/*
 * pack.h — one zstd frame with a checksum, so that a flipped bit is found when it is read.
 */
#ifndef LEM_STORE_PACK_H
#define LEM_STORE_PACK_H

#include "base/error.h"
#include "base/str.h"

enum { PACK_MAX_BYTES = 2000000000 }; /* of plain bytes, in both directions */

int pack(const struct str *plain, struct str *out, struct lem_error *err);
/* Appends to out. Memory grows with what is really there, not with what the frame claims;
 * LEM_E_PARSE when the frame is cut, damaged, followed by other bytes or longer than max_bytes. */
int unpack(const void *bytes, size_t n, size_t max_bytes, struct str *out, struct lem_error *err);

#endif
