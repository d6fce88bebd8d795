/*
 * hub.h — tests start tests/fakes/hub_server.py with this and ask it what it saw.
 */
#ifndef LEM_TESTS_CONTRACT_HUB_H
#define LEM_TESTS_CONTRACT_HUB_H

#include <jansson.h>

#include "base/str.h"

struct hub {
	pid_t pid;
	int stdin_fd; /* closing it ends the server */
	int port, store_port;
	char dir[64], file[96]; /* a folder for the test, and the file that the server gives */
	char sha256[65];
	size_t size;
};

/* Serves the file that is already at dir/model.gguf. Asserts that it starts. */
void hub_start(struct hub *h);
void hub_stop(struct hub *h);
void hub_make_dir(struct hub *h); /* a new folder under /tmp */
void hub_remove_dir(struct hub *h);
/* "http://127.0.0.1:PORT/acme/BEHAVIOUR/resolve/main/model.gguf"; malloc'ed. */
char *hub_url(const struct hub *h, const char *behaviour);
/* Everything asked since the last call, oldest first; the caller's to release. */
json_t *hub_log(const struct hub *h);

#endif
