/*
 * openai_event.h — one JSON object of the OpenAI protocol (a streamed event, or a whole answer) to
 * the few things that are counted. Pure; strict JSON (RFC 8259) and strict UTF-8; bytes come from
 * outside and may lie in any way. No heap: texts point into the input, still escaped.
 *
 * Consecutive events of a stream differ in their text only, so a memo of the last one lets the next
 * be compared instead of scanned: same bytes before and after one string are the same object.
 *
 * llama-server tells tokens so far as `timings` (predicted_n, prompt_n, cache_n) beside each text:
 * they count as usage where an event has none.
 *
 * Both shapes are read: completions (choices[0].text) and chat (choices[0].delta or .message with
 * content, reasoning_content or reasoning, tool_calls). Errors: {"error": …} and
 * {"object": "error", "message": …}. Of several choices only the first is read: lem asks for one.
 */
#ifndef LEM_LOAD_OPENAI_EVENT_H
#define LEM_LOAD_OPENAI_EVENT_H

#include "base/str.h"

enum { OPENAI_PARTS = 2 };

struct openai_text {
	const char *raw; /* between the quotes */
	size_t n;
};

struct openai_event {
	bool has_choice; /* choices has at least one entry */
	bool has_error, has_usage;
	bool role;  /* the delta opens the message, alone or beside a text */
	bool tools; /* it calls tools */
	struct openai_text parts[OPENAI_PARTS]; /* reasoning and content, in the order they came */
	size_t n_parts;
	size_t n_text; /* bytes of all texts, decoded; of tool calls, as written */
	struct openai_text error_message;                        /* raw may be NULL */
	char finish[16];                                         /* "" when null or absent */
	int32_t prompt_tokens, completion_tokens, cached_tokens; /* −1: not told */
};

struct openai_memo {
	const char *json; /* NULL: nothing remembered; must stay in place as long as the memo */
	size_t prefix, n; /* bytes before the text, bytes in all */
	size_t suffix;
};

/* NULL and *ret filled, or what is wrong in words (static) and *ret untouched. memo may be NULL. */
const char *openai_event_read(const char *json, size_t n, struct openai_memo *memo,
			      struct openai_event *ret);

/* Do the bytes at json begin with the event remembered, around another text? Its length and *ret,
 * as openai_event_read would have it; or 0, *ret untouched: nothing is known of them. */
size_t openai_event_next(const struct openai_memo *m, const char *json, size_t most,
			 struct openai_event *ret);

/* Appends the decoded text; lone surrogates become U+FFFD. t must come from openai_event_read. */
void openai_text_decode(const struct openai_text *t, struct str *out);

#endif
