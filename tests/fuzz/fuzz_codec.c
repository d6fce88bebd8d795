#include "store/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What decodes must encode and decode again to the same bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_str_ struct str once = STR_INIT, twice = STR_INIT;
	struct run_record r, again;
	struct lem_error err;

	run_record_init(&r);
	run_record_init(&again);
	if (record_decode(data, size, &r, &err) < 0)
		return 0;
	record_encode(&r, &once);
	if (record_decode(str_c(&once), once.len, &again, &err) < 0)
		abort();
	record_encode(&again, &twice);
	if (once.len != twice.len || memcmp(once.buf, twice.buf, once.len) != 0)
		abort();
	run_record_release(&r);
	run_record_release(&again);
	return 0;
}
