/*
 * dl.h — HTTP downloads: resumed, bounded, with progress.
 */
#ifndef LEM_SYS_DL_H
#define LEM_SYS_DL_H

#include "base/error.h"
#include "base/str.h"

struct dl_request {
	const char *url;
	const char *bearer; /* token for the first host and port only; NULL: none. Never logged,
			       never sent where a redirect leads */
	/* Called at most ten times a second, also while waiting; total 0: unknown. False: cancel.
	 * May be NULL. */
	bool (*progress)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	int tries;    /* without a byte of progress between them; 0: 5 */
	int pause_ms; /* before the second try, then doubled; 0: 500. Retry-After counts up to 30 s
		       */
	int stall_s;  /* a connection that sends nothing for so long is given up; 0: 60 */
};

struct dl_info {
	long status;           /* HTTP, of the last answer */
	char etag[160];        /* without quotes and W/ */
	char linked_etag[160]; /* x-linked-etag: the SHA-256 of a large file on a hub */
	int64_t size;          /* of the whole file; -1: not told */
};

/* Headers of url. Redirects are followed while they stay on the host (a renamed repository),
 * because the one that leaves it carries the hub's checksum. LEM_E_NOT_FOUND for 404, LEM_E_REFUSED
 * for 401 and 403. */
int dl_head(const struct dl_request *q, struct dl_info *ret, struct lem_error *err);
/* A small document. */
int dl_text(const struct dl_request *q, size_t max_bytes, struct str *out, struct lem_error *err);
/* Appends to the file `part` from where it ends, until the whole is there. Connections that break,
 * 429 and 5xx are tried again; what came is kept. When the server's file has changed between two
 * tries, or it does not know ranges, it begins anew. expected_size -1: unknown; otherwise a file of
 * another size is refused. */
int dl_file(const struct dl_request *q, const char *part, int64_t expected_size,
	    struct lem_error *err);

#endif
