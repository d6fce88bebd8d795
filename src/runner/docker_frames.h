/*
 * docker_frames.h — takes apart what a container engine sends of a container without a terminal:
 * frames of an 8-byte header {stream 0/1/2/3, 0, 0, 0, big-endian length} and a payload (routing.md
 * section 14). Pure; holds nothing but the header in progress, so a frame of any size and any
 * splitting costs no memory.
 */
#ifndef LEM_RUNNER_DOCKER_FRAMES_H
#define LEM_RUNNER_DOCKER_FRAMES_H

#include "base/error.h"

struct docker_frames {
	unsigned char header[8];
	size_t have;   /* bytes of the header */
	uint32_t left; /* bytes of the payload still to come */
	int stream;    /* of the payload: 1 stdout, 2 stderr */
};

#define DOCKER_FRAMES_INIT \
	{                  \
		.have = 0  \
	}

/* Hands each piece of payload to take, which returns negative to stop. LEM_E_PARSE when the bytes
 * are no frames. */
int docker_frames_feed(struct docker_frames *f, const char *bytes, size_t n,
		       int (*take)(void *arg, int stream, const char *bytes, size_t n), void *arg,
		       struct lem_error *err);

#endif
