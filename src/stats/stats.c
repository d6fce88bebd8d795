#include "stats/stats.h"

#include <math.h>

double stats_quantile_sorted(const double *x, size_t n, double q)
{
	assert(n > 0 && q >= 0 && q <= 1);
	double at = q * (double)(n - 1);
	size_t low = (size_t)at, high = MIN(low + 1, n - 1);

	return x[low] + (x[high] - x[low]) * (at - (double)low);
}

double stats_mean(const double *x, size_t n)
{
	double sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += x[i];
	return n ? sum / (double)n : NAN;
}

static double sum_of_squares(const double *x, size_t n)
{
	double mean = stats_mean(x, n), sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += (x[i] - mean) * (x[i] - mean);
	return sum;
}

double stats_sd(const double *x, size_t n)
{
	return n >= 2 ? sqrt(sum_of_squares(x, n) / (double)(n - 1)) : NAN;
}

double stats_sd_population(const double *x, size_t n)
{
	return n ? sqrt(sum_of_squares(x, n) / (double)n) : NAN;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

struct interval stats_bootstrap_mean(const double *x, size_t n, size_t resamples, struct rand *r)
{
	_cleanup_free_ double *means = lem_calloc(resamples, sizeof(*means));
	double mean = stats_mean(x, n);

	if (n < 2 || resamples == 0)
		return (struct interval){mean, mean};
	for (size_t k = 0; k < resamples; k++) {
		double sum = 0;

		for (size_t i = 0; i < n; i++)
			sum += x[rand_below(r, n)];
		means[k] = sum / (double)n;
	}
	qsort(means, resamples, sizeof(*means), by_value);
	return (struct interval){stats_quantile_sorted(means, resamples, 0.025),
				 stats_quantile_sorted(means, resamples, 0.975)};
}

double stats_t975(size_t df)
{
	/* Student's t, 97.5 %: exact values, then the expansion of Abramowitz and Stegun 26.7.5. */
	static const double table[] = {NAN,   12.706, 4.303, 3.182, 2.776, 2.571, 2.447,
				       2.365, 2.306,  2.262, 2.228, 2.201, 2.179, 2.160,
				       2.145, 2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
	const double z = 1.959964;

	if (df < ARRAY_LEN(table))
		return table[df];
	double n = (double)df, z3 = z * z * z, z5 = z3 * z * z;

	return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n);
}

bool stats_ratio_jackknife(const double *num, const double *den, size_t n, double *ret_ratio,
			   struct interval *ret)
{
	double a = 0, b = 0, sum = 0, sq = 0;

	for (size_t i = 0; i < n; i++) {
		a += num[i];
		b += den[i];
	}
	if (!(b > 0))
		return false;
	*ret_ratio = a / b;
	*ret = (struct interval){a / b, a / b};
	for (size_t i = 0; i < n && n > 1; i++) {
		if (!(b - den[i] > 0))
			return true; /* one group holds everything: no spread to be seen */
		double without = (a - num[i]) / (b - den[i]);
		double pseudo = (double)n * (a / b) - (double)(n - 1) * without;

		sum += pseudo;
		sq += pseudo * pseudo;
	}
	if (n > 1) {
		double mean = sum / (double)n, var = (sq - sum * mean) / (double)(n - 1);
		double half = stats_t975(n - 1) * sqrt(fmax(var, 0) / (double)n);

		*ret = (struct interval){a / b - half, a / b + half};
	}
	return true;
}

struct interval stats_wilson(uint64_t k, uint64_t n)
{
	const double z = 1.959964, p = (double)k / (double)n, m = (double)n;
	double middle = p + z * z / (2 * m), scale = 1 + z * z / m;
	double half = z * sqrt(p * (1 - p) / m + z * z / (4 * m * m));

	assert(n > 0 && k <= n);
	return (struct interval){k ? fmax(middle - half, 0) / scale : 0,
				 k < n ? fmin(middle + half, scale) / scale : 1};
}

bool stats_ratio_interval(double a, struct interval ia, double b, struct interval ib,
			  struct interval *ret)
{
	double ab = a * b, low, high;

	if (!(a > 0) || !(ib.low > 0) || !(ib.high < 2 * b) || !(ia.low <= a) || !(ia.high >= a))
		return false;
	low = ab * ab - ia.low * ib.high * (2 * a - ia.low) * (2 * b - ib.high);
	high = ab * ab - ia.high * ib.low * (2 * a - ia.high) * (2 * b - ib.low);
	*ret = (struct interval){(ab - sqrt(fmax(low, 0))) / (ib.high * (2 * b - ib.high)),
				 (ab + sqrt(fmax(high, 0))) / (ib.low * (2 * b - ib.low))};
	return isfinite(ret->low) && isfinite(ret->high);
}

/* Moves the numbers to the front; the count of them. A NaN has no place in an order. */
static size_t only_numbers(double *x, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!isnan(x[i]))
			x[kept++] = x[i];
	return kept;
}

struct latency_stats stats_latency(double *x_ms, size_t all, const char *none_reason)
{
	size_t n = only_numbers(x_ms, all);
	struct latency_stats s = {.n = n};

	if (n == 0) {
		lem_strlcpy(s.reason, none_reason, sizeof(s.reason));
		return s;
	}
	qsort(x_ms, n, sizeof(*x_ms), by_value);
	s.mean = stats_mean(x_ms, n);
	s.p50 = stats_quantile_sorted(x_ms, n, 0.5);
	s.p90 = stats_quantile_sorted(x_ms, n, 0.9);
	s.p95 = stats_quantile_sorted(x_ms, n, 0.95);
	s.p99 = stats_quantile_sorted(x_ms, n, 0.99);
	s.min = x_ms[0];
	s.max = x_ms[n - 1];
	return s;
}
