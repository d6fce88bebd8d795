/*
 * http_body.h — from a config and a prompt to the body of a request: openai.h's dialect, and what
 * the config says beyond it (sampling, extra_body). Pure.
 *
 * Same config, same work: prompts of token ids are sent as ids (completions only), cut to
 * max_input_tokens; a text that is still one (run/texts.c) is sent whole. A length of the prompt's
 * own, or min_output_tokens = max_output_tokens, forces the answer's: ignore_eos and min_tokens,
 * which vLLM, SGLang and TensorRT-LLM know (engines.md section 5); llama-server takes ignore_eos,
 * no other minimum, and the chain of its samplers in words; of another server the first answer
 * shows whether it does. Always streamed, with usage.
 */
#ifndef LEM_LOAD_HTTP_BODY_H
#define LEM_LOAD_HTTP_BODY_H

#include "base/error.h"
#include "base/str.h"
#include "config/config.h"
#include "load/prompts.h"

struct http_body_request {
	const struct experiment *exp;
	const struct prompt *prompt;
	const char *model; /* as the server names it */
	bool chat;
	int64_t max_output_tokens; /* instead of the prompt's or the config's; 0: theirs */
};

/* Tokens of the prompt that are sent; 0: not known, it is text. */
size_t http_body_input_tokens(const struct experiment *e, const struct prompt *p);

/* LEM_E_REFUSED: see openai_body. */
int http_body(const struct http_body_request *q, struct str *out, struct lem_error *err);

#endif
