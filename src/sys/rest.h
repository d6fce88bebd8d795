/*
 * rest.h — requests to an HTTP service on a Unix socket (a container engine), through libcurl.
 *
 * One connection is kept and used again. Every wait is bounded and ends when cancel_fd becomes
 * readable. An answer of any status is a success here; the caller judges it. One thread per handle.
 *
 * Errors: LEM_E_NOT_FOUND no such socket, or nobody listens; LEM_E_IO permission (`fix` says what
 * to do), or the connection broke; LEM_E_TIMEOUT; LEM_E_INTERRUPTED; LEM_E_PARSE not HTTP, or an
 * answer longer than allowed; LEM_E_UNSUPPORTED no libcurl.
 */
#ifndef LEM_SYS_REST_H
#define LEM_SYS_REST_H

#include "base/error.h"
#include "base/str.h"

struct rest;

struct rest_request {
	const char *method;         /* "GET", "POST", "DELETE" */
	const char *path;           /* with its query, from "/" on */
	const char *body;           /* JSON; NULL: none */
	const char *const *headers; /* NULL-terminated "Name: value"; NULL: none */
	int64_t timeout_ns;         /* of the whole call; 0: no end, only silence_ns counts */
	int64_t silence_ns;         /* without a byte; 0: no limit */
	/* Takes the body of a 2xx answer as it comes; negative (with err set) ends the call. NULL:
	 * it is collected. */
	int (*on_bytes)(void *arg, const char *bytes, size_t n, struct lem_error *err);
	void *arg;
	size_t max_bytes; /* of a collected body; 0: 16 MiB */
};

struct rest_answer {
	long status;
	struct str body;      /* collected: all of it, or that of an error */
	char api_version[16]; /* header Api-Version; "" none */
};

int rest_open(const char *socket_path, int cancel_fd, struct rest **ret, struct lem_error *err);
/* From now on: another cancel_fd, and no call goes on beyond until_ns, whatever its own limits say
 * (LEM_E_TIMEOUT); 0: no such end. */
void rest_limit(struct rest *r, int cancel_fd, int64_t until_ns);
void rest_close(struct rest *r); /* NULL is fine */

int rest_call(struct rest *r, const struct rest_request *q, struct rest_answer *ret,
	      struct lem_error *err);
void rest_answer_release(struct rest_answer *a);
#define _cleanup_rest_answer_ _cleanup_(rest_answer_release)

/* POSTs and leaves HTTP behind: the bytes after a 101 or 200 are the caller's, over a connection of
 * its own. A byte may already have been read: it is in ret_first. Other answers: status and body in
 * answer, *ret_fd is -1, returns 0. */
int rest_upgrade(struct rest *r, const char *path, int64_t timeout_ns, int *ret_fd,
		 struct str *ret_first, struct rest_answer *answer, struct lem_error *err);

#endif
