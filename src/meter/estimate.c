/*
 * estimate.c — CPU seconds of the engine's process tree times a stated number of watts a core. Not
 * a measurement: opened only when the config asks for it, labelled `estimated`, in a domain of its
 * own so that it never enters a measured sum.
 *
 * The tree is walked through /proc/PID/task/TID/children; each process's CPU clock is read in
 * nanoseconds. What a process had used when it was last seen stays in the total after it has ended.
 */
#include <fcntl.h>
#include <math.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/num.h"
#include "meter/ops.h"

#define PERIOD_NS NS_PER_S
#define SLACK_NS  (PERIOD_NS / 10)

enum { TREE_MAX = 1024 };

struct process {
	pid_t pid;
	int64_t cpu_ns;
};

struct estimate {
	const _Atomic pid_t *watched;
	double watts_per_core;
	struct column *energy, *cpu;
	int64_t ended_ns; /* CPU time of processes whose number was given to another */
	size_t n_known;
	struct process known[TREE_MAX];
	size_t n_tree;
	pid_t tree[TREE_MAX]; /* of the walk in progress */
};

static void add_pid(struct estimate *e, pid_t pid)
{
	if (e->n_tree < TREE_MAX)
		e->tree[e->n_tree++] = pid;
}

static void add_children_of_thread(struct estimate *e, pid_t pid, const char *tid)
{
	char path[64], buf[4096], *save = NULL;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", (int)pid, tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[MAX(n, 0)] = '\0';
	for (char *t = strtok_r(buf, " \n", &save); t; t = strtok_r(NULL, " \n", &save)) {
		int64_t child;

		if (num_parse_i64(t, &child) && child > 0)
			add_pid(e, (pid_t)child);
	}
}

struct dirent64_head { /* the kernel's linux_dirent64, getdents(2) */
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* readdir would allocate; this thread must not. */
static void add_children(struct estimate *e, pid_t pid)
{
	_Alignas(8) char buf[4096];
	char path[32];
	int fd;
	long n;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return;
	while ((n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent64_head *d = (const void *)(buf + at);

			if (d->name[0] != '.')
				add_children_of_thread(e, pid, d->name);
			at += d->reclen;
		}
	}
	close(fd);
}

static void account(struct estimate *e, pid_t pid)
{
	struct timespec ts;
	clockid_t clock;
	int64_t cpu_ns;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &ts) != 0)
		return;
	cpu_ns = (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
	for (size_t i = 0; i < e->n_known; i++) {
		if (e->known[i].pid != pid)
			continue;
		if (cpu_ns < e->known[i].cpu_ns) /* the number was used again */
			e->ended_ns += e->known[i].cpu_ns;
		e->known[i].cpu_ns = cpu_ns;
		return;
	}
	if (e->n_known < TREE_MAX)
		e->known[e->n_known++] = (struct process){pid, cpu_ns};
}

static int64_t tree_cpu_ns(struct estimate *e)
{
	pid_t root = atomic_load_explicit(e->watched, memory_order_relaxed);
	int64_t total_ns;

	e->n_tree = 0;
	if (root > 0)
		add_pid(e, root);
	for (size_t i = 0; i < e->n_tree; i++) { /* grows while it is walked, up to TREE_MAX */
		account(e, e->tree[i]);
		add_children(e, e->tree[i]);
	}
	total_ns = e->ended_ns;
	for (size_t i = 0; i < e->n_known; i++)
		total_ns += e->known[i].cpu_ns;
	return total_ns;
}

static int64_t estimate_read(void *arg, int64_t due_ns, enum meter_why why)
{
	struct estimate *e = arg;
	int64_t t0 = clock_now_ns(), cpu_ns = tree_cpu_ns(e), t1 = clock_now_ns();

	column_push(e->cpu, t0, t1, cpu_ns, true);
	column_push(e->energy, t0, t1, llround((double)cpu_ns * e->watts_per_core / 1e3), true);
	return meter_next_due(due_ns, PERIOD_NS, why);
}

static void *estimate_open(struct meter_setup *su)
{
	double watts = su->req->estimate_watts_per_core;
	struct estimate *e;

	if (!(watts > 0 && watts < 1e6)) {
		struct meter_status *st = meter_add_status(
			su, "estimate", "", false, "estimate: no watts per core are stated");

		lem_strlcpy(st->fix, "set energy.estimate_watts_per_core", sizeof(st->fix));
		return NULL;
	}
	e = lem_calloc(1, sizeof(*e));
	e->watched = su->watched;
	e->watts_per_core = watts;
	e->energy = meter_add_column(su, "estimate", SIGNAL_ENERGY_COUNTER_UJ, DOMAIN_CPU_ESTIMATE,
				     "engine", 1.0);
	e->cpu = meter_add_column(su, "estimate", SIGNAL_CPU_TIME_NS, DOMAIN_CPU_ESTIMATE, "engine",
				  1.0);
	(void)snprintf(e->energy->s.note, sizeof(e->energy->s.note),
		       "estimated, %g W per busy core", watts);
	lem_strlcpy(e->cpu->s.note, "engine's process tree", sizeof(e->cpu->s.note));
	meter_add_task(su, estimate_read, e, SLACK_NS);
	(void)meter_add_status(su, "estimate", "engine", true, "estimated, not measured");
	return e;
}

const struct meter_ops meter_estimate = {
	.name = "estimate", .on_request = true, .open = estimate_open, .close = free};
