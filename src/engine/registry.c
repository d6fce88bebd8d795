#include "engine/engine.h"

static const struct engine_ops *const engines[] = {
	&engine_pytorch, &engine_vllm,     &engine_tensorrt,
	&engine_sglang,  &engine_llamacpp, &engine_openai,
};

const struct engine_ops *engine_find(enum backend backend)
{
	for (size_t i = 0; i < ARRAY_LEN(engines); i++)
		if (engines[i]->backend == backend)
			return engines[i];
	return NULL;
}

const char *engine_names(void)
{
	return "pytorch, vllm, tensorrt, sglang, llamacpp, openai";
}
