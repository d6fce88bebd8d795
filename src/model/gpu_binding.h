/*
 * gpu_binding.h — which physical GPUs a run uses: resolved to UUIDs once on the host, then carried
 * to the engine and to the meter. n == 0 means CPU only.
 */
#ifndef LEM_MODEL_GPU_BINDING_H
#define LEM_MODEL_GPU_BINDING_H

#include "base/base.h"

struct gpu_ref {
	char requested[64]; /* the config's own spelling: "2", "GPU-…", "0000:65:00.0" */
	char uuid[96];
	char pci_bus_id[32];
	char name[96];
	int index;           /* host index, NVML order */
	int container_index; /* ordinal inside the container or under CUDA_VISIBLE_DEVICES */
	uint64_t memory_bytes;
};

struct gpu_binding {
	struct gpu_ref *gpus; /* in the order of the config */
	size_t n;
	char path[24]; /* "none", "process", "docker-cdi", … */
	bool proved;
};

#endif
