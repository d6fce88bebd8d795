#include <fcntl.h>

#include "config/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever a file holds, there is an answer: an experiment or at least one error, and texts that
 * can be made of it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *path = lem_asprintf("/dev/shm/lem-fuzz-%d.yaml", (int)getpid());
	_cleanup_str_ struct str text = STR_INIT, json = STR_INIT;
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	const struct config_request q = {.path = path};
	struct config *c = NULL;
	struct lem_error err;
	char hash[17];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (config_load(&q, &c, &err) < 0)
		abort();
	if (config_ok(c) != (config_findings(c)->n_errors == 0))
		abort();
	config_findings_text(config_findings(c), &text);
	config_effective_json(c, &json);
	config_hash(c, hash);
	config_free(c);
	unlink(path);
	return 0;
}
