/*
 * example.h — run records for tests: one rich one written by hand, and any number of random ones.
 */
#ifndef LEM_TESTS_EXAMPLE_H
#define LEM_TESTS_EXAMPLE_H

#include "base/rand.h"
#include "model/run_record.h"
#include "model/summary.h"

/* Two GPUs, five phases, 20 requests, a series a meter, texts beyond ASCII, some fields NULL. The
 * same at every call. */
void example_record(struct run_record *r, const char *run_id);
/* Figures that go with it: some measured, some null with a reason. */
void example_summary(struct summary *s);

/* Sizes, texts, numbers (NaN and infinities among them) and NULLs drawn at random; valid. */
void random_record(struct run_record *r, struct rand *rnd);

/* Every field, bit by bit, without the help of the code under test; false names the field. */
bool records_equal(const struct run_record *a, const struct run_record *b, const char **ret_field);

#endif
