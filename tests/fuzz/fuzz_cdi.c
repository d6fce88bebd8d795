#include "gpu/cdi.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever a specification holds: devices with qualified names, or an error that says where. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	struct cdi_registry r = {0};

	if (cdi_parse((const char *)data, size, "fuzz.yaml", &a, &r, &err) < 0) {
		if (err.code != LEM_E_PARSE || !*err.what || !str_starts(err.where, "fuzz.yaml"))
			abort();
		return 0;
	}
	for (size_t i = 0; i < r.n; i++)
		if (!strchr(r.at[i].name, '/') || !strchr(r.at[i].name, '=') || r.at[i].missing)
			abort();
	return 0;
}
