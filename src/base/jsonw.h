/*
 * jsonw.h — writes JSON into a struct str. Commas and quoting are the writer's business; keys are
 * written in the order of the calls. NaN and infinity become null, because JSON has neither.
 * Bytes that are not UTF-8 are written as U+FFFD, so the document always parses.
 */
#ifndef LEM_BASE_JSONW_H
#define LEM_BASE_JSONW_H

#include "base/str.h"

struct jsonw {
	struct str *out;
	int depth;
	int indent;        /* spaces per level; 0 writes one line */
	uint64_t nonempty; /* bit per depth: something was written at this level */
};

void jsonw_init(struct jsonw *w, struct str *out, int indent);
void jsonw_object(struct jsonw *w, const char *key); /* key NULL inside an array or at the top */
void jsonw_array(struct jsonw *w, const char *key);
void jsonw_end_object(struct jsonw *w);
void jsonw_end_array(struct jsonw *w);
void jsonw_str(struct jsonw *w, const char *key, const char *value); /* NULL value: null */
void jsonw_strn(struct jsonw *w, const char *key, const char *value, size_t n);
void jsonw_i64(struct jsonw *w, const char *key, int64_t value);
void jsonw_u64(struct jsonw *w, const char *key, uint64_t value);
void jsonw_f64(struct jsonw *w, const char *key, double value); /* shortest that reads back equal */
void jsonw_bool(struct jsonw *w, const char *key, bool value);
void jsonw_null(struct jsonw *w, const char *key);
void jsonw_raw(struct jsonw *w, const char *key, const char *json); /* already valid JSON */

#endif
