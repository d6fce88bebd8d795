#include "doctor/explain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of exactly its size, so that a read past its end is seen. */
	_cleanup_free_ char *text = lem_malloc(size ? size : 1);
	struct explanation e[4];
	size_t n;

	if (size)
		memcpy(text, data, size);
	n = doctor_explain(text, size, e, ARRAY_LEN(e));
	assert(n <= ARRAY_LEN(e));
	for (size_t i = 0; i < n; i++) {
		assert(e[i].id && e[i].title && e[i].fix);
		assert(strlen(e[i].line) < sizeof(e[i].line));
		for (const char *p = e[i].line; *p; p++)
			assert((unsigned char)*p >= 0x20 && *p != 0x7f);
		for (size_t j = 0; j < i; j++)
			assert(!str_eq(e[i].id, e[j].id));
	}
	return 0;
}
