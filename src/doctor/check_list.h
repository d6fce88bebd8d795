/* check_list.h — every check; one file per group, listed in registry.c. */
#ifndef LEM_DOCTOR_CHECK_LIST_H
#define LEM_DOCTOR_CHECK_LIST_H

#include "doctor/check.h"

extern const struct doctor_check check_driver_loaded, check_driver_answers, check_driver_match,
	check_gpus_lost, check_gpus_present, check_gpus_mig, check_gpus_mode, check_gpus_fabric,
	check_gpus_memory, check_gpus_processes, check_gpus_peers, check_gpus_models,
	check_gpus_persistence, check_gpus_clocks, check_engine_socket, check_engine_snap,
	check_engine_way, check_engine_cdi, check_engine_stale, check_engine_runtime,
	check_engine_mode, check_engine_cgroups, check_engine_rootless, check_engine_selinux,
	check_engine_leftovers, check_limit_shm, check_limit_memlock, check_limit_images,
	check_limit_results, check_limit_cache, check_place_kind, check_place_visible,
	check_place_once, check_place_numbers, check_place_slurm, check_energy_gpu,
	check_energy_cpu, check_tool_curl, check_tool_client, check_tool_worker, check_tool_pytorch,
	check_tool_probe;

#endif
