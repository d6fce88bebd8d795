/*
 * cdi.h — the Container Device Interface specifications on this host (/etc/cdi, /var/run/cdi; JSON
 * or YAML): which qualified names they define and whether what they name is still there. Used when
 * a container engine does not tell its devices (API < 1.50), and by `lem doctor` (R21, R22).
 */
#ifndef LEM_GPU_CDI_H
#define LEM_GPU_CDI_H

#include "base/arena.h"
#include "base/error.h"

struct cdi_device {
	const char *name;    /* qualified: "nvidia.com/gpu=GPU-…" */
	const char *spec;    /* the file that defines it */
	const char *missing; /* a host path of its edits that does not exist; NULL: all there */
};

struct cdi_registry {
	struct cdi_device *at; /* in the arena; later folders win over earlier ones, as CDI says */
	size_t n;
	const char *const
		*problems; /* NULL-terminated: files that cannot be read or parsed, conflicts */
};

/* One specification's text (pure). file is for messages. LEM_E_PARSE with line and column. */
int cdi_parse(const char *text, size_t n, const char *file, struct arena *a,
	      struct cdi_registry *ret, struct lem_error *err);
/* All *.json, *.yaml and *.yml of the folders, NULL-terminated; NULL: $LEM_CDI_DIRS (colon list) or
 * the defaults. A folder that does not exist is empty. Never fails: problems are listed. */
void cdi_read(const char *const *dirs, struct arena *a, struct cdi_registry *ret);

#endif
