/*
 * num.h — strict text to number. The whole text must be the number: no blanks, no rest, no wrap,
 * no locale. Returns false and leaves *ret untouched otherwise.
 */
#ifndef LEM_BASE_NUM_H
#define LEM_BASE_NUM_H

#include "base/base.h"

bool num_parse_i64(const char *s, int64_t *ret);         /* decimal, optional sign */
bool num_parse_u64(const char *s, uint64_t *ret);        /* decimal, no sign */
bool num_parse_f64(const char *s, double *ret);          /* finite decimal; NaN and inf refused */
bool num_parse_duration_ns(const char *s, int64_t *ret); /* "1.5s" "20ms" "5us" "2m" "1h" "3d" */
bool num_parse_bytes(const char *s, uint64_t *ret);      /* "8g" "8GiB" "512m" "1GB" "4096" */

/* "1.23 GiB", "412 MiB", "17 B"; buf of 24 bytes is enough. Returns buf. */
char *num_format_bytes(uint64_t bytes, char *buf, size_t size);
/* "1 h 02 min", "3 min 20 s", "12.3 s", "45 ms"; buf of 24 bytes is enough. Returns buf. */
char *num_format_duration(int64_t ns, char *buf, size_t size);

#endif
