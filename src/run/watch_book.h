/*
 * watch_book.h — what was seen in the driver's process lists, look by look, and what follows from
 * it. Pure, bounded, without allocation: it is filled inside the measured window.
 *
 * A process on a GPU of the binding is the engine's, or a foreigner. The engine on a GPU that gpus
 * does not list is a stray: the routing is refuted. On other GPUs nobody is of interest.
 */
#ifndef LEM_RUN_WATCH_BOOK_H
#define LEM_RUN_WATCH_BOOK_H

#include "gpu/processes.h"
#include "model/gpu_binding.h"

enum { WATCH_CARDS_MAX = 64, WATCH_FOREIGNERS_MAX = 64 };

struct watch_card {
	char uuid[96];
	int index;
	int64_t t_engine_first_ns, t_engine_last_ns; /* the engine was seen on it; 0 never */
	int64_t t_lost_ns;                           /* 0 never */
};

struct watch_book {
	struct watch_card cards[WATCH_CARDS_MAX];
	size_t n_cards;
	struct gpu_foreigner foreigners[WATCH_FOREIGNERS_MAX];
	size_t n_foreigners, n_unwritten; /* the latter found no room */
	char stray[160];                  /* "" none */
	size_t n_looks;
	int64_t t_look_last_ns;
	char trouble[100]; /* why the last look failed; "" it did not */
	/* lem is in a pid namespace of its own: the driver's pids mean something only when the
	 * engine's are among them */
	bool own_namespace;
	/* Called once for each new foreigner. Its cost does not matter: the window is spoilt. */
	void (*describe)(pid_t pid, char *name, size_t name_size, char *user, size_t user_size);
};

void watch_book_open(struct watch_book *k, const struct gpu_binding *b);
/* One look at the lists. ours[i]: p[i] is the engine's; self: lem's own pid. */
void watch_book_enter(struct watch_book *k, int64_t t_ns, const struct gpu_process *p,
		      const bool *ours, size_t n, pid_t self);
void watch_book_trouble(struct watch_book *k, const char *why);
void watch_book_lost(struct watch_book *k, size_t card, int64_t t_ns);

/* Fills guard, guard_level, foreigners (malloc'ed) and t_lost_ns; a stray withdraws the proof. The
 * window is 0, 0 when nothing was measured. */
void watch_book_close(const struct watch_book *k, int64_t window_start_ns, struct gpu_binding *b);

#endif
