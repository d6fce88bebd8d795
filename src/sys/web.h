/*
 * web.h — single requests over TCP to an HTTP service that lem measures: is it up, which version is
 * it, what do its metrics say. Through libcurl; outside the measured window only. What is measured
 * goes through load/http_load.h.
 *
 * An answer of any status is a success here; the caller judges it. Redirects are not followed, and
 * proxies of the environment are not used.
 *
 * Errors: LEM_E_NOT_FOUND the name does not resolve; LEM_E_IO nobody listens or the connection
 * broke; LEM_E_REFUSED its certificate or TLS is not accepted; LEM_E_TIMEOUT; LEM_E_INTERRUPTED;
 * LEM_E_PARSE not HTTP, or longer than allowed; LEM_E_USAGE no URL; LEM_E_UNSUPPORTED no libcurl.
 */
#ifndef LEM_SYS_WEB_H
#define LEM_SYS_WEB_H

#include "base/error.h"
#include "base/str.h"

/* A connection that is used again by the next request that names it; {NULL} at first. */
struct web_line {
	void *easy;
};
void web_line_release(struct web_line *l);
#define _cleanup_web_line_ _cleanup_(web_line_release)

struct web_request {
	const char *url;
	const char *json;           /* POSTs this; NULL: GET */
	struct web_line *line;      /* NULL: a connection of its own */
	const char *const *headers; /* NULL-terminated "Name: value", never shown; NULL: none */
	bool no_tls_verify;
	int64_t timeout_ns; /* of the whole call, > 0 */
	int cancel_fd;      /* readable: give up; looked at about once a second; -1: none */
	size_t max_bytes;   /* of the body; 0: 4 MiB */
};

/* GETs or POSTs. Appends the body to *ret; *ret_status is the status. */
int web_get(const struct web_request *q, long *ret_status, struct str *ret, struct lem_error *err);

#endif
