/* rapl_powercap.c — energy counters below /sys/class/powercap/intel-rapl*: CPU packages, DRAM and
 * the platform (psys). AMD's are found under the same name. Readable by root only since
 * CVE-2020-8694. */
#include <dirent.h>
#include <fcntl.h>

#include "base/clock.h"
#include "base/num.h"
#include "meter/rapl.h"
#include "sys/fs.h"

struct zone {
	enum domain domain;
	char device[64];
	char folder[256]; /* below the class folder, for the note */
	int fd;           /* of energy_uj, kept open */
	struct rapl_unwrap unwrap;
	struct column *column;
};

struct powercap {
	size_t n;
	struct zone zones[RAPL_MAX_DOMAINS];
};

static bool read_u64(int fd, uint64_t *ret)
{
	char buf[32];
	ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	return num_parse_u64(buf, ret);
}

static int64_t powercap_read(void *arg, int64_t due_ns, enum meter_why why)
{
	struct powercap *p = arg;

	for (size_t i = 0; i < p->n; i++) {
		struct zone *z = &p->zones[i];
		uint64_t uj = 0;
		int64_t t0 = clock_now_ns();
		bool ok = read_u64(z->fd, &uj) && rapl_unwrap_add(&z->unwrap, uj);

		column_push(z->column, t0, clock_now_ns(), z->unwrap.total_uj, ok);
	}
	return meter_next_due(due_ns, RAPL_PERIOD_NS, why);
}

/* "package-0", "package-1-die-0", "psys", and "dram" below its package. */
static bool name_zone(const char *name, const char *parent, struct zone *z)
{
	if (str_starts(name, "package-")) {
		z->domain = DOMAIN_CPU_PACKAGE;
		lem_strlcpy(z->device, name, sizeof(z->device));
	} else if (str_eq(name, "psys")) {
		z->domain = DOMAIN_PSYS;
		lem_strlcpy(z->device, name, sizeof(z->device));
	} else if (str_eq(name, "dram")) {
		z->domain = DOMAIN_DRAM;
		(void)snprintf(z->device, sizeof(z->device), "dram%.40s",
			       str_starts(parent, "package") ? parent + strlen("package") : "");
	} else {
		return false; /* core and uncore lie inside package */
	}
	return true;
}

static bool is_known(const struct powercap *p, const char *device)
{
	for (size_t i = 0; i < p->n; i++)
		if (str_eq(p->zones[i].device, device))
			return true;
	return false;
}

/* 0, or the errno that kept the counter from being read. */
static int open_zone(const char *class, const char *folder, struct zone *z)
{
	_cleanup_free_ char *energy = lem_asprintf("%s/%s/energy_uj", class, folder);
	_cleanup_free_ char *range = lem_asprintf("%s/%s/max_energy_range_uj", class, folder);
	char line[32];
	uint64_t max_uj = 0, uj;

	z->fd = open(energy, O_RDONLY | O_CLOEXEC);
	if (z->fd < 0)
		return errno;
	if (fs_read_line(range, line, sizeof(line)))
		(void)num_parse_u64(line, &max_uj);
	z->unwrap = (struct rapl_unwrap){.modulus_uj = rapl_modulus_uj(max_uj)};
	lem_strlcpy(z->folder, folder, sizeof(z->folder));
	if (read_u64(z->fd, &uj))
		return 0;
	close(z->fd);
	return EIO;
}

/* Only zones of the CPU's own counters: "intel-rapl-mmio" shows the same package again. */
static int is_rapl(const struct dirent *d)
{
	return str_starts(d->d_name, "intel-rapl:");
}

static void name_of(const char *class, const char *folder, char *buf, size_t size)
{
	_cleanup_free_ char *path = lem_asprintf("%s/%s/name", class, folder);

	if (!fs_read_line(path, buf, size))
		buf[0] = '\0';
}

static int add_zone(struct meter_setup *su, struct powercap *p, const char *class,
		    const char *folder)
{
	struct zone z = {.fd = -1};
	char name[64], parent_name[64] = "", parent[256];
	char *colon;
	int r;

	name_of(class, folder, name, sizeof(name));
	if (!*name)
		return ENOENT; /* a link into a folder that is masked */
	lem_strlcpy(parent, folder, sizeof(parent));
	colon = strrchr(parent, ':');
	if (colon && colon != strchr(parent, ':')) {
		*colon = '\0';
		name_of(class, parent, parent_name, sizeof(parent_name));
	}
	if (!name_zone(name, parent_name, &z) || is_known(p, z.device) || p->n == RAPL_MAX_DOMAINS)
		return 0;
	r = open_zone(class, folder, &z);
	if (r == 0)
		p->zones[p->n++] = z;
	else
		(void)meter_add_status(su, "rapl_powercap", z.device, false,
				       "RAPL: cannot read %s: %s", folder, strerror(r));
	return r;
}

/* Returns the last errno met, 0 when every zone could be opened. */
static int discover(struct meter_setup *su, struct powercap *p, const char *class)
{
	struct dirent **names = NULL;
	int n = scandir(class, &names, is_rapl, alphasort), failed = 0;

	for (int i = 0; i < n; i++) {
		int r = add_zone(su, p, class, names[i]->d_name);

		failed = r ? r : failed;
		free(names[i]);
	}
	free(names);
	return failed;
}

static void explain(struct meter_setup *su, const char *class, int failed)
{
	struct meter_status *st = meter_add_status(su, "rapl_powercap", "", false, "%s", "");

	if (failed == EACCES || failed == EPERM) {
		lem_strlcpy(st->reason,
			    "RAPL: permission denied: the energy counters below "
			    "/sys/class/powercap are readable by root only",
			    sizeof(st->reason));
		lem_strlcpy(st->fix,
			    "run lem as root, or: sudo chmod a+r "
			    "/sys/class/powercap/intel-rapl:*/energy_uj",
			    sizeof(st->fix));
	} else if (failed == ENOENT) {
		lem_strlcpy(st->reason, "RAPL: the energy counters are masked in this container",
			    sizeof(st->reason));
		lem_strlcpy(st->fix,
			    "run lem on the host, or mount /sys/devices/virtual/powercap into "
			    "the container",
			    sizeof(st->fix));
	} else if (failed) {
		(void)snprintf(st->reason, sizeof(st->reason), "RAPL: cannot read %.90s: %.40s",
			       class, strerror(failed));
	} else {
		rapl_explain_absence("powercap energy counters", st->reason, sizeof(st->reason),
				     st->fix, sizeof(st->fix));
	}
}

static void add_columns(struct meter_setup *su, struct powercap *p)
{
	double hz = (double)NS_PER_S / (double)RAPL_PERIOD_NS;

	for (size_t i = 0; i < p->n; i++) {
		struct zone *z = &p->zones[i];

		z->column = meter_add_column(su, "rapl_powercap", SIGNAL_ENERGY_COUNTER_UJ,
					     z->domain, z->device, hz);
		z->column->live = z->domain == DOMAIN_CPU_PACKAGE;
		lem_strlcpy(z->column->s.note, z->folder, sizeof(z->column->s.note));
		su->cpu_energy |= z->domain == DOMAIN_CPU_PACKAGE;
		(void)meter_add_status(su, "rapl_powercap", z->device, true, "%s", "");
	}
	meter_add_task(su, powercap_read, p, RAPL_PERIOD_NS / 10)->at_marks = true;
}

static void powercap_report(void *state, struct meter_setup *su)
{
	const struct powercap *p = state;

	for (size_t i = 0; i < p->n; i++)
		rapl_report_still(su, p->zones[i].column);
}

static void powercap_close(void *state)
{
	struct powercap *p = state;

	for (size_t i = 0; i < p->n; i++)
		close(p->zones[i].fd);
	free(p);
}

static void *powercap_open(struct meter_setup *su)
{
	_cleanup_free_ char *class = lem_asprintf("%s/class/powercap", su->sysfs_root);
	struct powercap *p;
	int failed;

	if (su->cpu_energy)
		return NULL; /* the same counters, already read through perf */
	p = lem_calloc(1, sizeof(*p));
	failed = discover(su, p, class);
	if (p->n == 0) {
		explain(su, class, failed);
		powercap_close(p);
		return NULL;
	}
	add_columns(su, p);
	return p;
}

const struct meter_ops meter_rapl_powercap = {.name = "rapl_powercap",
					      .open = powercap_open,
					      .report = powercap_report,
					      .close = powercap_close};
