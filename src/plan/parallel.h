/*
 * parallel.h — the arithmetic of model parallelism: how many GPUs a layout needs, and which sizes a
 * model's shape allows. Pure. Sizes are at least 1; products that overflow saturate at INT64_MAX.
 * Rules: vLLM config/parallel.py, TensorRT-LLM mapping.py, SGLang server arguments.
 */
#ifndef LEM_PLAN_PARALLEL_H
#define LEM_PLAN_PARALLEL_H

#include "base/base.h"

int64_t parallel_product(const int64_t *sizes, size_t n);

/* Divisors of n that are at most limit, ascending, at most cap of them; returns how many. */
size_t parallel_divisors(int64_t n, int64_t limit, int64_t *ret, size_t cap);

/* Largest divisor of n that is at most limit; 1 when there is none larger. */
int64_t parallel_largest_divisor(int64_t n, int64_t limit);

/* How key/value heads spread over tp ranks: evenly, one copied to several ranks (wasteful), or not.
 */
enum kv_split { KV_EVEN, KV_REPLICATED, KV_IMPOSSIBLE };
enum kv_split parallel_kv_split(int64_t kv_heads, int64_t tp);

/* Each rank's slice of the MLP inner size must be whole quantisation blocks; block 0 asks for an
 * even split only. */
bool parallel_block_fits(int64_t inner, int64_t tp, int64_t block);

/* What a tensor-parallel size must agree with; 0: unknown, not asked. */
struct tensor_limits {
	int64_t heads, kv_heads;
	int64_t inner, block; /* asked only when block is not 0 */
};
bool parallel_tp_valid(const struct tensor_limits *l, int64_t tp);
/* Valid sizes up to limit, ascending; returns how many. */
size_t parallel_valid_tps(const struct tensor_limits *l, int64_t limit, int64_t *ret, size_t cap);

/*
 * The most that size i may be so that all of them fit n GPUs, the others as they are;
 * 0: not even 1 fits.
 */
int64_t parallel_largest_fit(const int64_t *sizes, size_t count, size_t i, int64_t n);

/* TensorRT-LLM: moe_tp × moe_ep = tp. A size that is 0 was not given and follows from the other. */
bool parallel_moe_valid(int64_t tp, int64_t moe_tp, int64_t moe_ep);

#endif
