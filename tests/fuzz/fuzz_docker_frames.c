/* The frames of a container's output: cut anywhere, the payload is the same. */
#include "base/str.h"
#include "runner/docker_frames.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take(void *arg, int stream, const char *bytes, size_t n)
{
	struct str *s = arg;

	assert((stream == 1 || stream == 2) && n > 0);
	str_addn(&s[stream - 1], bytes, n);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct docker_frames whole = DOCKER_FRAMES_INIT, cut = DOCKER_FRAMES_INIT;
	struct str a[2] = {STR_INIT, STR_INIT}, b[2] = {STR_INIT, STR_INIT};
	const char *p = (const char *)data;
	size_t step = size ? data[0] % 7 + 1 : 1;
	struct lem_error err;
	int rc = docker_frames_feed(&whole, p, size, take, a, &err), rc2 = 0;

	for (size_t i = 0; i < size && rc2 >= 0; i += step)
		rc2 = docker_frames_feed(&cut, p + i, MIN(step, size - i), take, b, &err);
	assert(rc == rc2);
	for (int i = 0; i < 2; i++) {
		assert(a[i].len == b[i].len);
		assert(a[i].len <= size);
		assert(!a[i].len || memcmp(a[i].buf, b[i].buf, a[i].len) == 0);
		str_release(&a[i]);
		str_release(&b[i]);
	}
	return 0;
}
