#include "meter/pace.h"

#include <math.h>

#define POLL_NS     (10 * NS_PER_MS)
#define TIGHT_NS    (30 * NS_PER_MS) /* a bracket narrower than this tells when a step was */
#define LATE_NS     (8 * NS_PER_MS)  /* after a step; its jitter has 1.4 ms standard deviation */
#define HUNT_MAX_NS (2500 * NS_PER_MS)
#define REHUNT_NS   (60 * NS_PER_S)

enum {
	HUNT_STEPS = 3,
	CHECK_FIRST = 3,
	CHECK_MOST = 50,
	MISSES_MAX = 15, /* polls without a step after one was due: more than a period of 100 ms */
	FAST_POLLS = 12, /* all of them moved: faster than can be followed */
};

static int64_t hunt(struct pace *p, int64_t t_ns)
{
	p->mode = PACE_HUNT;
	p->hunt_start_ns = t_ns;
	p->polls = p->changes = p->misses = 0;
	p->first_step_ns = p->step_ns = p->steps = 0;
	p->period_ns = 0;
	p->early = false;
	p->check_gap = p->until_check = CHECK_FIRST;
	return t_ns + POLL_NS;
}

void pace_init(struct pace *p, int64_t every_ns)
{
	*p = (struct pace){.every_ns = every_ns};
	(void)hunt(p, 0);
}

/* A step was seen in a narrow bracket around t. */
static void saw_step(struct pace *p, int64_t t_ns)
{
	int64_t k;

	if (!p->step_ns) {
		p->first_step_ns = p->step_ns = t_ns;
		return;
	}
	k = p->period_ns > 0 ? llround((double)(t_ns - p->step_ns) / p->period_ns) : 1;
	if (k < 1)
		return; /* two steps closer than half a period: noise */
	p->steps += k;
	p->step_ns = t_ns;
	p->period_ns = (double)(t_ns - p->first_step_ns) / (double)p->steps;
}

/* The predicted step at or before t. */
static int64_t step_before(const struct pace *p, int64_t t_ns)
{
	double k = floor((double)(t_ns - p->step_ns) / p->period_ns);

	return p->step_ns + (int64_t)(k * p->period_ns);
}

static int64_t plan(struct pace *p, int64_t t_begin_ns, int64_t call_ns)
{
	int64_t per_read = MAX((int64_t)1, llround((double)p->every_ns / p->period_ns));
	int64_t target = step_before(p, t_begin_ns) + (int64_t)((double)per_read * p->period_ns);

	p->until_check -= per_read;
	if (p->until_check > 0)
		return target + LATE_NS;
	/* The pair lies symmetrically around the step, or the estimate would creep. */
	p->check_gap = MIN(p->check_gap * 3, (int64_t)CHECK_MOST);
	p->until_check = p->check_gap;
	p->early = true;
	if (per_read == 1)
		target += (int64_t)p->period_ns;
	return target - LATE_NS - call_ns;
}

static int64_t next_hunting(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, bool changed)
{
	p->polls++;
	p->changes += changed;
	if (!p->hunt_start_ns)
		p->hunt_start_ns = t_begin_ns;
	if (p->changes >= FAST_POLLS && p->changes >= p->polls - 1) {
		p->mode = PACE_FREE;
		p->free_since_ns = INT64_MAX; /* it is fast: nothing to hunt for, ever */
		return t_begin_ns + p->every_ns;
	}
	if (p->changes >= HUNT_STEPS && p->changes < p->polls - 1 && p->steps >= HUNT_STEPS - 1) {
		p->mode = PACE_LOCKED;
		return plan(p, t_begin_ns, t_end_ns - t_begin_ns);
	}
	if (t_end_ns - p->hunt_start_ns > HUNT_MAX_NS) {
		p->mode = PACE_FREE;
		p->free_since_ns = t_end_ns;
		return t_begin_ns + p->every_ns;
	}
	return MAX(t_begin_ns + POLL_NS, t_end_ns + POLL_NS / 5);
}

static int64_t next_locked(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, bool changed)
{
	if (p->early) {
		p->early = false;
		return step_before(p, t_begin_ns) + (int64_t)p->period_ns + LATE_NS;
	}
	if (changed) {
		p->misses = 0;
		return plan(p, t_begin_ns, t_end_ns - t_begin_ns);
	}
	if (++p->misses > MISSES_MAX)
		return hunt(p, t_end_ns);
	return MAX(t_begin_ns + POLL_NS, t_end_ns + POLL_NS / 5);
}

int64_t pace_next(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, int64_t value)
{
	bool changed = p->has_last && value != p->last_value;

	if (changed && t_end_ns - p->last_begin_ns <= TIGHT_NS)
		saw_step(p, p->last_begin_ns + (t_end_ns - p->last_begin_ns) / 2);
	p->has_last = true;
	p->failures = 0;
	p->last_value = value;
	p->last_begin_ns = t_begin_ns;
	switch (p->mode) {
	case PACE_HUNT: return next_hunting(p, t_begin_ns, t_end_ns, changed);
	case PACE_LOCKED: return next_locked(p, t_begin_ns, t_end_ns, changed);
	case PACE_FREE:
	default: break;
	}
	if (p->free_since_ns != INT64_MAX && t_end_ns - p->free_since_ns > REHUNT_NS)
		return hunt(p, t_end_ns);
	return MAX(t_begin_ns + p->every_ns, t_end_ns);
}

int64_t pace_failed(struct pace *p, int64_t t_end_ns)
{
	/* A passing fault costs a read or two; a lost GPU is not hammered. */
	int64_t wait_ns = p->every_ns << MIN(p->failures, 10);

	p->has_last = false;
	p->failures++;
	return t_end_ns + MIN(wait_ns, NS_PER_S);
}
