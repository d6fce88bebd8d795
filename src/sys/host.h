/*
 * host.h — facts of this machine that belong beside a measurement. Unknown strings are "".
 */
#ifndef LEM_SYS_HOST_H
#define LEM_SYS_HOST_H

#include "base/base.h"

struct host_facts {
	char hostname[65];
	char kernel[96];
	char os[96]; /* PRETTY_NAME of os-release */
	char cpu_model[96];
	char governor[32];       /* cpufreq of CPU 0 */
	char virtualization[32]; /* "kvm", "none", … as far as /sys and /proc tell */
	char container[32];      /* "docker", "podman", "none", … */
	int cpus_online;         /* logical */
	int cpus_allowed;        /* logical, after affinity and the cgroup's quota (rounded up) */
	int cores_allowed;       /* physical cores among the allowed ones */
	uint64_t memory_total_bytes, memory_available_bytes;
};

void host_read(struct host_facts *ret);

#endif
