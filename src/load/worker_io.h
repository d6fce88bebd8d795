/*
 * worker_io.h — lines to and from a worker (workers/PROTOCOL.md) over pipes.
 *
 * One thread, poll-driven. Events other than `tokens` are handed out one by one; `tokens` lines are
 * only appended to a buffer and counted, because they arrive inside the measured window: they are
 * parsed when it is over. The worker's log (stderr) is drained all the time and its tail kept.
 * Everything is bounded: a line, the log tail, noise on stdout, the bytes of a run's `tokens`
 * lines.
 */
#ifndef LEM_LOAD_WORKER_IO_H
#define LEM_LOAD_WORKER_IO_H

#include "base/error.h"
#include "base/str.h"
#include "sys/proc.h"

enum { WORKER_IO_REPLICAS = 64 }; /* beyond these, progress is not shown */

struct worker_io {
	struct proc *proc; /* borrowed: its descriptors are read and written here */
	/* How the worker's end is awaited and described; NULL: it is the process of `proc`. */
	bool (*wait_until)(void *arg, int64_t t_ns);
	char *(*describe_end)(void *arg, char *buf, size_t size);
	void *end_arg;
	int cancel_fd;           /* readable: give up with LEM_E_INTERRUPTED; -1: none */
	void (*tick)(void *arg); /* called about five times a second while waiting; may be NULL */
	void *tick_arg;

	/* Of the run in progress; the owner resets them with worker_io_begin_run. */
	struct str tokens; /* raw `tokens` lines, newline-terminated */
	size_t tokens_max_bytes;
	int64_t out_tokens; /* the last `out` seen, summed over replicas: for progress only */
	int64_t out_by_replica[WORKER_IO_REPLICAS];

	struct str log; /* last LOG_TAIL_BYTES of stderr and of noise on stdout */
	size_t noise_bytes;
	struct str line;  /* the incomplete line at the end of stdout */
	struct str ready; /* complete event lines not handed out yet */
	size_t ready_at;
	bool eof;
};

void worker_io_init(struct worker_io *w, struct proc *proc, int cancel_fd);
void worker_io_release(struct worker_io *w);
#define _cleanup_worker_io_ _cleanup_(worker_io_release)

void worker_io_begin_run(struct worker_io *w, size_t expected_lines, size_t max_ids_per_line);

/* Sends one line (without newline), reading meanwhile so that neither side can block the other. */
int worker_io_send(struct worker_io *w, const char *line, int64_t t_deadline_ns,
		   struct lem_error *err);

/* The next event line into ret. silence_ns bounds the time without any byte on the worker's stdout.
 * LEM_E_TIMEOUT, LEM_E_INTERRUPTED, LEM_E_ENGINE (ended, flooded); doing names the step for
 * messages. */
int worker_io_next(struct worker_io *w, int64_t silence_ns, const char *doing, struct str *ret,
		   struct lem_error *err);

/* Reads what is still in the pipes, without waiting: for the log of a worker that has ended. */
void worker_io_drain(struct worker_io *w);

#endif
