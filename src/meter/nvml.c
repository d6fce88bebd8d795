/*
 * nvml.c — NVIDIA GPUs by UUID: energy counter, average and instant power, the driver's ring of 20
 * ms power samples, temperature, clocks and why they are held back, utilisation, memory.
 *
 * Each signal's support is probed once, when the meter is opened; what a device lacks is named in
 * its status. Costs and periods: energy.md sections 2 and 5. Never called in a window: PCIe
 * throughput (20 ms blocking), violation status, process lists.
 */
#include <math.h>

#include "base/clock.h"
#include "gpu/nvml.h"
#include "meter/ops.h"
#include "meter/pace.h"

#define POWER_NS       (500 * NS_PER_MS) /* the average is a 1 s boxcar: 2 Hz loses nothing */
#define POWER_ALONE_NS (100 * NS_PER_MS) /* when it has to stand in for the counter */
#define SLOW_NS        NS_PER_S
#define RING_NS        NS_PER_S /* 120 entries of 20 ms last 2.4 s */
#define RING_HZ        62.5     /* entries come every 16.5 to 23.6 ms */
#define SLACK_SHARE    2        /* cached reads may run half a period early */

enum { RING_MAX = 1024, MISSING_SIZE = 160 };

struct gpu {
	const struct nvml *nvml;
	nvml_device dev;
	char uuid[64];
	struct pace pace;
	int64_t power_ns;
	uint64_t ring_last_us;
	struct column *energy, *average, *instant, *ring, *limit;
	struct column *temperature, *clock_sm, *clock_mem, *reasons, *util, *memory;
	bool average_by_field; /* field 185, else nvmlDeviceGetPowerUsage */
	int lost;              /* the return that said so, and when */
	int64_t lost_ns;
	struct nvml_sample samples[RING_MAX];
};

struct nvml_meter {
	struct nvml *nvml;
	int64_t t_open_ns;
	size_t n;
	struct gpu *gpus;
};

static void note_lost(struct gpu *g, int status)
{
	if (g->lost || (status != NVML_GPU_LOST && status != NVML_RESET_REQUIRED))
		return;
	g->lost = status;
	g->lost_ns = clock_now_ns();
}

static int read_energy(struct gpu *g, int64_t *uj)
{
	unsigned long long mj = 0;
	int r = g->nvml->total_energy ? g->nvml->total_energy(g->dev, &mj)
				      : NVML_FUNCTION_NOT_FOUND;

	if (r == NVML_SUCCESS && mj > INT64_MAX / 1000)
		return NVML_UNKNOWN;
	*uj = (int64_t)mj * 1000;
	return r;
}

static int64_t counter_task(void *arg, int64_t due_ns, enum meter_why why)
{
	struct gpu *g = arg;
	int64_t uj = 0, t0, t1;
	int r;

	if (why == METER_MARK)
		pace_mark(&g->pace);
	t0 = clock_now_ns();
	r = read_energy(g, &uj);
	(void)due_ns;
	t1 = clock_now_ns();
	note_lost(g, r);
	column_push(g->energy, t0, t1, uj, r == NVML_SUCCESS);
	if (r != NVML_SUCCESS)
		return pace_failed(&g->pace, t1);
	return pace_next(&g->pace, t0, t1, uj);
}

static int read_fields(struct gpu *g, int64_t *average_mw, int64_t *instant_mw, int status[2])
{
	struct nvml_field_value f[2] = {{.field_id = NVML_FIELD_POWER_AVERAGE},
					{.field_id = NVML_FIELD_POWER_INSTANT}};
	int r = g->nvml->field_values ? g->nvml->field_values(g->dev, 2, f)
				      : NVML_FUNCTION_NOT_FOUND;

	for (int i = 0; i < 2; i++) {
		int64_t *v = i ? instant_mw : average_mw;

		status[i] = r != NVML_SUCCESS ? r : f[i].status;
		if (status[i] == NVML_SUCCESS && !nvml_value_i64(f[i].value_type, f[i].value, v))
			status[i] = NVML_UNKNOWN;
	}
	return r;
}

static int read_usage(struct gpu *g, int64_t *mw)
{
	unsigned u = 0;
	int r = g->nvml->power_usage ? g->nvml->power_usage(g->dev, &u) : NVML_FUNCTION_NOT_FOUND;

	*mw = u;
	return r;
}

static void push_fields(struct gpu *g)
{
	int64_t average = 0, instant = 0, t0 = clock_now_ns(), t1;
	int status[2];

	(void)read_fields(g, &average, &instant, status);
	t1 = clock_now_ns();
	note_lost(g, status[1]);
	if (g->average && g->average_by_field)
		column_push(g->average, t0, t1, average, status[0] == NVML_SUCCESS);
	if (g->instant)
		column_push(g->instant, t0, t1, instant, status[1] == NVML_SUCCESS);
}

static int64_t power_task(void *arg, int64_t due_ns, enum meter_why why)
{
	struct gpu *g = arg;

	if (g->instant || g->average_by_field)
		push_fields(g);
	if (g->average && !g->average_by_field) {
		int64_t mw, t0 = clock_now_ns();
		int r = read_usage(g, &mw);

		note_lost(g, r);
		column_push(g->average, t0, clock_now_ns(), mw, r == NVML_SUCCESS);
	}
	return meter_next_due(due_ns, g->power_ns, why);
}

/* One slow signal: its reader gives an enum nvml_return. */
typedef int (*reader)(struct gpu *g, int64_t *v);

static int read_temperature(struct gpu *g, int64_t *v)
{
	unsigned u = 0;
	int r = g->nvml->temperature ? g->nvml->temperature(g->dev, NVML_TEMPERATURE_GPU, &u)
				     : NVML_FUNCTION_NOT_FOUND;

	*v = u;
	return r;
}

static int read_clock(struct gpu *g, int type, int64_t *v)
{
	unsigned u = 0;
	int r = g->nvml->clock_info ? g->nvml->clock_info(g->dev, type, &u)
				    : NVML_FUNCTION_NOT_FOUND;

	*v = u;
	return r;
}

static int read_clock_sm(struct gpu *g, int64_t *v)
{
	return read_clock(g, NVML_CLOCK_SM, v);
}

static int read_clock_mem(struct gpu *g, int64_t *v)
{
	return read_clock(g, NVML_CLOCK_MEM, v);
}

static int read_reasons(struct gpu *g, int64_t *v)
{
	unsigned long long bits = 0;
	int r = g->nvml->clock_reasons ? g->nvml->clock_reasons(g->dev, &bits)
				       : NVML_FUNCTION_NOT_FOUND;

	*v = (int64_t)(bits & INT64_MAX);
	return r;
}

static int read_util(struct gpu *g, int64_t *v)
{
	struct nvml_utilization u = {0};
	int r = g->nvml->utilization ? g->nvml->utilization(g->dev, &u) : NVML_FUNCTION_NOT_FOUND;

	*v = u.gpu_pct;
	return r;
}

static int read_memory(struct gpu *g, int64_t *v)
{
	struct nvml_memory m = {0};
	int r = g->nvml->memory_info ? g->nvml->memory_info(g->dev, &m) : NVML_FUNCTION_NOT_FOUND;

	*v = (int64_t)(m.used_bytes & INT64_MAX);
	return r;
}

static int read_limit(struct gpu *g, int64_t *v)
{
	unsigned u = 0;
	int r = g->nvml->power_limit ? g->nvml->power_limit(g->dev, &u) : NVML_FUNCTION_NOT_FOUND;

	*v = u;
	return r;
}

static const struct slow_signal {
	reader read;
	enum signal signal;
	size_t column; /* offset in struct gpu */
	const char *text;
} slow_signals[] = {
	{read_temperature, SIGNAL_TEMPERATURE_C, offsetof(struct gpu, temperature), "temperature"},
	{read_clock_sm, SIGNAL_CLOCK_SM_MHZ, offsetof(struct gpu, clock_sm), "SM clock"},
	{read_clock_mem, SIGNAL_CLOCK_MEM_MHZ, offsetof(struct gpu, clock_mem), "memory clock"},
	{read_reasons, SIGNAL_CLOCK_REASONS, offsetof(struct gpu, reasons), "clock event reasons"},
	{read_util, SIGNAL_UTIL_GPU_PCT, offsetof(struct gpu, util), "utilisation"},
	{read_memory, SIGNAL_MEMORY_USED_BYTES, offsetof(struct gpu, memory), "memory"},
	{read_limit, SIGNAL_POWER_LIMIT_MW, offsetof(struct gpu, limit), "power limit"},
};

static struct column **slot(struct gpu *g, const struct slow_signal *s)
{
	return (struct column **)(void *)((char *)g + s->column);
}

static int64_t slow_task(void *arg, int64_t due_ns, enum meter_why why)
{
	struct gpu *g = arg;
	int64_t begin_ns = clock_now_ns();

	for (size_t i = 0; i < ARRAY_LEN(slow_signals); i++) {
		struct column *c = *slot(g, &slow_signals[i]);
		int64_t v = 0, end_ns;
		int r;

		if (!c)
			continue;
		r = slow_signals[i].read(g, &v);
		end_ns = clock_now_ns();
		note_lost(g, r);
		column_push(c, begin_ns, end_ns, v, r == NVML_SUCCESS);
		begin_ns = end_ns;
	}
	return meter_next_due(due_ns, SLOW_NS, why);
}

/* Entries younger than the last one taken. No new entry is not a failure. */
static int drain_ring(struct gpu *g, unsigned *n, int *type)
{
	int r;

	*n = RING_MAX;
	if (!g->nvml->samples)
		return NVML_FUNCTION_NOT_FOUND;
	r = g->nvml->samples(g->dev, NVML_SAMPLES_TOTAL_POWER, g->ring_last_us, type, n,
			     g->samples);
	if (r == NVML_NOT_FOUND || r == NVML_NO_DATA) {
		*n = 0;
		return NVML_SUCCESS;
	}
	*n = r == NVML_SUCCESS ? MIN(*n, (unsigned)RING_MAX) : 0;
	return r;
}

static int64_t ring_task(void *arg, int64_t due_ns, enum meter_why why)
{
	struct gpu *g = arg;
	int64_t offset_ns = clock_wall_offset_ns(); /* once a drain: wall time may be stepped */
	int type = 0;
	unsigned n;
	int r = drain_ring(g, &n, &type);

	note_lost(g, r);
	if (r != NVML_SUCCESS)
		column_failed(g->ring);
	for (unsigned i = 0; i < n; i++) {
		const struct nvml_sample *s = &g->samples[i];
		int64_t t_ns = (int64_t)s->timestamp_us * NS_PER_US - offset_ns, mw = 0;

		if (s->timestamp_us <= g->ring_last_us || s->timestamp_us > INT64_MAX / NS_PER_US)
			continue;
		g->ring_last_us = s->timestamp_us;
		column_push(g->ring, t_ns, t_ns, mw, nvml_value_i64(type, s->value, &mw));
	}
	return meter_next_due(due_ns, RING_NS, why);
}

/* Only "there is no such thing" rules a signal out; anything else may pass. */
static bool is_supported(int status)
{
	return status != NVML_NOT_SUPPORTED && status != NVML_FUNCTION_NOT_FOUND &&
	       status != NVML_INVALID_ARGUMENT && status != NVML_NO_PERMISSION;
}

struct probe {
	struct meter_setup *su;
	struct gpu *g;
	char missing[MISSING_SIZE];
};

static struct column *probe_signal(struct probe *p, int status, enum signal signal, double hz,
				   const char *text)
{
	size_t n = strlen(p->missing);

	if (is_supported(status))
		return meter_add_column(p->su, "nvml", signal, DOMAIN_GPU, p->g->uuid, hz);
	(void)snprintf(p->missing + n, sizeof(p->missing) - n, "%s%s", n ? ", " : "", text);
	return NULL;
}

static void probe_energy(struct probe *p)
{
	int64_t uj;
	/* Checks and marks come on top of the periodic reads. */
	double hz = 0.5 + (double)NS_PER_S / (double)p->su->counter_period_ns;

	p->g->energy = probe_signal(p, read_energy(p->g, &uj), SIGNAL_ENERGY_COUNTER_UJ, hz,
				    "energy counter");
	pace_init(&p->g->pace, p->su->counter_period_ns);
	if (p->g->energy) {
		struct meter_task *t = meter_add_task(p->su, counter_task, p->g, 0);

		t->at_marks = true;
		t->slack = &p->g->pace.slack_ns;
	}
}

static void probe_power(struct probe *p)
{
	struct gpu *g = p->g;
	int64_t average, instant;
	int status[2];
	double hz;

	g->power_ns = g->energy ? POWER_NS : POWER_ALONE_NS;
	hz = (double)NS_PER_S / (double)g->power_ns;
	(void)read_fields(g, &average, &instant, status);
	g->average_by_field = is_supported(status[0]);
	if (!g->average_by_field)
		status[0] = read_usage(g, &average);
	g->average = probe_signal(p, status[0], SIGNAL_POWER_AVERAGE_MW, hz, "average power");
	g->instant = probe_signal(p, status[1], SIGNAL_POWER_INSTANT_MW, hz, "instant power");
	if (g->average)
		lem_strlcpy(g->average->s.note,
			    g->average_by_field ? "field 185" : "nvmlDeviceGetPowerUsage",
			    sizeof(g->average->s.note));
	if (g->average || g->instant)
		meter_add_task(p->su, power_task, g, g->power_ns / SLACK_SHARE);
	if (g->average)
		g->average->live = true;
	else if (g->energy)
		g->energy->live = true;
}

static void probe_rest(struct probe *p)
{
	struct gpu *g = p->g;
	bool any = false;
	int type;
	unsigned n;

	for (size_t i = 0; i < ARRAY_LEN(slow_signals); i++) {
		const struct slow_signal *s = &slow_signals[i];
		int64_t v;

		*slot(g, s) = probe_signal(p, s->read(g, &v), s->signal, 1.0, s->text);
		any |= *slot(g, s) != NULL;
	}
	if (any)
		meter_add_task(p->su, slow_task, g, SLOW_NS / SLACK_SHARE);
	g->ring_last_us = (uint64_t)(clock_wall_ns() / NS_PER_US); /* not what was before the run */
	g->ring = probe_signal(p, drain_ring(g, &n, &type), SIGNAL_POWER_RING_MW, RING_HZ,
			       "sample ring");
	if (g->ring)
		meter_add_task(p->su, ring_task, g, RING_NS / SLACK_SHARE);
}

static void probe_gpu(struct meter_setup *su, struct gpu *g)
{
	struct probe p = {.su = su, .g = g};
	bool usable;

	probe_energy(&p);
	probe_power(&p);
	probe_rest(&p);
	usable = g->energy || g->average;
	(void)meter_add_status(su, "nvml", g->uuid, usable, "%s%.130s",
			       *p.missing ? "not supported: " : "", p.missing);
}

static bool open_gpu(struct meter_setup *su, struct nvml_meter *m, const struct gpu_ref *ref)
{
	struct gpu *g = &m->gpus[m->n];
	int r;

	g->nvml = m->nvml;
	lem_strlcpy(g->uuid, gpu_ref_card(ref), sizeof(g->uuid));
	r = m->nvml->device_by_uuid(gpu_ref_card(ref), &g->dev);
	if (r == NVML_SUCCESS)
		return true;
	lem_strlcpy(meter_add_status(su, "nvml", g->uuid, false, "GPU %d cannot be read: %s",
				     ref->index, nvml_return_text(r))
			    ->fix,
		    nvml_return_fix(r), sizeof(su->statuses.at->fix));
	return false;
}

static void nvml_meter_close(void *state)
{
	struct nvml_meter *m = state;

	nvml_close(m->nvml);
	free(m->gpus);
	free(m);
}

static void *nvml_meter_open(struct meter_setup *su)
{
	const struct gpu_binding *b = su->req->binding;
	struct lem_error err = LEM_ERROR_INIT;
	struct nvml_meter *m;

	if (!b || b->n == 0) {
		(void)meter_add_status(su, "nvml", "", false, "this run uses no GPU");
		return NULL;
	}
	m = lem_calloc(1, sizeof(*m));
	if (nvml_open(&m->nvml, &err) < 0) {
		struct meter_status *st =
			meter_add_status(su, "nvml", "", false, "%.150s", err.what);

		lem_strlcpy(st->fix, err.fix, sizeof(st->fix));
		nvml_meter_close(m);
		return NULL;
	}
	m->gpus = lem_calloc(b->n, sizeof(*m->gpus));
	m->t_open_ns = clock_now_ns();
	for (size_t i = 0; i < b->n; i++) {
		if (!open_gpu(su, m, &b->gpus[i]))
			continue;
		probe_gpu(su, &m->gpus[m->n]);
		m->n++;
	}
	return m;
}

static void nvml_meter_report(void *state, struct meter_setup *su)
{
	const struct nvml_meter *m = state;

	for (size_t i = 0; i < m->n; i++) {
		const struct gpu *g = &m->gpus[i];
		struct meter_status *st;

		if (!g->lost)
			continue;
		st = meter_add_status(su, "nvml", g->uuid, false, "%s, %.1f s after sampling began",
				      nvml_return_text(g->lost),
				      (double)(g->lost_ns - m->t_open_ns) / (double)NS_PER_S);
		lem_strlcpy(st->fix, nvml_return_fix(g->lost), sizeof(st->fix));
	}
}

const struct meter_ops meter_nvml = {.name = "nvml",
				     .open = nvml_meter_open,
				     .report = nvml_meter_report,
				     .close = nvml_meter_close};
