/*
 * use_fake.h — puts the fake NVML library in place for a test.
 */
#ifndef LEM_TESTS_USE_FAKE_H
#define LEM_TESTS_USE_FAKE_H

#include "base/base.h"

/* "libnvml_fake.so" of the build with this script (nvml_fake.c lists what it may say). */
static inline void use_fake_library(const char *name, const char *script)
{
	const char *build = getenv("LEM_BUILD_ROOT");
	_cleanup_free_ char *path = lem_asprintf("%s/tests/fakes/%s", build ? build : ".", name);

	setenv("LEM_NVML_LIBRARY", path, 1);
	setenv("LEM_FAKE_NVML", script, 1);
}

static inline void use_fake(const char *script)
{
	use_fake_library("libnvml_fake.so", script);
}

#endif
