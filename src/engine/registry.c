#include "engine/engine.h"

/* Of a backend, those that do not take everything stand after the one that does. */
static const struct engine_ops *const engines[] = {
	&engine_pytorch,  &engine_vllm,         &engine_tensorrt, &engine_sglang,
	&engine_llamacpp, &engine_llama_server, &engine_openai,
};

const struct engine_ops *engine_find(enum backend backend)
{
	for (size_t i = 0; i < ARRAY_LEN(engines); i++)
		if (engines[i]->backend == backend)
			return engines[i];
	return NULL;
}

const struct engine_ops *engine_for(const struct experiment *exp)
{
	for (size_t i = 0; i < ARRAY_LEN(engines); i++)
		if (engines[i]->backend == exp->backend && engines[i]->takes &&
		    engines[i]->takes(exp))
			return engines[i];
	return engine_find(exp->backend);
}

const char *engine_names(void)
{
	return "pytorch, vllm, tensorrt, sglang, llamacpp, openai";
}
