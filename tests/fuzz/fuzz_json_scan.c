#include <jansson.h>

#include "load/json_scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t depth_of(const char *s, size_t n)
{
	size_t depth = 0, most = 0;

	for (size_t i = 0; i < n; i++) {
		if (s[i] == '[' || s[i] == '{')
			most = MAX(most, ++depth);
		else if ((s[i] == ']' || s[i] == '}') && depth)
			depth--;
	}
	return most;
}

/* Against jansson: what it takes the scanner takes, and the other way round but for what jansson
 * refuses beyond the grammar: NUL and lone surrogates by \u, numbers that do not fit. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *copy = lem_malloc(size + 1); /* no byte beyond the end may be read */
	_cleanup_free_ char *exact = lem_malloc(size ? size : 1);
	struct json_scan s = {.at = exact, .end = exact + size};
	json_t *tree;
	bool ok;

	memcpy(copy, data, size);
	copy[size] = 0;
	memcpy(exact, data, size);
	ok = json_scan_skip(&s) && json_scan_end(&s);
	if (ok != !s.bad)
		abort();
	if (memchr(data, 0, size))
		return 0; /* jansson loses a NUL that ends a number */
	tree = json_loadb(copy, size, JSON_DECODE_ANY, NULL);
	if (tree && !ok && depth_of(copy, size) <= JSON_SCAN_DEPTH)
		abort();
	if (!tree && ok && !strstr(copy, "\\u") && !strpbrk(copy, "eE") && size < 18)
		abort();
	json_decref(tree);
	return 0;
}
