/*
 * id.h — from what a config writes in `gpus:` to the GPUs it means. Pure: the caller read the
 * inventory and the environment. The rule is routing.md section 12, the same everywhere:
 *
 *   V = the inventory (NVML order)
 *   A = V when CUDA_VISIBLE_DEVICES is unset, else its items resolved in V
 *   "2" is A[2]; "host:2" is V[2]; "GPU-…" and "MIG-…" (at least 8 hex digits, unique) and
 *   "0000:65:00.0" are looked up by name; all must be in A. Two items that mean the same GPU are an
 * error.
 *
 * CUDA silently truncates CUDA_VISIBLE_DEVICES at the first item that it does not like; here any
 * such value is an error that says what CUDA would have done.
 */
#ifndef LEM_GPU_ID_H
#define LEM_GPU_ID_H

#include "base/arena.h"
#include "base/error.h"
#include "gpu/inventory.h"
#include "model/gpu_binding.h"

enum gpu_id_kind { GPU_ID_INDEX, GPU_ID_HOST_INDEX, GPU_ID_UUID, GPU_ID_PCI, GPU_ID_MIG };

struct gpu_id {
	enum gpu_id_kind kind;
	int index;     /* INDEX, HOST_INDEX */
	char text[96]; /* UUID: as written; PCI: "%08x:%02x:%02x.%x" in lower case */
};

/* Is it written like one of the forms? No hardware needed. LEM_E_USAGE with a hint otherwise. */
int gpu_id_parse(const char *text, struct gpu_id *ret, struct lem_error *err);

/*
 * Resolves n items in order. `cuda_visible_devices` is the variable's value, NULL when unset.
 * The binding's array and strings lie in `a`. container_index is the position in the config, which
 * is the ordinal under the CUDA_VISIBLE_DEVICES that a local process gets; a runner that maps
 * otherwise overwrites it. Errors: LEM_E_USAGE malformed, LEM_E_REFUSED absent, duplicate,
 * ambiguous, outside what this shell may use, broken, or a whole GPU that is split by MIG. Of a MIG
 * instance uuid, name and memory are its own; card_uuid is the card, whose energy is metered.
 */
int gpu_resolve(const struct gpu_inventory *inv, const char *const *items, size_t n,
		const char *cuda_visible_devices, struct arena *a, struct gpu_binding *ret,
		struct lem_error *err);
/* A GPU, or an instance of one that is split by MIG. */
struct gpu_part {
	size_t card; /* position in the inventory */
	int mig;     /* position among the card's instances; -1: the whole card */
};

/* What this shell may use (A above), in the order in which `gpus: [0, 1]` counts; in `a`. */
int gpu_visible(const struct gpu_inventory *inv, const char *cuda_visible_devices, struct arena *a,
		struct gpu_part **ret, size_t *ret_n, struct lem_error *err);

/* gpu_resolve; `outside` lets items that name a GPU (not "2", which counts in A) lie outside A. */
int gpu_resolve_within(const struct gpu_inventory *inv, const char *const *items, size_t n,
		       const char *cuda_visible_devices, bool outside, struct arena *a,
		       struct gpu_binding *ret, struct lem_error *err);

#endif
