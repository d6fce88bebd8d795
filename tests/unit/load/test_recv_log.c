#include "load/recv_log.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"
#include "base/str.h"

enum { CHAINS = 7, ADDS = 20000 };

static void reserve(struct recv_log *l, uint64_t bytes)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (recv_log_reserve(l, bytes, &err) < 0)
		fail_msg("%s", err.what);
}

/* Whatever the order of receives, each chain gives back its own bytes and times. */
static void test_chains(void **state)
{
	struct recv_chain chains[CHAINS];
	struct str want[CHAINS] = {{0}};
	struct recv_log l;
	struct rand r;

	(void)state;
	rand_seed(&r, 3);
	reserve(&l, 4 << 20);
	for (int c = 0; c < CHAINS; c++)
		recv_chain_init(&chains[c]);
	for (int i = 0; i < ADDS; i++) {
		size_t c = rand_below(&r, CHAINS), n = rand_below(&r, 50);
		char *to;

		assert_int_equal(recv_log_room(&l, n, &to), n);
		memset(to, 'a' + i % 26, n);
		str_addn(&want[c], to, n);
		recv_log_add(&l, &chains[c], n, i);
	}
	assert_int_equal(l.n_marks, ADDS);
	for (int c = 0; c < CHAINS; c++) {
		_cleanup_str_ struct str got = STR_INIT;
		int64_t last = -1;

		for (uint32_t m = chains[c].first; m != RECV_LOG_END; m = l.marks[m].next) {
			assert_true(l.marks[m].t_ns > last);
			last = l.marks[m].t_ns;
			str_addn(&got, l.bytes + l.marks[m].at, l.marks[m].len);
		}
		assert_string_equal(str_c(&got), str_c(&want[c]));
		str_release(&want[c]);
	}
	recv_log_release(&l);
}

static void test_it_fills_up(void **state)
{
	struct recv_chain chain;
	struct recv_log l;
	char *to = NULL;

	(void)state;
	reserve(&l, 1 << 20);
	recv_chain_init(&chain);
	assert_int_equal(recv_log_room(&l, 2 << 20, &to), 1 << 20);
	recv_log_add(&l, &chain, (1 << 20) - 10, 1);
	assert_int_equal(recv_log_room(&l, 100, &to), 10);
	assert_ptr_equal(to, l.bytes + (1 << 20) - 10);
	recv_log_add(&l, &chain, 10, 2);
	assert_int_equal(recv_log_room(&l, 100, &to), 0);
	recv_log_release(&l);
	assert_null(l.bytes);

	/* marks run out as well: a server that sends byte by byte */
	reserve(&l, 4 << 20);
	recv_chain_init(&chain);
	for (uint32_t i = 0; i < l.cap_marks; i++) {
		assert_int_equal(recv_log_room(&l, 1, &to), 1);
		recv_log_add(&l, &chain, 1, i);
	}
	assert_int_equal(recv_log_room(&l, 1, &to), 0);
	recv_log_release(&l);
}

static void test_warm(void **state)
{
	struct recv_log l;

	(void)state;
	reserve(&l, 3 << 20);
	recv_log_warm(&l, 100 << 20, 100 << 20); /* more than there is */
	assert_int_equal(l.len, 0);
	assert_int_equal(l.bytes[(3 << 20) - 1], 0);
	recv_log_release(&l);
	recv_log_release(&l); /* twice is fine */
}

/* Far more than the host has: address space only, or less of it. */
static void test_a_great_deal(void **state)
{
	struct recv_log l;

	(void)state;
	reserve(&l, UINT64_C(1) << 38);
	assert_true(l.cap >= 1 << 20);
	assert_true(l.cap_marks > 1000);
	recv_log_release(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_it_fills_up),
		cmocka_unit_test(test_warm),
		cmocka_unit_test(test_a_great_deal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
