/*
 * fake_docker.h — a container engine on a Unix socket, for contract tests. By itself it behaves as
 * Docker does (routing.md section 14) and keeps containers that run a scripted program; fake_on
 * makes it misbehave for the next requests of a kind. It writes down what it was asked. Threads of
 * the test's own process; nothing is ever run.
 */
#ifndef LEM_TESTS_FAKE_DOCKER_H
#define LEM_TESTS_FAKE_DOCKER_H

#include "base/base.h"

struct fake_docker;

enum fake_how {
	FAKE_WHOLE,        /* with Content-Length */
	FAKE_CHUNKED,      /* in two chunks */
	FAKE_BYTE_BY_BYTE, /* chunks of one byte, each a write of its own */
	FAKE_CUT,          /* Content-Length, then half of the body and the end */
	FAKE_ENDLESS,      /* the body again and again, for ever */
	FAKE_SILENT,       /* takes the request and says nothing */
	FAKE_RAW,          /* body is everything that is sent */
	FAKE_HANG_UP,      /* takes the request and closes */
	FAKE_DIE,          /* the whole daemon goes down: see fake_docker_up */
};

struct fake_reply {
	int status;
	const char *body;
	enum fake_how how;
	bool applied; /* what was asked is done all the same */
};

/* What each container does once it is started. */
struct fake_program {
	const char *frames; /* sent as they are (docker_frames.h); may hold zeros */
	size_t n_frames;
	bool byte_by_byte; /* the frames */
	bool echo;         /* lines of stdin come back on stdout; "exit N" ends it, so does the end
			      of stdin */
	bool runs;         /* goes on until it is stopped */
	bool ignores_term;
	bool oom_killed;
	int exit_code;
};

/* The text behind a pointer must live as long as the fake. */
struct fake_docker *fake_docker_start(const char *socket_path);
void fake_docker_stop(struct fake_docker *f);
void fake_docker_down(struct fake_docker *f); /* every connection breaks, nobody listens */
void fake_docker_up(struct fake_docker *f);   /* its containers are still there, ended */

/* The next `times` requests that begin so ("POST /containers/create"; without the version) get the
 * reply; -1: all of them. Later rules win. */
void fake_on(struct fake_docker *f, const char *request, int times, struct fake_reply reply);
void fake_set_program(struct fake_docker *f, struct fake_program program);
void fake_set_version(struct fake_docker *f, const char *api_version);
void fake_set_info(struct fake_docker *f, const char *json);
/* NULL: no image here; a pull brings image_after_pull (NULL: none). */
void fake_set_image(struct fake_docker *f, const char *json, const char *image_after_pull);
void fake_set_pid(struct fake_docker *f, long pid); /* State.Pid of what runs */

void fake_add_container(struct fake_docker *f, const char *id, const char *name,
			const char *owner /* NULL: no labels of lem's */);
bool fake_has_container(struct fake_docker *f, const char *id);
size_t fake_containers(struct fake_docker *f); /* that are still there */

/* What was asked, in order: "POST /containers/create?name=x" and its body; NULL beyond. */
size_t fake_count(struct fake_docker *f, const char *request);
const char *fake_request(struct fake_docker *f, const char *request, size_t nth);
const char *fake_body(struct fake_docker *f, const char *request, size_t nth);
const char *fake_asked_version(struct fake_docker *f); /* "1.45", of the last request with one */

#endif
