/*
 * answer.h — the body of one response, after it was received: SSE split, events read, tokens and
 * times told, the whole judged against what was asked. Pure.
 *
 * What counts as a chunk: an event whose first choice carries a piece of the answer, possibly of no
 * bytes (a token that is half a character). Not a chunk: the event that only opens a chat message
 * (role), one that only closes it (finish reason without text), usage alone, comments.
 */
#ifndef LEM_LOAD_ANSWER_H
#define LEM_LOAD_ANSWER_H

#include "base/str.h"
#include "base/vec.h"
#include "load/http_load.h"

/* Body bytes [previous end, end) were received by t_ns. Ascending in both. */
struct answer_piece {
	size_t end;
	int64_t t_ns;
};

struct answer_request {
	int status;
	bool complete;     /* the framing said so; otherwise what came is read as far as it goes */
	bool stream;       /* asked for */
	bool event_stream; /* got */
	bool encoded;
	int32_t output_tokens, input_tokens; /* asked; ≤ 0: unknown */
	char *body; /* n bytes; events over several data lines are joined in place */
	size_t n;
	const struct answer_piece *pieces;
	size_t n_pieces;
};

struct answer {
	enum http_load_failure
		failure; /* OK, or of the body; the transport's own takes precedence */
	uint32_t doubts;
	int32_t prompt_tokens, completion_tokens, cached_tokens;
	int64_t t_first_ns, t_last_ns;
	size_t n_chunks;
	char finish[16];
	char why[200]; /* for people, when failure is not OK */
};

struct answer_sink {
	VEC(struct http_load_chunk) chunks; /* appended to */
	struct str *text;                   /* appended to; NULL: not wanted */
};

void answer_read(const struct answer_request *q, struct answer_sink *sink, struct answer *ret);

#endif
