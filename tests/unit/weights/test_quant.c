/* Half floats against the compiler's own, block formats against their definition. */
#include "base/rand.h"
#include "weights/quant.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static void test_half_values(void **state)
{
	/* IEEE 754 binary16 by hand */
	static const struct {
		float x;
		uint16_t h;
	} cases[] = {{0, 0x0000},        {-0.0f, 0x8000},       {1, 0x3c00},
		     {-2, 0xc000},       {65504, 0x7bff},       {65519.9f, 0x7bff},
		     {65520, 0x7c00},    {1e30f, 0x7c00},       {-INFINITY, 0xfc00},
		     {0x1p-24f, 0x0001}, {0x1p-14f, 0x0400},    {0x1p-25f, 0x0000},
		     {0x1.8p-25f, 0x1},  {0x1.ff8p-15f, 0x3ff}, {0x1.ffcp-15f, 0x400},
		     {0.1f, 0x2e66},     {2049, 0x6800},        {2051, 0x6802}};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		if (quant_half(cases[i].x) != cases[i].h)
			fail_msg("%a became %04x, expected %04x", (double)cases[i].x,
				 quant_half(cases[i].x), cases[i].h);
	assert_true(isnan(quant_half_to_float(quant_half(NAN))));
}

static void test_half_round_trip(void **state)
{
	(void)state;
	for (unsigned h = 0; h < 65536; h++) {
		float x = quant_half_to_float((uint16_t)h);

		if (!isnan(x))
			assert_int_equal(quant_half(x), h);
	}
}

/* The nearest of the two neighbours, and the even one of a tie. */
static void test_half_is_nearest(void **state)
{
	struct rand r;

	(void)state;
	rand_seed(&r, 1);
	for (int i = 0; i < 200000; i++) {
		float x = (float)(rand_normal(&r) * exp2((double)rand_below(&r, 36) - 26));
		uint16_t h = quant_half(x);
		double got = fabs((double)quant_half_to_float(h) - (double)x);
		double up = fabs((double)quant_half_to_float((uint16_t)(h + 1)) - (double)x);
		double down =
			h & 0x7fff
				? fabs((double)quant_half_to_float((uint16_t)(h - 1)) - (double)x)
				: up;

		if (isinf(quant_half_to_float(h)))
			continue;
		assert_true(got <= up && got <= down);
		if (got == up || (h & 0x7fff && got == down))
			assert_int_equal(h & 1, got == 0 ? h & 1 : 0);
	}
}

static void random_row(float *x, size_t n, uint64_t seed)
{
	struct rand r;

	rand_seed(&r, seed);
	for (size_t i = 0; i < n; i++)
		x[i] = (float)rand_normal(&r);
}

static void test_sizes(void **state)
{
	(void)state;
	assert_int_equal(quant_bytes(TENSOR_F32, 64), 256);
	assert_int_equal(quant_bytes(TENSOR_F16, 64), 128);
	assert_int_equal(quant_bytes(TENSOR_Q8_0, 64), 68);
	assert_int_equal(quant_bytes(TENSOR_Q4_0, 64), 36);
}

static void test_plain_types(void **state)
{
	float x[64], same[64];
	uint16_t half[64];

	(void)state;
	random_row(x, 64, 1);
	quant_row(TENSOR_F32, x, 64, same);
	assert_memory_equal(x, same, sizeof(x));
	quant_row(TENSOR_F16, x, 64, half);
	for (int i = 0; i < 64; i++)
		assert_int_equal(half[i], quant_half(x[i]));
}

static void test_q8_0(void **state)
{
	float x[320];
	uint8_t out[10 * 34];

	(void)state;
	random_row(x, 320, 2);
	quant_row(TENSOR_Q8_0, x, 320, out);
	for (int b = 0; b < 10; b++) {
		uint16_t h;

		memcpy(&h, out + b * 34, 2);
		float scale = quant_half_to_float(h);

		assert_true(scale > 0);
		for (int i = 0; i < 32; i++) {
			float back = scale * (float)(int8_t)out[b * 34 + 2 + i];

			/* half a step, and what the scale lost as a half float */
			assert_true(fabsf(back - x[b * 32 + i]) <= 0.5f * scale + 0.07f * scale);
		}
	}
}

static float q4_value(const uint8_t *block, int i)
{
	int nibble = i < 16 ? block[2 + i] & 15 : block[2 + i - 16] >> 4;
	uint16_t h;

	memcpy(&h, block, 2);
	return quant_half_to_float(h) * (float)(nibble - 8);
}

static void test_q4_0(void **state)
{
	float x[320];
	uint8_t out[10 * 18];

	(void)state;
	random_row(x, 320, 3);
	quant_row(TENSOR_Q4_0, x, 320, out);
	for (int b = 0; b < 10; b++) {
		float most = 0;

		for (int i = 0; i < 32; i++)
			most = fmaxf(most, fabsf(x[b * 32 + i]));
		for (int i = 0; i < 32; i++) {
			float off = fabsf(q4_value(out + b * 18, i) - x[b * 32 + i]);

			/* the far end of the other sign has no level of its own: one step */
			assert_true(off <= most / 8 * 1.01f);
			if (fabsf(x[b * 32 + i]) < most * 0.9f)
				assert_true(off <= most / 16 * 1.02f);
			if (fabsf(x[b * 32 + i]) == most)
				assert_true(off <= most * 0.001f);
		}
	}
}

static void test_zero_block(void **state)
{
	const float x[32] = {0};
	uint8_t q8[34], q4[18];

	(void)state;
	quant_row(TENSOR_Q8_0, x, 32, q8);
	quant_row(TENSOR_Q4_0, x, 32, q4);
	for (int i = 0; i < 34; i++)
		assert_int_equal(q8[i], 0);
	for (int i = 0; i < 32; i++)
		assert_true(q4_value(q4, i) == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_half_values),
		cmocka_unit_test(test_half_round_trip),
		cmocka_unit_test(test_half_is_nearest),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_plain_types),
		cmocka_unit_test(test_q8_0),
		cmocka_unit_test(test_q4_0),
		cmocka_unit_test(test_zero_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
