/*
 * oom.h — did the kernel kill processes because memory ran out? Its counters say so: a killed
 * process itself cannot, and its log ends in the middle of a word.
 *
 * The counter is that of the nearest control group above a process that accounts memory:
 *   cgroup v2  memory.events.local (memory.events before Linux 5.2), line "oom_kill N"
 *   cgroup v1  memory.oom_control, line "oom_kill N" (since Linux 4.13)
 * and of the whole machine (/proc/vmstat, oom_kill) where no group counts. The kernel counts at the
 * group of the killed process, also when the limit that was hit is that of a group above it or the
 * machine's (mm/oom_kill.c, memcg_memory_event_mm).
 */
#ifndef LEM_SYS_OOM_H
#define LEM_SYS_OOM_H

#include <sys/types.h>

#include "base/error.h"
#include "sys/cgroup.h"

struct oom_watch {
	char file[CGROUP_PATH_SIZE + 32]; /* that counts; "" none */
	char name[CGROUP_PATH_SIZE + 32]; /* for messages: "memory.events.local of /a/b" */
	bool machine;                     /* it counts for everybody's processes */
	int64_t before;
};

/* While pid lives. Where nothing counts, file is "" and no kill will ever be seen. */
void oom_watch_begin(pid_t pid, struct oom_watch *ret);

/* Processes killed since then; 0 also when it can no longer be told. */
int64_t oom_watch_kills(const struct oom_watch *w);

/* Adds to how a process ended what the counter says of it: "killed by the kernel because memory ran
 * out (…)" when it was killed (signal 9) and the count has risen; that some of its processes were;
 * for signal 9 without a rise that it was not that. text as proc_describe_end gives it. */
void oom_watch_explain(const struct oom_watch *w, bool killed, const char *text, char *buf,
		       size_t size);

/* Pure. The N of a line "oom_kill N"; false: there is none. */
bool oom_parse_count(const char *text, int64_t *ret);
/* Pure. The folder of the memory group of /proc/PID/cgroup's text on version 1, and its mount
 * point, which no search goes above; false: there is no version 1 for memory. */
bool oom_parse_v1(const char *mountinfo, const char *groups, char *folder, size_t size,
		  size_t *ret_mount_n);

#endif
