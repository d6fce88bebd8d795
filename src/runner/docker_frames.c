#include "runner/docker_frames.h"

static int begin_frame(struct docker_frames *f, struct lem_error *err)
{
	const unsigned char *h = f->header;

	/* 0 is what was written to stdin, echoed by some engines; 3 the engine's own complaints
	 * (moby pkg/stdcopy) */
	if (h[0] > 3 || h[1] || h[2] || h[3])
		return lem_fail(err, LEM_E_PARSE,
				"the container engine's output stream is out of step (header "
				"%02x%02x%02x%02x)",
				h[0], h[1], h[2], h[3]);
	f->stream = h[0] >= 2 ? 2 : 1;
	f->left = (uint32_t)h[4] << 24 | (uint32_t)h[5] << 16 | (uint32_t)h[6] << 8 | h[7];
	f->have = 0;
	return 0;
}

static size_t take_header(struct docker_frames *f, const char *bytes, size_t n)
{
	size_t k = MIN(n, sizeof(f->header) - f->have);

	memcpy(f->header + f->have, bytes, k);
	f->have += k;
	return k;
}

int docker_frames_feed(struct docker_frames *f, const char *bytes, size_t n,
		       int (*take)(void *arg, int stream, const char *bytes, size_t n), void *arg,
		       struct lem_error *err)
{
	while (n) {
		size_t k = f->left ? MIN(n, (size_t)f->left) : take_header(f, bytes, n);
		int rc = 0;

		if (f->left) {
			f->left -= (uint32_t)k;
			rc = take(arg, f->stream, bytes, k);
		} else if (f->have == sizeof(f->header)) {
			rc = begin_frame(f, err);
		}
		if (rc < 0)
			return rc;
		bytes += k;
		n -= k;
	}
	return 0;
}
