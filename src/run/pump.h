/*
 * pump.h — a thread that reads what a server prints, so that no pipe fills up while lem is busy
 * elsewhere, keeps the last of it, and tells at once when the server has ended.
 */
#ifndef LEM_RUN_PUMP_H
#define LEM_RUN_PUMP_H

#include "base/error.h"
#include "base/str.h"

struct pump;

enum { PUMP_TAIL_BYTES = 32 << 10 };

/* Takes over out and err (non-blocking; -1: none). pidfd is readable once the server has ended; it
 * stays the caller's; -1: it has ended when both streams have. The descriptors are closed also when
 * this fails. */
int pump_start(int out, int err_fd, int pidfd, struct pump **ret, struct lem_error *err);

int pump_end_fd(const struct pump *p); /* readable once the server has ended */
bool pump_ended(const struct pump *p);

/* Appends the last PUMP_TAIL_BYTES. */
void pump_log(struct pump *p, struct str *out);

/* Reads what is left, ends the thread, frees; NULL is fine. The last lines go to log (may be NULL).
 */
void pump_stop(struct pump *p, struct str *log);

#endif
