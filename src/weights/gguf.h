/*
 * gguf.h — the GGUF container, version 2 and 3, little endian. Layout: magic "GGUF", u32 version,
 * u64 tensor count, u64 key count, the keys, the tensor table, padding to general.alignment, tensor
 * data. Source: the GGUF specification in ggml's docs/gguf.md.
 */
#ifndef LEM_WEIGHTS_GGUF_H
#define LEM_WEIGHTS_GGUF_H

#include "base/base.h"

enum gguf_type {
	GGUF_U8,
	GGUF_I8,
	GGUF_U16,
	GGUF_I16,
	GGUF_U32,
	GGUF_I32,
	GGUF_F32,
	GGUF_BOOL,
	GGUF_STRING,
	GGUF_ARRAY,
	GGUF_U64,
	GGUF_I64,
	GGUF_F64,
	GGUF_TYPE_COUNT
};

/* Element types of tensors that lem knows by name, numbered as in ggml.h. */
enum ggml_tensor_type {
	TENSOR_F32 = 0,
	TENSOR_F16 = 1,
	TENSOR_Q4_0 = 2,
	TENSOR_Q4_1 = 3,
	TENSOR_Q5_0 = 6,
	TENSOR_Q5_1 = 7,
	TENSOR_Q8_0 = 8,
	TENSOR_Q2_K = 10,
	TENSOR_Q3_K = 11,
	TENSOR_Q4_K = 12,
	TENSOR_Q5_K = 13,
	TENSOR_Q6_K = 14,
	TENSOR_IQ4_NL = 20,
	TENSOR_IQ4_XS = 23,
	TENSOR_BF16 = 30,
	TENSOR_MXFP4 = 39
};

#define GGUF_MAGIC     "GGUF"
#define GGUF_VERSION   3u
#define GGUF_ALIGNMENT 32u

#endif
