/*
 * drive.h — the work of a run as requests to a server: through the load client, into the record.
 */
#ifndef LEM_RUN_DRIVE_H
#define LEM_RUN_DRIVE_H

#include "base/error.h"

struct life;

/* The prompts as requests, once the server is there and its model known. */
int drive_prepare(struct life *l, struct lem_error *err);
void drive_release(struct life *l);

/* One short request that must give a token, and as many as were forced. */
int drive_one(struct life *l, int64_t left_ns, struct lem_error *err);
/* The batch of a warm-up; its latency goes into the record. */
int drive_warm_once(struct life *l, struct lem_error *err);
/* The measured window: passes over all prompts at once, or the traffic of the config. */
int drive_measure(struct life *l, struct lem_error *err);

#endif
