#include "meter/ops.h"

/* The power shown while a run goes on is a mean over about this long. */
#define LIVE_SPAN_NS (900 * NS_PER_MS)

static void update_watts(struct column *c, int64_t t_ns, int64_t value)
{
	if (c->s.signal != SIGNAL_ENERGY_COUNTER_UJ) {
		c->watts = (double)value / 1e3; /* mW */
		return;
	}
	if (c->ref_t_ns && t_ns - c->ref_t_ns < LIVE_SPAN_NS)
		return;
	if (c->ref_t_ns)
		c->watts = (double)(value - c->ref_value) * 1e3 / (double)(t_ns - c->ref_t_ns);
	c->ref_t_ns = t_ns;
	c->ref_value = value;
}

/* One writer: no read-modify-write is needed, only that readers see whole numbers. */
static void count(_Atomic uint64_t *n)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

void column_failed(struct column *c)
{
	count(&c->failed);
}

void column_push(struct column *c, int64_t t_begin_ns, int64_t t_end_ns, int64_t value, bool ok)
{
	size_t n = atomic_load_explicit(&c->n, memory_order_relaxed);

	if (!ok)
		count(&c->failed);
	else if (c->live)
		update_watts(c, t_end_ns, value);
	if (n == c->s.cap) {
		count(&c->dropped);
		return;
	}
	c->s.t_begin_ns[n] = t_begin_ns;
	c->s.t_end_ns[n] = t_end_ns;
	c->s.value[n] = value;
	c->s.ok[n] = ok;
	atomic_store_explicit(&c->n, n + 1, memory_order_release);
}
