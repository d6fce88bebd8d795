#include "meter/pace.h"

#include <math.h>

#define POLL_NS  (10 * NS_PER_MS)
#define TIGHT_NS (30 * NS_PER_MS) /* a bracket narrower than this tells when a step was */
/* Ordinary reads keep away from the refresh: within about 17 ms of it a call takes 10 to 15 ms
 * instead of 3 on H100 (seen with driver 580). */
#define SAFE_NS       (30 * NS_PER_MS)
#define SAFE_SHARE    0.35 /* ... or this share of a shorter period */
#define SAFE_TO_NS    (70 * NS_PER_MS)
#define SAFE_TO_SHARE 0.6
#define FAR_NS        (8 * NS_PER_MS) /* the sides of a check; a step's jitter is 1.4 ms (1 sigma) */
#define CLOSE_NS      (2 * NS_PER_MS)
#define DRIFT_NS      NS_PER_MS /* what the phase may have moved between two sightings */
#define HUNT_MAX_NS   (2500 * NS_PER_MS)
#define REHUNT_NS     (60 * NS_PER_S)

enum {
	HUNT_STEPS = 3,
	CHECK_FIRST = 2,
	CHECK_MOST = 100,
	MARK_READS = 2,  /* steps read after a mark, besides the read at the mark itself */
	POLLS_MAX = 15,  /* polls without a step where one was due: more than a period of 100 ms */
	POLLS_HERE = 3,  /* ... before the next step is waited for */
	TRIES_MAX = 5,   /* checks in a row that calls of 10 ms and more have spoilt */
	FAST_POLLS = 12, /* all of them moved: faster than can be followed */
};

static int64_t hunt(struct pace *p, int64_t t_ns)
{
	p->mode = PACE_HUNT;
	p->hunt_start_ns = t_ns;
	p->polls = p->changes = 0;
	p->first_step_ns = p->step_ns = p->steps = 0;
	p->period_ns = 0;
	p->expect = PACE_SAFE;
	p->until_check = CHECK_FIRST;
	return t_ns + POLL_NS;
}

void pace_init(struct pace *p, int64_t every_ns)
{
	*p = (struct pace){.every_ns = every_ns};
	(void)hunt(p, 0);
}

/* Starts to count steps anew at this one. */
static void anchor(struct pace *p, int64_t lo_ns, int64_t hi_ns)
{
	p->lo_ns = lo_ns;
	p->hi_ns = hi_ns;
	p->step_ns = p->first_step_ns = lo_ns + (hi_ns - lo_ns) / 2;
	p->steps = 0;
}

/* A step was seen between lo and hi. What is known of the phase from before narrows it further.
 * False when it lies where none can be: the period is wrong or the phase has jumped. */
static bool saw_step(struct pace *p, int64_t lo_ns, int64_t hi_ns)
{
	double since_ns = (double)(lo_ns + (hi_ns - lo_ns) / 2 - p->step_ns), off_ns;
	int64_t k, shift_ns;

	if (!p->step_ns || (!(p->period_ns > 0) && !p->dense)) {
		anchor(p, lo_ns, hi_ns);
		return true;
	}
	k = p->period_ns > 0 ? llround(since_ns / p->period_ns) : 1;
	off_ns = p->period_ns > 0 ? fabs(since_ns - (double)k * p->period_ns) : 0;
	if (k < 1 || off_ns > MAX(p->period_ns / 4, (double)(hi_ns - lo_ns)))
		return false;
	shift_ns = p->period_ns > 0 ? (int64_t)((double)k * p->period_ns) : (int64_t)since_ns;
	if (p->lo_ns + shift_ns - DRIFT_NS < hi_ns && p->hi_ns + shift_ns + DRIFT_NS > lo_ns) {
		lo_ns = MAX(lo_ns, p->lo_ns + shift_ns - DRIFT_NS);
		hi_ns = MIN(hi_ns, p->hi_ns + shift_ns + DRIFT_NS);
	}
	p->lo_ns = lo_ns;
	p->hi_ns = hi_ns;
	p->step_ns = lo_ns + (hi_ns - lo_ns) / 2;
	p->steps += k;
	p->period_ns = (double)(p->step_ns - p->first_step_ns) / (double)p->steps;
	return true;
}

/* The predicted step at or before t. */
static int64_t step_before(const struct pace *p, int64_t t_ns)
{
	double k = floor((double)(t_ns - p->step_ns) / p->period_ns);

	return p->step_ns + (int64_t)(k * p->period_ns);
}

static int64_t poll_again(int64_t t_begin_ns, int64_t t_end_ns)
{
	return MAX(t_begin_ns + POLL_NS, t_end_ns + POLL_NS / 5);
}

/* A pair of reads around the step at target. Which side comes close alternates, so that the two
 * kinds of brackets together narrow the phase to less than either. */
static int64_t plan_check(struct pace *p, int64_t target_ns, int64_t call_ns)
{
	/* As far ahead as has been seen: the period's error then moves the step by no more than the
	 * error of the first sightings. */
	p->until_check = MIN(MAX(p->steps, (int64_t)CHECK_FIRST), (int64_t)CHECK_MOST);
	p->expect = PACE_EARLY;
	p->close_early = !p->close_early;
	p->late_ns = p->close_early ? FAR_NS : CLOSE_NS;
	return target_ns - call_ns - (p->close_early ? CLOSE_NS : FAR_NS);
}

static int64_t plan(struct pace *p, int64_t t_begin_ns, int64_t call_ns)
{
	int64_t ahead = MAX((int64_t)1, llround((double)p->every_ns / p->period_ns));
	/* A step just seen may by estimate lie after the beginning of the read that saw it. */
	int64_t last_ns = MAX(step_before(p, t_begin_ns), p->step_ns);
	int64_t safe_ns = MIN(SAFE_NS, (int64_t)(SAFE_SHARE * p->period_ns));
	int64_t latest_ns = MAX(safe_ns, MIN(SAFE_TO_NS, (int64_t)(SAFE_TO_SHARE * p->period_ns)));
	bool at_mark = p->at_mark;

	p->expect = PACE_SAFE;
	p->at_mark = false;
	/* A mark may fall so close behind a step that its read might belong to either side. */
	if (at_mark && t_begin_ns - last_ns < safe_ns)
		return last_ns + safe_ns;
	if (p->mark_reads > 0) {
		p->mark_reads--;
		ahead = 1;
	} else if (p->until_check <= ahead) {
		ahead = MAX(p->until_check, (int64_t)1);
		return plan_check(p, last_ns + (int64_t)((double)ahead * p->period_ns), call_ns);
	}
	p->until_check -= ahead;
	p->slack_ns = latest_ns - safe_ns; /* anywhere between will do: GPUs may share a wake-up */
	return last_ns + (int64_t)((double)ahead * p->period_ns) + latest_ns;
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
	return poll_again(t_begin_ns, t_end_ns);
}

/* No step was where it should have been: look for it a little longer, then where the next is due.
 */
static int64_t next_poll(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns)
{
	p->expect = PACE_POLL;
	p->polls++;
	if (p->polls > POLLS_MAX)
		return hunt(p, t_end_ns);
	if (p->polls == POLLS_HERE && p->period_ns > 2.0 * (double)TIGHT_NS)
		return MAX(poll_again(t_begin_ns, t_end_ns),
			   step_before(p, t_begin_ns) + (int64_t)p->period_ns - 2 * POLL_NS);
	return poll_again(t_begin_ns, t_end_ns);
}

static int64_t next_locked(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, bool near)
{
	switch (p->expect) {
	case PACE_EARLY:
		p->expect = PACE_LATE;
		return step_before(p, t_begin_ns) + (int64_t)p->period_ns + p->late_ns;
	case PACE_LATE:
		p->polls = 0;
		if (!near)
			return next_poll(p, t_begin_ns, t_end_ns);
		/* Calls took so long that the pair tells little: once more, but not for ever. */
		p->tries = p->tight ? 0 : p->tries + 1;
		if (p->tries > 0 && p->tries < TRIES_MAX)
			p->until_check = 1;
		break;
	case PACE_POLL:
		if (!near)
			return next_poll(p, t_begin_ns, t_end_ns);
		break;
	case PACE_SAFE:
	default: break;
	}
	return plan(p, t_begin_ns, t_end_ns - t_begin_ns);
}

void pace_mark(struct pace *p)
{
	p->at_mark = true;
	p->mark_reads = MARK_READS;
	if (p->expect !=
	    PACE_SAFE) /* a check in progress is put off: this read would spoil its pair */
		p->until_check = 1;
	p->expect = PACE_SAFE;
}

int64_t pace_next(struct pace *p, int64_t t_begin_ns, int64_t t_end_ns, int64_t value)
{
	bool changed = p->has_last && value != p->last_value;
	int64_t apart_ns = p->has_last ? t_end_ns - p->last_begin_ns : INT64_MAX;
	bool tight = apart_ns <= TIGHT_NS;
	bool sense = !changed || !tight || saw_step(p, p->last_begin_ns, t_end_ns);

	p->slack_ns = 0;
	p->tight = tight;
	p->dense = tight && (p->dense || changed);
	p->has_last = true;
	p->failures = 0;
	p->last_value = value;
	p->last_begin_ns = t_begin_ns;
	if (!sense)
		return hunt(p, t_end_ns);
	switch (p->mode) {
	case PACE_HUNT: return next_hunting(p, t_begin_ns, t_end_ns, changed);
	case PACE_LOCKED:
		return next_locked(p, t_begin_ns, t_end_ns, changed && apart_ns <= 2 * TIGHT_NS);
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
