/*
 * tmp.h — a folder for one test program, with a cache of its own ($LEM_CACHE_DIR).
 */
#ifndef LEM_TESTS_WEIGHTS_TMP_H
#define LEM_TESTS_WEIGHTS_TMP_H

#include "base/base.h"
#include "model/model_shape.h"

extern char tmp_dir[64];

int tmp_start(void **state); /* group setup and teardown of cmocka */
int tmp_stop(void **state);
char *tmp_path(const char *name); /* in the folder; malloc'ed */
/* Writes name with these bytes and gives its path; malloc'ed. */
char *tmp_file(const char *name, const void *bytes, size_t n);
size_t tmp_entries(const char *path); /* files in a folder */

/* A llama of two layers whose file has some 100 KB. */
struct model_shape tmp_tiny(void);

#endif
