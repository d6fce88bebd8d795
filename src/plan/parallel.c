#include "plan/parallel.h"

int64_t parallel_product(const int64_t *sizes, size_t n)
{
	int64_t product = 1;

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(product, sizes[i], &product))
			return INT64_MAX;
	return product;
}

size_t parallel_divisors(int64_t n, int64_t limit, int64_t *ret, size_t cap)
{
	size_t found = 0;

	for (int64_t d = 1; d <= limit && d <= n && found < cap; d++)
		if (n % d == 0)
			ret[found++] = d;
	return found;
}

int64_t parallel_largest_divisor(int64_t n, int64_t limit)
{
	for (int64_t d = MIN(n, limit); d > 1; d--)
		if (n % d == 0)
			return d;
	return 1;
}

enum kv_split parallel_kv_split(int64_t kv_heads, int64_t tp)
{
	if (kv_heads % tp == 0)
		return KV_EVEN;
	return tp % kv_heads == 0 ? KV_REPLICATED : KV_IMPOSSIBLE;
}

bool parallel_block_fits(int64_t inner, int64_t tp, int64_t block)
{
	return inner % tp == 0 && (block == 0 || inner / tp % block == 0);
}

bool parallel_tp_valid(const struct tensor_limits *l, int64_t tp)
{
	if (l->heads && l->heads % tp != 0)
		return false;
	if (l->kv_heads && parallel_kv_split(l->kv_heads, tp) == KV_IMPOSSIBLE)
		return false;
	return !l->block || !l->inner || parallel_block_fits(l->inner, tp, l->block);
}

size_t parallel_valid_tps(const struct tensor_limits *l, int64_t limit, int64_t *ret, size_t cap)
{
	size_t found = 0;

	for (int64_t tp = 1; tp <= limit && found < cap; tp++)
		if (parallel_tp_valid(l, tp))
			ret[found++] = tp;
	return found;
}

int64_t parallel_largest_fit(const int64_t *sizes, size_t count, size_t i, int64_t n)
{
	int64_t others = 1;

	for (size_t k = 0; k < count; k++)
		if (k != i && __builtin_mul_overflow(others, sizes[k], &others))
			return 0;
	return n / others;
}

bool parallel_moe_valid(int64_t tp, int64_t moe_tp, int64_t moe_ep)
{
	int64_t product;

	if (moe_tp && moe_ep)
		return !__builtin_mul_overflow(moe_tp, moe_ep, &product) && product == tp;
	return (!moe_tp || tp % moe_tp == 0) && (!moe_ep || tp % moe_ep == 0);
}
