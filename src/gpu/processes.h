/*
 * processes.h — which processes use which GPU, as the driver tells it on this host: host pids, also
 * of processes in containers (routing.md section 6).
 */
#ifndef LEM_GPU_PROCESSES_H
#define LEM_GPU_PROCESSES_H

#include "gpu/nvml.h"

struct gpu_process {
	char card_uuid[NVML_UUID_SIZE]; /* of the physical GPU */
	int gpu_index;                  /* NVML order */
	pid_t pid;                      /* in the pid namespace of the host */
	bool graphics;                  /* listed as graphics only */
	uint64_t memory_bytes;          /* 0 unknown */
};

/*
 * All processes on all GPUs into at[0 … cap - 1]; *ret_n is how many there were (may exceed cap).
 * Compute and graphics lists, MIG instances included; a process on two GPUs has two entries. Does
 * not allocate. LEM_E_UNSUPPORTED: this driver does not tell; LEM_E_IO otherwise.
 */
int gpu_processes_read(const struct nvml *nvml, struct gpu_process *at, size_t cap, size_t *ret_n,
		       struct lem_error *err);

/* Name (comm) and user of a pid, "" when they cannot be read: it has ended, or lem is in a pid
 * namespace of its own. */
void gpu_process_describe(pid_t pid, char *name, size_t name_size, char *user, size_t user_size);

#endif
