/*
 * openai.h — request bodies of the OpenAI protocol, in the dialect of each engine. Pure.
 *
 * Sources (facts on engines, section 5): vLLM and SGLang honour min_tokens and ignore_eos on both
 * endpoints; TensorRT-LLM the same, with max_completion_tokens for chat, and refuses stream_options
 * without stream; llama.cpp takes max_tokens, ignore_eos and needs cache_prompt: false, and tells
 * tokens so far as `timings` (timings_per_token), since it sends none for a token that ends within
 * a character;
 * Transformers serve takes its options as a JSON string in generation_config; of any other server
 * only max_tokens may be expected.
 */
#ifndef LEM_LOAD_OPENAI_H
#define LEM_LOAD_OPENAI_H

#include "base/error.h"
#include "base/str.h"

enum openai_dialect {
	OPENAI_GENERIC,
	OPENAI_VLLM,
	OPENAI_SGLANG,
	OPENAI_TENSORRT,
	OPENAI_LLAMACPP,
	OPENAI_TRANSFORMERS,
};

enum openai_endpoint { OPENAI_COMPLETIONS, OPENAI_CHAT };

struct openai_ask {
	enum openai_dialect dialect;
	enum openai_endpoint endpoint;
	const char *model;
	const char *text; /* the prompt, or one user message; NULL when tokens is set */
	const int32_t *tokens;
	size_t n_tokens;
	int32_t max_tokens; /* ≥ 1 */
	bool exact;         /* that many, whatever the model would say */
	bool stream;
	bool usage_in_chunks; /* vLLM, SGLang, llama.cpp: tokens so far in each chunk */
	bool cache_prompt;    /* llama.cpp: what a slot remembers may be used again */
	double temperature;
	bool has_seed;
	int64_t seed;
};

/* Appends the body. LEM_E_REFUSED: token ids for chat, or for a server that takes none. */
int openai_body(const struct openai_ask *a, struct str *out, struct lem_error *err);

const char *openai_path(enum openai_endpoint e);
/* Can the dialect force an output length? Otherwise counts must be read, never assumed. */
bool openai_forces_length(enum openai_dialect d);
/* "vllm", "tensorrt", … as engines are named in a configuration; others are GENERIC. */
enum openai_dialect openai_dialect_of(const char *engine);

#endif
