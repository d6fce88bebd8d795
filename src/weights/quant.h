/*
 * quant.h — floats to the storage types a synthetic model is written in. Pure.
 * Block formats as ggml defines them: 32 elements; q8_0 is f16 scale + 32 int8 (34 bytes), q4_0 is
 * f16 scale + 16 bytes of nibbles, element i in the low nibble of byte i, element i + 16 in the
 * high one (18 bytes).
 */
#ifndef LEM_WEIGHTS_QUANT_H
#define LEM_WEIGHTS_QUANT_H

#include "base/base.h"
#include "weights/gguf.h"

enum { QUANT_BLOCK = 32 };

uint16_t quant_half(float x); /* IEEE 754 binary16, round to nearest even */
float quant_half_to_float(uint16_t h);

/* Bytes of n elements; n a multiple of QUANT_BLOCK for the block formats. */
size_t quant_bytes(enum ggml_tensor_type type, size_t n);
/* out has quant_bytes(type, n) bytes. F32, F16, Q8_0, Q4_0. */
void quant_row(enum ggml_tensor_type type, const float *x, size_t n, void *out);

#endif
