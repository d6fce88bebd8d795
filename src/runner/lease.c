#include "runner/lease.h"

#include <signal.h>

#include "runner/owns.h"

static void own_host(char *buf, size_t size)
{
	char name[65] = "", space[64] = "";
	ssize_t n = readlink("/proc/self/ns/pid", space, sizeof(space) - 1);

	if (gethostname(name, sizeof(name) - 1) < 0 || !*name)
		lem_strlcpy(name, "localhost", sizeof(name));
	space[n > 0 ? n : 0] = '\0';
	(void)snprintf(buf, size, "%s/%s", name, space);
	for (char *p = buf; *p; p++)
		if (*p == ' ')
			*p = '_';
}

char *lease_own(char *buf, size_t size)
{
	char host[136];
	uint64_t ticks = 0;

	own_host(host, sizeof(host));
	(void)owns_start_time(getpid(), &ticks);
	(void)snprintf(buf, size, "%s %ld %" PRIu64, host, (long)getpid(), ticks);
	return buf;
}

bool lease_is_dead(const char *lease)
{
	char own[136], host[136];
	unsigned long long ticks;
	uint64_t now_ticks;
	long pid;
	int end = 0;

	if (!lease || sscanf(lease, "%135s %ld %llu%n", host, &pid, &ticks, &end) != 3 ||
	    lease[end] || pid <= 0 || pid != (pid_t)pid)
		return false;
	own_host(own, sizeof(own));
	if (!str_eq(host, own))
		return false;
	/* /proc may hide the processes of others (hidepid); kill tells that they are there */
	if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
		return true;
	return owns_start_time((pid_t)pid, &now_ticks) && now_ticks != ticks;
}

bool lease_is_own(const char *lease)
{
	char own[LEASE_SIZE];

	return lease && str_eq(lease, lease_own(own, sizeof(own)));
}
