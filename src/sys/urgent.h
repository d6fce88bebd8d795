/*
 * urgent.h — a thread that must be on time, on a host where others compute.
 *
 * On a 2-core machine with four busy processes the load client's 99th percentile behind schedule
 * was 4 ms as an ordinary thread, no better at nice −10 (which counts within one control group
 * only), and 7 µs as a real-time thread. The kernel keeps 5 % of each second for ordinary threads
 * (sched_rt_runtime_us), and a thread made urgent here must sleep whenever it has nothing to do.
 */
#ifndef LEM_SYS_URGENT_H
#define LEM_SYS_URGENT_H

#include "base/base.h"

enum urgency { URGENT_NO, URGENT_NICE, URGENT_REALTIME };

/* Makes the calling thread urgent as far as this process may: round-robin real time of the lowest
 * priority where there is more than one processor, else nice −10. Not inherited by children. */
enum urgency urgent_thread(void);
const char *urgency_name(enum urgency u); /* "ordinary", "nice", "realtime" */

#endif
