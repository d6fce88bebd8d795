#include "run/work.h"

#include "run/streams.h"
#include "stats/stats.h"

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int bin_of(int64_t length)
{
	int k = 0;

	while (k + 1 < LENGTH_BINS && length >> (k + 1))
		k++;
	return k;
}

/* x: the lengths, in any order; sorted here. */
static struct length_stats stats_of(double *x, size_t n)
{
	struct length_stats s = {.n = n};

	if (!n)
		return s;
	qsort(x, n, sizeof(*x), by_value);
	for (size_t i = 0; i < n; i++) {
		s.total += (int64_t)x[i];
		s.bins[bin_of((int64_t)x[i])]++;
	}
	s.min = (int64_t)x[0];
	s.max = (int64_t)x[n - 1];
	s.mean = (double)s.total / (double)n;
	s.p50 = stats_quantile_sorted(x, n, 0.5);
	s.p90 = stats_quantile_sorted(x, n, 0.9);
	s.p99 = stats_quantile_sorted(x, n, 0.99);
	return s;
}

void work_count(const struct run_record *r, struct summary *s)
{
	_cleanup_free_ double *in = lem_calloc(r->n_requests + 1, sizeof(*in));
	_cleanup_free_ double *out = lem_calloc(r->n_requests + 1, sizeof(*out));
	size_t n_in = 0, n_out = 0;

	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		if (!request_answered(q) || q->uncounted)
			continue;
		if (q->input_tokens > 0)
			in[n_in++] = (double)q->input_tokens;
		if (q->output_tokens > 0)
			out[n_out++] = (double)q->output_tokens;
		s->inputs_differ += q->input_tokens_asked > 0 && q->input_tokens > 0 &&
				    q->input_tokens != q->input_tokens_asked;
	}
	s->input_lengths = stats_of(in, n_in);
	s->output_lengths = stats_of(out, n_out);
}
