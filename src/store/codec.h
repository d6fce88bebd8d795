/*
 * codec.h — a run record as bytes and back. One function visits every field in one order and both
 * writes and reads, so the two cannot drift apart. Numbers are little endian; texts carry their
 * length; NULL is kept. Format changes raise CODEC_VERSION; fields that a version lacks are skipped
 * by asking c->version.
 */
#ifndef LEM_STORE_CODEC_H
#define LEM_STORE_CODEC_H

#include "base/error.h"
#include "base/str.h"
#include "model/run_record.h"

/* 2: the proof of the routing and the watch over the GPUs. 3: servers driven over HTTP: chunks,
 * classes of failures, the servers' own metrics. 4: goals, levels of load, the source of the work,
 * what the client can do here. 5: which replica made a step. */
enum { CODEC_VERSION = 5 };

void record_encode(const struct run_record *r, struct str *out);
/* ret must be initialised; on failure it is released. Bytes may lie: lengths are held against what
 * is there. */
int record_decode(const void *bytes, size_t n, struct run_record *ret, struct lem_error *err);

#endif
