#include <math.h>

#include "energy/edges.h"
#include "energy/energy.h"

/* A power this many times the enforced limit cannot be true (energy.md 3: Intel's terawatts).
 * Limiters overshoot for 100 ms: 824 W at 700 W were seen. */
#define IMPLAUSIBLE_FACTOR  2.0
#define IMPLAUSIBLE_SPAN_NS (500 * NS_PER_MS)
/* A counter that stands still for this many periods is stuck. */
#define STUCK_PERIODS 2.0
/* ... and at least this long: a driver call may take 93 ms. */
#define STUCK_MIN_NS (400 * NS_PER_MS)
#define GAP_NS       (5 * NS_PER_S)
/* Readings that end this long before the window does: the default is one a second. */
#define LOST_NS (2500 * NS_PER_MS)

struct faults {
	struct energy_fault *out;
	size_t cap, n;
};

static void add(struct faults *f, const struct series *s, const char *fmt, ...) _printf_(3, 4);
static void add(struct faults *f, const struct series *s, const char *fmt, ...)
{
	va_list ap;

	if (f->n == f->cap)
		return;
	lem_strlcpy(f->out[f->n].device, s->device, sizeof(f->out[f->n].device));
	va_start(ap, fmt);
	(void)vsnprintf(f->out[f->n].text, sizeof(f->out[f->n].text), fmt, ap);
	va_end(ap);
	f->n++;
}

static double limit_w(const struct sample_set *set, const char *device)
{
	for (size_t i = 0; i < set->n_series; i++) {
		const struct series *s = &set->series[i];

		if (s->signal != SIGNAL_POWER_LIMIT_MW || !str_eq(s->device, device))
			continue;
		for (size_t k = s->n; k-- > 0;)
			if (s->ok[k] && s->value[k] > 0)
				return (double)s->value[k] / 1e3;
	}
	return NAN;
}

/* Walks the good readings of a counter that lie in or next to the window. */
struct walk {
	const struct series *s;
	int64_t t0_ns, t1_ns;
	double period_ns, limit_w;
	bool has_last, reset, stuck, implausible, gap;
	int64_t last_value, last_begin_ns, last_end_ns;
	int64_t same_since_ns;             /* end of the first reading of the present value */
	int64_t span_begin_ns, span_value; /* where the power under test is reckoned from */
};

static void check_power(struct walk *w, struct faults *f, int64_t begin_ns, int64_t value)
{
	double watts;

	if (begin_ns - w->span_begin_ns < IMPLAUSIBLE_SPAN_NS)
		return;
	watts = (double)(value - w->span_value) * 1e3 / (double)(begin_ns - w->span_begin_ns);
	if (!w->implausible && watts > IMPLAUSIBLE_FACTOR * w->limit_w) {
		w->implausible = true;
		add(f, w->s, "implausible power: the counter says %.0f W, the limit is %.0f W",
		    watts, w->limit_w);
	}
	w->span_begin_ns = begin_ns;
	w->span_value = value;
}

static void check_reading(struct walk *w, struct faults *f, int64_t begin_ns, int64_t end_ns,
			  int64_t value)
{
	if (value < w->last_value && !w->reset) {
		w->reset = true;
		add(f, w->s,
		    "the energy counter fell by %.3f J: it was reset or the driver reloaded",
		    (double)(w->last_value - value) / 1e6);
	}
	if (value != w->last_value) {
		w->same_since_ns = end_ns;
	} else if (!w->stuck && begin_ns - w->same_since_ns > STUCK_MIN_NS &&
		   (double)(begin_ns - w->same_since_ns) > STUCK_PERIODS * w->period_ns) {
		w->stuck = true;
		add(f, w->s, "the energy counter stood still for %.1f s or more",
		    (double)(begin_ns - w->same_since_ns) / 1e9);
	}
	if (begin_ns - w->last_end_ns > GAP_NS && !w->gap) {
		w->gap = true;
		add(f, w->s, "no reading for %.1f s", (double)(begin_ns - w->last_end_ns) / 1e9);
	}
	check_power(w, f, begin_ns, value);
}

static void walk_counter(struct walk *w, struct faults *f)
{
	const struct series *s = w->s;

	for (size_t i = 0; i < s->n; i++) {
		if (!s->ok[i] || s->t_end_ns[i] < w->t0_ns)
			continue;
		if (!w->has_last) {
			w->has_last = true;
			w->same_since_ns = s->t_end_ns[i];
			w->span_begin_ns = s->t_begin_ns[i];
			w->span_value = s->value[i];
		} else {
			check_reading(w, f, s->t_begin_ns[i], s->t_end_ns[i], s->value[i]);
		}
		w->last_value = s->value[i];
		w->last_begin_ns = s->t_begin_ns[i];
		w->last_end_ns = s->t_end_ns[i];
		if (s->t_begin_ns[i] > w->t1_ns)
			break;
	}
	if (!w->has_last)
		add(f, s, "no reading in the window");
	else if (w->last_end_ns < w->t1_ns - LOST_NS)
		add(f, s, "readings ended %.1f s before the window did: the device was lost",
		    (double)(w->t1_ns - w->last_end_ns) / 1e9);
}

/* psys holds what package and DRAM hold already and enters no sum; an estimate is no reading; a CPU
 * counter that never moves (virtual machines have such) gives no figure that could be wrong. */
static bool enters_a_figure(const struct series *c)
{
	bool moves = c->domain == DOMAIN_GPU;

	if (c->signal != SIGNAL_ENERGY_COUNTER_UJ || c->domain == DOMAIN_CPU_ESTIMATE ||
	    c->domain == DOMAIN_PSYS)
		return false;
	for (size_t i = 1; i < c->n && !moves; i++)
		moves = c->ok[i] && c->value[i] != c->value[0];
	return moves;
}

static double period_of(const struct series *s)
{
	_cleanup_edges_ struct edges e = {0};

	return edges_find(s, &e) ? e.period_ns : 0;
}

size_t energy_faults(const struct sample_set *s, int64_t t0_ns, int64_t t1_ns,
		     struct energy_fault *out, size_t cap)
{
	struct faults f = {.out = out, .cap = cap};

	for (size_t i = 0; i < s->n_series && t1_ns > t0_ns; i++) {
		const struct series *c = &s->series[i];
		struct walk w = {.s = c, .t0_ns = t0_ns, .t1_ns = t1_ns};

		if (!enters_a_figure(c))
			continue;
		w.period_ns = period_of(c);
		w.limit_w = limit_w(s, c->device);
		walk_counter(&w, &f);
	}
	return f.n;
}
