#include <sys/mman.h>

#include "weights/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_create("config", MFD_CLOEXEC);
	struct model_shape s = {0}, before = s;
	struct lem_error err;
	char path[64];

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (hf_config_read_shape(path, &s, &err) < 0) {
		if (!err.what[0] || memcmp(&s, &before, sizeof(s)) != 0)
			abort();
		return 0;
	}
	if (s.n_layer < 1 || s.n_embd < 1 || s.n_head < 1 || s.n_ff < 1 || s.n_params < 0 ||
	    s.quant_block < 0)
		abort();
	return 0;
}
