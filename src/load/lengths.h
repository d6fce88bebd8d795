/*
 * lengths.h — how long prompts and answers are: from a distribution, or from a file. Pure; the same
 * configuration and seed give the same lengths on every machine, and asking for more of them keeps
 * the first ones.
 *
 *   fixed      all the same
 *   uniform    every whole number from min to max is as likely as any other
 *   lognormal  the logarithm is normal with standard deviation sigma around that of the median (or
 *              of mean / exp(sigma² / 2)), rounded; what is below min or above max is set to it
 *   file       one after the other, and from the start again
 */
#ifndef LEM_LOAD_LENGTHS_H
#define LEM_LOAD_LENGTHS_H

#include "base/error.h"
#include "config/config.h"

enum { LENGTHS_MAX = 10 * 1000 * 1000, LENGTH_TOKENS_MAX = 1 << 24 };

/* A file of lengths: a whole number a line, or two, "input,output"; empty lines and what follows a
 * # do not count. */
struct length_list {
	int32_t *input, *output; /* malloc'ed, n entries; output NULL: it has one column */
	size_t n;
};
/* LEM_E_REFUSED with file and line. */
int length_list_parse(const char *bytes, size_t n, const char *name, struct length_list *ret,
		      struct lem_error *err);
void length_list_release(struct length_list *l);
#define _cleanup_length_list_ _cleanup_(length_list_release)

/* n lengths of 1 to most tokens (those of the file may be longer: the caller cuts and counts). For
 * LENGTH_FILE `file` has n_file ≥ 1 entries, else it is not read. */
void lengths_draw(const struct length_config *c, uint64_t seed, int64_t most, const int32_t *file,
		  size_t n_file, int32_t *out, size_t n);

/* "128", "uniform 32 to 256", "lognormal, median 256, sigma 0.8, 16 to 2048", "from a.txt" */
void length_describe(const struct length_config *c, int64_t most, char *buf, size_t size);

#endif
