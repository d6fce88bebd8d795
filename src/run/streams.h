/*
 * streams.h — figures of a server that was driven over HTTP: its answers come in chunks, and a
 * chunk is not a token. Pure.
 *
 * The window may begin and end while requests are in flight (server mode), so tokens belong to the
 * window by the stamp of the chunk that brought them, and a prompt by its first chunk. Where the
 * server tells how many tokens each chunk holds, that is taken; else a request's tokens are spread
 * evenly over its chunks, which only matters for requests that cross an edge of the window.
 */
#ifndef LEM_RUN_STREAMS_H
#define LEM_RUN_STREAMS_H

#include "model/run_record.h"
#include "model/summary.h"

/* It came to its end, by its length or by itself. */
bool request_answered(const struct request_record *q);

/* input_tokens, output_tokens, chunks, cached_tokens, lengths_*, failures. */
void streams_count(const struct run_record *r, struct summary *s);
/* Output tokens, and all tokens, of each of n equal slices of the window; added to what is there.
 */
void streams_spread(const struct run_record *r, double *output, double *all, int n);
/* itl_chunk, and itl of a server; a worker's itl is left alone. */
void streams_gaps(const struct run_record *r, struct summary *s);
/* lag, client_busy, roofline_* and headroom_*; after streams_count. */
void streams_client(const struct run_record *r, struct summary *s);

#endif
