/*
 * bounded.h — work that may hang in the kernel where no signal reaches it (a broken driver, a dead
 * network file system), or crash in somebody else's library: done by a child process, whose results
 * lie in memory shared with it. When it does not move on it is left behind, and what it had written
 * until then can be read.
 */
#ifndef LEM_SYS_BOUNDED_H
#define LEM_SYS_BOUNDED_H

#include <stdatomic.h>

#include "base/error.h"

enum bounded_end { BOUNDED_DONE, BOUNDED_HUNG, BOUNDED_DIED };

/* Zeroed memory that both sides see at the same address. Never NULL. */
void *bounded_alloc(size_t size);
void bounded_free(void *memory, size_t size); /* NULL is fine */

/*
 * Runs work(arg) in a child. arg and *beat lie in such memory. The child counts *beat up whenever
 * it has got somewhere; without a change for silence_ns it has hung. *ret_signal (may be NULL):
 * what it died of, 0 when it ended by itself. Negative only when there can be no child. Call it
 * while no other thread runs.
 */
int bounded_run(void (*work)(void *arg), void *arg, const atomic_uint *beat, int64_t silence_ns,
		enum bounded_end *ret, int *ret_signal, struct lem_error *err);

#endif
