/* rapl_perf.c — the kernel's perf `power` PMU: energy counters of 64 bits that never wrap, one CPU
 * a package (or die), opened once and then read with read(2). Needs CAP_PERFMON or
 * kernel.perf_event_paranoid <= 0. */
#include <linux/perf_event.h>
#include <math.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/num.h"
#include "meter/rapl.h"
#include "sys/fs.h"

struct counter {
	struct rapl_event event;
	int fd;
	struct column *column;
};

struct perf {
	const struct rapl_perf_kernel *kernel;
	size_t n;
	struct counter counters[RAPL_MAX_DOMAINS];
};

static const struct {
	const char *event, *device;
	enum domain domain;
} wanted[] = {
	{"energy-pkg", "package", DOMAIN_CPU_PACKAGE},
	{"energy-ram", "dram", DOMAIN_DRAM},
	{"energy-psys", "psys", DOMAIN_PSYS},
};

static int kernel_open(const struct rapl_event *e)
{
	struct perf_event_attr attr = {.type = e->type, .size = sizeof(attr), .config = e->config};
	long fd = syscall(SYS_perf_event_open, &attr, -1, e->cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

static bool kernel_read(int fd, uint64_t *count)
{
	return read(fd, count, sizeof(*count)) == sizeof(*count);
}

static const struct rapl_perf_kernel real_kernel = {kernel_open, kernel_read};

static int64_t perf_read(void *arg, int64_t due_ns, enum meter_why why)
{
	struct perf *p = arg;

	for (size_t i = 0; i < p->n; i++) {
		struct counter *c = &p->counters[i];
		uint64_t count = 0;
		int64_t t0 = clock_now_ns();
		bool ok = p->kernel->read(c->fd, &count);
		double uj = (double)count * c->event.joules_per_count * 1e6;

		ok = ok && uj < 9e18;
		column_push(c->column, t0, clock_now_ns(), ok ? llround(uj) : 0, ok);
	}
	return meter_next_due(due_ns, RAPL_PERIOD_NS, why);
}

static bool read_pmu(const char *root, const char *file, char *buf, size_t size)
{
	_cleanup_free_ char *path =
		lem_asprintf("%s/bus/event_source/devices/power/%s", root, file);

	return fs_read_line(path, buf, size);
}

static int64_t read_topology(const char *root, int cpu, const char *file)
{
	_cleanup_free_ char *path =
		lem_asprintf("%s/devices/system/cpu/cpu%d/topology/%s", root, cpu, file);
	char line[32];
	int64_t v;

	return fs_read_line(path, line, sizeof(line)) && num_parse_i64(line, &v) ? v : -1;
}

/* "0-1,4" as numbers; stops quietly at what it does not understand. */
static size_t parse_cpus(char *list, int *out, size_t cap)
{
	size_t n = 0;
	char *save = NULL;

	for (char *t = strtok_r(list, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		char *dash = strchr(t, '-');
		int64_t a, b;

		if (dash)
			*dash = '\0';
		if (!num_parse_i64(t, &a) || a < 0)
			break;
		b = a;
		if (dash && !num_parse_i64(dash + 1, &b))
			break;
		for (; a <= b && n < cap; a++)
			out[n++] = (int)a;
	}
	return n;
}

/* Intel's multi-die packages have a counter a die; elsewhere the dies of a package show the same
 * one, which must count once (kernels before 6.12 list every die of an AMD package). */
static bool dies_have_counters(const char *root)
{
	_cleanup_free_ char *path = lem_asprintf("%s/devices/system/cpu/modalias", root);
	char line[128];

	/* "cpu:type:x86,ven0000fam0006…"; vendor 0 is Intel, 2 AMD (asm/processor.h) */
	return fs_read_line(path, line, sizeof(line)) && strstr(line, ",ven0000fam");
}

static bool is_listed(const struct rapl_event *out, size_t n, const char *device)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(out[i].device, device))
			return true;
	return false;
}

static void name_device(const char *root, const char *stem, enum domain domain, int cpu,
			bool by_die, struct rapl_event *e)
{
	int64_t package = read_topology(root, cpu, "physical_package_id");
	int64_t die = read_topology(root, cpu, "die_id");

	if (domain == DOMAIN_PSYS)
		lem_strlcpy(e->device, stem, sizeof(e->device));
	else if (by_die && die > 0)
		(void)snprintf(e->device, sizeof(e->device), "%s-%" PRId64 "-die-%" PRId64, stem,
			       MAX(package, (int64_t)0), die);
	else
		(void)snprintf(e->device, sizeof(e->device), "%s-%" PRId64, stem,
			       MAX(package, (int64_t)0));
}

/* "event=0x02" in events/NAME, joules a count in events/NAME.scale. */
static bool read_event(const char *root, const char *name, struct rapl_event *e)
{
	char file[64], line[64];
	char *end;

	(void)snprintf(file, sizeof(file), "events/%s", name);
	if (!read_pmu(root, file, line, sizeof(line)) || !str_starts(line, "event="))
		return false;
	e->config = strtoull(line + strlen("event="), &end, 0);
	if (*end != '\0' || end == line + strlen("event="))
		return false;
	(void)snprintf(file, sizeof(file), "events/%s.unit", name);
	if (read_pmu(root, file, line, sizeof(line)) && !str_eq(line, "Joules"))
		return false;
	(void)snprintf(file, sizeof(file), "events/%s.scale", name);
	return read_pmu(root, file, line, sizeof(line)) &&
	       num_parse_f64(line, &e->joules_per_count) && e->joules_per_count > 0;
}

size_t rapl_perf_discover(const char *sysfs_root, struct rapl_event *out, size_t cap)
{
	char line[256];
	int64_t type;
	int cpus[RAPL_MAX_DOMAINS];
	size_t n = 0, n_cpus;
	bool by_die = dies_have_counters(sysfs_root);

	if (!read_pmu(sysfs_root, "type", line, sizeof(line)) || !num_parse_i64(line, &type))
		return 0;
	if (!read_pmu(sysfs_root, "cpumask", line, sizeof(line)))
		return 0;
	n_cpus = parse_cpus(line, cpus, ARRAY_LEN(cpus));
	for (size_t w = 0; w < ARRAY_LEN(wanted); w++) {
		struct rapl_event e = {.domain = wanted[w].domain, .type = (uint32_t)type};

		if (!read_event(sysfs_root, wanted[w].event, &e))
			continue;
		for (size_t i = 0; i < n_cpus && n < cap; i++) {
			e.cpu = cpus[i];
			name_device(sysfs_root, wanted[w].device, e.domain, e.cpu, by_die, &e);
			if (!is_listed(out, n, e.device))
				out[n++] = e;
		}
	}
	return n;
}

static void explain(struct meter_setup *su, size_t n_events, int errnum)
{
	struct meter_status *st = meter_add_status(su, "rapl_perf", "", false, "%s", "");

	if (n_events == 0) {
		rapl_explain_absence("power PMU", st->reason, sizeof(st->reason), st->fix,
				     sizeof(st->fix));
	} else if (errnum == EACCES || errnum == EPERM) {
		lem_strlcpy(st->reason, "RAPL: permission denied by perf_event_open (power PMU)",
			    sizeof(st->reason));
		lem_strlcpy(st->fix,
			    "run lem as root, or: sudo sysctl kernel.perf_event_paranoid=0, or: "
			    "sudo setcap cap_perfmon+ep on the lem binary",
			    sizeof(st->fix));
	} else {
		(void)snprintf(st->reason, sizeof(st->reason), "RAPL: perf_event_open failed: %s",
			       strerror(errnum));
	}
}

static void perf_report(void *state, struct meter_setup *su)
{
	const struct perf *p = state;

	for (size_t i = 0; i < p->n; i++)
		rapl_report_still(su, p->counters[i].column);
}

static void perf_close(void *state)
{
	struct perf *p = state;

	for (size_t i = 0; i < p->n; i++)
		close(p->counters[i].fd);
	free(p);
}

static void add_counter(struct meter_setup *su, struct perf *p, const struct rapl_event *e, int fd)
{
	struct counter *c = &p->counters[p->n++];

	*c = (struct counter){.event = *e, .fd = fd};
	c->column = meter_add_column(su, "rapl_perf", SIGNAL_ENERGY_COUNTER_UJ, e->domain,
				     e->device, (double)NS_PER_S / (double)RAPL_PERIOD_NS);
	c->column->live = e->domain == DOMAIN_CPU_PACKAGE;
	su->cpu_energy |= e->domain == DOMAIN_CPU_PACKAGE;
	(void)snprintf(c->column->s.note, sizeof(c->column->s.note), "power PMU, CPU %d", e->cpu);
	(void)meter_add_status(su, "rapl_perf", e->device, true, "%s", "");
}

void *rapl_perf_open_with(struct meter_setup *su, const struct rapl_perf_kernel *kernel)
{
	struct rapl_event events[RAPL_MAX_DOMAINS];
	struct perf *p = lem_calloc(1, sizeof(*p));
	size_t n = rapl_perf_discover(su->sysfs_root, events, ARRAY_LEN(events));
	int errnum = 0;

	p->kernel = kernel;
	for (size_t i = 0; i < n; i++) {
		int fd = kernel->open(&events[i]);

		if (fd >= 0) {
			add_counter(su, p, &events[i], fd);
			continue;
		}
		errnum = -fd;
		(void)meter_add_status(su, "rapl_perf", events[i].device, false,
				       "RAPL: perf_event_open failed: %s", strerror(errnum));
	}
	if (p->n == 0) {
		explain(su, n, errnum);
		perf_close(p);
		return NULL;
	}
	meter_add_task(su, perf_read, p, RAPL_PERIOD_NS / 10)->at_marks = true;
	return p;
}

static void *perf_open(struct meter_setup *su)
{
	return rapl_perf_open_with(su, &real_kernel);
}

const struct meter_ops meter_rapl_perf = {
	.name = "rapl_perf", .open = perf_open, .report = perf_report, .close = perf_close};
