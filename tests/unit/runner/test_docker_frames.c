/* Frames of a container's output, split in every way. */
#include <setjmp.h>

#include "base/str.h"
#include "runner/docker_frames.h"

#include <cmocka.h>

struct got {
	struct str out, err;
	size_t calls, stop_after;
};

static int take(void *arg, int stream, const char *bytes, size_t n)
{
	struct got *g = arg;

	assert_true(stream == 1 || stream == 2);
	assert_true(n > 0);
	str_addn(stream == 2 ? &g->err : &g->out, bytes, n);
	return ++g->calls == g->stop_after ? -1 : 0;
}

static void got_release(struct got *g)
{
	str_release(&g->out);
	str_release(&g->err);
}

#define FRAME(stream, length, text) "" stream "\0\0\0" length text
/* "hello", "", "oops\n", "to stdin", "daemon" */
static const char mixed[] = FRAME("\1", "\0\0\0\5", "hello") FRAME("\1", "\0\0\0\0", "")
	FRAME("\2", "\0\0\0\5", "oops\n") FRAME("\0", "\0\0\0\2", "in")
		FRAME("\3", "\0\0\0\6", "daemon") FRAME("\1", "\0\0\0\1", "!");

static void test_every_split(void **state)
{
	size_t n = sizeof(mixed) - 1;

	(void)state;
	for (size_t i = 0; i <= n; i++)
		for (size_t j = i; j <= n; j++) {
			struct docker_frames f = DOCKER_FRAMES_INIT;
			struct got g = {.calls = 0};

			assert_int_equal(docker_frames_feed(&f, mixed, i, take, &g, NULL), 0);
			assert_int_equal(docker_frames_feed(&f, mixed + i, j - i, take, &g, NULL),
					 0);
			assert_int_equal(docker_frames_feed(&f, mixed + j, n - j, take, &g, NULL),
					 0);
			assert_string_equal(str_c(&g.out), "helloin!");
			assert_string_equal(str_c(&g.err), "oops\ndaemon");
			got_release(&g);
		}
}

static void test_byte_by_byte(void **state)
{
	struct docker_frames f = DOCKER_FRAMES_INIT;
	struct got g = {.calls = 0};

	(void)state;
	for (size_t i = 0; i < sizeof(mixed) - 1; i++)
		assert_int_equal(docker_frames_feed(&f, mixed + i, 1, take, &g, NULL), 0);
	assert_string_equal(str_c(&g.out), "helloin!");
	got_release(&g);
}

static int count(void *arg, int stream, const char *bytes, size_t n)
{
	(void)stream;
	(void)bytes;
	*(uint64_t *)arg += n;
	return 0;
}

/* The largest there can be: 4 GiB - 1, through a buffer of a megabyte. */
static void test_huge(void **state)
{
	struct docker_frames f = DOCKER_FRAMES_INIT;
	_cleanup_free_ char *buf = lem_calloc(1, 1 << 20);
	uint64_t want = UINT64_C(0xffffffff), fed = 0, seen = 0;

	(void)state;
	assert_int_equal(docker_frames_feed(&f, "\1\0\0\0\377\377\377\377", 8, count, &seen, NULL),
			 0);
	while (fed < want) {
		size_t n = (size_t)MIN(want - fed, UINT64_C(1) << 20);

		assert_int_equal(docker_frames_feed(&f, buf, n, count, &seen, NULL), 0);
		fed += n;
	}
	assert_true(seen == want);
	assert_int_equal(docker_frames_feed(&f, "\2\0\0\0\0\0\0\1x", 9, count, &seen, NULL), 0);
	assert_true(seen == want + 1);
}

static void test_garbage(void **state)
{
	static const char *const bad[] = {"HTTP/1.1 500 oops", "\4\0\0\0\0\0\0\1x",
					  "\1\0\0\1\0\0\0\1x", "hello world"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct docker_frames f = DOCKER_FRAMES_INIT;
		struct got g = {.calls = 0};
		struct lem_error err = LEM_ERROR_INIT;

		assert_int_equal(docker_frames_feed(&f, bad[i], 9, take, &g, &err), -LEM_E_PARSE);
		assert_non_null(strstr(err.what, "out of step"));
		assert_int_equal(g.calls, 0);
	}
}

static void test_stop(void **state)
{
	struct docker_frames f = DOCKER_FRAMES_INIT;
	struct got g = {.stop_after = 1};

	(void)state;
	assert_int_equal(docker_frames_feed(&f, mixed, sizeof(mixed) - 1, take, &g, NULL), -1);
	assert_string_equal(str_c(&g.out), "hello");
	got_release(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_split), cmocka_unit_test(test_byte_by_byte),
		cmocka_unit_test(test_huge),        cmocka_unit_test(test_garbage),
		cmocka_unit_test(test_stop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
