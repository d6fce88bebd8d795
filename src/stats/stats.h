/*
 * stats.h — quantiles and intervals. Pure.
 */
#ifndef LEM_STATS_STATS_H
#define LEM_STATS_STATS_H

#include "base/rand.h"
#include "model/summary.h"

/* Linear interpolation between order statistics (Hyndman and Fan type 7); x sorted ascending, n >
 * 0. */
double stats_quantile_sorted(const double *x, size_t n, double q);
double stats_mean(const double *x, size_t n);
double stats_sd(const double *x, size_t n); /* n − 1 in the denominator; n >= 2 */
double stats_sd_population(const double *x, size_t n);

struct interval {
	double low, high;
};
/* Percentile bootstrap of the mean, 95 %. n >= 2, else low = high = mean. */
struct interval stats_bootstrap_mean(const double *x, size_t n, size_t resamples, struct rand *r);

/* 97.5 % point of Student's t with df >= 1 degrees of freedom, to three digits. */
double stats_t975(size_t df);

/* Ratio of sums Σnum/Σden over n groups with a 95 % jackknife interval (Student's t, n − 1): the
 * rate of a series whose neighbours are alike, when a group is long against that likeness. false:
 * Σden is not positive. */
bool stats_ratio_jackknife(const double *num, const double *den, size_t n, double *ret_ratio,
			   struct interval *ret);

/* Wilson's 95 % interval of a share: k of n > 0. It stays within 0 and 1, and has a width at both
 * ends. Takes the n for independent. */
struct interval stats_wilson(uint64_t k, uint64_t n);

/* 95 % interval of a / b from those of a and b, measured independently: MOVER-R (Donner and Zou,
 * Statistical Methods in Medical Research 21, 2012), which needs no symmetry. false: b's interval
 * reaches zero or twice b, or the figures are not positive. */
bool stats_ratio_interval(double a, struct interval ia, double b, struct interval ib,
			  struct interval *ret);

/* Sorts x in place; a NaN is no sample and is left out. */
struct latency_stats stats_latency(double *x_ms, size_t n, const char *none_reason);

#endif
