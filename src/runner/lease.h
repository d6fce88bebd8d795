/*
 * lease.h — whose a container is: the label lem.owner, "HOST PID STARTTIME" of the lem that made
 * it. HOST is the host's name and the number of its process-id namespace, because the same pid
 * means another process in another container. What a dead lem left behind may be removed; when in
 * doubt (another host, an unreadable label) it is alive.
 */
#ifndef LEM_RUNNER_LEASE_H
#define LEM_RUNNER_LEASE_H

#include "base/base.h"

enum { LEASE_SIZE = 160 };

char *lease_own(char *buf, size_t size); /* returns buf */
bool lease_is_dead(const char *lease);   /* NULL: not dead */
bool lease_is_own(const char *lease);    /* made by this very process */

#endif
