/*
 * inventory.h — the NVIDIA GPUs that lem can see on this host, in NVML order (ascending PCI bus
 * id).
 */
#ifndef LEM_GPU_INVENTORY_H
#define LEM_GPU_INVENTORY_H

#include "gpu/nvml.h"

/* A part of a card that is split by MIG. It has no power or energy of its own. */
struct gpu_mig {
	char uuid[NVML_UUID_SIZE];          /* "MIG-…" */
	char name[NVML_NAME_SIZE];          /* "NVIDIA H100 80GB HBM3 MIG 1g.10gb"; "" unknown */
	uint64_t memory_bytes;              /* 0 unknown */
	int gpu_instance, compute_instance; /* -1 unknown */
};

struct gpu_device {
	int index; /* NVML order; not the minor number, not CUDA's ordinal */
	int minor; /* of /dev/nvidiaMINOR; -1 unknown */
	char uuid[NVML_UUID_SIZE];
	char pci_bus_id[32]; /* "00000000:65:00.0"; "" unknown */
	char name[NVML_NAME_SIZE];
	uint64_t memory_bytes;   /* 0 unknown */
	uint32_t power_limit_mw; /* enforced; 0 unknown */
	bool mig;                /* MIG is on: energy is the whole card's */
	struct gpu_mig *migs;    /* malloc'ed; in the driver's order */
	size_t n_migs;           /* 0 with `mig` on: none was made yet */
	int compute_mode;        /* 0 default, 2 prohibited, 3 exclusive process; -1 unknown */
	char problem[160];       /* why the device cannot be used; "" when it can */
	char fix[160];
};

struct gpu_inventory {
	struct gpu_device *gpus; /* malloc'ed */
	size_t n;
	char driver_version[NVML_VERSION_SIZE];
};

/* A device that does not answer keeps its place with `problem` set, so that indices stay true. */
int gpu_inventory_from(const struct nvml *nvml, struct gpu_inventory *ret, struct lem_error *err);
/* The same with a library opened for this call alone. No GPU at all is n == 0, not a failure. */
int gpu_inventory_read(struct gpu_inventory *ret, struct lem_error *err);
/* Is there an NVIDIA GPU on the PCI bus, or its kernel driver, whether or not NVML works? Tells a
 * host without GPUs from one whose driver is broken. Looks under $LEM_SYSFS_ROOT (/sys). */
bool gpu_hardware_seen(void);
void gpu_inventory_release(struct gpu_inventory *inv);
#define _cleanup_gpu_inventory_ _cleanup_(gpu_inventory_release)

#endif
