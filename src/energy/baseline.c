#include "energy/energy.h"
#include "energy/uncertainty.h"

#include <math.h>

struct quantity energy_above_idle(struct quantity total_j, struct quantity idle_w,
				  int64_t duration_ns)
{
	double s = (double)duration_ns / (double)NS_PER_S;
	struct quantity idle_j, parts[2];

	if (!total_j.known)
		return total_j;
	if (!idle_w.known)
		return idle_w;
	/* Minus the idle energy: what was its high end is now the low one. */
	idle_j = quantity_of(-idle_w.value * s, -idle_w.high * s, -idle_w.low * s, "");
	parts[0] = total_j;
	parts[1] = idle_j;
	return uncertainty_sum(parts, 2, "total - idle power x duration");
}

struct quantity energy_sum(const struct quantity *q, size_t n, const char *method)
{
	return uncertainty_sum(q, n, method);
}
