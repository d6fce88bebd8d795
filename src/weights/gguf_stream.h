/*
 * gguf_stream.h — the primitive values of a GGUF file, read as a counted stream. Nothing is
 * trusted: every length is held against the bytes that the file still has, and what is not needed
 * (vocabularies) is skipped without being kept.
 *
 * Every function gives false, or a negative code, after the first failure; the error is set then.
 */
#ifndef LEM_WEIGHTS_GGUF_STREAM_H
#define LEM_WEIGHTS_GGUF_STREAM_H

#include "base/error.h"
#include "weights/gguf.h"

struct gguf_stream {
	FILE *f;
	uint64_t left; /* bytes of the file not consumed */
	const char *path;
	struct lem_error *err; /* never NULL */
	bool failed;
};

/* A value as integer or text; of a list its first element (per-layer lists hold equal ones). */
struct gguf_value {
	bool is_number, is_text;
	int64_t number; /* of a float: its whole part */
	char text[128]; /* cut when longer */
};

/* Fails with LEM_E_PARSE; the first reason counts. */
int gguf_bad(struct gguf_stream *r, const char *fmt, ...) _printf_(2, 3);
bool gguf_take(struct gguf_stream *r, void *buf, size_t n);
/* Little endian, as all hosts that lem runs on are. */
#define GGUF_TAKE(r, v) gguf_take((r), &(v), sizeof(v))
bool gguf_take_text(struct gguf_stream *r, char *buf, size_t size);
bool gguf_take_value(struct gguf_stream *r, uint32_t type, struct gguf_value *v);

#endif
