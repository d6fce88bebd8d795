/* self.c — what lem itself takes: CPU time of the whole process, so that a record can show that the
 * measuring did not disturb what was measured. */
#include "base/clock.h"
#include "meter/ops.h"

#define PERIOD_NS NS_PER_S
#define SLACK_NS  (PERIOD_NS / 10)

static int64_t self_read(void *arg, int64_t due_ns, enum meter_why why)
{
	struct column *c = arg;
	int64_t t0 = clock_now_ns(), cpu_ns = clock_process_cpu_ns();

	column_push(c, t0, clock_now_ns(), cpu_ns, true);
	return meter_next_due(due_ns, PERIOD_NS, why);
}

static void *self_open(struct meter_setup *su)
{
	struct column *c =
		meter_add_column(su, "self", SIGNAL_CPU_TIME_NS, DOMAIN_SELF, "self", 1.0);

	meter_add_task(su, self_read, c, SLACK_NS);
	return c;
}

static void self_close(void *state)
{
	(void)state; /* the column belongs to the setup */
}

const struct meter_ops meter_self = {.name = "self", .open = self_open, .close = self_close};
