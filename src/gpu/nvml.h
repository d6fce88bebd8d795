/*
 * nvml.h — libnvidia-ml.so.1, opened at run time.
 *
 * Every function may be missing (NULL) and every call may say NOT_SUPPORTED: call through the
 * pointers after a check, or through the helpers below, which give NVML_FUNCTION_NOT_FOUND for a
 * missing one. Returns of the library are enum nvml_return. NVML is thread-safe; a call may block
 * for milliseconds (energy.md section 2: the energy counter 3 ms typically, 93 ms seen).
 */
#ifndef LEM_GPU_NVML_H
#define LEM_GPU_NVML_H

#include "base/error.h"
#include "gpu/nvml_abi.h"

struct nvml {
	void *lib;
	char path[512]; /* what was opened */
	char driver_version[NVML_VERSION_SIZE];

	int (*init)(void);
	int (*shutdown)(void);
	const char *(*error_string)(int status);
	int (*system_driver_version)(char *buf, unsigned size);
	int (*device_count)(unsigned *n);
	int (*device_by_index)(unsigned index, nvml_device *dev);
	int (*device_by_uuid)(const char *uuid, nvml_device *dev);
	int (*uuid)(nvml_device dev, char *buf, unsigned size);
	int (*name)(nvml_device dev, char *buf, unsigned size);
	int (*pci_info)(nvml_device dev, struct nvml_pci_info *pci);
	int (*minor_number)(nvml_device dev, unsigned *minor);
	int (*mig_mode)(nvml_device dev, unsigned *current, unsigned *pending);
	int (*compute_mode)(nvml_device dev, int *mode);
	int (*power_limit)(nvml_device dev, unsigned *mw);
	int (*total_energy)(nvml_device dev, unsigned long long *mj);
	int (*power_usage)(nvml_device dev, unsigned *mw);
	int (*field_values)(nvml_device dev, int n, struct nvml_field_value *values);
	int (*samples)(nvml_device dev, int type, unsigned long long last_seen_us, int *value_type,
		       unsigned *count, struct nvml_sample *samples);
	int (*temperature)(nvml_device dev, int sensor, unsigned *celsius);
	int (*clock_info)(nvml_device dev, int type, unsigned *mhz);
	int (*clock_reasons)(nvml_device dev, unsigned long long *reasons);
	int (*utilization)(nvml_device dev, struct nvml_utilization *util);
	int (*memory_info)(nvml_device dev, struct nvml_memory *memory);

	/* *count: room, then how many there are; INSUFFICIENT_SIZE when there are more. */
	int (*compute_processes)(nvml_device dev, unsigned *count, struct nvml_process_info *infos);
	int (*graphics_processes)(nvml_device dev, unsigned *count,
				  struct nvml_process_info *infos);

	int (*mig_max)(nvml_device dev, unsigned *count);
	int (*mig_by_index)(nvml_device dev, unsigned index, nvml_device *mig); /* has holes */
	int (*gpu_instance)(nvml_device mig, unsigned *id);
	int (*compute_instance)(nvml_device mig, unsigned *id);

	int (*cuda_driver_version)(int *version); /* 13000 */
	int (*compute_capability)(nvml_device dev, int *major, int *minor);
	int (*persistence_mode)(nvml_device dev, int *on);
	int (*ecc_mode)(nvml_device dev, int *current, int *pending);
	int (*remapped_rows)(nvml_device dev, unsigned *correctable, unsigned *uncorrectable,
			     unsigned *pending, unsigned *failed);
	int (*retired_pending)(nvml_device dev, int *pending);
	int (*fabric_info)(nvml_device dev, struct nvml_fabric_info *info);
	int (*fabric_info_v)(nvml_device dev, struct nvml_fabric_info_v2 *info);

	int (*p2p_status)(nvml_device a, nvml_device b, int caps, int *status);
	int (*common_ancestor)(nvml_device a, nvml_device b, int *level);
	int (*nvlink_state)(nvml_device dev, unsigned link, int *active);
	int (*nvlink_remote)(nvml_device dev, unsigned link, struct nvml_pci_info *pci);
};

/*
 * Loads and initialises the library: $LEM_NVML_LIBRARY, else libnvidia-ml.so.1. Errors:
 * LEM_E_NOT_FOUND no library, no driver or no GPU behind it; LEM_E_UNSUPPORTED one that cannot be
 * used (driver and library differ, a symbol without which nothing works is missing). Each carries
 * what to do. Loading takes some 10 ms and more on a machine with many GPUs.
 */
int nvml_open(struct nvml **ret, struct lem_error *err);
void nvml_close(struct nvml *n); /* NULL is fine */

static inline void cleanup_nvml(struct nvml **n)
{
	nvml_close(*n);
}
#define _cleanup_nvml_ _cleanup_(cleanup_nvml)

/* "not supported", "GPU lost", …; for people. Never NULL. */
const char *nvml_return_text(int status);
/* What a person can do about a return, "" when nothing is known. */
const char *nvml_return_fix(int status);
/* An error for a failed call: "cannot WHAT: TEXT" with why and fix; returns -err->code. */
int nvml_fail(struct lem_error *err, int status, const char *fmt, ...) _printf_(3, 4);

/* A value of the stated type as an integer; false for a type or a number that cannot be one. */
bool nvml_value_i64(int value_type, union nvml_value v, int64_t *ret);

#endif
