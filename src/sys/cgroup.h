/*
 * cgroup.h — a control group of cgroup v2 for one child and everything it starts, where this
 * process may make one: root on most hosts, a user in a delegated systemd scope or unit
 * (`Delegate=yes`). Nothing can leave it without privilege, so killing it kills the whole tree,
 * daemons included. Where it cannot be had, processes are followed by session and parent alone
 * (sys/proc.h).
 *
 * No controller is switched on: the group only says what belongs together.
 */
#ifndef LEM_SYS_CGROUP_H
#define LEM_SYS_CGROUP_H

#include "base/error.h"

enum { CGROUP_PATH_SIZE = 512 };

struct cgroup {
	char folder[CGROUP_PATH_SIZE]; /* in the file system; "" none */
	char name[CGROUP_PATH_SIZE];   /* as /proc/PID/cgroup says after "0::" */
};

/* A new, empty group below the caller's own, named lem-PID-N. Empty ones that lem processes which
 * are no more have left there are removed first. LEM_E_UNSUPPORTED: no cgroup v2 here, LEM_E_IO:
 * not permitted. */
int cgroup_make(struct cgroup *ret, struct lem_error *err);

/* A descriptor into which a process writes "0" to move itself; -1 when it cannot be opened. */
int cgroup_open_procs(const struct cgroup *c);

/* SIGKILL to all members, again until none is left or half a second has passed, then the folder is
 * removed. "" is fine; safe to call twice. */
void cgroup_destroy(struct cgroup *c);

/* Pure: the folder on which cgroup v2 is mounted, from /proc/self/mountinfo; false when none. */
bool cgroup_parse_mount(const char *mountinfo, char *buf, size_t size);
/* Pure: the caller's own group, from /proc/self/cgroup ("0::/a/b" → "/a/b"); false when none. */
bool cgroup_parse_own(const char *text, char *buf, size_t size);

#endif
