/*
 * docker_body.h — from a launch spec to what is asked of the Docker Engine API, and to the command
 * line that asks the same of the docker client. Pure. Rules and defaults: routing.md section 15.
 * Never privileged, never a count, never "all".
 */
#ifndef LEM_RUNNER_DOCKER_BODY_H
#define LEM_RUNNER_DOCKER_BODY_H

#include "base/str.h"
#include "model/launch_spec.h"

struct docker_body_options {
	const char *owner; /* label lem.owner; NULL: none (a dry run) */
	bool show_secrets; /* false: values of spec->secrets are written as "***" */
	int indent;        /* of the JSON; 0: one line */
	bool open_stdin;   /* CHANNEL_WORKER */
	bool rootless;     /* the engine is: it may not raise limits, so none are asked for */
	const char *name;  /* of the container; only for docker_run_line */
};

/* The body of POST /containers/create. */
void docker_body_json(const struct launch_spec *spec, const struct docker_body_options *o,
		      struct str *out);
/* The equivalent `docker run …`, quoted for a POSIX shell, one line. Secrets are passed by name
 * only (-e NAME), never by value. */
void docker_run_line(const struct launch_spec *spec, const struct docker_body_options *o,
		     struct str *out);

#endif
