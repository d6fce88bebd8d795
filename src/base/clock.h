/*
 * clock.h — the one clock. Time is int64 nanoseconds of CLOCK_MONOTONIC; wall time serves only as a
 * label and to convert time stamps that others took.
 */
#ifndef LEM_BASE_CLOCK_H
#define LEM_BASE_CLOCK_H

#include "base/base.h"

int64_t clock_now_ns(void);  /* CLOCK_MONOTONIC */
int64_t clock_wall_ns(void); /* CLOCK_REALTIME, ns since 1970 */
int64_t clock_thread_cpu_ns(void);
int64_t clock_process_cpu_ns(void);

/* wall minus monotonic, now: the tightest of a few bracketed readings. */
int64_t clock_wall_offset_ns(void);

/* Sleeps until an absolute CLOCK_MONOTONIC time; returns early only on a signal (returns false). */
bool clock_sleep_until_ns(int64_t t_ns);

/* "2026-11-24T13:26:12.345Z"; buf of 32 bytes is enough. Returns buf. */
char *clock_format_utc(int64_t wall_ns, char *buf, size_t size);

#endif
