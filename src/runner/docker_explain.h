/*
 * docker_explain.h — what a container engine's refusal means and what to do about it, by its own
 * words (routing.md sections 3 and 16). Pure.
 */
#ifndef LEM_RUNNER_DOCKER_EXPLAIN_H
#define LEM_RUNNER_DOCKER_EXPLAIN_H

#include "base/error.h"
#include "model/launch_spec.h"

/* An error whose `why` holds the engine's message: puts what it means before, and the way out.
 * Returns -code as lem_fail does; what it does not know stays as it is. */
int docker_explain(struct lem_error *err);

/* No value of the spec's secrets stands in the error when this returns. */
void docker_scrub(const struct launch_spec *spec, struct lem_error *err);

#endif
