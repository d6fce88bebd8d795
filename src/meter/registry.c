#include "meter/ops.h"

/* Of two meters that read the same CPU packages the first wins: perf before powercap, because the
 * kernel unwraps its counters and it needs no root. */
const struct meter_ops *const meter_registry[] = {
	&meter_nvml, &meter_rapl_perf, &meter_rapl_powercap, &meter_estimate, &meter_self, NULL,
};

bool meter_known(const char *name)
{
	for (const struct meter_ops *const *m = meter_registry; *m; m++)
		if (str_eq((*m)->name, name))
			return true;
	return false;
}
