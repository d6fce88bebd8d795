/*
 * details.h — what the driver tells of each GPU beyond what routing and metering need: for people
 * and for checks. A call of its own, so that a run does not pay for it (some 50 µs a GPU).
 * Everything is optional: what the library, the driver or the GPU does not tell is not `told`,
 * never 0.
 */
#ifndef LEM_GPU_DETAILS_H
#define LEM_GPU_DETAILS_H

#include "gpu/nvml.h"

struct gpu_fact {
	bool told;
	int64_t value;
};

struct gpu_details {
	struct gpu_fact temperature_c;
	struct gpu_fact memory_used_bytes, memory_free_bytes;
	struct gpu_fact utilization_pct;
	struct gpu_fact compute_capability;  /* 90: 9.0 */
	struct gpu_fact persistence;         /* 1: on */
	struct gpu_fact ecc, ecc_pending;    /* 1: on; pending: after the next reset */
	struct gpu_fact row_remap_pending;   /* 1: a reset is due (Ampere and newer) */
	struct gpu_fact row_remap_failed;    /* 1: has failed in the past */
	struct gpu_fact page_retire_pending; /* 1: a reset is due (older than Ampere) */
	struct gpu_fact fabric_state;        /* NVML_FABRIC_…: NVSwitch machines */
	struct gpu_fact fabric_status; /* enum nvml_return; told once the state is COMPLETED */
};

/* GPU i of the driver's order into at[i]. One that cannot be opened tells nothing. */
void gpu_details_read(const struct nvml *nvml, size_t n, struct gpu_details *at);
/* The newest CUDA that the driver can run: 13000 is 13.0. Opens libcuda.so.1: milliseconds. */
struct gpu_fact gpu_cuda_driver_version(const struct nvml *nvml);

#endif
