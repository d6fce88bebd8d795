#include "energy/edges.h"

#include "energy/grid.h"

/* RAPL is refreshed about every millisecond, jittered and without a time stamp (energy.md 4). */
#define CONTINUOUS_REFRESH_NS NS_PER_MS

/* How long readings that may belong to either of two steps are passed over. */
#define DOUBT_NS (2500 * NS_PER_MS)

struct reading {
	int64_t begin_ns, end_ns, value;
};

bool edges_is_stepping(enum domain d)
{
	return d == DOMAIN_GPU;
}

/* The good reads up to the first fall of the value. */
static size_t collect(const struct series *s, struct reading *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (!s->ok[i])
			continue;
		if (n && s->value[i] < out[n - 1].value)
			break;
		out[n++] = (struct reading){s->t_begin_ns[i], s->t_end_ns[i], s->value[i]};
	}
	return n;
}

static size_t find_brackets(const struct reading *r, size_t n, struct bracket *out)
{
	size_t k = 0;
	bool dense = false; /* since the last bracket no step can have been missed */

	for (size_t i = 1; i < n; i++) {
		dense = dense && r[i].end_ns - r[i - 1].begin_ns <= GRID_TIGHT_NS;
		if (r[i].value == r[i - 1].value)
			continue;
		out[k++] = (struct bracket){r[i - 1].begin_ns, r[i].end_ns, dense};
		dense = true;
	}
	return k;
}

static void add_knot(struct edges *e, int64_t t_ns, int64_t half_ns, int64_t value)
{
	struct knot *last = e->n ? &e->knots[e->n - 1] : NULL;

	if (last && t_ns <= last->t_ns)
		return;
	e->knots[e->n++] = (struct knot){t_ns, half_ns, value};
}

static void continuous_knots(const struct reading *r, size_t n, struct edges *e)
{
	for (size_t i = 0; i < n; i++) {
		int64_t half_ns = (r[i].end_ns - r[i].begin_ns) / 2;

		add_knot(e, r[i].begin_ns + half_ns, half_ns + CONTINUOUS_REFRESH_NS, r[i].value);
	}
}

static void bracket_knots(const struct reading *r, size_t n, struct edges *e)
{
	for (size_t i = 1; i < n; i++) {
		int64_t half_ns = (r[i].end_ns - r[i - 1].begin_ns) / 2;

		if (r[i].value != r[i - 1].value)
			add_knot(e, r[i - 1].begin_ns + half_ns, half_ns, r[i].value);
	}
}

/* The steps to which a reading may belong. */
struct span {
	int64_t first, last;
};

/*
 * By its own bracket a reading taken close to a step may belong to either side of it. Its
 * neighbours tell: another value is at least one step on, the same value is the same step. A
 * neighbour that contradicts the bracket (a step came later than the grid allows) is not believed,
 * so that one odd step does not spoil the rest.
 */
static void number_readings(const struct grid *g, const struct reading *r, size_t n, struct span *k)
{
	for (size_t i = 0; i < n; i++) {
		k[i].first = grid_floor(g, r[i].begin_ns - g->half_ns);
		k[i].last = grid_floor(g, r[i].end_ns + g->half_ns);
	}
	for (size_t i = 1; i < n; i++) {
		bool same = r[i].value == r[i - 1].value;
		int64_t first = k[i - 1].first + !same;

		if (first > k[i].first && first <= k[i].last)
			k[i].first = first;
		if (same && k[i - 1].last < k[i].last && k[i - 1].last >= k[i].first)
			k[i].last = k[i - 1].last;
	}
	for (size_t i = n - 1; i-- > 0;) {
		bool same = r[i].value == r[i + 1].value;
		int64_t last = k[i + 1].last - !same;

		if (last < k[i].last && last >= k[i].first)
			k[i].last = last;
		if (same && k[i + 1].first > k[i].first && k[i + 1].first <= k[i].last)
			k[i].first = k[i + 1].first;
	}
}

static void grid_knots(const struct grid *g, const struct reading *r, size_t n, struct edges *e)
{
	_cleanup_free_ struct span *k = lem_calloc(n, sizeof(*k));
	int64_t last_k = INT64_MIN;

	number_readings(g, r, n, k);
	for (size_t i = 0; i < n; i++) {
		int64_t mid_ns = r[i].begin_ns + (r[i].end_ns - r[i].begin_ns) / 2,
			half_ns = g->half_ns;
		int64_t at = MIN(MAX(grid_floor(g, mid_ns), k[i].first), k[i].last);

		if (at <= last_k)
			continue;
		/* Still either of two: not used, unless nothing else is at hand; then the interval
		 * knows. */
		if (k[i].first != k[i].last && e->n && mid_ns - e->knots[e->n - 1].t_ns < DOUBT_NS)
			continue;
		if (k[i].first != k[i].last)
			half_ns += (int64_t)g->period_ns;
		last_k = at;
		add_knot(e, grid_time_ns(g, at), half_ns, r[i].value);
	}
}

/* Without a grid: the typical distance of changes, which is at least the period. */
static double typical_gap(const struct edges *e)
{
	if (e->n < 2)
		return 0;
	return (double)(e->knots[e->n - 1].t_ns - e->knots[0].t_ns) / (double)(e->n - 1);
}

bool edges_find(const struct series *s, struct edges *ret)
{
	_cleanup_free_ struct reading *r = lem_calloc(s->n + 1, sizeof(*r));
	_cleanup_free_ struct bracket *b = lem_calloc(s->n + 1, sizeof(*b));
	size_t n = collect(s, r);
	struct edges e = {.stepping = edges_is_stepping(s->domain)};
	struct grid g;

	if (n < 2)
		return false;
	e.knots = lem_calloc(n, sizeof(*e.knots));
	e.first_read_ns = r[0].begin_ns + (r[0].end_ns - r[0].begin_ns) / 2;
	e.last_read_ns = r[n - 1].begin_ns + (r[n - 1].end_ns - r[n - 1].begin_ns) / 2;
	if (!e.stepping) {
		continuous_knots(r, n, &e);
		e.period_ns = (double)CONTINUOUS_REFRESH_NS;
	} else {
		g = grid_fit(b, find_brackets(r, n, b));
		e.grid = g.known;
		e.tilt = g.tilt;
		e.common_ns = g.half_ns;
		if (e.grid)
			grid_knots(&g, r, n, &e);
		else
			bracket_knots(r, n, &e);
		e.period_ns = g.known ? g.period_ns : typical_gap(&e);
	}
	if (e.n < 2) {
		edges_release(&e);
		return false;
	}
	*ret = e;
	return true;
}

void edges_release(struct edges *e)
{
	free(e->knots);
	*e = (struct edges){0};
}

size_t edges_segment(const struct edges *e, int64_t t_ns)
{
	size_t lo = 0, hi = e->n - 1; /* the segment lies in [lo, hi) */

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		if (e->knots[mid].t_ns <= t_ns)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}
