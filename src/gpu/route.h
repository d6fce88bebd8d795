/*
 * route.h — from what a config asks for to what the engine must be given. A pure function: the
 * caller read the inventory, the environment and what the container engine says of itself. The rule
 * is routing.md sections 11 to 13, the same everywhere.
 *
 * What a container engine says of itself is struct gpu_engine_facts (model/gpu_binding.h).
 *
 *   gpus: [2, 5] as a process        CUDA_VISIBLE_DEVICES=2,5
 *   gpus: [5, 2] in a container      request {GPU-of-5, GPU-of-2}, CUDA_VISIBLE_DEVICES=1,0,
 * because the container numbers its devices in PCI order
 *
 * Never a count, never "all". The order of CUDA's devices inside is the order of `gpus`.
 */
#ifndef LEM_GPU_ROUTE_H
#define LEM_GPU_ROUTE_H

#include "base/arena.h"
#include "base/error.h"
#include "gpu/inventory.h"
#include "model/gpu_binding.h"

enum gpu_target { GPU_TO_PROCESS, GPU_TO_CONTAINER };

/* Where lem itself runs, as gpu/place.h finds it. All NULL/false on a plain workstation. */
struct gpu_place {
	const char *cuda_visible_devices; /* NULL unset */
	bool in_container;                /* Docker, Podman, containerd, a pod */
	bool in_kubernetes;
	bool in_slurm;
	const char *slurm_step_gpus; /* SLURM_STEP_GPUS, else SLURM_JOB_GPUS; cross-check only */
	/* Inside a container: the host's numbers of the GPUs given to it ("2,5": LEM_HOST_GPUS,
	 * else NVIDIA_VISIBLE_DEVICES where it is a plain list) and their UUIDs in the same order
	 * (LEM_HOST_GPU_UUIDS). NULL: not told. */
	const char *host_gpus, *host_gpu_uuids;
};

struct gpu_route_request {
	const char *const *items; /* of gpus:, as written */
	size_t n;
	enum gpu_target target;
	const struct gpu_place *place;
	const struct gpu_engine_facts *engine; /* GPU_TO_CONTAINER only */
	bool allow_outside_allocation;
	size_t processes; /* GPUs that one rank group needs together: > 1 excludes MIG (R08) */
};

/*
 * The binding with everything but the proof; arrays and strings lie in `a`. Errors: those of
 * gpu/id.h, and LEM_E_REFUSED with R08 (MIG with more than one), R20/R21/R35 (the container engine
 * cannot pass these GPUs).
 */
int gpu_route(const struct gpu_route_request *q, const struct gpu_inventory *inv, struct arena *a,
	      struct gpu_binding *ret, struct lem_error *err);

#endif
