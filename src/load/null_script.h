/*
 * null_script.h — the bytes that the null server sends. Pure. Used by null_server.c only.
 */
#ifndef LEM_LOAD_NULL_SCRIPT_H
#define LEM_LOAD_NULL_SCRIPT_H

#include "base/str.h"
#include "load/null_server.h"

enum { NULL_REQUEST_MAX = 16 << 20 };

/* Are these n bytes a whole request? Then its head and its body are that long. Without a
 * Content-Length there is no body; one beyond NULL_REQUEST_MAX never becomes whole. */
bool null_request_whole(const char *in, size_t n, size_t *ret_head, size_t *ret_body);

/* What a request asked, found in its body. */
struct null_request {
	uint32_t max_tokens;
	bool stream;
};
struct null_request null_request_read(const char *body, size_t n);

/* One response under way. */
struct null_answer {
	enum null_fault fault; /* of this response */
	bool stream;
	uint32_t n_tokens, n_chunks; /* that will be sent */
	uint32_t usage;              /* that will be told */
};
void null_answer_plan(const struct null_script *s, const struct null_request *q, size_t serial,
		      struct null_answer *ret);

/* Each appends to out; a chunk carries `mark` as its text. */
void null_write_head(const struct null_answer *a, struct str *out);
void null_write_chunk(const struct null_answer *a, uint32_t mark, struct str *out);
void null_write_end(const struct null_answer *a, struct str *out);
/* What comes instead of chunk fault_at, and what the connection does after it. */
enum null_then { NULL_GO_ON, NULL_THEN_STOP, NULL_THEN_END, NULL_THEN_CLOSE, NULL_THEN_RESET };
enum null_then null_write_fault(const struct null_answer *a, struct str *out);
/* Answers without a stream, whatever was asked. */
bool null_is_whole(const struct null_answer *a);
/* A whole response that is no stream: JSON, an error, a redirect. */
void null_write_whole(const struct null_answer *a, struct str *out);

#endif
