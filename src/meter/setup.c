#include <math.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "meter/ops.h"

enum {
	BYTES_PER_ENTRY = 3 * 8 + 1, /* two stamps, value, ok */
	CACHE_LINE = 64,
	SPARE_ENTRIES = 256, /* the hunt for a counter's phase, marks, last reads */
};

#define DEFAULT_DURATION_NS (3600 * NS_PER_S)
/* A GPU's counter costs 3 to 15 ms of CPU a read (H100); marks sharpen the edges that matter. */
#define DEFAULT_COUNTER_HZ 1.0
#define MAX_COUNTER_HZ     10.0

struct column *meter_add_column(struct meter_setup *su, const char *meter, enum signal signal,
				enum domain domain, const char *device, double hz)
{
	struct column *c = lem_calloc(1, sizeof(*c));

	c->s.signal = signal;
	c->s.domain = domain;
	lem_strlcpy(c->s.device, device, sizeof(c->s.device));
	lem_strlcpy(c->s.meter, meter, sizeof(c->s.meter));
	c->hz = hz;
	c->whole = signal == SIGNAL_ENERGY_COUNTER_UJ;
	c->watts = NAN;
	*vec_push(&su->columns) = c;
	return c;
}

struct meter_task *meter_add_task(struct meter_setup *su,
				  int64_t (*read)(void *, int64_t, enum meter_why), void *arg,
				  int64_t slack_ns)
{
	struct meter_task *t = vec_push(&su->tasks);

	t->read = read;
	t->arg = arg;
	t->slack_ns = slack_ns;
	return t;
}

struct meter_status *meter_add_status(struct meter_setup *su, const char *meter, const char *device,
				      bool usable, const char *fmt, ...)
{
	struct meter_status *st = vec_push(&su->statuses);
	va_list ap;

	lem_strlcpy(st->meter, meter, sizeof(st->meter));
	lem_strlcpy(st->device, device, sizeof(st->device));
	st->usable = usable;
	va_start(ap, fmt);
	(void)vsnprintf(st->reason, sizeof(st->reason), fmt, ap);
	va_end(ap);
	return st;
}

void meter_setup_init(struct meter_setup *su, const struct meter_request *req,
		      const _Atomic pid_t *watched)
{
	const char *root = getenv("LEM_SYSFS_ROOT");
	double hz = req->counter_hz > 0 ? MIN(req->counter_hz, MAX_COUNTER_HZ) : DEFAULT_COUNTER_HZ;

	*su = (struct meter_setup){
		.req = req,
		.sysfs_root = root && *root ? root : "/sys",
		.counter_period_ns = (int64_t)((double)NS_PER_S / hz),
		.watched = watched,
	};
}

static bool is_named(const struct meter_request *req, const char *name)
{
	for (const char *const *m = req->meters; m && *m; m++)
		if (str_eq(*m, name))
			return true;
	return false;
}

/* "self" costs nothing and is part of every record: what the measuring itself took. */
static bool is_wanted(const struct meter_request *req, const struct meter_ops *ops)
{
	if (ops == &meter_self || is_named(req, ops->name))
		return true;
	if (ops == &meter_estimate)
		return req->estimate_watts_per_core > 0;
	return !ops->on_request && (!req->meters || is_named(req, "auto"));
}

static void refuse_unknown(struct meter_setup *su)
{
	for (const char *const *m = su->req->meters; m && *m; m++) {
		if (str_eq(*m, "auto") || meter_known(*m))
			continue;
		lem_strlcpy(
			meter_add_status(su, *m, "", false, "there is no meter `%.60s`", *m)->fix,
			"use auto, nvml, rapl_perf, rapl_powercap or estimate",
			sizeof(su->statuses.at->fix));
	}
}

size_t meter_setup_open(struct meter_setup *su, struct opened_meter opened[METERS_MAX])
{
	size_t n = 0;

	for (const struct meter_ops *const *m = meter_registry; *m; m++) {
		void *state;

		if (!is_wanted(su->req, *m))
			continue;
		state = (*m)->open(su);
		assert(n < METERS_MAX);
		if (state)
			opened[n++] = (struct opened_meter){*m, state};
	}
	refuse_unknown(su);
	return n;
}

static double entries_for(const struct column *c, int64_t duration_ns)
{
	return ceil(c->hz * 1.05 * (double)duration_ns / (double)NS_PER_S) + SPARE_ENTRIES;
}

/* What the columns that may be shortened have to shrink by to keep everything within the budget. */
static double fit_budget(const struct meter_setup *su, int64_t duration_ns)
{
	double whole = 0, rest = 0;

	for (size_t i = 0; i < su->columns.n; i++) {
		const struct column *c = su->columns.at[i];

		*(c->whole ? &whole : &rest) += entries_for(c, duration_ns) * BYTES_PER_ENTRY;
	}
	return rest > 0 ? MIN(1.0, MAX(0.0, METER_BUDGET_BYTES - whole) / rest) : 1.0;
}

/* The next n elements of the region; cut to whole cache lines so that columns share none. */
static void *carve(struct meter_setup *su, size_t n, size_t size)
{
	void *p = (char *)su->region + su->region_used;

	su->region_used += (n * size + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
	assert(su->region_used <= su->region_size);
	return p;
}

/* Pages of it exist once they are written; huge ones would make that 2 MB at the first touch. */
static void map_region(struct meter_setup *su, size_t entries)
{
	su->region_size = entries * BYTES_PER_ENTRY + su->columns.n * 4 * CACHE_LINE + CACHE_LINE;
	su->region = mmap(NULL, su->region_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (su->region ==
	    MAP_FAILED) /* no address space: as little as a failed malloc can be mended */
		abort();
	(void)madvise(su->region, su->region_size, MADV_NOHUGEPAGE);
}

void meter_setup_allocate(struct meter_setup *su)
{
	int64_t duration_ns =
		su->req->max_duration_ns > 0 ? su->req->max_duration_ns : DEFAULT_DURATION_NS;
	double shrink = fit_budget(su, duration_ns);
	double most = (double)METER_BUDGET_BYTES / BYTES_PER_ENTRY;
	size_t entries = 0;

	vec_foreach (&su->columns, p) {
		double want = entries_for(*p, duration_ns) * ((*p)->whole ? 1.0 : shrink);

		(*p)->s.cap = (size_t)MIN(MAX(want, (double)SPARE_ENTRIES), most);
		entries += (*p)->s.cap;
	}
	map_region(su, entries);
	vec_foreach (&su->columns, p) {
		struct series *s = &(*p)->s;

		s->t_begin_ns = carve(su, s->cap, sizeof(*s->t_begin_ns));
		s->t_end_ns = carve(su, s->cap, sizeof(*s->t_end_ns));
		s->value = carve(su, s->cap, sizeof(*s->value));
		s->ok = carve(su, s->cap, sizeof(*s->ok));
	}
}

void meter_setup_release(struct meter_setup *su)
{
	vec_foreach (&su->columns, p)
		free(*p);
	if (su->region)
		(void)munmap(su->region, su->region_size);
	su->region = NULL;
	vec_release(&su->columns);
	vec_release(&su->tasks);
	vec_release(&su->statuses);
}

int64_t meter_next_due(int64_t due_ns, int64_t period_ns, enum meter_why why)
{
	int64_t behind_ns = clock_now_ns() - due_ns;

	if (why == METER_MARK)
		return due_ns;
	return due_ns + period_ns * (behind_ns < 0 ? 1 : behind_ns / period_ns + 1);
}
