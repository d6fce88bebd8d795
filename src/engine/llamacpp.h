/*
 * llamacpp.h — what the embedded llama.cpp and its server have in common: the same section of the
 * config, the same model file, the same meaning of every option. Pure.
 */
#ifndef LEM_ENGINE_LLAMACPP_H
#define LEM_ENGINE_LLAMACPP_H

#include "engine/common.h"

/* The model file where the engine finds it, with its bind in a container. NULL after an error. */
const char *llamacpp_model(struct launch_draft *d);

/* Sequences computed together: batch slots, or the server's. */
int64_t llamacpp_sequences(const struct experiment *e);
int64_t llamacpp_threads(const struct engine_request *req);
int64_t llamacpp_threads_batch(const struct engine_request *req);
int64_t llamacpp_gpu_layers(const struct engine_request *req);

#endif
