/*
 * recv_log.h — what was received, in the order it came, with the time of each receive. One log
 * for all connections; the marks of one job form a chain. It is reserved as address space before
 * the window; memory is taken by the kernel as it fills.
 */
#ifndef LEM_LOAD_RECV_LOG_H
#define LEM_LOAD_RECV_LOG_H

#include "base/error.h"

enum { RECV_LOG_END = UINT32_MAX };

struct recv_mark {
	uint64_t at; /* in bytes[] */
	int64_t t_ns;
	uint32_t len;
	uint32_t next; /* of the same job; RECV_LOG_END: the last */
};

struct recv_chain {
	uint32_t first, last;
};

struct recv_log {
	char *bytes;
	uint64_t len, cap;
	struct recv_mark *marks;
	uint32_t n_marks, cap_marks;
};

/* Room for `bytes`, and for marks of 64 bytes each on average (at least 1 Mi marks); less when the
 * host does not give so much, LEM_E_IO below 1 MiB. */
int recv_log_reserve(struct recv_log *l, uint64_t bytes, struct lem_error *err);
void recv_log_release(struct recv_log *l);

/* Touches the first bytes and marks, so that the kernel has given them before the window. */
void recv_log_warm(struct recv_log *l, uint64_t bytes, uint64_t marks);

/* Where the next receive goes and how much fits, at most `want`; 0: the log is full. */
size_t recv_log_room(const struct recv_log *l, size_t want, char **ret);
/* n bytes were received there. */
void recv_log_add(struct recv_log *l, struct recv_chain *chain, size_t n, int64_t t_ns);

static inline void recv_chain_init(struct recv_chain *c)
{
	c->first = c->last = RECV_LOG_END;
}

#endif
