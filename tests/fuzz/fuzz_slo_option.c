#include <math.h>

#include "cli/slo_option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_limit(double ms)
{
	return isnan(ms) || (ms > 0 && ms <= 1e9);
}

/* What is taken sets a limit, each a time above 0; what is refused leaves the limits alone and says
 * what to write. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = lem_strndup((const char *)data, size);
	struct slo_limits l = {-1, -1, -1};
	struct lem_error err = LEM_ERROR_INIT;

	if (slo_option_parse(text, &l, &err) < 0) {
		if (err.code != LEM_E_USAGE || !*err.what || !*err.fix || l.ttft_ms != -1)
			abort();
		return 0;
	}
	if (!slo_any(&l) || !is_limit(l.ttft_ms) || !is_limit(l.tpot_ms) || !is_limit(l.e2e_ms))
		abort();
	return 0;
}
