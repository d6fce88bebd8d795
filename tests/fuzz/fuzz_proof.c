#include "gpu/proof.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever a container prints, there is a list or an error; comparing any list ends too, and the
 * same list asked for and seen is no difference. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	struct gpu_observed *seen = NULL;
	struct gpu_binding b = {0};
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 0;

	if (gpu_proof_parse(text, &a, &seen, &n, &err) < 0) {
		assert(!seen && n == 0 && *err.what);
		return 0;
	}
	assert(n <= 64);
	b.gpus = arena_array(&a, n + 1, sizeof(*b.gpus));
	b.n = n;
	for (size_t i = 0; i < n; i++)
		lem_strlcpy(b.gpus[i].uuid, seen[i].uuid, sizeof(b.gpus[i].uuid));
	assert(gpu_proof_compare(&b, seen, n, &err) == 0);
	for (size_t i = 0; i < n; i++)
		b.gpus[i] = (struct gpu_ref){.index = (int)i, .uuid = "MIG-none"};
	if (n && gpu_proof_compare(&b, seen, n - 1, &err) < 0)
		assert(err.code == LEM_E_ROUTING && *err.why);
	return 0;
}
