/*
 * gpus_view.h — what `lem gpus` knows, and its two forms.
 */
#ifndef LEM_CLI_GPUS_VIEW_H
#define LEM_CLI_GPUS_VIEW_H

#include "base/str.h"
#include "gpu/details.h"
#include "gpu/links.h"
#include "gpu/place.h"
#include "gpu/processes.h"

struct gpus_process {
	struct gpu_process process;
	char name[64], user[32];
};

struct gpus_view {
	struct arena arena;
	const char *none; /* why there is no driver to ask; NULL: there is one */
	struct gpu_inventory inventory;
	struct gpu_details *details; /* by GPU; in the arena, as all that follows */
	struct gpu_fact cuda_version;
	struct gpu_links links;
	struct gpus_process *processes;
	size_t n_processes;
	struct lem_error no_processes; /* code set: why there is no list */
	struct gpu_place place;
	struct lem_error no_visible; /* code set: what is wrong with CUDA_VISIBLE_DEVICES */
	size_t n_visible;            /* whole GPUs or MIG instances that this shell may use */
	/* By GPU: what to write in `gpus:` to get it, the shortest form; NULL: cannot be had. */
	const char **write_as;
	const struct lem_error **refusals; /* by GPU: why not; NULL when it can be had */
};

void gpus_text(const struct gpus_view *v, bool ascii, struct str *out);
void gpus_json(const struct gpus_view *v, struct str *out); /* lem.gpus/1 */

#endif
