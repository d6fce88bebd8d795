#include "sys/host.h"

#include <math.h>
#include <sched.h>
#include <sys/utsname.h>

#include "base/num.h"
#include "sys/fs.h"

/* Value of `key` in a file of "key<sep>value" lines, blanks and quotes stripped. */
static bool read_key(const char *path, const char *key, char sep, char *buf, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		char *s = strchr(line, sep);

		if (!s || !str_starts(line, key))
			continue;
		s += 1 + strspn(s + 1, " \t\"");
		s[strcspn(s, "\"\n")] = '\0';
		lem_strlcpy(buf, s, size);
		return true;
	}
	return false;
}

static uint64_t meminfo(const char *key)
{
	char buf[64];
	unsigned long long kib = 0;

	if (!read_key("/proc/meminfo", key, ':', buf, sizeof(buf)) ||
	    sscanf(buf, "%llu", &kib) != 1)
		return 0;
	return kib * 1024;
}

/* CPUs' worth of the cgroup v2 quota, or INFINITY: "max 100000" or "150000 100000". */
static double cgroup_quota(void)
{
	char line[64];
	long long quota, period;

	if (!fs_read_line("/sys/fs/cgroup/cpu.max", line, sizeof(line)) ||
	    sscanf(line, "%lld %lld", &quota, &period) != 2 || period <= 0)
		return INFINITY;
	return (double)quota / (double)period;
}

/* A core is counted at its first allowed sibling. */
static int count_cores(const cpu_set_t *set)
{
	int cores = 0;

	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		char path[96], line[64];
		int first;

		if (!CPU_ISSET(cpu, set))
			continue;
		snprintf(path, sizeof(path),
			 "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
		if (!fs_read_line(path, line, sizeof(line)) || sscanf(line, "%d", &first) != 1)
			first = cpu;
		cores += first == cpu || !CPU_ISSET(first, set);
	}
	return cores;
}

static void read_cpus(struct host_facts *h)
{
	cpu_set_t set;
	double quota = cgroup_quota();

	h->cpus_online = (int)sysconf(_SC_NPROCESSORS_ONLN);
	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		for (int i = 0; i < h->cpus_online; i++)
			CPU_SET(i, &set);
	h->cpus_allowed = CPU_COUNT(&set);
	h->cores_allowed = count_cores(&set);
	if (quota < h->cpus_allowed) {
		h->cpus_allowed = MAX((int)ceil(quota), 1);
		h->cores_allowed = MIN(h->cores_allowed, h->cpus_allowed);
	}
	h->cores_allowed = MAX(h->cores_allowed, 1);
}

static void read_virtualization(struct host_facts *h)
{
	char flags[4096], vendor[64];

	if (fs_read_line("/sys/class/dmi/id/sys_vendor", vendor, sizeof(vendor)) &&
	    strstr(vendor, "QEMU"))
		lem_strlcpy(h->virtualization, "kvm", sizeof(h->virtualization));
	else if (read_key("/proc/cpuinfo", "flags", ':', flags, sizeof(flags)) &&
		 strstr(flags, " hypervisor"))
		lem_strlcpy(h->virtualization, "virtual machine", sizeof(h->virtualization));
	else
		lem_strlcpy(h->virtualization, "none", sizeof(h->virtualization));
	const char *kind = fs_exists("/.dockerenv")            ? "docker"
			   : fs_exists("/run/.containerenv")   ? "podman"
			   : getenv("KUBERNETES_SERVICE_HOST") ? "kubernetes"
							       : "none";

	lem_strlcpy(h->container, kind, sizeof(h->container));
}

void host_read(struct host_facts *ret)
{
	struct host_facts h = {0};
	struct utsname u;

	gethostname(h.hostname, sizeof(h.hostname) - 1);
	if (uname(&u) == 0)
		snprintf(h.kernel, sizeof(h.kernel), "%.20s %.60s", u.sysname, u.release);
	read_key("/etc/os-release", "PRETTY_NAME", '=', h.os, sizeof(h.os));
	read_key("/proc/cpuinfo", "model name", ':', h.cpu_model, sizeof(h.cpu_model));
	fs_read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", h.governor,
		     sizeof(h.governor));
	h.memory_total_bytes = meminfo("MemTotal");
	h.memory_available_bytes = meminfo("MemAvailable");
	read_cpus(&h);
	read_virtualization(&h);
	*ret = h;
}
