/*
 * tokenize.h — asking a server for the token ids of a text: the request and its answer. Pure.
 *
 *   vLLM 0.32 (entrypoints/serve/tokenize/protocol.py) and SGLang
 * (srt/entrypoints/openai/protocol.py):
 *     {"model", "prompt", "add_special_tokens": true} → {"count", "max_model_len", "tokens": [ids]}
 *   llama-server (tools/server/README.md):
 *     {"content", "add_special": true, "parse_special": true} → {"tokens": [ids]}
 *
 * Special tokens (a beginning-of-sequence token, where the tokenizer has one) are asked for because
 * all three add them to a text at /v1/completions, and none adds them to ids: so the ids sent are
 * those the server would have made of the text.
 */
#ifndef LEM_LOAD_TOKENIZE_H
#define LEM_LOAD_TOKENIZE_H

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"

enum tokenize_form { TOKENIZE_FORM_VLLM, TOKENIZE_FORM_LLAMA };

/* LEM_E_REFUSED: the text is no UTF-8. */
int tokenize_request(enum tokenize_form form, const char *model, const char *text, struct str *out,
		     struct lem_error *err);

/* All ids of the answer, in a; at least one. LEM_E_PARSE: it is none. */
int tokenize_answer(const char *bytes, size_t n, struct arena *a, int32_t **ret_ids, size_t *ret_n,
		    struct lem_error *err);

/* More than an answer to a text of n bytes can be: no token is shorter than a byte, and an id takes
 * at most 12. */
size_t tokenize_answer_max(size_t n);

#endif
