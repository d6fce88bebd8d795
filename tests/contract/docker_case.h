/* A fake container engine in a folder of its own, with DOCKER_HOST pointing to it. */
#ifndef LEM_TESTS_DOCKER_CASE_H
#define LEM_TESTS_DOCKER_CASE_H

#include "base/base.h"
#include "fake_docker.h"

struct docker_case {
	struct fake_docker *f;
	char dir[64], socket[96];
};

int docker_case_setup(void **state); /* *state: struct docker_case */
int docker_case_teardown(void **state);

#define REPLY(code, text)     ((struct fake_reply){.status = (code), .body = (text)})
#define HOW(kind, code, text) ((struct fake_reply){.status = (code), .body = (text), .how = (kind)})

#endif
