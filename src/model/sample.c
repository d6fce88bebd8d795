#include "model/sample.h"

const char *signal_name(enum signal s)
{
	static const char *const names[SIGNAL_COUNT] = {
		[SIGNAL_ENERGY_COUNTER_UJ] = "energy_counter_uj",
		[SIGNAL_POWER_AVERAGE_MW] = "power_average_mw",
		[SIGNAL_POWER_INSTANT_MW] = "power_instant_mw",
		[SIGNAL_POWER_RING_MW] = "power_ring_mw",
		[SIGNAL_TEMPERATURE_C] = "temperature_c",
		[SIGNAL_CLOCK_SM_MHZ] = "clock_sm_mhz",
		[SIGNAL_CLOCK_MEM_MHZ] = "clock_mem_mhz",
		[SIGNAL_CLOCK_REASONS] = "clock_reasons",
		[SIGNAL_UTIL_GPU_PCT] = "util_gpu_pct",
		[SIGNAL_MEMORY_USED_BYTES] = "memory_used_bytes",
		[SIGNAL_CPU_TIME_NS] = "cpu_time_ns",
		[SIGNAL_POWER_LIMIT_MW] = "power_limit_mw",
	};

	return (unsigned)s < SIGNAL_COUNT ? names[s] : "unknown";
}

const char *domain_name(enum domain d)
{
	static const char *const names[] = {
		[DOMAIN_GPU] = "gpu",
		[DOMAIN_CPU_PACKAGE] = "cpu_package",
		[DOMAIN_DRAM] = "dram",
		[DOMAIN_PSYS] = "psys",
		[DOMAIN_CPU_ESTIMATE] = "cpu_estimate",
		[DOMAIN_SELF] = "self",
	};

	return (size_t)d < ARRAY_LEN(names) ? names[d] : "unknown";
}

void sample_set_release(struct sample_set *s)
{
	for (size_t i = 0; i < s->n_series; i++) {
		free(s->series[i].t_begin_ns);
		free(s->series[i].t_end_ns);
		free(s->series[i].value);
		free(s->series[i].ok);
	}
	free(s->series);
	free(s->status);
	free(s->late_ns);
	*s = (struct sample_set){0};
}
