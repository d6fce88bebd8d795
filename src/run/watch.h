/*
 * watch.h — a thread that looks about once a second at the driver's process lists and at whether
 * the GPUs are still there. Nothing is allocated, locked or logged while it runs; what it saw is
 * judged when it has stopped (watch_book.h).
 */
#ifndef LEM_RUN_WATCH_H
#define LEM_RUN_WATCH_H

#include "base/error.h"
#include "model/gpu_binding.h"
#include "runner/runner.h"

struct watch;

/* Opens NVML and starts looking; errors: those of nvml_open. The binding is copied. */
int watch_start(const struct gpu_binding *b, struct watch **ret, struct lem_error *err);
/* The same beside an engine that runs already; see watch_resume. */
int watch_start_with(const struct gpu_binding *b, const struct running *engine, struct watch **ret,
		     struct lem_error *err);

/* While paused nothing is entered: what lem itself runs on the GPUs (the proof, an engine that is
 * being started) is not the engine yet, and no foreigner. Does not wait. */
void watch_pause(struct watch *w);
/* Engines that one watch may see started, one after the other. */
enum { WATCH_ENGINES_MAX = 4 };
/* From here on r, which is copied, tells which processes are the engine's. NULL: none is running.
 * Ends a pause. */
void watch_resume(struct watch *w, const struct running *r);

/* An edge of a phase: look now. Returns at once. */
void watch_mark(struct watch *w);

/* LEM_E_ROUTING when the engine was seen on a GPU that gpus does not list, LEM_E_ENGINE (R41) when
 * a GPU is lost. Lock-free, any time. */
int watch_check(const struct watch *w, struct lem_error *err);

/* Takes a last look, ends the thread, writes what follows into the binding (watch_book_close).
 * Frees w. Returns within about a second even while a driver call hangs. */
void watch_stop(struct watch *w, int64_t window_start_ns, struct gpu_binding *b);

#endif
