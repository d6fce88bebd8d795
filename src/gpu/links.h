/*
 * links.h — how the GPUs of this host are joined, pair by pair: peer access, NVLinks, the path
 * through PCIe. Read on demand (some 3 calls a pair, 72 a GPU); routing does not need it.
 */
#ifndef LEM_GPU_LINKS_H
#define LEM_GPU_LINKS_H

#include "gpu/details.h"

struct gpu_link {
	struct gpu_fact peer_read, peer_write; /* NVML_P2P_…: 0 is OK */
	struct gpu_fact level;                 /* NVML_TOPOLOGY_… */
	struct gpu_fact nvlinks; /* active ones that join the two; through a switch: of the GPU
				    that has fewer */
	bool through_switch;     /* NVSwitch, not GPU to GPU */
};

struct gpu_links {
	struct gpu_link *at; /* malloc'ed; n × n, row by row; the diagonal tells nothing */
	size_t n;
};

/* LEM_E_IO when the GPUs cannot be counted. A GPU that cannot be opened tells nothing. */
int gpu_links_read(const struct nvml *nvml, struct gpu_links *ret, struct lem_error *err);
void gpu_links_release(struct gpu_links *links);
#define _cleanup_gpu_links_ _cleanup_(gpu_links_release)

static inline const struct gpu_link *gpu_link_between(const struct gpu_links *l, size_t a, size_t b)
{
	return &l->at[a * l->n + b];
}

/* Why there is no peer access, "ok" for 0; the short names of `nvidia-smi topo -m` (PIX, PXB, PHB,
 * NODE, SYS). Never NULL. */
const char *gpu_p2p_text(int64_t status);
const char *gpu_topology_text(int64_t level);

#endif
