/*
 * good_facts.h — a healthy machine as `lem doctor` sees it: two H100, Docker with CDI, everything
 * readable. A test breaks one thing at a time.
 */
#ifndef LEM_TESTS_GOOD_FACTS_H
#define LEM_TESTS_GOOD_FACTS_H

#include "doctor/check.h"

/* Static storage; each call gives it afresh. */
struct doctor_facts *good_facts(void);

/* The result of the check of this id ("R23") in this group (NULL: the first one). */
struct doctor_result run_check(const struct doctor_facts *f, const char *id, const char *group);

#endif
