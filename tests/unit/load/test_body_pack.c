#include "load/body_pack.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/str.h"

/* Packs pieces, told by their ends within s; they must come back, in no more than `most` bytes. */
static void expect(const char *s, const size_t *ends, size_t n, size_t most)
{
	size_t len = ends[n - 1], from = 0;
	_cleanup_free_ char *packed = lem_malloc(len + n * 12);
	_cleanup_free_ char *out = lem_malloc(len + 1);
	struct body_pack p = {.out = packed};

	for (size_t i = 0; i < n; i++) {
		body_pack_add(&p, s + from, ends[i] - from);
		from = ends[i];
	}
	assert_true(p.len <= most && p.len <= len + n * 12);
	assert_int_equal(body_unpack(packed, p.len, out), len);
	assert_memory_equal(out, s, len);
}

static void test_events(void **state)
{
	static const char two[] = "data: {\"text\":\"a\",\"x\":null}\n\n"
				  "data: {\"text\":\"bcd\",\"x\":null}\n\n";
	const size_t half = strlen("data: {\"text\":\"a\",\"x\":null}\n\n");

	(void)state;
	expect(two, (size_t[]){half, strlen(two)}, 2, half + 2 * 12 + 3);
	expect("abcabc", (size_t[]){3, 6}, 2, 3 + 2 * 12);      /* all the same */
	expect("aaaaaaa", (size_t[]){3, 7}, 2, 3 + 2 * 12 + 1); /* head and tail could overlap */
	expect("aaaaaaa", (size_t[]){4, 7}, 2, 4 + 2 * 12);     /* shorter than the one before */
	expect("xyz", (size_t[]){1, 2, 3}, 3, 3 + 3 * 12);      /* nothing in common */
	expect("a", (size_t[]){1}, 1, 13);
	assert_int_equal(body_unpack(NULL, 0, NULL), 0);
}

/* Pieces of any kind, few different bytes so that much is in common. */
static void test_random_pieces(void **state)
{
	enum { MOST = 2000, PIECES = 40 };
	char s[MOST];
	struct rand r;

	(void)state;
	rand_seed(&r, 11);
	for (int round = 0; round < 2000; round++) {
		size_t ends[PIECES], n = 1 + rand_below(&r, PIECES), at = 0;

		for (size_t i = 0; i < sizeof(s); i++)
			s[i] = (char)('a' + (rand_below(&r, 30) ? 0 : rand_below(&r, 3)));
		for (size_t i = 0; i < n; i++)
			ends[i] = at += 1 + rand_below(&r, MOST / PIECES - 1);
		expect(s, ends, n, SIZE_MAX);
	}
}

/* The room that is asked for suffices for what a receive can be cut into: one-byte chunks. */
static void test_most(void **state)
{
	(void)state;
	for (size_t chunks = 1; chunks < 2000; chunks++) {
		size_t received = 1 + 2 + chunks * strlen("1\r\nx\r\n") + 3 + 1,
		       pieces = chunks + 2;

		assert_true(pieces * 13 <= body_pack_most(received));
	}
	assert_true(13 <= body_pack_most(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),
		cmocka_unit_test(test_random_pieces),
		cmocka_unit_test(test_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
