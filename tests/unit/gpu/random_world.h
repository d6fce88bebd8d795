/*
 * random_world.h — a random machine with GPUs, a place on it, a request and a container engine, and
 * what routing must make of them. A request is made from its answer, so what it means is known.
 */
#ifndef LEM_TESTS_RANDOM_WORLD_H
#define LEM_TESTS_RANDOM_WORLD_H

#include "base/rand.h"
#include "gpu/route.h"

enum { MAX_GPUS = 16, MAX_MIGS = 3, MAX_ITEMS = 20, TEXT = 1024 };

enum kind { HOST, HOST_CVD, SLURM, POD, MAPPED, MAPPED_BY_UUID, UNMAPPED, KINDS };

/* What is asked for: a card that lem sees, or an instance of it. */
struct wish {
	char item[112];
	size_t gpu; /* position among those seen */
	int mig;    /* -1: the card */
};

struct world {
	struct rand rand;
	struct gpu_device machine[MAX_GPUS], seen[MAX_GPUS];
	struct gpu_mig migs[MAX_GPUS][MAX_MIGS];
	size_t n_machine, n_seen;
	size_t host_of[MAX_GPUS]; /* seen → machine */
	size_t allowed[MAX_GPUS]; /* A: positions among those seen */
	size_t n_allowed;
	enum kind kind;
	struct gpu_place place;
	char cvd[TEXT], host_gpus[TEXT], host_uuids[TEXT];
	struct wish wishes[MAX_ITEMS];
	size_t n;
	bool wrong; /* the request */

	enum gpu_target target;
	struct gpu_engine_facts facts;
	char names[MAX_GPUS * (MAX_MIGS + 1)][128];
	const char *cdi[MAX_GPUS * (MAX_MIGS + 1) + 1];
};

/* Everything but w->rand, which the caller seeded once. */
void world_make(struct world *w);
/* The UUID that item i asks for. */
const char *world_uuid(const struct world *w, size_t i);
/* The path of routing.md section 13; NULL: none can pass these GPUs. */
const char *world_path(const struct world *w);

#endif
