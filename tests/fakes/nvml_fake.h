/*
 * nvml_fake.h — what the files of the fake NVML library share (nvml_fake.c says what it is).
 */
#ifndef LEM_TESTS_NVML_FAKE_H
#define LEM_TESTS_NVML_FAKE_H

#include <stdatomic.h>

#include "base/clock.h"
#include "base/num.h"
#include "gpu/nvml_abi.h"
#include "power_law.h"
#include "trace.h"

#define EXPORT __attribute__((visibility("default")))

enum { MAX_GPUS = 16, MAX_MIGS = 7, RING_ENTRIES = 120, MAX_PROCS = 64 };
#define FAKE_MEMORY_BYTES     (UINT64_C(80) << 30)
#define FAKE_MIG_MEMORY_BYTES (UINT64_C(10) << 30)

struct nvml_device_opaque {
	int index;
	int mig; /* instance of the card `index`; -1: the card */
	struct power_law law;
};

struct fake_proc {
	int gpu, mig; /* mig -1: on the card */
	int64_t pid;
	uint64_t used_bytes; /* UINT64_MAX: not told */
	bool graphics;
	char comm[16]; /* instead of pid, "" otherwise */
};

struct fake {
	bool ready;
	int64_t t_zero_ns;
	int64_t n_gpus, period_ns, phase_ns, delay_ns, jitter_ns, limit_mw;
	double start_j;
	int64_t init_return, mig, lost_gpu, no_handle, flaky;
	int64_t lost_ns, reset_ns, stuck_ns, slow_ns, hang_ns, hang_for_ns; /* -1: never */
	char unsupported[256], permission[256], driver[32], dev[256];
	int listed[MAX_GPUS], n_listed; /* the host's numbers of the GPUs that can be opened */
	struct trace trace;
	struct nvml_device_opaque gpus[MAX_GPUS];

	/* nvml_fake_more.c */
	struct nvml_device_opaque migs[MAX_GPUS][MAX_MIGS];
	int n_migs[MAX_GPUS];
	char name[MAX_GPUS][96];
	uint64_t used_bytes[MAX_GPUS];
	struct fake_proc procs[MAX_PROCS];
	size_t n_procs;
	char procs_file[256];
	bool no_peer[MAX_GPUS][MAX_GPUS];
	int direct_links[MAX_GPUS][MAX_GPUS], switch_links;
	int64_t topology, fabric_state, fabric_status, cuda, cc, persistence, ecc, ecc_pending,
		remap, remap_failed, retired, compute_mode; /* compute_mode -1: not supported */
};
extern struct fake fake;

/* What every call on a device asks first: SUCCESS, or what the script wants of `word`. */
int gate(nvml_device dev, const char *word);
void fake_uuid(int index, char *buf, unsigned size);
void fake_mig_uuid(int card, int instance, char *buf, unsigned size);
void fake_more_defaults(void);
/* False when it is not one of its keys. */
bool fake_more_set(const char *key, const char *value);

#endif
