#include "sys/urgent.h"

#include <sched.h>
#include <sys/resource.h>

enum { NICE = -10 };

/* On a single processor a real-time client would take from the very server it measures. */
static bool has_company(void)
{
	cpu_set_t allowed;

	return sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 0 &&
	       sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

enum urgency urgent_thread(void)
{
	const struct sched_param lowest = {.sched_priority = 1};

	if (has_company() && sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) == 0)
		return URGENT_REALTIME;
	return setpriority(PRIO_PROCESS, 0, NICE) == 0 ? URGENT_NICE : URGENT_NO;
}

const char *urgency_name(enum urgency u)
{
	static const char *const names[] = {"ordinary", "nice", "realtime"};

	return (size_t)u < ARRAY_LEN(names) ? names[u] : "unknown";
}
