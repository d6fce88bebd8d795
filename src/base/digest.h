/*
 * digest.h — SHA-256, by libcrypto (the one library below base: hashing by hand would be worse).
 */
#ifndef LEM_BASE_DIGEST_H
#define LEM_BASE_DIGEST_H

#include "base/base.h"

enum { DIGEST_HEX_SIZE = 65 }; /* 64 hex digits and the terminator */

struct digest; /* a running hash */
struct digest *digest_new(void);
void digest_update(struct digest *d, const void *bytes, size_t n);
void digest_final(struct digest *d, char hex[DIGEST_HEX_SIZE]); /* may be called once */
void digest_free(struct digest *d);                             /* NULL is fine */

void digest_bytes(const void *bytes, size_t n, char hex[DIGEST_HEX_SIZE]);

#endif
