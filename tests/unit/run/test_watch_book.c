#include "run/watch_book.h"

#include <setjmp.h>

#include <cmocka.h>

/* Two GPUs are measured, host 2 and 5; looks come once a second from t = 1 s on. */
#define S NS_PER_S
enum { SELF = 77 };

static struct gpu_ref refs[2];
static struct gpu_binding binding;
static int described;

static void describe(pid_t pid, char *name, size_t name_size, char *user, size_t user_size)
{
	(void)pid;
	described++;
	lem_strlcpy(name, "python3", name_size);
	lem_strlcpy(user, "x", user_size);
}

static int open_book(void **state)
{
	struct watch_book *k = lem_calloc(1, sizeof(*k));

	memset(refs, 0, sizeof(refs));
	lem_strlcpy(refs[0].uuid, "GPU-two", sizeof(refs[0].uuid));
	lem_strlcpy(refs[1].uuid, "MIG-five", sizeof(refs[1].uuid));
	lem_strlcpy(refs[1].card_uuid, "GPU-five", sizeof(refs[1].card_uuid));
	refs[0].index = 2;
	refs[1].index = 5;
	binding = (struct gpu_binding){.gpus = refs, .n = 2, .proved = true};
	described = 0;
	watch_book_open(k, &binding);
	k->describe = describe;
	*state = k;
	return 0;
}

static int close_book(void **state)
{
	free(binding.foreigners);
	free(*state);
	return 0;
}

static struct gpu_process process(const char *card, int index, pid_t pid)
{
	struct gpu_process p = {.gpu_index = index, .pid = pid, .memory_bytes = 100};

	lem_strlcpy(p.card_uuid, card, sizeof(p.card_uuid));
	return p;
}

/* The engine is pid 10 on both GPUs, and whoever else is given. */
static void look(struct watch_book *k, int64_t t_ns, const struct gpu_process *other)
{
	struct gpu_process p[3] = {process("GPU-two", 2, 10), process("GPU-five", 5, 10)};
	const bool ours[3] = {true, true, false};

	if (other)
		p[2] = *other;
	watch_book_enter(k, t_ns, p, ours, other ? 3 : 2, SELF);
}

static void test_engine_on_all(void **state)
{
	struct watch_book *k = *state;

	look(k, 1 * S, NULL);
	look(k, 5 * S, NULL);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
	assert_non_null(strstr(binding.guard, "on GPU 2, 5 during"));
	assert_true(binding.proved);
	assert_int_equal(binding.n_foreigners, 0);
}

/* What was seen before the window tells nothing of the window. */
static void test_engine_gone_from_one(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process p = process("GPU-two", 2, 10);

	look(k, 1 * S, NULL);
	watch_book_enter(k, 5 * S, &p, (bool[]){true}, 1, SELF);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_UNSEEN);
	assert_non_null(strstr(binding.guard, "did not show the engine on GPU 5 during"));
	assert_true(binding.proved);
}

static void test_nobody_listed(void **state)
{
	struct watch_book *k = *state;

	watch_book_enter(k, 5 * S, NULL, NULL, 0, SELF);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_UNSEEN);
	assert_non_null(strstr(binding.guard, "GPU 2, 5"));
}

static void test_stray_withdraws_the_proof(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process p = process("GPU-three", 3, 11);

	look(k, 1 * S, NULL);
	watch_book_enter(k, 2 * S, &p, (bool[]){true}, 1, SELF);
	look(k, 5 * S, NULL);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_STRAY);
	assert_non_null(strstr(binding.guard, "pid 11 of the engine was on GPU 3 (GPU-three)"));
	assert_false(binding.proved);
	assert_string_equal(binding.proof, binding.guard);
}

static void test_foreigner_is_kept_with_its_times(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process other = process("GPU-five", 5, 812);

	look(k, 1 * S, NULL);
	look(k, 2 * S, &other);
	other.memory_bytes = 300;
	look(k, 3 * S, &other);
	look(k, 4 * S, NULL);
	watch_book_close(k, 1 * S, &binding);
	assert_int_equal(binding.n_foreigners, 1);
	assert_int_equal(binding.foreigners[0].pid, 812);
	assert_int_equal(binding.foreigners[0].t_first_ns, 2 * S);
	assert_int_equal(binding.foreigners[0].t_last_ns, 3 * S);
	assert_int_equal(binding.foreigners[0].memory_bytes, 300);
	assert_string_equal(binding.foreigners[0].name, "python3");
	assert_string_equal(binding.foreigners[0].card_uuid, "GPU-five");
	assert_false(binding.foreigners[0].graphics);
	assert_int_equal(described, 1);
	assert_true(binding.proved);
}

static void test_who_is_no_foreigner(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process self = process("GPU-two", 2, SELF),
			   elsewhere = process("GPU-three", 3, 812);

	look(k, 1 * S, &self);
	look(k, 2 * S, &elsewhere);
	watch_book_close(k, 1 * S, &binding);
	assert_int_equal(binding.n_foreigners, 0);
	assert_int_equal(described, 0);
}

/* It only draws until it is seen to compute. */
static void test_graphics(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process x = process("GPU-two", 2, 900);

	x.graphics = true;
	look(k, 1 * S, &x);
	assert_true(k->foreigners[0].graphics);
	x.graphics = false;
	look(k, 2 * S, &x);
	x.graphics = true;
	look(k, 3 * S, &x);
	watch_book_close(k, 1 * S, &binding);
	assert_false(binding.foreigners[0].graphics);
}

static void test_room_is_bounded(void **state)
{
	struct watch_book *k = *state;

	for (int i = 0; i < 3 * WATCH_FOREIGNERS_MAX; i++) {
		struct gpu_process other = process("GPU-two", 2, 1000 + i);

		look(k, (1 + i) * S, &other);
	}
	watch_book_close(k, 1 * S, &binding);
	assert_int_equal(binding.n_foreigners, WATCH_FOREIGNERS_MAX);
	assert_int_equal(k->n_unwritten, 2 * WATCH_FOREIGNERS_MAX);
}

static void test_many_gpus_fit(void **state)
{
	struct watch_book *k = lem_calloc(1, sizeof(*k));
	struct gpu_ref *many = lem_calloc(WATCH_CARDS_MAX + 9, sizeof(*many));
	struct gpu_binding b = {.gpus = many, .n = WATCH_CARDS_MAX + 9};

	(void)state;
	for (int i = 0; i < WATCH_CARDS_MAX + 9; i++) {
		many[i].index = 100000 + i;
		(void)snprintf(many[i].uuid, sizeof(many[i].uuid), "GPU-%d", i);
	}
	watch_book_open(k, &b);
	assert_int_equal(k->n_cards, WATCH_CARDS_MAX);
	watch_book_lost(k, WATCH_CARDS_MAX + 3, 5);
	watch_book_enter(k, 5 * S, NULL, NULL, 0, SELF);
	watch_book_close(k, 4 * S, &b);
	assert_int_equal(b.guard_level, GPU_GUARD_UNSEEN);
	free(many);
	free(k);
}

static void test_lists_that_cannot_be_read(void **state)
{
	struct watch_book *k = *state;

	watch_book_trouble(k, "cannot list the processes on GPU 0: not supported");
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_NONE);
	assert_non_null(strstr(binding.guard, "not supported"));
	assert_true(binding.proved);
}

static void test_no_window_no_judgement(void **state)
{
	struct watch_book *k = *state;

	look(k, 1 * S, NULL);
	watch_book_close(k, 0, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_NONE);
	assert_string_equal(binding.guard, "");
}

/* In a namespace of lem's own the engine would look like a foreigner, unless it is recognised. */
static void test_own_namespace(void **state)
{
	struct watch_book *k = *state;
	struct gpu_process other = process("GPU-two", 2, 31337);

	k->own_namespace = true;
	watch_book_enter(k, 5 * S, &other, (bool[]){false}, 1, SELF);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.n_foreigners, 0);
	assert_int_equal(binding.guard_level, GPU_GUARD_NONE);
	assert_non_null(strstr(binding.guard, "pid namespace of its own"));
	look(k, 6 * S, &other);
	watch_book_close(k, 4 * S, &binding);
	assert_int_equal(binding.n_foreigners, 1);
	assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
}

static void test_lost(void **state)
{
	struct watch_book *k = *state;

	watch_book_lost(k, 1, 3 * S);
	watch_book_lost(k, 1, 4 * S);
	watch_book_close(k, 1 * S, &binding);
	assert_int_equal(refs[0].t_lost_ns, 0);
	assert_int_equal(refs[1].t_lost_ns, 3 * S);
}

#define BOOK_TEST(f) cmocka_unit_test_setup_teardown(f, open_book, close_book)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOOK_TEST(test_engine_on_all),
		BOOK_TEST(test_engine_gone_from_one),
		BOOK_TEST(test_nobody_listed),
		BOOK_TEST(test_stray_withdraws_the_proof),
		BOOK_TEST(test_foreigner_is_kept_with_its_times),
		BOOK_TEST(test_who_is_no_foreigner),
		BOOK_TEST(test_graphics),
		BOOK_TEST(test_room_is_bounded),
		BOOK_TEST(test_many_gpus_fit),
		BOOK_TEST(test_lists_that_cannot_be_read),
		BOOK_TEST(test_no_window_no_judgement),
		BOOK_TEST(test_own_namespace),
		BOOK_TEST(test_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
