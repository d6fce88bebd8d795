/*
 * gpu_binding.h — which physical GPUs a run uses, how they reach the engine, and what the engine
 * was then seen to have. Resolved to UUIDs once on the host, then carried to the engine and to the
 * meter. n == 0 means CPU only. Made by gpu/route.h; `observed` and `proved` by the proof.
 */
#ifndef LEM_MODEL_GPU_BINDING_H
#define LEM_MODEL_GPU_BINDING_H

#include "base/base.h"

struct gpu_ref {
	char requested[64]; /* the config's own spelling: "2", "GPU-…", "0000:65:00.0" */
	char uuid[96];      /* what the engine is given: "GPU-…" or "MIG-…" */
	char card_uuid[96]; /* what is metered: the same, or the card that a MIG instance is cut
			       from */
	char pci_bus_id[32];
	char name[96];
	int index; /* host index, NVML order */
	/* What names the device in the engine's CUDA_VISIBLE_DEVICES list before it is applied: in
	 * a container the rank in PCI order among the devices it is given, else the position in
	 * gpus. */
	int container_index;
	uint64_t memory_bytes;
	int64_t t_lost_ns; /* the driver said that it is gone (R41), CLOCK_MONOTONIC; 0 never */
};

/* The device whose energy is read: old records know only one UUID. */
static inline const char *gpu_ref_card(const struct gpu_ref *g)
{
	return g->card_uuid[0] ? g->card_uuid : g->uuid;
}

/* What is asked of a container engine. Never a count, never "all" (routing.md R01, R02, R37). */
struct gpu_device_request {
	const char *driver;     /* "cdi", "nvidia"; NULL: no device request */
	const char *const *ids; /* NULL-terminated: "nvidia.com/gpu=GPU-…" or "GPU-…" */
	const char *runtime;    /* "nvidia", or NULL for the default one */
};

/* What a container engine says of itself (GET /info), as far as routing depends on it. */
struct gpu_engine_facts {
	bool asked; /* false: none was asked (a dry run); CDI is assumed and a warning says so */
	bool rootless, podman;
	bool nvidia_runtime; /* a runtime named "nvidia" is registered */
	bool cdi_on;         /* CDISpecDirs is not empty */
	bool cdi_listed;     /* it tells its CDI devices (API >= 1.50) */
	const char *const
		*cdi_devices; /* NULL-terminated, qualified names; from the daemon or, when
			       * it does not tell, from the host's specs (gpu/cdi.h) */
	/* Version of a Podman whose socket takes a device request and starts the container
	 * without the devices, with no error; NULL: none such. */
	const char *drops_requests;
	const char *const *cdi_spec_dirs; /* NULL-terminated, as the daemon tells; NULL: not told */
	bool systemd_cgroups;
};

/* A device as CUDA sees it from where the engine runs, in CUDA's order. */
struct gpu_observed {
	char uuid[96];
	char pci_bus_id[32];
};

/* What watching the driver's process lists during the window gave. */
enum gpu_guard {
	GPU_GUARD_NONE,   /* not watched, or the lists could not be read or matched */
	GPU_GUARD_SEEN,   /* the engine's processes were on every GPU of the binding */
	GPU_GUARD_UNSEEN, /* the lists could be read, but the engine was not on all of them */
	GPU_GUARD_STRAY,  /* the engine was on a GPU that gpus does not list */
};

/* A process that is not the engine's on a GPU that is being measured. */
struct gpu_foreigner {
	char card_uuid[96];
	int64_t pid; /* on the host */
	char name[64], user[32];
	bool graphics;                 /* only draws: a display server */
	uint64_t memory_bytes;         /* on the GPU; 0 unknown */
	int64_t t_first_ns, t_last_ns; /* seen, CLOCK_MONOTONIC */
};

struct gpu_binding {
	struct gpu_ref *gpus; /* in the order of the config */
	size_t n;
	/* "none", "process", "slurm", "container" (lem is inside one), "docker-cdi",
	 * "docker-runtime", "docker-hook", "podman-cdi" */
	char path[24];
	const char *const *env; /* NULL-terminated "NAME=value" for the engine; NULL: none */
	struct gpu_device_request request;
	const char *const *warnings; /* NULL-terminated; NULL: none */

	/* The proof (src/run/prove.c) and the watch (src/run/watch.c). In a run record gpus,
	 * observed and foreigners are malloc'ed, strings lie in its arena. */
	bool proved;
	char proof[160]; /* how it was proved, or why it could not be; "" nothing tried */
	struct gpu_observed *observed;
	size_t n_observed;
	struct gpu_foreigner *foreigners;
	size_t n_foreigners;
	enum gpu_guard guard_level;
	char guard[160]; /* how the process lists were watched, or why not; "" not watched */
};

#endif
