#include "doctor/facts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	struct doctor_toolkit t = {0};

	doctor_parse_toolkit(text, &a, &t);
	assert(t.accepts_envvar >= -1 && t.accepts_envvar <= 1);
	assert(t.no_cgroups >= -1 && t.no_cgroups <= 1);
	assert(!t.mode || strlen(t.mode) <= size);
	return 0;
}
