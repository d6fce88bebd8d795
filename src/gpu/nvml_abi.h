/*
 * nvml_abi.h — the binary interface of libnvidia-ml.so.1 as far as lem uses it, written from its
 * documentation so that no NVIDIA header is needed to build. Sizes and offsets: energy.md section 1
 * (checked there by compiling NVIDIA's header 13.3 for x86-64); the assertions below hold them.
 * The fake library of the tests is built from the same header.
 */
#ifndef LEM_GPU_NVML_ABI_H
#define LEM_GPU_NVML_ABI_H

#include "base/base.h"

typedef struct nvml_device_opaque *nvml_device;

enum nvml_return {
	NVML_SUCCESS = 0,
	NVML_UNINITIALIZED = 1,
	NVML_INVALID_ARGUMENT = 2,
	NVML_NOT_SUPPORTED = 3,
	NVML_NO_PERMISSION = 4,
	NVML_NOT_FOUND = 6,
	NVML_INSUFFICIENT_SIZE = 7,
	NVML_DRIVER_NOT_LOADED = 9,
	NVML_TIMEOUT = 10,
	NVML_LIBRARY_NOT_FOUND = 12,
	NVML_FUNCTION_NOT_FOUND = 13,
	NVML_GPU_LOST = 15,
	NVML_RESET_REQUIRED = 16,
	NVML_VERSION_MISMATCH = 18,
	NVML_IN_USE = 19,
	NVML_NO_DATA = 21,
	NVML_UNKNOWN = 999,
};

enum nvml_field {
	NVML_FIELD_MEMORY_TEMP = 82,
	NVML_FIELD_TOTAL_ENERGY = 83,
	NVML_FIELD_POWER_AVERAGE = 185,
	NVML_FIELD_POWER_INSTANT = 186,
};

enum nvml_value_type {
	NVML_VALUE_DOUBLE = 0,
	NVML_VALUE_U32 = 1,
	NVML_VALUE_ULONG = 2,
	NVML_VALUE_U64 = 3,
	NVML_VALUE_I64 = 4,
	NVML_VALUE_I32 = 5,
	NVML_VALUE_U16 = 6,
};

enum {
	NVML_SAMPLES_TOTAL_POWER = 0,
	NVML_TEMPERATURE_GPU = 0,
	NVML_CLOCK_SM = 1,
	NVML_CLOCK_MEM = 2,
	NVML_UUID_SIZE = 96,
	NVML_NAME_SIZE = 96,
	NVML_VERSION_SIZE = 80,
	NVML_NVLINK_MAX_LINKS = 36, /* header 13.3; older ones say 18, a link too many is refused */
};

/* nvmlGpuP2PStatus_t and nvmlGpuP2PCapsIndex_t */
enum {
	NVML_P2P_OK = 0,
	NVML_P2P_CHIPSET = 1,
	NVML_P2P_GPU = 2,
	NVML_P2P_IOH_TOPOLOGY = 3,
	NVML_P2P_DISABLED = 4,
	NVML_P2P_NOT_SUPPORTED = 5,
	NVML_P2P_UNKNOWN = 6,

	NVML_P2P_CAPS_READ = 0,
	NVML_P2P_CAPS_WRITE = 1,
	NVML_P2P_CAPS_NVLINK = 2,
};

/* nvmlGpuTopologyLevel_t */
enum {
	NVML_TOPOLOGY_INTERNAL = 0,    /* one board */
	NVML_TOPOLOGY_SINGLE = 10,     /* one PCIe switch */
	NVML_TOPOLOGY_MULTIPLE = 20,   /* several PCIe switches */
	NVML_TOPOLOGY_HOSTBRIDGE = 30, /* one host bridge */
	NVML_TOPOLOGY_NODE = 40,       /* one NUMA node */
	NVML_TOPOLOGY_SYSTEM = 50,     /* through the link between sockets */
};

/* nvmlGpuFabricState_t */
enum {
	NVML_FABRIC_NOT_SUPPORTED = 0,
	NVML_FABRIC_NOT_STARTED = 1,
	NVML_FABRIC_IN_PROGRESS = 2,
	NVML_FABRIC_COMPLETED = 3,
};

/* Clock event reasons, energy.md section 1. */
enum {
	NVML_REASON_IDLE = 0x1,
	NVML_REASON_APPLICATION_CLOCKS = 0x2,
	NVML_REASON_SW_POWER_CAP = 0x4,
	NVML_REASON_HW_SLOWDOWN = 0x8,
	NVML_REASON_SYNC_BOOST = 0x10,
	NVML_REASON_SW_THERMAL = 0x20,
	NVML_REASON_HW_THERMAL = 0x40,
	NVML_REASON_HW_POWER_BRAKE = 0x80,
	NVML_REASON_DISPLAY_CLOCKS = 0x100,
};

union nvml_value {
	double d;
	uint32_t u32;
	unsigned long ulong;
	uint64_t u64;
	int64_t i64;
	int32_t i32;
	uint16_t u16;
};

struct nvml_field_value {
	uint32_t field_id;
	uint32_t scope_id;    /* 0 GPU, 1 module, 2 memory */
	int64_t timestamp_us; /* since 1970 */
	int64_t latency_us;
	int32_t value_type; /* enum nvml_value_type */
	int32_t status;     /* enum nvml_return of this field alone */
	union nvml_value value;
};

struct nvml_sample {
	uint64_t timestamp_us; /* since 1970 */
	union nvml_value value;
};

struct nvml_pci_info {
	char bus_id_legacy[16];
	uint32_t domain, bus, device;
	uint32_t pci_device_id, pci_subsystem_id;
	char bus_id[32];
};

struct nvml_memory {
	uint64_t total_bytes, free_bytes, used_bytes;
};

struct nvml_utilization {
	uint32_t gpu_pct, memory_pct;
};

/* v2 and v3 of the process lists; v1 has 16 bytes and is not used. */
struct nvml_process_info {
	uint32_t pid;
	uint64_t used_bytes;                     /* UINT64_MAX: not told */
	uint32_t gpu_instance, compute_instance; /* UINT32_MAX: no MIG */
};

/* nvmlGpuFabricInfo_t, of nvmlDeviceGetGpuFabricInfo */
struct nvml_fabric_info {
	uint8_t cluster_uuid[16];
	int32_t status; /* enum nvml_return; counts once the state is COMPLETED */
	uint32_t clique;
	uint8_t state;
};

/* nvmlGpuFabricInfo_v2_t, of nvmlDeviceGetGpuFabricInfoV */
struct nvml_fabric_info_v2 {
	uint32_t version; /* NVML_FABRIC_INFO_V2 */
	uint8_t cluster_uuid[16];
	int32_t status;
	uint32_t clique;
	uint8_t state;
	uint32_t health_mask;
};
#define NVML_FABRIC_INFO_V2 (36u | 2u << 24) /* NVML_STRUCT_VERSION: size and version */

_Static_assert(sizeof(union nvml_value) == 8, "nvmlValue_t");
_Static_assert(sizeof(struct nvml_field_value) == 40, "nvmlFieldValue_t");
_Static_assert(offsetof(struct nvml_field_value, timestamp_us) == 8, "nvmlFieldValue_t.timestamp");
_Static_assert(offsetof(struct nvml_field_value, latency_us) == 16, "nvmlFieldValue_t.latencyUsec");
_Static_assert(offsetof(struct nvml_field_value, value_type) == 24, "nvmlFieldValue_t.valueType");
_Static_assert(offsetof(struct nvml_field_value, status) == 28, "nvmlFieldValue_t.nvmlReturn");
_Static_assert(offsetof(struct nvml_field_value, value) == 32, "nvmlFieldValue_t.value");
_Static_assert(sizeof(struct nvml_sample) == 16, "nvmlSample_t");
_Static_assert(offsetof(struct nvml_sample, value) == 8, "nvmlSample_t.sampleValue");
_Static_assert(sizeof(struct nvml_pci_info) == 68, "nvmlPciInfo_t");
_Static_assert(offsetof(struct nvml_pci_info, bus_id) == 36, "nvmlPciInfo_t.busId");
_Static_assert(sizeof(struct nvml_memory) == 24, "nvmlMemory_t");
_Static_assert(sizeof(struct nvml_utilization) == 8, "nvmlUtilization_t");
_Static_assert(sizeof(struct nvml_process_info) == 24, "nvmlProcessInfo_v2_t");
_Static_assert(offsetof(struct nvml_process_info, used_bytes) == 8, "usedGpuMemory");
_Static_assert(offsetof(struct nvml_process_info, gpu_instance) == 16, "gpuInstanceId");
_Static_assert(offsetof(struct nvml_process_info, compute_instance) == 20, "computeInstanceId");
_Static_assert(sizeof(struct nvml_fabric_info) == 28, "nvmlGpuFabricInfo_t");
_Static_assert(offsetof(struct nvml_fabric_info, status) == 16, "nvmlGpuFabricInfo_t.status");
_Static_assert(offsetof(struct nvml_fabric_info, state) == 24, "nvmlGpuFabricInfo_t.state");
_Static_assert(sizeof(struct nvml_fabric_info_v2) == 36, "nvmlGpuFabricInfo_v2_t");
_Static_assert(offsetof(struct nvml_fabric_info_v2, status) == 20, "nvmlGpuFabricInfo_v2_t.status");
_Static_assert(offsetof(struct nvml_fabric_info_v2, state) == 28, "nvmlGpuFabricInfo_v2_t.state");
_Static_assert(offsetof(struct nvml_fabric_info_v2, health_mask) == 32, "healthMask");

#endif
