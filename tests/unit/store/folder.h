/*
 * folder.h — a temporary folder for one test, and small helpers around it.
 */
#ifndef LEM_TESTS_FOLDER_H
#define LEM_TESTS_FOLDER_H

#include "example.h"
#include "store/impl.h"

/* The current folder's path; made and entered by folder_enter, emptied by folder_leave. */
int folder_enter(void **state);
int folder_leave(void **state);

/* A store in ./results; the test fails when it cannot be opened. */
struct store *open_here(void);
/* Stores the example under this id with this start; the test fails when that fails. */
void put_example(struct store *s, const char *id, int64_t wall_start_ns);
/* The stored record of id equals the example's; the test fails otherwise. */
void expect_example(struct store *s, const char *id);

/* Runs SQL on ./results/lem.sqlite with a connection of its own. */
void tamper(const char *sql);
/* Rows of a SELECT count(*). */
int count_of(const char *sql);
bool integrity_ok(const char *database);

#endif
