/* A stored record as it lies in the database: one zstd frame around codec.c's bytes. */
#include "store/codec.h"
#include "store/pack.h"

enum { FUZZ_MAX_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_str_ struct str plain = STR_INIT;
	struct run_record r;

	run_record_init(&r);
	if (unpack(data, size, FUZZ_MAX_BYTES, &plain, NULL) < 0) {
		if (plain.len != 0)
			abort(); /* outputs are untouched on failure */
		return 0;
	}
	if (plain.len > FUZZ_MAX_BYTES)
		abort();
	if (record_decode(str_c(&plain), plain.len, &r, NULL) >= 0)
		run_record_release(&r);
	return 0;
}
