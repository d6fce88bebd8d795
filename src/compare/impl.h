/* impl.h — the parts of compare.h, for each other. */
#ifndef LEM_COMPARE_IMPL_H
#define LEM_COMPARE_IMPL_H

#include "compare/compare.h"

void compare_add(struct comparison *c, const char *field, bool differs, const char *fmt, ...)
	_printf_(4, 5);

/* facts.c: what one run did. n_first: of the first so many requests; uncounted: of those too that
 * only filled the engine. */
bool compare_answered(const struct request_record *q);
void compare_facts_of(const struct run_record *r, size_t n_first, bool uncounted,
		      struct compare_facts *ret);
/* An integer of the effective configuration; -1: it is not there. */
int64_t compare_config_int(const struct run_record *r, const char *section, const char *key);

/* Whether it has this text there. */
bool compare_config_is(const struct run_record *r, const char *section, const char *key,
		       const char *text);

/* requests.c: requests one by one, and their totals. */
void compare_requests(const struct compare_run *a, const struct compare_run *b,
		      struct comparison *c);

/* figures.c */
void compare_figures(const struct compare_run *a, const struct compare_run *b,
		     struct comparison *c);

#endif
