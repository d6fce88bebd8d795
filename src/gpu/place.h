/*
 * place.h — where lem itself runs: a plain host, a container, a pod, a Slurm step. Reads the
 * environment and /proc once; routing is then a pure function of it.
 */
#ifndef LEM_GPU_PLACE_H
#define LEM_GPU_PLACE_H

#include "base/arena.h"
#include "gpu/route.h"

/* LEM_PLACE_ROOT, when set, stands before every path looked at (for tests). A pod counts as a
 * container. host_gpus and host_gpu_uuids are read in a container only. Apptainer and Singularity
 * are none: they show the host's devices as they are.
 *
 * Strings lie in `a`. Never fails: what cannot be read is false or NULL. */
void gpu_place_read(struct arena *a, struct gpu_place *ret);

#endif
