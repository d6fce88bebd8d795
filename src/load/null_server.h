/*
 * null_server.h — an OpenAI-compatible server without a model, on 127.0.0.1: answers by a script,
 * as fast or as slowly as it says, and misbehaves on purpose. What a client measures against it is
 * the client. One thread of its own (or several), one epoll loop each; bounded by max_connections
 * and by the requests' own max_tokens.
 *
 * A request is anything with a Content-Length; of its body only max_tokens and "stream":true are
 * looked for. Each chunk's text is 8 hex digits: the number of the chunk in the server's own record
 * of send times (when `record` is set), so that a client's stamps can be held against them.
 */
#ifndef LEM_LOAD_NULL_SERVER_H
#define LEM_LOAD_NULL_SERVER_H

#include "base/error.h"

enum null_fault {
	NULL_NONE,
	NULL_SILENT,         /* takes the request and never answers */
	NULL_STALL,          /* stops after fault_at chunks, keeps the connection */
	NULL_CLOSE,          /* orderly close after fault_at chunks */
	NULL_RESET,          /* RST after fault_at chunks */
	NULL_CUT_CHUNK,      /* half of an HTTP chunk, then close */
	NULL_CUT_EVENT,      /* half of an event, then a correct end of the response */
	NULL_HALF_CHARACTER, /* half a UTF-8 character within a text */
	NULL_BAD_JSON,
	NULL_BAD_FRAMING, /* a chunk size that is none */
	NULL_NOT_HTTP,
	NULL_WRONG_USAGE, /* one token fewer told than chunks were sent */
	NULL_NO_USAGE,
	NULL_TOO_MANY,    /* one token more than asked, and says so */
	NULL_TOO_FEW,     /* one less, and says so */
	NULL_CACHED,      /* says that the prompt came from its cache */
	NULL_NEVER_ENDS,  /* chunks at the script's gap, for ever */
	NULL_FLOOD,       /* bytes as fast as they go, for ever */
	NULL_NO_DONE,     /* finish reason, but no [DONE] */
	NULL_NO_END,      /* neither */
	NULL_EMPTY,       /* 200 and no token */
	NULL_ERROR_BODY,  /* 200 with a JSON error instead of the stream */
	NULL_ERROR_EVENT, /* an error within the stream, after fault_at chunks */
	NULL_REDIRECT,
	NULL_429,
	NULL_404,
	NULL_500,
	NULL_CLOSE_DELIMITED, /* correct, but neither length nor chunks: ends with the connection */
};

struct null_script {
	int64_t first_ns; /* from the request's last byte to the first chunk */
	int64_t gap_ns;   /* from chunk to chunk, on an absolute grid; 0: all at once */
	int64_t tick_ns;  /* chunks leave on multiples of this only, all that are due at once and
			   * always  in the same order, as from an engine that works in steps; 0:
			   * each  at  its own time. A tick spares both ends most of their wake-ups.
			   */
	uint32_t tokens_per_chunk; /* 0 means 1; chunks = max_tokens / this, rounded up */
	uint32_t n_chunks;         /* 0: by the request */
	int64_t stall_ns; /* once in a response, before chunk stall_at, the grid moves on by this */
	uint32_t stall_at;
	uint32_t stall_every; /* every n-th request stalls; 0: none */
	enum null_fault fault;
	uint32_t fault_at;
	uint32_t fault_every; /* every n-th request, from the first; 0 means 1 */
	uint32_t threads;     /* that serve, on one port; 0 means 1. Each wants a core. */
	bool urgent;          /* goes before other threads as a paced one does, where it may */
	size_t record;        /* send times kept; 0: none */
};

struct null_server;

int null_server_start(const struct null_script *s, struct null_server **ret, struct lem_error *err);
uint16_t null_server_port(const struct null_server *s);
/* Ends the thread and closes everything. NULL is fine. */
void null_server_stop(struct null_server *s);
static inline void null_server_cleanup(struct null_server **s)
{
	null_server_stop(*s);
}
#define _cleanup_null_server_ _cleanup_(null_server_cleanup)

/* May be asked while it runs. */
size_t null_server_requests(const struct null_server *s);
/* When chunk i was given to the kernel; 0: not (yet), or not recorded. */
int64_t null_server_sent_ns(const struct null_server *s, size_t i);

#endif
