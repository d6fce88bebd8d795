/*
 * http_impl.h — shared by the files of the HTTP load client, nobody else.
 *
 *   http_load.c    the call: checks, reserves, resolves, starts the thread, waits, hands over
 *   http_loop.c    the thread: what is due, deadlines, events
 *   http_conn.c    one connection: dial, handshake, send, receive
 *   http_retry.c   a request that was sent on a connection which the server was just closing
 *   http_read.c    afterwards: from the log of receives to the result
 */
#ifndef LEM_LOAD_HTTP_IMPL_H
#define LEM_LOAD_HTTP_IMPL_H

#include <stdatomic.h>
#include <sys/socket.h>

#include "load/http_load.h"
#include "load/recv_log.h"
#include "sys/http1.h"
#include "sys/tls.h"
#include "sys/urgent.h"

enum { HTTP_NONE = UINT32_MAX, HTTP_ADDRESSES = 8, RECEIVE_MAX = 256 << 10 };

enum http_conn_state {
	CONN_FREE, /* no socket */
	CONN_DIALLING,
	CONN_HANDSHAKE,
	CONN_IDLE,
	CONN_SENDING,
	CONN_RECEIVING,
};

struct http_conn {
	int fd;
	enum http_conn_state state;
	struct tls_conn *tls;
	uint32_t job;        /* HTTP_NONE: none */
	uint32_t prev, next; /* in one of the deadline lists */
	bool listed;
	bool used;     /* served before, or was made before the start */
	bool served;   /* an answer came on it */
	bool want_out; /* epoll watches for room to write */
	uint8_t address;
	size_t sent; /* bytes of head and body */
	int64_t deadline_ns;
	struct http1 parser;
};

/* Deadlines of one kind come in the order they were set, because all last equally long. */
struct http_list {
	uint32_t first, last;
};

struct http_work { /* beside http_load_job: what only the loop needs of a job */
	struct recv_chain chain;
	int64_t t_begun_ns;
	bool complete, event_stream, encoded;
	uint8_t was;         /* enum http_load_failure of the first try; OK: there was one only */
	uint32_t next_retry; /* in the list of those that wait for a fresh connection */
};

struct http_loop {
	const struct http_load_request *q;
	struct http_load_job *jobs; /* of the result */
	struct http_work *work;
	size_t n_jobs;

	struct sockaddr_storage addresses[HTTP_ADDRESSES];
	socklen_t address_len[HTTP_ADDRESSES];
	size_t n_addresses, address; /* the one that worked last */
	struct tls *tls;
	char *head; /* of every request, up to the value of Content-Length */
	size_t head_len;
	char length[32]; /* that value and the head's end, for a body of length_of bytes */
	size_t length_len, length_of;
	struct recv_log log;
	char *received; /* RECEIVE_MAX bytes: the last receive, until it is in the log */
	struct http1_memo head_memo;

	struct http_conn *conns;
	uint32_t n_conns, max_conns; /* ever used; allowed */
	uint32_t *idle;              /* stack of connections that wait for work */
	uint32_t n_idle;
	uint32_t *unused; /* stack of closed entries */
	uint32_t n_unused;
	struct http_list requests, dials;
	uint32_t retry_first, retry_last; /* jobs; HTTP_NONE: none */
	size_t n_retried;

	int epoll_fd, wake_fd;
	bool stopping; /* no more jobs are begun */
	int64_t start_ns, end_ns, no_more_ns;
	int64_t wall_offset_ns, t_offset_ns;
	size_t n_due, n_begun; /* jobs in order: [0, n_begun) begun, [n_begun, n_due) wait */
	size_t n_open;         /* closed loop: lanes opened */
	size_t waited_to;      /* jobs before it are counted in n_waited */
	int64_t connect_timeout_ns, request_timeout_ns;

	/* for the waiting thread */
	atomic_bool cancel;
	atomic_int_fast64_t started_ns; /* start_ns, once it is known */
	atomic_size_t n_sent, n_done, n_failed, in_flight;
	atomic_uint_fast64_t bytes;

	size_t n_dialled, max_in_flight, n_waited, n_receives, n_kernel_stamps;
	enum urgency urgency;
	int64_t t_last_ns, cpu_ns, spin_ns;
	uint32_t failed_job; /* the first of those that the loop saw fail, and why */
	char why[200];
};

/* http_load.c */
uint64_t http_response_max(const struct http_load_request *q, size_t job);

/* http_advice.c: what can be done about it, as the error's fix. */
void http_load_advise(struct lem_error *err, enum http_load_failure f, int32_t status,
		      int64_t timeout_ns);

/* http_retry.c */
/* Whether the job of connection c, which fails with f, is to be sent again; then it waits for
 * http_retry_begin. To be asked before the connection is closed. */
bool http_retry_takes(struct http_loop *l, uint32_t c, enum http_load_failure f, int64_t now);
/* Dials for those that wait, outside of the handling of events: their entries may be used anew. */
void http_retry_begin(struct http_loop *l, int64_t now);
/* What a job that was sent twice has failed with: its first failure, when the second try never came
 * to an answer's first byte. */
enum http_load_failure http_retry_failure(const struct http_loop *l, uint32_t job,
					  enum http_load_failure f);
void http_retry_cancel(struct http_loop *l, int64_t now);

/* http_conn.c */
/* A new connection, for a job or (HTTP_NONE) to have it ready. */
void http_conn_dial(struct http_loop *l, uint32_t job, int64_t now);
void http_conn_send(struct http_loop *l, uint32_t c, uint32_t job, int64_t now);
void http_conn_event(struct http_loop *l, uint32_t c, uint32_t events);
/* Ends the connection's job with failure f, if it has one, and closes it. */
void http_conn_fail(struct http_loop *l, uint32_t c, enum http_load_failure f, const char *why,
		    int64_t now);
void http_conn_close(struct http_loop *l, uint32_t c);

/* http_loop.c */
void *http_loop_main(void *loop);
/* The job is over: complete, or failed with f. */
void http_loop_ended(struct http_loop *l, uint32_t job, enum http_load_failure f, const char *why,
		     int64_t now);
void http_list_add(struct http_loop *l, struct http_list *list, uint32_t c, int64_t deadline_ns);
void http_list_remove(struct http_loop *l, struct http_list *list, uint32_t c);

/* http_read.c */
void http_read_all(struct http_loop *l, struct http_load_result *ret);

#endif
