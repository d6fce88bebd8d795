/*
 * environment.h — the host facts that go into a record, as JSON.
 */
#ifndef LEM_RUN_ENVIRONMENT_H
#define LEM_RUN_ENVIRONMENT_H

#include "base/str.h"
#include "sys/host.h"

/* Names of the variables that change energy or routing are recorded with their values: NCCL_*,
 * OMP_*, CUDA_*, LEM_CYCLE and the like; never anything that may hold a secret. */
void environment_json(const struct host_facts *h, struct str *out);

#endif
