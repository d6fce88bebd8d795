/*
 * prompts.h — the work of a run: prompts as text or as token ids, in a fixed order, each with the
 * length of its answer where the source tells it. docs/work.md is the manual of the sources.
 */
#ifndef LEM_LOAD_PROMPTS_H
#define LEM_LOAD_PROMPTS_H

#include "base/arena.h"
#include "base/digest.h"
#include "base/error.h"
#include "config/config.h"

struct prompt {
	const char *text; /* NULL when tokens is set */
	const int32_t *tokens;
	size_t n_tokens;
	int32_t output_tokens; /* forced for this prompt, from its source; 0: the config's */
	bool truncated;        /* its text has more than max_input_tokens; the ids are the first */
};

struct prompt_set {
	struct arena arena;
	struct prompt *at;
	size_t n, cap;
	char source[200]; /* "text a.txt", "synthetic, input uniform 32 to 256, seed 42" */
	bool synthetic;   /* token ids are drawn by prompts_draw once the vocabulary is known */
	double *at_ns;    /* n arrivals of a recording, from 0 on, ascending; NULL: it has none */
	char file_sha256[DIGEST_HEX_SIZE]; /* of the file's bytes; "" when there is none */
	size_t n_records, n_skipped;       /* of the file: read, and of which of no use */
	size_t n_cut_input, n_cut_output;  /* prompts and answers longer than the limits, cut */
	int32_t max_id;                    /* the largest token id of a file */
};

#define PROMPT_SET_INIT \
	{               \
		0       \
	}
void prompts_release(struct prompt_set *p);

/* Reads or plans the prompts of an experiment. Files by their name: prompt_file.h; traces: trace.h;
 * lengths: lengths.h. Relative paths start at the folder of the config file. At most 1 GiB and 10
 * million prompts. Ids beyond max_input_tokens and answers beyond max_output_tokens are cut, and
 * counted. */
int prompts_load(const struct experiment *e, struct prompt_set *ret, struct lem_error *err);

/* Draws the token ids of synthetic prompts, uniform over the vocabulary past its first 256 ids,
 * where special tokens and bytes sit in most vocabularies. Same seed, same ids; the ids of the
 * first prompts do not depend on how many follow. Prompts begin alike only as shared_prefix_tokens
 * asks: its ids come from streams of their own, so the rest of each prompt stays what it was. */
void prompts_draw(struct prompt_set *p, const struct experiment *e, int64_t n_vocab);

bool prompts_have_text(const struct prompt_set *p);
bool prompts_have_ids(const struct prompt_set *p); /* or will, once they are drawn */

/* Tokens that the answer to p must have: its own, else what the config forces (min_output_tokens =
 * max_output_tokens); 0: not forced. */
int64_t prompt_forced(const struct prompt *p, const struct experiment *e);

/* "token_ids", "texts", "mixed": what the hash below is over. Ids of synthetic prompts count as ids
 * before they are drawn. Hashes of different forms say nothing of each other. */
const char *prompts_form(const struct prompt_set *p);

/* SHA-256 over what is sent: texts or ids, in order; when prompts differ in their number of ids, or
 * have a length of the answer, these numbers too. */
void prompts_hash(const struct prompt_set *p, char hex[DIGEST_HEX_SIZE]);

#endif
