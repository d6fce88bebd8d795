#include "load/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever is taken holds what trace.h promises; the first byte chooses the slice. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct trace_slice slice = {0};
	struct trace t = {.n = 12345};
	struct lem_error err = LEM_ERROR_INIT;
	_cleanup_free_ char *exact = NULL;

	if (!size)
		return 0;
	if (data[0] & 1)
		slice.start_ns = INT64_C(1000000000);
	if (data[0] & 2)
		slice.duration_ns = INT64_C(5000000000);
	if (data[0] & 4)
		slice.most = 2;
	exact = lem_malloc(size); /* no byte beyond the end may be read */
	memcpy(exact, data + 1, size - 1);
	if (trace_parse(exact, size - 1, "f", &slice, &t, &err) < 0) {
		if (t.n != 12345 || err.code != LEM_E_REFUSED || !err.what[0] || !err.where[0])
			abort();
		return 0;
	}
	if (!t.n || t.n + t.n_skipped != t.n_rows || (slice.most && t.n > slice.most))
		abort();
	for (size_t i = 0; i < t.n; i++)
		if (t.at[i].input < 1 || t.at[i].output < 1 || t.at[i].input > TRACE_TOKENS_MAX ||
		    t.at[i].output > TRACE_TOKENS_MAX || t.at[i].t_ns < slice.start_ns ||
		    (i && t.at[i].t_ns < t.at[i - 1].t_ns))
			abort();
	trace_release(&t);
	return 0;
}
