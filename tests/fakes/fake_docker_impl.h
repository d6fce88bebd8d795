/* The insides of fake_docker.h: fake_docker.c has the connections, fake_containers.c what the
 * engine does. */
#ifndef LEM_TESTS_FAKE_DOCKER_IMPL_H
#define LEM_TESTS_FAKE_DOCKER_IMPL_H

#include <pthread.h>

#include "base/str.h"
#include "fake_docker.h"

enum { FAKE_CONNS = 256, FAKE_ASKED = 512, FAKE_RULES = 32, FAKE_CONTAINERS = 64 };

#if defined(__x86_64__)
#define FAKE_ARCH "amd64"
#else
#define FAKE_ARCH "arm64"
#endif
#define FAKE_IMAGE                                                                             \
	"{\"Id\":\"sha256:1111\",\"RepoDigests\":[\"r/engine@sha256:2222\"],\"Os\":\"linux\"," \
	"\"Architecture\":\"" FAKE_ARCH "\",\"Config\":{}}"

struct fake_rule {
	const char *request;
	int times;
	struct fake_reply reply;
};

struct fake_asked {
	char *line, *body;
};

struct fake_container {
	struct fake_docker *f;
	char id[65], name[128];
	char *labels; /* JSON */
	bool removed, started, running, has_port;
	int exit_code, attach_fd;
	bool oom_killed;
	pthread_t thread;
};

struct fake_docker {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	char path[108], version[16], asked_version[16];
	const char *info, *image, *image_after_pull;
	long pid;
	int listener;
	volatile bool down, stopping;
	bool going_down; /* under the lock */
	pthread_t acceptor;
	struct fake_program program;
	struct fake_rule rules[FAKE_RULES];
	size_t n_rules;
	struct fake_asked asked[FAKE_ASKED];
	size_t n_asked;
	struct fake_container containers[FAKE_CONTAINERS];
	size_t n_containers;
	struct {
		pthread_t thread;
		int fd;
	} conns[FAKE_CONNS];
	size_t n_conns;
};

bool fake_send(int fd, const char *p, size_t n);
bool fake_answer(struct fake_docker *f, int fd, const struct fake_reply *r);
/* What a container engine does; answers on fd unless it is -1. in: bytes that came behind the
 * request. false: the connection is over. */
bool fake_act(struct fake_docker *f, int fd, const char *line, const char *body, struct str *in);
void fake_end_container(struct fake_docker *f, struct fake_container *c, int code); /* locked */

#endif
