/*
 * json_scan.h — a strict JSON scanner over bytes in place: no tree, no copies, no heap. For answers
 * of servers, where jansson's tree would cost more than the request. Everything that is passed over
 * is checked too: grammar (RFC 8259), UTF-8, nesting of at most 64.
 *
 * Each function takes one value (or what it names) from s and returns true; false when the bytes
 * are not that, and s->bad then says why.
 */
#ifndef LEM_LOAD_JSON_SCAN_H
#define LEM_LOAD_JSON_SCAN_H

#include "base/base.h"

struct json_scan {
	const char *at, *end;
	const char *bad; /* static; NULL while all is well */
	int depth;
};

struct json_string {
	const char *raw; /* between the quotes, escapes as written */
	size_t n;
	size_t n_decoded; /* bytes of UTF-8 once decoded */
};

enum { JSON_SCAN_DEPTH = 64 };

char json_scan_peek(struct json_scan *s); /* first byte of the next value, 0 at the end */
bool json_scan_skip(struct json_scan *s); /* any value */
bool json_scan_string(struct json_scan *s, struct json_string *ret);
/* An integer that fits; other numbers, null and what else there may be are skipped: *ret stays. */
bool json_scan_count(struct json_scan *s, int32_t *ret);
/* Calls on for each member; it must take the value. Keys with escapes are given as written. */
bool json_scan_object(struct json_scan *s,
		      bool (*on)(struct json_scan *s, const char *key, size_t n, void *arg),
		      void *arg);
bool json_scan_array(struct json_scan *s, bool (*on)(struct json_scan *s, size_t i, void *arg),
		     void *arg);
bool json_scan_end(struct json_scan *s); /* nothing but blanks is left */

/* Checks string contents up to the closing quote (not taken) or the end; tells the decoded size. */
bool json_scan_chars(struct json_scan *s, size_t *ret_decoded);

#endif
