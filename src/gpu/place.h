/*
 * place.h — where lem itself runs: a plain host, a container, a pod, a Slurm step. Reads the
 * environment and /proc once; routing is then a pure function of it.
 */
#ifndef LEM_GPU_PLACE_H
#define LEM_GPU_PLACE_H

#include "base/arena.h"
#include "gpu/route.h"

/* Strings lie in `a`. Never fails: what cannot be read is false or NULL. */
void gpu_place_read(struct arena *a, struct gpu_place *ret);

#endif
