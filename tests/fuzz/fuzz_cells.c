#include <fcntl.h>

#include "config/cells.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever a campaign file holds, there are cells or at least one error; each cell can be loaded.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *path = lem_asprintf("/dev/shm/lem-fuzz-cells-%d.yaml", (int)getpid());
	_cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct config_cells *cells = NULL;
	struct lem_error err;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	if (config_cells_read(path, &cells, &err) < 0)
		abort();
	if (!config_cells_n(cells) && !config_cells_findings(cells)->n_errors)
		abort();
	for (size_t i = 0; i < config_cells_n(cells) && i < 3; i++) {
		const struct config_request q = {.path = path, .cells = cells, .cell = i};
		struct config *c = NULL;

		if (config_load(&q, &c, &err) < 0)
			abort();
		if (config_ok(c) && !config_experiment(c)->config_name)
			abort();
		config_free(c);
	}
	config_cells_free(cells);
	unlink(path);
	return 0;
}
