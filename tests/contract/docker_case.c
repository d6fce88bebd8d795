#include "docker_case.h"

#include <sys/stat.h>

int docker_case_setup(void **state)
{
	struct docker_case *c = lem_calloc(1, sizeof(*c));
	_cleanup_free_ char *host = NULL;

	lem_strlcpy(c->dir, "/tmp/lem-docker-XXXXXX", sizeof(c->dir));
	if (!mkdtemp(c->dir) || chmod(c->dir, 0755) < 0)
		return -1;
	(void)snprintf(c->socket, sizeof(c->socket), "%s/docker.sock", c->dir);
	host = lem_asprintf("unix://%s", c->socket);
	setenv("DOCKER_HOST", host, 1);
	c->f = fake_docker_start(c->socket);
	*state = c;
	return 0;
}

int docker_case_teardown(void **state)
{
	struct docker_case *c = *state;

	fake_docker_stop(c->f);
	(void)rmdir(c->dir);
	free(c);
	return 0;
}
