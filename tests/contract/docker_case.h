/* A fake container engine in a folder of its own, with DOCKER_HOST pointing to it. */
#ifndef LEM_TESTS_DOCKER_CASE_H
#define LEM_TESTS_DOCKER_CASE_H

#include "base/base.h"
#include "fake_docker.h"
#include "runner/runner.h"

struct docker_case {
	struct fake_docker *f;
	char dir[64], socket[96];
};

int docker_case_setup(void **state); /* *state: struct docker_case */
int docker_case_teardown(void **state);

extern const struct runner_context calm; /* nobody cancels */
#define CASE_SECRET "hf_verysecret"
#define CASE_UUID   "GPU-aaaaaaaa-1111-2222-3333-444455556666"

struct launch_spec case_worker(void); /* on one GPU by CDI, with a secret */
struct launch_spec case_server(void);
struct running case_start(const struct launch_spec *s);
/* start fails with these words, and leaves nothing behind. */
void fails_to_start(struct fake_docker *f, const struct launch_spec *s, enum lem_code code,
		    const char *what, const char *fix);
void nothing_left(struct fake_docker *f);
/* Until n bytes have come, or the end; how many came. */
size_t read_some(int fd, char *buf, size_t n);

#define REPLY(code, text)     ((struct fake_reply){.status = (code), .body = (text)})
#define HOW(kind, code, text) ((struct fake_reply){.status = (code), .body = (text), .how = (kind)})

#endif
