#include "gpu/details.h"

static struct gpu_fact told(int64_t value)
{
	return (struct gpu_fact){true, value};
}

static void read_load(const struct nvml *nvml, nvml_device dev, struct gpu_details *d)
{
	struct nvml_memory memory;
	struct nvml_utilization util;
	unsigned celsius;

	if (nvml->temperature &&
	    nvml->temperature(dev, NVML_TEMPERATURE_GPU, &celsius) == NVML_SUCCESS)
		d->temperature_c = told(celsius);
	if (nvml->memory_info && nvml->memory_info(dev, &memory) == NVML_SUCCESS) {
		d->memory_used_bytes = told((int64_t)memory.used_bytes);
		d->memory_free_bytes = told((int64_t)memory.free_bytes);
	}
	if (nvml->utilization && nvml->utilization(dev, &util) == NVML_SUCCESS)
		d->utilization_pct = told(util.gpu_pct);
}

static void read_modes(const struct nvml *nvml, nvml_device dev, struct gpu_details *d)
{
	int a = 0, b = 0;

	if (nvml->compute_capability && nvml->compute_capability(dev, &a, &b) == NVML_SUCCESS)
		d->compute_capability = told((int64_t)a * 10 + b);
	if (nvml->persistence_mode && nvml->persistence_mode(dev, &a) == NVML_SUCCESS)
		d->persistence = told(a != 0);
	if (nvml->ecc_mode && nvml->ecc_mode(dev, &a, &b) == NVML_SUCCESS) {
		d->ecc = told(a != 0);
		d->ecc_pending = told(b != 0);
	}
}

static void read_repairs(const struct nvml *nvml, nvml_device dev, struct gpu_details *d)
{
	unsigned correctable, uncorrectable, pending, failed;
	int retired;

	if (nvml->remapped_rows && nvml->remapped_rows(dev, &correctable, &uncorrectable, &pending,
						       &failed) == NVML_SUCCESS) {
		d->row_remap_pending = told(pending != 0);
		d->row_remap_failed = told(failed != 0);
	}
	if (nvml->retired_pending && nvml->retired_pending(dev, &retired) == NVML_SUCCESS)
		d->page_retire_pending = told(retired != 0);
}

/* The versioned call is the one that stays; drivers before 550 have the other one alone. */
static void read_fabric(const struct nvml *nvml, nvml_device dev, struct gpu_details *d)
{
	struct nvml_fabric_info_v2 v = {.version = NVML_FABRIC_INFO_V2};
	struct nvml_fabric_info old = {0};
	int state, status;

	if (nvml->fabric_info_v && nvml->fabric_info_v(dev, &v) == NVML_SUCCESS) {
		state = v.state;
		status = v.status;
	} else if (nvml->fabric_info && nvml->fabric_info(dev, &old) == NVML_SUCCESS) {
		state = old.state;
		status = old.status;
	} else {
		return;
	}
	d->fabric_state = told(state);
	if (state == NVML_FABRIC_COMPLETED)
		d->fabric_status = told(status);
}

void gpu_details_read(const struct nvml *nvml, size_t n, struct gpu_details *at)
{
	for (size_t i = 0; i < n; i++) {
		nvml_device dev;

		at[i] = (struct gpu_details){0};
		if (nvml->device_by_index((unsigned)i, &dev) != NVML_SUCCESS)
			continue;
		read_load(nvml, dev, &at[i]);
		read_modes(nvml, dev, &at[i]);
		read_repairs(nvml, dev, &at[i]);
		read_fabric(nvml, dev, &at[i]);
	}
}

struct gpu_fact gpu_cuda_driver_version(const struct nvml *nvml)
{
	int version;

	if (!nvml->cuda_driver_version || nvml->cuda_driver_version(&version) != NVML_SUCCESS)
		return (struct gpu_fact){0};
	return told(version);
}
