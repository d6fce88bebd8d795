/*
 * known.h — the table behind explain.h. A line is explained by the first entry that matches, so
 * special ones stand before general ones. All parts of an entry must occur in the same line, in any
 * order; case is ignored.
 */
#ifndef LEM_DOCTOR_KNOWN_H
#define LEM_DOCTOR_KNOWN_H

#include "base/base.h"

enum { KNOWN_PARTS = 3, KNOWN_PART_MAX = 128 };

struct known_message {
	const char *id;
	const char *parts[KNOWN_PARTS]; /* lower case, at most KNOWN_PART_MAX bytes */
	const char *title, *fix;        /* NULL: the rule's own */
};

extern const struct known_message known_messages[];
extern const size_t n_known_messages;

#endif
