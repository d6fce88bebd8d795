#include "weights/quant.h"

#include <math.h>

uint16_t quant_half(float x)
{
	uint32_t bits, sign, mantissa;
	int exponent;

	memcpy(&bits, &x, 4);
	sign = bits >> 16 & 0x8000;
	exponent = (int)(bits >> 23 & 0xff) - 127 + 15;
	mantissa = bits & 0x7fffff;
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(sign | 0x7e00); /* NaN */
	if (exponent >= 31)
		return (uint16_t)(sign | 0x7c00);
	if (exponent <= 0) { /* subnormal or zero */
		if (exponent < -10)
			return (uint16_t)sign;
		mantissa |= 0x800000;
		uint32_t shift = (uint32_t)(14 - exponent), half = mantissa >> shift;
		uint32_t rest = mantissa & ((1u << shift) - 1), middle = 1u << (shift - 1);

		return (uint16_t)(sign |
				  (half + (rest > middle || (rest == middle && (half & 1)))));
	}
	uint32_t half = (uint32_t)exponent << 10 | mantissa >> 13, rest = mantissa & 0x1fff;

	return (uint16_t)(sign | (half + (rest > 0x1000 || (rest == 0x1000 && (half & 1)))));
}

float quant_half_to_float(uint16_t h)
{
	int exponent = h >> 10 & 31;
	float mantissa = (float)(h & 1023), sign = h & 0x8000 ? -1.0f : 1.0f;

	if (exponent == 31)
		return mantissa > 0 ? NAN : sign * INFINITY;
	if (exponent == 0)
		return sign * ldexpf(mantissa, -24);
	return sign * ldexpf(mantissa + 1024, exponent - 25);
}

size_t quant_bytes(enum ggml_tensor_type type, size_t n)
{
	switch (type) {
	case TENSOR_F32: return n * 4;
	case TENSOR_F16: return n * 2;
	case TENSOR_Q8_0: return n / QUANT_BLOCK * 34;
	case TENSOR_Q4_0: return n / QUANT_BLOCK * 18;
	default: assert(!"a type that is never written"); return 0;
	}
}

static void block_q8_0(const float *x, uint8_t *out)
{
	float most = 0;

	for (int i = 0; i < QUANT_BLOCK; i++)
		most = fmaxf(most, fabsf(x[i]));
	uint16_t scale = quant_half(most / 127);
	float inverse = most > 0 ? 127 / most : 0;

	memcpy(out, &scale, 2);
	for (int i = 0; i < QUANT_BLOCK; i++)
		out[2 + i] = (uint8_t)(int8_t)lrintf(x[i] * inverse);
}

/* The value of largest magnitude is mapped to -8, as ggml does, so that one more level is used. */
static void block_q4_0(const float *x, uint8_t *out)
{
	float extreme = 0;

	for (int i = 0; i < QUANT_BLOCK; i++)
		if (fabsf(x[i]) > fabsf(extreme))
			extreme = x[i];
	uint16_t scale = quant_half(extreme / -8);
	float inverse = extreme != 0 ? -8 / extreme : 0;

	memcpy(out, &scale, 2);
	for (int i = 0; i < QUANT_BLOCK / 2; i++) {
		int low = MIN((int)(x[i] * inverse + 8.5f), 15);
		int high = MIN((int)(x[i + QUANT_BLOCK / 2] * inverse + 8.5f), 15);

		out[2 + i] = (uint8_t)(low | high << 4);
	}
}

void quant_row(enum ggml_tensor_type type, const float *x, size_t n, void *out)
{
	uint8_t *p = out;

	if (type == TENSOR_F32)
		memcpy(out, x, n * 4);
	for (size_t i = 0; i < n && type == TENSOR_F16; i++) {
		uint16_t h = quant_half(x[i]);

		memcpy(p + 2 * i, &h, 2);
	}
	for (size_t i = 0; i + QUANT_BLOCK <= n && type == TENSOR_Q8_0; i += QUANT_BLOCK)
		block_q8_0(x + i, p + i / QUANT_BLOCK * 34);
	for (size_t i = 0; i + QUANT_BLOCK <= n && type == TENSOR_Q4_0; i += QUANT_BLOCK)
		block_q4_0(x + i, p + i / QUANT_BLOCK * 18);
}
