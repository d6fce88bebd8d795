/*
 * owns.h — whose a process is, by what /proc says. runner_owns_pid (runner.h) is the question; here
 * are its parts. No malloc; any thread.
 */
#ifndef LEM_RUNNER_OWNS_H
#define LEM_RUNNER_OWNS_H

#include "runner/runner.h"

/* Is the path of n bytes the cgroup top, or one below it? */
bool owns_path_below(const char *path, size_t n, const char *top);
/* Does a line of /proc/PID/cgroup name the cgroup top, or one below it? Pure. */
bool owns_cgroup_text(const char *text, const char *top);
/* The cgroup of the container `id` from /proc/PID/cgroup's text: the path up to and with the part
 * that names it. false when no line does (then no process can be told to be its by cgroup). Pure.
 */
bool owns_container_cgroup(const char *text, const char *id, char *buf, size_t size);
/* The same, reading the file of a process. */
bool owns_read_container_cgroup(pid_t pid, const char *id, char *buf, size_t size);
/* When a process was started, in clock ticks since the machine was (field 22 of stat). */
bool owns_start_time(pid_t pid, uint64_t *ret_ticks);

#endif
