#include "energy/edges.h"
#include "energy/energy.h"
#include "energy/integrate.h"

/* The widest look around an edge: 2.5 s, at lost readings (faults.c). */
#define NEAR_NS (3 * NS_PER_S)

static int64_t reach_ns(const struct series *s)
{
	return s->signal == SIGNAL_POWER_RING_MW ? INTEGRATE_ALIGN_NS : NEAR_NS;
}

/* Its readings are numbered by a grid that is fitted to all of them. */
static bool is_one_grid(const struct series *s)
{
	return s->signal == SIGNAL_ENERGY_COUNTER_UJ && edges_is_stepping(s->domain);
}

/* What is in the span, near it, and the neighbours on both sides, which may be far. */
static void mark_span(const struct series *s, const struct energy_span *span, int64_t from_ns,
		      bool *keep)
{
	size_t before = SIZE_MAX, after = SIZE_MAX;

	for (size_t i = 0; i < s->n; i++) {
		if (s->t_end_ns[i] < span->t0_ns)
			before = i;
		if (s->t_begin_ns[i] > span->t1_ns && after == SIZE_MAX)
			after = i;
		keep[i] |=
			s->t_end_ns[i] >= from_ns && s->t_begin_ns[i] <= span->t1_ns + reach_ns(s);
	}
	if (after != SIZE_MAX)
		keep[after] = true;
	if (before != SIZE_MAX)
		keep[before] = true;
}

static void cut_series(struct series *s, const struct energy_span *spans, size_t n)
{
	_cleanup_free_ bool *keep = lem_calloc(s->n + 1, sizeof(*keep));
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		mark_span(s, &spans[i], is_one_grid(s) ? INT64_MIN : spans[i].t0_ns - reach_ns(s),
			  keep);
	for (size_t i = 0; i < s->n; i++) {
		if (!keep[i])
			continue;
		s->t_begin_ns[k] = s->t_begin_ns[i];
		s->t_end_ns[k] = s->t_end_ns[i];
		s->value[k] = s->value[i];
		s->ok[k++] = s->ok[i];
	}
	s->n = k;
}

void energy_cut(struct sample_set *s, const struct energy_span *spans, size_t n)
{
	for (size_t i = 0; i < s->n_series; i++)
		cut_series(&s->series[i], spans, n);
}
