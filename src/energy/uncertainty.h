/*
 * uncertainty.h — how wrong the energy at a window's edge can be. Pure.
 *
 * Sources (energy.md sections 2 and 5.11):
 *   where inside a step the power changed     each edge by itself; bounded by the highest and
 * lowest power seen around the edge when the steps happened                   common to both edges
 * when a grid was fitted (cancels but for the difference of power), each by itself otherwise how
 * old a step's content is               common to both edges: 5 ms fitted on H100, 10 allowed Gain
 * (± 5 %) is the device's and stays outside.
 */
#ifndef LEM_ENERGY_UNCERTAINTY_H
#define LEM_ENERGY_UNCERTAINTY_H

#include "energy/edges.h"
#include "model/quantity.h"

struct edge {
	double uj;                     /* counter at the edge, interpolated */
	double within_uj;              /* half-width for what happened inside the step */
	double low_w, high_w, power_w; /* around and at the edge */
	double half_ns;                /* of the knots beside it */
};

/* Half-width of the difference of two edges, µJ. */
double uncertainty_between(const struct edge *a, const struct edge *b, const struct edges *e);

/* How far the energy in the first share f of a step of length t may lie from f × total, when power
 * moves between low and high and its mean over the step is mean. */
double uncertainty_within_step(double f, double step_ns, double mean_w, double low_w,
			       double high_w);

/* The same when the ring of 20 ms samples shows the shape, its lag known to lag_half_ns. */
double uncertainty_of_ring(double lag_half_ns, double low_w, double high_w);

/* Root of the sum of squares of the half-widths, below and above. */
struct quantity uncertainty_sum(const struct quantity *q, size_t n, const char *method);

#endif
