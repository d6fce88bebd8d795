#include "base/clock.h"

static int64_t read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int64_t clock_now_ns(void)
{
	return read_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ns(void)
{
	return read_ns(CLOCK_REALTIME);
}

int64_t clock_thread_cpu_ns(void)
{
	return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

int64_t clock_process_cpu_ns(void)
{
	return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t clock_wall_offset_ns(void)
{
	int64_t best_width = INT64_MAX, offset = 0;

	for (int i = 0; i < 5; i++) {
		int64_t t0 = clock_now_ns(), wall = clock_wall_ns(), t1 = clock_now_ns();

		if (t1 - t0 < best_width) {
			best_width = t1 - t0;
			offset = wall - (t0 + (t1 - t0) / 2);
		}
	}
	return offset;
}

bool clock_sleep_until_ns(int64_t t_ns)
{
	struct timespec ts = {.tv_sec = t_ns / NS_PER_S, .tv_nsec = t_ns % NS_PER_S};

	if (t_ns <= clock_now_ns())
		return true;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == 0;
}

char *clock_format_utc(int64_t wall_ns, char *buf, size_t size)
{
	time_t t = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	char head[24];

	gmtime_r(&t, &tm);
	strftime(head, sizeof(head), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(buf, size, "%s.%03dZ", head, (int)(wall_ns % NS_PER_S / NS_PER_MS));
	return buf;
}
