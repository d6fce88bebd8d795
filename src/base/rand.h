/*
 * rand.h — reproducible random numbers: xoshiro256** seeded by splitmix64 (Blackman and Vigna,
 * "Scrambled linear pseudorandom number generators", 2021). The same seed gives the same stream on
 * every machine; not for secrets.
 */
#ifndef LEM_BASE_RAND_H
#define LEM_BASE_RAND_H

#include "base/base.h"

struct rand {
	uint64_t s[4];
	double spare;
	bool has_spare;
};

void rand_seed(struct rand *r, uint64_t seed);
uint64_t rand_u64(struct rand *r);
uint64_t rand_below(struct rand *r, uint64_t n); /* uniform in [0, n), unbiased; n > 0 */
double rand_f64(struct rand *r);                 /* uniform in [0, 1), 53 bits */
double rand_normal(struct rand *r);              /* mean 0, standard deviation 1 */
double rand_exp(struct rand *r);                 /* mean 1 */

#endif
