/*
 * proof.h — reading what lem-gpuprobe printed and comparing it with what was asked for. Pure.
 */
#ifndef LEM_GPU_PROOF_H
#define LEM_GPU_PROOF_H

#include "base/arena.h"
#include "base/error.h"
#include "model/gpu_binding.h"

/*
 * The probe's one JSON document: {"lem_gpuprobe": 1, "devices": [{"uuid": "GPU-…", "pci_bus_id":
 * "0000:65:00.0"}…], "cuda_driver": 13000} or {"lem_gpuprobe": 1, "error": "…", "status": 100}.
 * Text before it (an image's banner) is skipped. LEM_E_PARSE; LEM_E_ROUTING for "error".
 */
int gpu_proof_parse(const char *text, struct arena *a, struct gpu_observed **ret, size_t *ret_n,
		    struct lem_error *err);

/* Set and order against binding->gpus. LEM_E_ROUTING with both lists. PCI bus ids are compared when
 * a MIG UUID is not told by CUDA. */
int gpu_proof_compare(const struct gpu_binding *b, const struct gpu_observed *observed, size_t n,
		      struct lem_error *err);

#endif
