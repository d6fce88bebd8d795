#include "load/tokenize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever a server answers, there are ids that can be sent, or an error. Any text makes a request
 * or is refused. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	_cleanup_str_ struct str request = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;
	int32_t *ids = NULL;
	size_t n = 0;

	if (tokenize_answer((const char *)data, size, &a, &ids, &n, &err) < 0)
		assert(!ids && !n && *err.what);
	else
		assert(n > 0 && n <= size);
	for (size_t i = 0; i < n; i++)
		assert(ids[i] >= 0);
	if (tokenize_request(TOKENIZE_FORM_VLLM, "m", text, &request, &err) >= 0)
		assert(str_starts(str_c(&request), "{"));
	return 0;
}
