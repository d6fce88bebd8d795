/*
 * nvml_fake.c — libnvml_fake.so: a libnvidia-ml.so.1 whose GPUs draw power by a law with an exactly
 * known integral, or replay a recording. Use it through LEM_NVML_LIBRARY. LEM_FAKE_NVML holds the
 * script, read at the first nvmlInit (and at a later one whose script is another), which is also
 * the zero of its times; as in the real library the last nvmlShutdown ends it:
 *
 *   gpus=2             how many (1)
 *   power=LAW          of all GPUs (const:300), see power_law.h; powerN=LAW of GPU N alone
 *   replay=FILE        counter and power of all GPUs from a recording (trace.h), in a loop
 *   dev=DIR            only GPUs whose node DIR/nvidiaMINOR exists are there, numbered anew, as in
 *                      a container; everything else in a script goes by the host's numbers
 *   period=100ms       of the counter's steps and of the power fields
 *   phase=13ms         GPU N steps at N times this after the start
 *   delay=5ms          how old the energy in a step is
 *   jitter=0ms         each step comes late by up to this
 *   limit=700000       power limit, mW
 *   start=1e6          the counter's value at the start, J
 *   mig=1              MIG mode is on
 *   migs=CARD:N        card CARD has N MIG instances, its mode is on; several with +
 *   name=TEXT          of all GPUs; nameN=TEXT of GPU N alone
 *   used=10g           memory in use; usedN=… of GPU N alone
 *   procs=GPU:PID[:BYTES]+…      what runs where; GPU is an index or CARD.INSTANCE
 *   graphics=GPU:PID[:BYTES]+…   the same in the graphics list
 *   procsfile=PATH     lines "GPU PID BYTES", read at each call
 *   proccomm=GPU:COMM+…          every process of this machine whose comm is COMM
 *   p2p=none           no peer access; p2p=0-1+2-3 these pairs alone (all)
 *   nvlink=18          links of each GPU to a switch; nvlink=0-1:4+… links of a pair (none)
 *   topology=50        nvmlGpuTopologyLevel_t of all pairs
 *   fabric=3[:RETURN]  nvmlGpuFabricState_t (0), and the status that goes with it
 *   cuda=13000 cc=90   CUDA version of the driver; compute capability
 *   persistence=1 ecc=1 eccpending=1 remap=0 remapfailed=0 retired=0
 *   computemode=3      (not supported)
 *   driver=580.00      version
 * and what goes wrong:
 *   init=18            return code of nvmlInit (9 no driver, 18 mismatch, …)
 *   unsupported=a,b    energy field185 field186 usage samples temperature clock reasons utilization
 *                      memory limit processes p2p topology nvlink fabric cuda cc persistence
 *                      ecc remap retired; permission=a,b the same with NO_PERMISSION
 *   lost=2s            from then on every call says GPU_LOST; lostgpu=1 only on that GPU
 *   nohandle=1         GPU 1 cannot be opened (GPU_LOST)
 *   reset=2s           the counter starts again from 0 then
 *   stuck=2s           the counter stands still from then on
 *   slow=50ms          each energy call takes this long
 *   hang=2s            from then on an energy call takes hangfor=3s
 *   flaky=7            every 7th energy call fails with UNKNOWN
 *
 * lem_fake_nvml_joules() tells the truth. Built also as libnvml_fake_old.so, without the functions
 * that old drivers lack, and libnvml_fake_broken.so, without one that nobody can do without.
 */
#include <math.h>
#include <stdatomic.h>
#include <unistd.h>

#include "nvml_fake.h"

#define RING_STEP_NS (20 * NS_PER_MS)
#define INSTANT_NS   (25 * NS_PER_MS)
#define AVERAGE_NS   NS_PER_S

struct fake fake;
static _Atomic int64_t energy_calls;

EXPORT double lem_fake_nvml_joules(unsigned gpu, int64_t t0_ns, int64_t t1_ns);

static void set_defaults(void)
{
	for (int i = 0; i < MAX_GPUS; i++)
		power_law_release(&fake.gpus[i].law);
	trace_release(&fake.trace);
	fake = (struct fake){
		.n_gpus = 1,
		.period_ns = 100 * NS_PER_MS,
		.phase_ns = 13 * NS_PER_MS,
		.delay_ns = 5 * NS_PER_MS,
		.limit_mw = 700000,
		.start_j = 1e6,
		.lost_gpu = -1,
		.no_handle = -1,
		.lost_ns = -1,
		.reset_ns = -1,
		.stuck_ns = -1,
		.slow_ns = -1,
		.hang_ns = -1,
		.hang_for_ns = 3 * NS_PER_S,
		.driver = "580.00",
	};
	fake_more_defaults();
	for (int i = 0; i < MAX_GPUS; i++) {
		fake.gpus[i].index = i;
		fake.gpus[i].mig = -1;
		(void)power_law_parse("const:300", &fake.gpus[i].law);
	}
}

static void set_power(const char *key, const char *value)
{
	int64_t only = -1;

	if (key[strlen("power")] && !num_parse_i64(key + strlen("power"), &only))
		return;
	for (int i = 0; i < MAX_GPUS; i++) {
		if (only >= 0 && only != i)
			continue;
		power_law_release(&fake.gpus[i].law);
		if (!power_law_parse(value, &fake.gpus[i].law))
			fprintf(stderr, "nvml_fake: no such power law: %s\n", value);
	}
}

static void set_key(const char *key, const char *value)
{
	static const struct {
		const char *key;
		int64_t *number, *duration_ns;
	} keys[] = {
		{"gpus", &fake.n_gpus, NULL},         {"limit", &fake.limit_mw, NULL},
		{"init", &fake.init_return, NULL},    {"mig", &fake.mig, NULL},
		{"lostgpu", &fake.lost_gpu, NULL},    {"nohandle", &fake.no_handle, NULL},
		{"flaky", &fake.flaky, NULL},         {"period", NULL, &fake.period_ns},
		{"phase", NULL, &fake.phase_ns},      {"delay", NULL, &fake.delay_ns},
		{"jitter", NULL, &fake.jitter_ns},    {"lost", NULL, &fake.lost_ns},
		{"reset", NULL, &fake.reset_ns},      {"stuck", NULL, &fake.stuck_ns},
		{"slow", NULL, &fake.slow_ns},        {"hang", NULL, &fake.hang_ns},
		{"hangfor", NULL, &fake.hang_for_ns},
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (!str_eq(keys[i].key, key))
			continue;
		if (keys[i].number ? num_parse_i64(value, keys[i].number)
				   : num_parse_duration_ns(value, keys[i].duration_ns))
			return;
	}
	if (fake_more_set(key, value))
		return;
	if (str_starts(key, "power"))
		set_power(key, value);
	else if (str_eq(key, "unsupported"))
		lem_strlcpy(fake.unsupported, value, sizeof(fake.unsupported));
	else if (str_eq(key, "permission"))
		lem_strlcpy(fake.permission, value, sizeof(fake.permission));
	else if (str_eq(key, "dev"))
		lem_strlcpy(fake.dev, value, sizeof(fake.dev));
	else if (str_eq(key, "driver"))
		lem_strlcpy(fake.driver, value, sizeof(fake.driver));
	else if (!(str_eq(key, "start") && num_parse_f64(value, &fake.start_j)) &&
		 !(str_eq(key, "replay") && trace_load(value, &fake.trace)))
		fprintf(stderr, "nvml_fake: cannot use %s=%s\n", key, value);
}

/* What there is to be opened: the real library shows no more. */
static void list_gpus(void)
{
	for (int i = 0; i < fake.n_gpus; i++) {
		_cleanup_free_ char *node =
			lem_asprintf("%s/nvidia%d", fake.dev, (int)fake.n_gpus - 1 - i);

		if (!fake.dev[0] || access(node, F_OK) == 0)
			fake.listed[fake.n_listed++] = i;
	}
}

static void read_script(void)
{
	const char *env = getenv("LEM_FAKE_NVML");
	_cleanup_free_ char *copy = lem_strdup(env ? env : "");
	char *save = NULL;

	set_defaults();
	for (char *t = strtok_r(copy, ";", &save); t; t = strtok_r(NULL, ";", &save)) {
		char *equals = strchr(t, '=');

		if (!equals)
			continue;
		*equals = '\0';
		set_key(t, equals + 1);
	}
	fake.n_gpus = MIN(MAX(fake.n_gpus, (int64_t)0), (int64_t)MAX_GPUS);
	list_gpus();
	fake.t_zero_ns = clock_now_ns();
}

static bool is_in(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = list; (p = strstr(p, word)); p++)
		if ((p == list || p[-1] == ',') && (p[n] == ',' || !p[n]))
			return true;
	return false;
}

static int64_t elapsed_ns(void)
{
	return clock_now_ns() - fake.t_zero_ns;
}

static bool has_come(int64_t at_ns)
{
	return at_ns >= 0 && elapsed_ns() >= at_ns;
}

/* What every call on a device asks first. */
int gate(nvml_device dev, const char *word)
{
	if (!fake.ready)
		return NVML_UNINITIALIZED;
	if (!dev)
		return NVML_INVALID_ARGUMENT;
	if (has_come(fake.lost_ns) && (fake.lost_gpu < 0 || fake.lost_gpu == dev->index))
		return NVML_GPU_LOST;
	if (is_in(fake.unsupported, word))
		return NVML_NOT_SUPPORTED;
	return is_in(fake.permission, word) ? NVML_NO_PERMISSION : NVML_SUCCESS;
}

/* Joules from the recording at t after the start; after its end from its beginning again. */
static double trace_joules(int64_t t_ns)
{
	const struct trace_signal *e = &fake.trace.signal['e'];
	int64_t first = e->rows[0].t_end_ns, length = e->rows[e->n - 1].t_end_ns - first;
	int64_t rounds = t_ns < 0 ? 0 : t_ns / length;
	const struct trace_row *row = trace_at(e, first + MAX(t_ns, (int64_t)0) - rounds * length);
	double per_round = (double)(e->rows[e->n - 1].value - e->rows[0].value) / 1e3;

	return (double)rounds * per_round + (double)(row->value - e->rows[0].value) / 1e3;
}

static double trace_watts(char signal, int64_t t_ns)
{
	const struct trace_signal *e = &fake.trace.signal['e'],
				  *s = &fake.trace.signal[(int)signal];
	int64_t first = e->rows[0].t_end_ns, length = e->rows[e->n - 1].t_end_ns - first;
	const struct trace_row *row = trace_at(s, first + t_ns % length);

	return row ? (double)row->value / 1e3 : 0;
}

static double joules(nvml_device dev, int64_t t_ns)
{
	return fake.trace.signal['e'].n ? trace_joules(t_ns)
					: power_law_joules(&dev->law, (double)t_ns / 1e9);
}

EXPORT double lem_fake_nvml_joules(unsigned gpu, int64_t t0_ns, int64_t t1_ns)
{
	return joules(&fake.gpus[gpu], t1_ns - fake.t_zero_ns) -
	       joules(&fake.gpus[gpu], t0_ns - fake.t_zero_ns);
}

/* When the fields of this GPU were last refreshed, after the start. */
static int64_t last_step_ns(nvml_device dev)
{
	int64_t phase_ns = dev->index * fake.phase_ns, t_ns = elapsed_ns();
	int64_t k = (int64_t)floor((double)(t_ns - phase_ns) / (double)fake.period_ns);
	int64_t step_ns = k * fake.period_ns + phase_ns;
	uint64_t hash = (uint64_t)(k + 1) * UINT64_C(0x9e3779b97f4a7c15);

	if (fake.jitter_ns && t_ns - step_ns < (int64_t)(hash >> 33) % fake.jitter_ns)
		step_ns -= fake.period_ns;
	return step_ns;
}

static double counter_joules(nvml_device dev)
{
	int64_t t_ns = last_step_ns(dev) - fake.delay_ns;

	if (fake.trace.signal['e'].n)
		return fake.start_j + trace_joules(elapsed_ns()); /* it steps by itself */
	if (fake.stuck_ns >= 0)
		t_ns = MIN(t_ns, fake.stuck_ns);
	if (fake.reset_ns >= 0 && t_ns >= fake.reset_ns)
		return joules(dev, t_ns) - joules(dev, fake.reset_ns);
	return fake.start_j + joules(dev, t_ns);
}

static double mean_watts(nvml_device dev, int64_t t_ns, int64_t span_ns)
{
	return (joules(dev, t_ns) - joules(dev, t_ns - span_ns)) / ((double)span_ns / 1e9);
}

static void pause_for(int64_t ns)
{
	while (!clock_sleep_until_ns(clock_now_ns() + ns))
		;
}

static _Atomic int users;
static char script_in_use[4096];

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlInit_v2(void)
{
	const char *script = getenv("LEM_FAKE_NVML");

	if (atomic_fetch_add(&users, 1) && fake.ready &&
	    str_eq(script_in_use, script ? script : ""))
		return NVML_SUCCESS;
	lem_strlcpy(script_in_use, script ? script : "", sizeof(script_in_use));
	read_script();
	if (fake.init_return) {
		atomic_fetch_sub(&users, 1);
		return (int)fake.init_return;
	}
	fake.ready = true;
	return NVML_SUCCESS;
}

EXPORT int nvmlShutdown(void);
EXPORT int nvmlShutdown(void)
{
	if (atomic_fetch_sub(&users, 1) > 1)
		return NVML_SUCCESS;
	set_defaults();
	for (int i = 0; i < MAX_GPUS; i++)
		power_law_release(&fake.gpus[i].law);
	return NVML_SUCCESS;
}

EXPORT int nvmlSystemGetDriverVersion(char *buf, unsigned size);
EXPORT int nvmlSystemGetDriverVersion(char *buf, unsigned size)
{
	return lem_strlcpy(buf, fake.driver, size) < size ? NVML_SUCCESS : NVML_INSUFFICIENT_SIZE;
}

EXPORT int nvmlDeviceGetCount_v2(unsigned *n);
EXPORT int nvmlDeviceGetCount_v2(unsigned *n)
{
	*n = (unsigned)fake.n_listed;
	return fake.ready ? NVML_SUCCESS : NVML_UNINITIALIZED;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *dev);
EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *dev)
{
	if (index >= (unsigned)fake.n_listed)
		return NVML_INVALID_ARGUMENT;
	if (fake.no_handle == fake.listed[index])
		return NVML_GPU_LOST;
	*dev = &fake.gpus[fake.listed[index]];
	return NVML_SUCCESS;
}

void fake_uuid(int index, char *buf, unsigned size)
{
	(void)snprintf(buf, size, "GPU-%08x-fa4e-4000-8000-%012x", 0x1a2b3c40u + (unsigned)index,
		       0xabcdefu + (unsigned)index);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, nvml_device *dev);
EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, nvml_device *dev)
{
	char own[NVML_UUID_SIZE];

	for (unsigned i = 0; i < (unsigned)fake.n_listed; i++) {
		fake_uuid(fake.listed[i], own, sizeof(own));
		if (str_eq(own, uuid))
			return nvmlDeviceGetHandleByIndex_v2(i, dev);
	}
	return NVML_NOT_FOUND;
}

#ifndef FAKE_BROKEN
EXPORT int nvmlDeviceGetUUID(nvml_device dev, char *buf, unsigned size);
EXPORT int nvmlDeviceGetUUID(nvml_device dev, char *buf, unsigned size)
{
	if (dev->mig < 0)
		fake_uuid(dev->index, buf, size);
	else
		fake_mig_uuid(dev->index, dev->mig, buf, size);
	return NVML_SUCCESS;
}
#endif

EXPORT int nvmlDeviceGetName(nvml_device dev, char *buf, unsigned size);
EXPORT int nvmlDeviceGetName(nvml_device dev, char *buf, unsigned size)
{
	(void)snprintf(buf, size, "%s%s", fake.name[dev->index],
		       dev->mig < 0 ? "" : " MIG 1g.10gb");
	return NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetPciInfo_v3(nvml_device dev, struct nvml_pci_info *pci);
EXPORT int nvmlDeviceGetPciInfo_v3(nvml_device dev, struct nvml_pci_info *pci)
{
	*pci = (struct nvml_pci_info){.bus = 0x10u + (uint32_t)dev->index};
	(void)snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", pci->bus);
	return NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetMinorNumber(nvml_device dev, unsigned *minor);
EXPORT int nvmlDeviceGetMinorNumber(nvml_device dev, unsigned *minor)
{
	*minor = (unsigned)(fake.n_gpus - 1 - dev->index); /* it need not follow the index */
	return NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetMigMode(nvml_device dev, unsigned *current, unsigned *pending);
EXPORT int nvmlDeviceGetMigMode(nvml_device dev, unsigned *current, unsigned *pending)
{
	*current = *pending = fake.mig != 0 || fake.n_migs[dev->index] > 0;
	return NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetEnforcedPowerLimit(nvml_device dev, unsigned *mw);
EXPORT int nvmlDeviceGetEnforcedPowerLimit(nvml_device dev, unsigned *mw)
{
	*mw = (unsigned)fake.limit_mw;
	return gate(dev, "limit");
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(nvml_device dev, unsigned long long *mj);
EXPORT int nvmlDeviceGetTotalEnergyConsumption(nvml_device dev, unsigned long long *mj)
{
	int64_t call = atomic_fetch_add(&energy_calls, 1) + 1;

	if (fake.slow_ns > 0)
		pause_for(fake.slow_ns / 2);
	*mj = (unsigned long long)llround(counter_joules(dev) * 1e3);
	if (has_come(fake.hang_ns))
		pause_for(fake.hang_for_ns);
	else if (fake.slow_ns > 0)
		pause_for(fake.slow_ns / 2);
	return fake.flaky && call % fake.flaky == 0 ? NVML_UNKNOWN : gate(dev, "energy");
}

EXPORT int nvmlDeviceGetPowerUsage(nvml_device dev, unsigned *mw);
EXPORT int nvmlDeviceGetPowerUsage(nvml_device dev, unsigned *mw)
{
	double w = fake.trace.signal['p'].n ? trace_watts('p', elapsed_ns())
					    : mean_watts(dev, last_step_ns(dev), AVERAGE_NS);

	*mw = (unsigned)lround(w * 1e3);
	return gate(dev, "usage");
}

EXPORT int nvmlDeviceGetTemperature(nvml_device dev, int sensor, unsigned *celsius);
EXPORT int nvmlDeviceGetTemperature(nvml_device dev, int sensor, unsigned *celsius)
{
	(void)sensor;
	*celsius = 40 + (unsigned)dev->index;
	return gate(dev, "temperature");
}

EXPORT int nvmlDeviceGetClockInfo(nvml_device dev, int type, unsigned *mhz);
EXPORT int nvmlDeviceGetClockInfo(nvml_device dev, int type, unsigned *mhz)
{
	*mhz = type == NVML_CLOCK_MEM ? 2619 : 1980;
	return gate(dev, "clock");
}

EXPORT int nvmlDeviceGetUtilizationRates(nvml_device dev, struct nvml_utilization *util);
EXPORT int nvmlDeviceGetUtilizationRates(nvml_device dev, struct nvml_utilization *util)
{
	*util = (struct nvml_utilization){97, 42};
	return gate(dev, "utilization");
}

EXPORT int nvmlDeviceGetMemoryInfo(nvml_device dev, struct nvml_memory *memory);
EXPORT int nvmlDeviceGetMemoryInfo(nvml_device dev, struct nvml_memory *memory)
{
	uint64_t used = fake.used_bytes[dev->index], total = FAKE_MEMORY_BYTES;

	if (dev->mig >= 0) {
		used = 0;
		total = FAKE_MIG_MEMORY_BYTES;
	}
	*memory = (struct nvml_memory){total, total - MIN(used, total), MIN(used, total)};
	return gate(dev, "memory");
}

#ifdef FAKE_OLD
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device dev, unsigned long long *reasons);
EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device dev, unsigned long long *reasons)
{
	*reasons = NVML_REASON_SW_POWER_CAP;
	return gate(dev, "reasons");
}
#else
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(nvml_device dev, unsigned long long *reasons);
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(nvml_device dev, unsigned long long *reasons)
{
	*reasons = NVML_REASON_IDLE;
	return gate(dev, "reasons");
}

static int read_field(nvml_device dev, struct nvml_field_value *f)
{
	unsigned mw = 0;

	f->value_type = NVML_VALUE_U32;
	switch (f->field_id) {
	case NVML_FIELD_POWER_AVERAGE:
		if (gate(dev, "field185") == NVML_SUCCESS)
			(void)nvmlDeviceGetPowerUsage(dev, &mw);
		f->value.u32 = mw;
		return gate(dev, "field185");
	case NVML_FIELD_POWER_INSTANT:
		f->value.u32 = (uint32_t)lround(
			1e3 * (fake.trace.signal['i'].n
				       ? trace_watts('i', elapsed_ns())
				       : mean_watts(dev, last_step_ns(dev), INSTANT_NS)));
		return gate(dev, "field186");
	default: return NVML_NOT_SUPPORTED;
	}
}

EXPORT int nvmlDeviceGetFieldValues(nvml_device dev, int n, struct nvml_field_value *values);
EXPORT int nvmlDeviceGetFieldValues(nvml_device dev, int n, struct nvml_field_value *values)
{
	for (int i = 0; i < n; i++) {
		values[i].status = read_field(dev, &values[i]);
		values[i].timestamp_us = clock_wall_ns() / NS_PER_US;
	}
	return gate(dev, "fields");
}

EXPORT int nvmlDeviceGetSamples(nvml_device dev, int type, unsigned long long last_seen_us,
				int *value_type, unsigned *count, struct nvml_sample *samples);
EXPORT int nvmlDeviceGetSamples(nvml_device dev, int type, unsigned long long last_seen_us,
				int *value_type, unsigned *count, struct nvml_sample *samples)
{
	int64_t offset_ns = clock_wall_offset_ns() + fake.t_zero_ns;
	int64_t newest = elapsed_ns() / RING_STEP_NS;
	unsigned n = 0;

	if (type != NVML_SAMPLES_TOTAL_POWER)
		return NVML_NOT_SUPPORTED;
	*value_type = NVML_VALUE_U32;
	if (!samples) {
		*count = RING_ENTRIES;
		return gate(dev, "samples");
	}
	for (int64_t k = newest - RING_ENTRIES + 1; k <= newest && n < *count; k++) {
		int64_t t_ns = k * RING_STEP_NS;
		uint64_t us = (uint64_t)((t_ns + offset_ns) / NS_PER_US);

		if (us <= last_seen_us)
			continue;
		samples[n].timestamp_us = us;
		samples[n++].value.u32 =
			(uint32_t)lround(1e3 * mean_watts(dev, t_ns, RING_STEP_NS));
	}
	*count = n;
	return n || gate(dev, "samples") != NVML_SUCCESS ? gate(dev, "samples") : NVML_NOT_FOUND;
}
#endif
