/*
 * http1.h — the framing of one HTTP/1.1 response, byte by byte as it comes (RFC 9112). Does no I/O,
 * holds no heap memory, keeps no body.
 *
 * Strict where leniency could hide a broken server or let two parties see two different messages:
 * lines end with CRLF, no folded headers, no Content-Length beside Transfer-Encoding, no two
 * lengths that differ, no coding but chunked. Interim responses (1xx) are passed over.
 *
 * Why not llhttp: Debian's node-llhttp ships its generated C, other hosts have no such package, and
 * its state machine looks at each body byte's framing through callbacks; this one skips whole
 * chunks and is small enough to be read.
 */
#ifndef LEM_SYS_HTTP1_H
#define LEM_SYS_HTTP1_H

#include "base/base.h"

enum http1_state {
	HTTP1_STATUS,
	HTTP1_HEADER,
	HTTP1_BODY_LENGTH, /* `left` bytes to go */
	HTTP1_BODY_CLOSE,  /* until the connection ends */
	HTTP1_CHUNK_SIZE,
	HTTP1_CHUNK_DATA,
	HTTP1_CHUNK_END,
	HTTP1_TRAILER,
	HTTP1_DONE,
	HTTP1_BAD,
};

enum { HTTP1_LINE_MAX = 120, HTTP1_HEAD_MAX = 64 << 10 };

struct http1 {
	enum http1_state state;
	int status; /* 0 until the status line is read */
	bool chunked, has_length;
	bool keep;         /* the connection may serve another request afterwards */
	bool event_stream; /* Content-Type: text/event-stream */
	bool encoded;      /* a Content-Encoding that nobody asked for */
	bool cr;           /* the byte before was a CR */
	uint16_t line_len; /* bytes of the line so far, also those beyond line[] */
	uint32_t head_len;
	uint64_t left;   /* of the chunk or of the body */
	uint64_t length; /* Content-Length */
	const char *bad; /* why, once state is HTTP1_BAD; static */
	char line[HTTP1_LINE_MAX];
};

void http1_init(struct http1 *p);

/* Takes bytes until a piece of the body is found, the response is done or bad, or all n are used;
 * returns how many. The piece, a part of `in`, is told in ret_body and ret_n; NULL and 0 without.
 * Call again with the rest while there is one and the state is neither DONE nor BAD. */
size_t http1_next(struct http1 *p, const char *in, size_t n, const char **ret_body, size_t *ret_n);

/* The same until the response ends or all n bytes are used; on_body is called with each piece of
 * the body. Whole chunks go fast. */
size_t http1_take(struct http1 *p, const char *in, size_t n,
		  void (*on_body)(void *arg, const char *piece, size_t n), void *arg);

/* A server's heads are the same byte for byte for a second or longer: one that was read before is
 * compared instead of read again. {0} remembers nothing. */
enum { HTTP1_MEMO_MAX = 512 };
struct http1_memo {
	size_t n;
	struct http1 after; /* the parser behind these bytes */
	char head[HTTP1_MEMO_MAX];
};
/* For the first bytes of a response, p as http1_init left it: takes the head if it is whole, and
 * remembers it; 0: http1_next must take it. What p becomes is the same either way. */
size_t http1_head(struct http1 *p, struct http1_memo *m, const char *in, size_t n);

/* The connection ended: was that the end of the response? */
bool http1_eof(struct http1 *p);

static inline bool http1_ended(const struct http1 *p)
{
	return p->state >= HTTP1_DONE;
}

#endif
