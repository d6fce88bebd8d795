#include "sim_sampler.h"

#include <math.h>

#include "meter/pace.h"

void sim_series_init(struct series *s, enum signal signal, enum domain d, const char *device,
		     size_t cap)
{
	*s = (struct series){.signal = signal, .domain = d, .cap = cap};
	lem_strlcpy(s->device, device, sizeof(s->device));
	lem_strlcpy(s->meter, "sim", sizeof(s->meter));
	s->t_begin_ns = lem_calloc(cap, sizeof(*s->t_begin_ns));
	s->t_end_ns = lem_calloc(cap, sizeof(*s->t_end_ns));
	s->value = lem_calloc(cap, sizeof(*s->value));
	s->ok = lem_calloc(cap, sizeof(*s->ok));
}

void sim_push(struct series *s, int64_t t_begin_ns, int64_t t_end_ns, int64_t value, bool ok)
{
	assert(s->n < s->cap);
	s->t_begin_ns[s->n] = t_begin_ns;
	s->t_end_ns[s->n] = t_end_ns;
	s->value[s->n] = value;
	s->ok[s->n++] = ok;
}

double sim_joules(const struct sim *sim, int64_t t0_ns, int64_t t1_ns)
{
	return power_law_joules(sim->law, (double)t1_ns / 1e9) -
	       power_law_joules(sim->law, (double)t0_ns / 1e9);
}

/* Median 2.8 ms, 1 in 100 about 16 ms, 1 in 5000 about 90 ms. */
static int64_t call_ns(struct rand *r)
{
	double u = rand_f64(r), ms = 2.2 + 1.2 * rand_f64(r);

	if (u > 0.9998)
		ms = 90;
	else if (u > 0.99)
		ms = 8 + 9 * rand_f64(r);
	return (int64_t)(ms * 1e6);
}

/* The counter's value at t, mJ resolution, in µJ. */
static int64_t counter_uj(const struct sim *sim, int64_t t_ns)
{
	int64_t k = (int64_t)floor((double)(t_ns - sim->phase_ns) / (double)sim->period_ns);
	uint64_t hash = (uint64_t)(k + 7) * UINT64_C(0x9e3779b97f4a7c15);
	int64_t step_ns = k * sim->period_ns + sim->phase_ns;

	if (sim->jitter_ns && t_ns - step_ns < (int64_t)(hash >> 33) % sim->jitter_ns)
		step_ns -= sim->period_ns;
	return llround(power_law_joules(sim->law, (double)(step_ns - sim->delay_ns) / 1e9) * 1e3 +
		       1e9) *
	       1000;
}

/* One read that begins at or after *t: its bracket and value. False at the recording's end. */
static bool read_counter(const struct sim *sim, struct rand *r, int64_t *begin, int64_t *end,
			 int64_t *uj)
{
	if (sim->trace) {
		const struct trace_signal *e = &sim->trace->signal['e'];
		const struct trace_row *row = trace_at(e, *begin);
		size_t i = row ? (size_t)(row - e->rows) : 0;

		while (i < e->n && e->rows[i].t_begin_ns < *begin)
			i++;
		if (i == e->n)
			return false;
		*begin = e->rows[i].t_begin_ns;
		*end = e->rows[i].t_end_ns;
		*uj = e->rows[i].value * 1000;
		return true;
	}
	*end = *begin + call_ns(r);
	*uj = counter_uj(sim, *begin + (int64_t)(rand_f64(r) * (double)(*end - *begin)));
	return true;
}

static void record_counter(const struct sim *sim, struct rand *r, struct series *s)
{
	struct pace pace;
	int64_t every_ns = sim->every_ns ? sim->every_ns : NS_PER_S, next = sim->t0_ns, free = next;
	size_t mark = 0;

	pace_init(&pace, every_ns);
	while (next < sim->t1_ns) {
		bool at_mark = mark < sim->n_marks && sim->marks_ns[mark] <= next;
		int64_t begin, end, uj;

		if (at_mark)
			pace_mark(&pace);
		begin = MAX(at_mark ? sim->marks_ns[mark++] : next, free);
		begin += (int64_t)(rand_f64(r) * 150e3); /* the thread wakes late */
		if (!read_counter(sim, r, &begin, &end, &uj))
			return;
		free = end;
		sim_push(s, begin, end, uj, true);
		next = sim->unpaced ? MAX(next + every_ns, end)
				    : MAX(pace_next(&pace, begin, end, uj), end);
	}
}

static void record_ring(const struct sim *sim, struct series *s)
{
	const struct trace_signal *recorded = sim->trace ? &sim->trace->signal['s'] : NULL;

	for (int64_t t = sim->t0_ns; sim->law && t < sim->t1_ns; t += 20 * NS_PER_MS)
		sim_push(s, t, t, llround(sim_joules(sim, t - 20 * NS_PER_MS, t) / 0.020 * 1e3),
			 true);
	for (size_t i = 0; recorded && i < recorded->n; i++)
		sim_push(s, recorded->rows[i].t_end_ns, recorded->rows[i].t_end_ns,
			 recorded->rows[i].value, true);
}

static void record_instant(const struct sim *sim, struct series *s)
{
	for (int64_t t = sim->t0_ns; t < sim->t1_ns; t += 500 * NS_PER_MS) {
		const struct trace_row *row =
			sim->trace ? trace_at(&sim->trace->signal['i'], t) : NULL;

		if (row)
			sim_push(s, t, t + 5000, row->value, true);
		else if (sim->law)
			sim_push(s, t, t + 5000,
				 llround(power_law_watts(sim->law, (double)t / 1e9) * 1e3), true);
	}
}

void sim_record(const struct sim *sim, struct sample_set *ret)
{
	size_t cap = (size_t)((sim->t1_ns - sim->t0_ns) / (2 * NS_PER_MS)) + 1000;
	struct series *s = lem_calloc(4, sizeof(*s));
	struct rand r;

	rand_seed(&r, sim->seed);
	sim_series_init(&s[0], SIGNAL_ENERGY_COUNTER_UJ, DOMAIN_GPU, SIM_DEVICE, cap);
	sim_series_init(&s[1], SIGNAL_POWER_INSTANT_MW, DOMAIN_GPU, SIM_DEVICE, cap);
	sim_series_init(&s[2], SIGNAL_POWER_LIMIT_MW, DOMAIN_GPU, SIM_DEVICE, 1);
	sim_series_init(&s[3], SIGNAL_POWER_RING_MW, DOMAIN_GPU, SIM_DEVICE, cap);
	record_counter(sim, &r, &s[0]);
	record_instant(sim, &s[1]);
	sim_push(&s[2], sim->t0_ns, sim->t0_ns, 700000, true);
	record_ring(sim, &s[3]);
	*ret = (struct sample_set){
		.series = s, .n_series = 4, .t_start_ns = sim->t0_ns, .t_stop_ns = sim->t1_ns};
}
