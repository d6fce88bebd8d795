#include "gpu/nvml.h"

#include <dlfcn.h>
#include <math.h>

#define NVML_SONAME "libnvidia-ml.so.1"

/* Where each pointer of struct nvml comes from: newest name first. */
struct symbol {
	size_t offset;
	bool required;
	const char *names[3];
};

#define SYMBOL(member, required, ...)                    \
	{                                                \
		offsetof(struct nvml, member), required, \
		{                                        \
			__VA_ARGS__                      \
		}                                        \
	}

static const struct symbol symbols[] = {
	SYMBOL(init, true, "nvmlInit_v2", "nvmlInit"),
	SYMBOL(shutdown, false, "nvmlShutdown"),
	SYMBOL(error_string, false, "nvmlErrorString"),
	SYMBOL(system_driver_version, false, "nvmlSystemGetDriverVersion"),
	SYMBOL(device_count, true, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"),
	SYMBOL(device_by_index, true, "nvmlDeviceGetHandleByIndex_v2",
	       "nvmlDeviceGetHandleByIndex"),
	SYMBOL(device_by_uuid, true, "nvmlDeviceGetHandleByUUID"),
	SYMBOL(uuid, true, "nvmlDeviceGetUUID"),
	SYMBOL(name, false, "nvmlDeviceGetName"),
	/* v2 and v1 have other layouts of nvmlPciInfo_t: not used. */
	SYMBOL(pci_info, false, "nvmlDeviceGetPciInfo_v3"),
	SYMBOL(minor_number, false, "nvmlDeviceGetMinorNumber"),
	SYMBOL(mig_mode, false, "nvmlDeviceGetMigMode"),
	SYMBOL(compute_mode, false, "nvmlDeviceGetComputeMode"),
	SYMBOL(power_limit, false, "nvmlDeviceGetEnforcedPowerLimit",
	       "nvmlDeviceGetPowerManagementLimit"),
	SYMBOL(total_energy, false, "nvmlDeviceGetTotalEnergyConsumption"),
	SYMBOL(power_usage, false, "nvmlDeviceGetPowerUsage"),
	SYMBOL(field_values, false, "nvmlDeviceGetFieldValues"),
	SYMBOL(samples, false, "nvmlDeviceGetSamples"),
	SYMBOL(temperature, false, "nvmlDeviceGetTemperature"),
	SYMBOL(clock_info, false, "nvmlDeviceGetClockInfo"),
	SYMBOL(clock_reasons, false, "nvmlDeviceGetCurrentClocksEventReasons",
	       "nvmlDeviceGetCurrentClocksThrottleReasons"),
	SYMBOL(utilization, false, "nvmlDeviceGetUtilizationRates"),
	SYMBOL(memory_info, false, "nvmlDeviceGetMemoryInfo"),
	/* v1 has another layout of nvmlProcessInfo_t: not used. */
	SYMBOL(compute_processes, false, "nvmlDeviceGetComputeRunningProcesses_v3",
	       "nvmlDeviceGetComputeRunningProcesses_v2"),
	SYMBOL(graphics_processes, false, "nvmlDeviceGetGraphicsRunningProcesses_v3",
	       "nvmlDeviceGetGraphicsRunningProcesses_v2"),
	SYMBOL(mig_max, false, "nvmlDeviceGetMaxMigDeviceCount"),
	SYMBOL(mig_by_index, false, "nvmlDeviceGetMigDeviceHandleByIndex"),
	SYMBOL(gpu_instance, false, "nvmlDeviceGetGpuInstanceId"),
	SYMBOL(compute_instance, false, "nvmlDeviceGetComputeInstanceId"),
	SYMBOL(cuda_driver_version, false, "nvmlSystemGetCudaDriverVersion_v2",
	       "nvmlSystemGetCudaDriverVersion"),
	SYMBOL(compute_capability, false, "nvmlDeviceGetCudaComputeCapability"),
	SYMBOL(persistence_mode, false, "nvmlDeviceGetPersistenceMode"),
	SYMBOL(ecc_mode, false, "nvmlDeviceGetEccMode"),
	SYMBOL(remapped_rows, false, "nvmlDeviceGetRemappedRows"),
	SYMBOL(retired_pending, false, "nvmlDeviceGetRetiredPagesPendingStatus"),
	SYMBOL(fabric_info, false, "nvmlDeviceGetGpuFabricInfo"),
	SYMBOL(fabric_info_v, false, "nvmlDeviceGetGpuFabricInfoV"),
	SYMBOL(p2p_status, false, "nvmlDeviceGetP2PStatus"),
	SYMBOL(common_ancestor, false, "nvmlDeviceGetTopologyCommonAncestor"),
	SYMBOL(nvlink_state, false, "nvmlDeviceGetNvLinkState"),
	/* the first version may write a shorter nvmlPciInfo_t: not used */
	SYMBOL(nvlink_remote, false, "nvmlDeviceGetNvLinkRemotePciInfo_v2"),
};

static const struct {
	int status;
	const char *text, *fix;
} returns[] = {
	{NVML_UNINITIALIZED, "the library is not initialised", ""},
	{NVML_INVALID_ARGUMENT, "invalid argument", ""},
	{NVML_NOT_SUPPORTED, "not supported by this GPU or driver", ""},
	{NVML_NO_PERMISSION, "permission denied",
	 "run as root, or give this user (or container) access to /dev/nvidia*"},
	{NVML_NOT_FOUND, "not found", "list what is there with `nvidia-smi -L`"},
	{NVML_INSUFFICIENT_SIZE, "buffer too small", ""},
	{NVML_DRIVER_NOT_LOADED, "the NVIDIA kernel driver is not loaded",
	 "load it with `modprobe nvidia`, or see `dmesg` for why it did not load; in a container, "
	 "start it with GPU access"},
	{NVML_TIMEOUT, "the driver did not answer in time", "see `dmesg` for NVRM messages"},
	{NVML_LIBRARY_NOT_FOUND, "a library that NVML needs is missing",
	 "reinstall the NVIDIA driver"},
	{NVML_FUNCTION_NOT_FOUND, "this version of the library has no such function",
	 "update the NVIDIA driver"},
	{NVML_GPU_LOST, "GPU lost: it has fallen off the bus",
	 "see `dmesg` for Xid 79; the GPU needs a reset or the machine a reboot"},
	{NVML_RESET_REQUIRED, "the GPU needs a reset",
	 "stop what uses it, then `nvidia-smi --gpu-reset -i INDEX`"},
	{NVML_VERSION_MISMATCH, "the library and the loaded kernel driver have different versions",
	 "reboot, or reload the nvidia kernel modules: the driver was updated while it was in use; "
	 "in "
	 "a container, do not install a driver of its own"},
	{NVML_IN_USE, "the GPU is in use by another process", ""},
	{NVML_NO_DATA, "no data yet", ""},
};

const char *nvml_return_text(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(returns); i++)
		if (returns[i].status == status)
			return returns[i].text;
	return status == NVML_SUCCESS ? "success" : "unknown error of the NVIDIA driver";
}

const char *nvml_return_fix(int status)
{
	for (size_t i = 0; i < ARRAY_LEN(returns); i++)
		if (returns[i].status == status)
			return returns[i].fix;
	return "";
}

static enum lem_code code_of(int status)
{
	switch (status) {
	case NVML_DRIVER_NOT_LOADED:
	case NVML_LIBRARY_NOT_FOUND:
	case NVML_NOT_FOUND: return LEM_E_NOT_FOUND;
	case NVML_NOT_SUPPORTED:
	case NVML_FUNCTION_NOT_FOUND:
	case NVML_VERSION_MISMATCH: return LEM_E_UNSUPPORTED;
	default: return LEM_E_IO;
	}
}

int nvml_fail(struct lem_error *err, int status, const char *fmt, ...)
{
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	(void)lem_fail(err, code_of(status), "cannot %s: %s", what, nvml_return_text(status));
	if (*nvml_return_fix(status))
		(void)lem_error_fix(err, "%s", nvml_return_fix(status));
	return lem_error_why(err, "NVML return code %d", status);
}

bool nvml_value_i64(int value_type, union nvml_value v, int64_t *ret)
{
	switch (value_type) {
	case NVML_VALUE_DOUBLE:
		if (!(fabs(v.d) < 9e18))
			return false;
		*ret = llround(v.d);
		return true;
	case NVML_VALUE_U32: *ret = v.u32; return true;
	case NVML_VALUE_ULONG:
	case NVML_VALUE_U64:
		if (v.u64 > INT64_MAX)
			return false;
		*ret = (int64_t)v.u64;
		return true;
	case NVML_VALUE_I64: *ret = v.i64; return true;
	case NVML_VALUE_I32: *ret = v.i32; return true;
	case NVML_VALUE_U16: *ret = v.u16; return true;
	default: return false;
	}
}

static int resolve(struct nvml *n, struct lem_error *err)
{
	for (size_t i = 0; i < ARRAY_LEN(symbols); i++) {
		void *f = NULL;

		for (size_t k = 0; k < ARRAY_LEN(symbols[i].names) && symbols[i].names[k] && !f;
		     k++)
			f = dlsym(n->lib, symbols[i].names[k]);
		/* POSIX keeps data and function pointers interchangeable; ISO C does not. */
		memcpy((char *)n + symbols[i].offset, &f, sizeof(f));
		if (!f && symbols[i].required) {
			(void)lem_fail(err, LEM_E_UNSUPPORTED, "%s has no function %s", n->path,
				       symbols[i].names[0]);
			return lem_error_fix(err,
					     "update the NVIDIA driver, or unset LEM_NVML_LIBRARY "
					     "if it names another library");
		}
	}
	return 0;
}

/* Early drivers of the 535 branch wrote entries of 32 bytes in v3 (nvidia-ml-py 12.535.77 follows
 * them, later ones went back to 24): there the older name is the one whose layout is certain. */
static void avoid_odd_process_lists(struct nvml *n)
{
	static const struct {
		size_t offset;
		const char *name;
	} older[] = {
		{offsetof(struct nvml, compute_processes),
		 "nvmlDeviceGetComputeRunningProcesses_v2"},
		{offsetof(struct nvml, graphics_processes),
		 "nvmlDeviceGetGraphicsRunningProcesses_v2"},
	};

	if (!str_starts(n->driver_version, "535."))
		return;
	for (size_t i = 0; i < ARRAY_LEN(older); i++) {
		void *f = dlsym(n->lib, older[i].name);

		memcpy((char *)n + older[i].offset, &f, sizeof(f));
	}
}

static int fail_dlopen(const char *path, bool chosen, struct lem_error *err)
{
	const char *why = dlerror();

	if (chosen) {
		(void)lem_fail(err, LEM_E_NOT_FOUND, "cannot load %s (LEM_NVML_LIBRARY)", path);
		(void)lem_error_fix(err,
				    "set LEM_NVML_LIBRARY to a libnvidia-ml.so.1, or unset it");
	} else {
		(void)lem_fail(err, LEM_E_NOT_FOUND, "no NVIDIA driver (%s not found)", path);
		(void)lem_error_fix(err, "install the NVIDIA driver; in a container, start it with "
					 "GPU access (--gpus or a CDI device)");
	}
	return lem_error_why(err, "%s", why ? why : "dlopen failed");
}

int nvml_open(struct nvml **ret, struct lem_error *err)
{
	const char *chosen = getenv("LEM_NVML_LIBRARY");
	const char *path = chosen && *chosen ? chosen : NVML_SONAME;
	_cleanup_free_ struct nvml *n = lem_calloc(1, sizeof(*n));
	int r;

	lem_strlcpy(n->path, path, sizeof(n->path));
	n->lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!n->lib)
		return fail_dlopen(path, path == chosen, err);
	r = resolve(n, err);
	if (r < 0) {
		dlclose(n->lib);
		return r;
	}
	r = n->init();
	if (r != NVML_SUCCESS) {
		dlclose(n->lib);
		(void)nvml_fail(err, r, "use the NVIDIA driver");
		return lem_error_where(err, "%s", path);
	}
	if (!n->system_driver_version ||
	    n->system_driver_version(n->driver_version, sizeof(n->driver_version)) != NVML_SUCCESS)
		n->driver_version[0] = '\0';
	avoid_odd_process_lists(n);
	*ret = steal_ptr(n);
	return 0;
}

void nvml_close(struct nvml *n)
{
	if (!n)
		return;
	if (n->shutdown)
		(void)n->shutdown();
	dlclose(n->lib);
	free(n);
}
