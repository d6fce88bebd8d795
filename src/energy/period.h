/*
 * period.h — the period on which a set of moments falls. Pure.
 */
#ifndef LEM_ENERGY_PERIOD_H
#define LEM_ENERGY_PERIOD_H

#include "base/base.h"

/* How well n moments fall on one phase of a period: 1 exactly, about 1/sqrt(n) anywhere (the length
 * of the mean of unit vectors). */
double period_concentration(const double *t_ns, size_t n, double period_ns);

/*
 * The period near `about_ns` (within 15 %) on which the moments, ascending, agree best; right to
 * about a sixteenth of a period over their whole span. 0 when they agree on none.
 */
double period_find(const double *t_ns, size_t n, double about_ns);

#endif
