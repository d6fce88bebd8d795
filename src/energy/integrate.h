/*
 * integrate.h — joules of one series in a window. Pure.
 */
#ifndef LEM_ENERGY_INTEGRATE_H
#define LEM_ENERGY_INTEGRATE_H

#include "model/quantity.h"
#include "model/sample.h"

/* How much around the window serves to find the ring's lag. */
#define INTEGRATE_ALIGN_NS (30 * NS_PER_S)

/*
 * Counter at both edges, interpolated between steps. `levels` (NULL: none) is a power series of the
 * same device, mW, that shows how far power swings around the edges. Unknown when the readings do
 * not reach around the window.
 */
struct quantity integrate_counter(const struct series *counter, const struct series *levels,
				  int64_t t0_ns, int64_t t1_ns);

/* Without a counter: the device's average power over time. Wide: it lags by up to a second. */
struct quantity integrate_power(const struct series *power, int64_t t0_ns, int64_t t1_ns);

#endif
