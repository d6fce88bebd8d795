/*
 * proof.h — reading what lem-gpuprobe printed and comparing it with what was asked for. Pure.
 */
#ifndef LEM_GPU_PROOF_H
#define LEM_GPU_PROOF_H

#include "base/arena.h"
#include "base/error.h"
#include "model/gpu_binding.h"

/*
 * The probe's one JSON document (workers/gpuprobe/main.c):
 *   {"lem_gpuprobe": 1, "devices": [{"uuid": "GPU-…", "pci_bus_id": "0000:65:00.0", "name": "…"}…],
 *    "cuda_driver": 13000, "cuda_visible_devices": "1,0", "cuda_device_order": "PCI_BUS_ID"}
 *   {"lem_gpuprobe": 1, "error": "…", "status": 100, "cuda_visible_devices": …}
 * status: CUDA's; -1 libcuda cannot be loaded, -2 it lacks a function, -3 it did not answer in
 * time. A MIG instance's uuid is "MIG-…". Text before it (an image's banner) and after is skipped.
 * No device at all is n == 0. LEM_E_PARSE; LEM_E_ROUTING for "error", with the catalogue's id where
 * the status has one.
 */
int gpu_proof_parse(const char *text, struct arena *a, struct gpu_observed **ret, size_t *ret_n,
		    struct lem_error *err);

/*
 * Set and order against b->gpus, by UUID; PCI bus ids are compared when a MIG instance was asked
 * for and the UUID told is a card's (drivers before CUDA 11.4). LEM_E_ROUTING: `what` says which of
 * the two is wrong, `why` has both lists. Only devices that were asked for can be told by host
 * index.
 */
int gpu_proof_compare(const struct gpu_binding *b, const struct gpu_observed *observed, size_t n,
		      struct lem_error *err);

#endif
