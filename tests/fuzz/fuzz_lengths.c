#include "load/lengths.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_length_list_ struct length_list l = {0};
	struct lem_error err = LEM_ERROR_INIT;
	_cleanup_free_ char *exact = lem_malloc(size ? size : 1);
	const struct length_config c = {.distribution = LENGTH_FILE};
	int32_t out[5];

	memcpy(exact, data, size);
	if (length_list_parse(exact, size, "f", &l, &err) < 0) {
		if (l.n || l.input || l.output || err.code != LEM_E_REFUSED || !err.where[0])
			abort();
		return 0;
	}
	for (size_t i = 0; i < l.n; i++)
		if (l.input[i] < 1 || l.input[i] > LENGTH_TOKENS_MAX ||
		    (l.output && (l.output[i] < 1 || l.output[i] > LENGTH_TOKENS_MAX)))
			abort();
	lengths_draw(&c, 1, 100, l.input, l.n, out, ARRAY_LEN(out));
	if (out[4] != l.input[4 % l.n])
		abort();
	return 0;
}
