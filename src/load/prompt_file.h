/*
 * prompt_file.h — prompts out of a file in memory, by its form. Pure.
 *
 *   lines  one prompt a line that is not blank
 *   jsonl  one record a line that is not blank
 *   json   a list of records; ShareGPT's files are such lists
 *
 * A record is a text, or a map with the text in the column asked for or in one of text, prompt,
 * question, instruction, input, content, conversations, messages. A list of turns ({from: human,
 * value: …} or {role: user, content: …}) gives its first human turn. Beside it a map may have
 *   prompt_token_ids  a list of ids to send instead of a text
 *   output_tokens     (or output_length) so many tokens are forced for this prompt
 *
 * Records without words, and conversations without a human turn, are counted as skipped. With
 * chars_per_token, the length of the reply (the assistant's turn after it; output, response,
 * completion or answer of a map) is forced too: its characters over that; records without a reply
 * are skipped.
 */
#ifndef LEM_LOAD_PROMPT_FILE_H
#define LEM_LOAD_PROMPT_FILE_H

#include "load/prompts.h"

enum prompt_form { PROMPT_LINES, PROMPT_JSONL, PROMPT_JSON };

enum { PROMPTS_MAX = 10 * 1000 * 1000, PROMPT_TOKENS_MAX = 1 << 24 };

struct prompt_file {
	const char *name; /* in errors */
	enum prompt_form form;
	const char *column;     /* NULL: found by its name */
	double chars_per_token; /* 0: replies are not looked at */
	size_t limit;           /* so many prompts at most */
};

/* Appends to the set, also before a failure (LEM_E_REFUSED, with file and line or record).
 * *ret_form: "text", "jsonl", "json" or "sharegpt". */
int prompt_file_parse(const char *bytes, size_t n, const struct prompt_file *q,
		      struct prompt_set *set, const char **ret_form, struct lem_error *err);

/* One more prompt of the set, zeroed. */
struct prompt *prompt_set_push(struct prompt_set *s);

#endif
