#include "meter/rapl.h"

#include "sys/host.h"

bool rapl_unwrap_add(struct rapl_unwrap *u, uint64_t value_uj)
{
	if (u->modulus_uj && value_uj >= u->modulus_uj)
		return false;
	if (!u->has_last) {
		u->has_last = true;
		u->last_uj = value_uj;
		return true;
	}
	if (value_uj >= u->last_uj)
		u->total_uj += (int64_t)(value_uj - u->last_uj);
	else if (u->modulus_uj)
		u->total_uj += (int64_t)(u->modulus_uj - u->last_uj + value_uj);
	else
		return false; /* went backwards and cannot wrap: not a reading */
	u->last_uj = value_uj;
	return true;
}

uint64_t rapl_modulus_uj(uint64_t max_energy_range_uj)
{
	/* The kernel reports the largest value, 2^32 - 1 counts of (2^-ESU) J, typically 61 µJ a
	 * count; the counter wraps one count later. */
	uint64_t count_uj = (max_energy_range_uj + UINT32_MAX / 2) / UINT32_MAX;

	return max_energy_range_uj ? max_energy_range_uj + MAX(count_uj, (uint64_t)1) : 0;
}

/* Even an idle package draws watts: a second is enough to tell. */
#define STILL_NS NS_PER_S

void rapl_report_still(struct meter_setup *su, const struct column *c)
{
	size_t n = atomic_load(&c->n);
	struct host_facts h;

	for (size_t i = 1; i < n; i++)
		if (c->s.value[i] != c->s.value[0])
			return;
	if (n < 2 || c->s.t_end_ns[n - 1] - c->s.t_begin_ns[0] < STILL_NS)
		return;
	host_read(&h);
	lem_strlcpy(
		meter_add_status(su, c->s.meter, c->s.device, false,
				 "RAPL: the counter of %s stands still%s", c->s.device,
				 str_eq(h.virtualization, "none") ? "" : " in this virtual machine")
			->fix,
		"measure on the host itself", sizeof(su->statuses.at->fix));
}

void rapl_explain_absence(const char *what, char *reason, size_t reason_size, char *fix,
			  size_t fix_size)
{
	struct host_facts h;

	host_read(&h);
	if (*h.virtualization && !str_eq(h.virtualization, "none")) {
		(void)snprintf(reason, reason_size, "RAPL: no %s in this virtual machine", what);
		lem_strlcpy(fix,
			    "measure on the host itself, or set energy.estimate_watts_per_core for "
			    "a labelled estimate",
			    fix_size);
	} else if (*h.container && !str_eq(h.container, "none")) {
		(void)snprintf(reason, reason_size, "RAPL: no %s visible in this %s container",
			       what, h.container);
		lem_strlcpy(fix, "run lem on the host: containers hide the energy counters",
			    fix_size);
	} else {
		(void)snprintf(reason, reason_size, "RAPL: this CPU or kernel has no %s", what);
		lem_strlcpy(fix,
			    "load the kernel module: modprobe intel_rapl_msr (perf: modprobe rapl)",
			    fix_size);
	}
}
