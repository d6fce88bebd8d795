#include "run/watch.h"

#include <setjmp.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/clock.h"
#include "sys/fs.h"
#include "use_fake.h"

/* The thread on the fake driver; the engine is a child of this test that only sleeps. */
static char lists[64];
static pid_t engine;
static struct gpu_ref refs[2];
static struct gpu_binding binding;

static void write_lists(const char *fmt, ...) _printf_(1, 2);
static void write_lists(const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	assert_int_equal(fs_write_atomic(lists, text, strlen(text), NULL), 0);
}

static void use(const char *more)
{
	_cleanup_free_ char *s = lem_asprintf("gpus=3;procsfile=%s%s", lists, more);

	use_fake(s);
}

static int set_up(void **state)
{
	int fd;

	(void)state;
	lem_strlcpy(lists, "/tmp/lem-watch-XXXXXX", sizeof(lists));
	fd = mkstemp(lists);
	assert_true(fd >= 0);
	close(fd);
	engine = fork();
	if (engine == 0) {
		setsid();
		(void)alarm(60);
		(void)pause();
		_exit(0);
	}
	memset(refs, 0, sizeof(refs));
	for (int i = 0; i < 2; i++) {
		refs[i].index = i;
		(void)snprintf(refs[i].uuid, sizeof(refs[i].uuid), "GPU-%08x-fa4e-4000-8000-%012x",
			       0x1a2b3c40 + i, 0xabcdef + i);
	}
	binding = (struct gpu_binding){.gpus = refs, .n = 2, .proved = true};
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	kill(engine, SIGKILL);
	assert_int_equal(waitpid(engine, NULL, 0), engine);
	(void)unlink(lists);
	free(binding.foreigners);
	return 0;
}

/* Until watch_check says so, at most five seconds. */
static int wait_for_trouble(struct watch *w, struct lem_error *err)
{
	int64_t end = clock_now_ns() + 5 * NS_PER_S;
	int rc = 0;

	while ((rc = watch_check(w, err)) == 0 && clock_now_ns() < end) {
		watch_mark(w);
		clock_sleep_until_ns(clock_now_ns() + 5 * NS_PER_MS);
	}
	return rc;
}

static void test_engine_and_foreigner(void **state)
{
	const struct running r = {.host_pid = engine};
	struct watch *w = NULL;
	int64_t t0 = clock_now_ns();

	(void)state;
	use("");
	write_lists("0 %d 1000\n1 %d 1000\n1 1 5000\n2 1 9\n", (int)engine, (int)engine);
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_pause(w);
	watch_resume(w, &r);
	watch_stop(w, t0, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
	assert_int_equal(binding.n_foreigners, 1);
	assert_int_equal(binding.foreigners[0].pid, 1);
	assert_string_equal(binding.foreigners[0].card_uuid, refs[1].uuid);
	assert_string_not_equal(binding.foreigners[0].name, "");
	assert_true(binding.foreigners[0].t_last_ns >= t0);
}

/* A watch that begins beside an engine that runs already takes it for no stranger. */
static void test_starts_beside_an_engine(void **state)
{
	const struct running r = {.host_pid = engine};

	(void)state;
	use("");
	write_lists("0 %d 1000\n1 %d 1000\n", (int)engine, (int)engine);
	for (int i = 0; i < 20; i++) {
		struct watch *w = NULL;

		assert_int_equal(watch_start_with(&binding, &r, &w, NULL), 0);
		watch_mark(w);
		watch_stop(w, 1, &binding);
		assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
		assert_int_equal(binding.n_foreigners, 0);
	}
}

/* Nobody is judged while lem itself runs something there. */
static void test_pause(void **state)
{
	struct watch *w = NULL;

	(void)state;
	use("");
	write_lists("%s", "");
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_pause(w);
	write_lists("0 1 5000\n");
	for (int i = 0; i < 20; i++) {
		watch_mark(w);
		clock_sleep_until_ns(clock_now_ns() + 2 * NS_PER_MS);
	}
	write_lists("%s", "");
	watch_resume(w, NULL);
	watch_stop(w, 1, &binding);
	assert_int_equal(binding.n_foreigners, 0);
}

/* A look that begins before a pause and ends after it does not know the engine yet. */
static void test_look_across_a_pause(void **state)
{
	const struct running r = {.host_pid = engine};

	(void)state;
	use("");
	for (int i = 0; i < 50; i++) {
		struct watch *w = NULL;

		write_lists("%s", "");
		assert_int_equal(watch_start(&binding, &w, NULL), 0);
		watch_pause(w);
		write_lists("0 %d 1000\n1 %d 1000\n", (int)engine, (int)engine);
		watch_resume(w, &r);
		watch_stop(w, 1, &binding);
		assert_int_equal(binding.n_foreigners, 0);
		assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
	}
}

static void test_stray(void **state)
{
	const struct running r = {.host_pid = engine};
	struct lem_error err = LEM_ERROR_INIT;
	struct watch *w = NULL;

	(void)state;
	use("");
	write_lists("0 %d 1000\n", (int)engine);
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_resume(w, &r);
	assert_int_equal(watch_check(w, &err), 0);
	write_lists("0 %d 1000\n2 %d 1000\n", (int)engine, (int)engine);
	assert_int_equal(wait_for_trouble(w, &err), -LEM_E_ROUTING);
	assert_non_null(strstr(err.what, "GPU 2"));
	watch_stop(w, 1, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_STRAY);
	assert_false(binding.proved);
}

static void test_lost(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct watch *w = NULL;

	(void)state;
	use(";lost=100ms;lostgpu=1");
	write_lists("%s", "");
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	assert_int_equal(wait_for_trouble(w, &err), -LEM_E_ENGINE);
	assert_true(str_starts(err.what, "R41: GPU 1"));
	watch_stop(w, 1, &binding);
	assert_int_equal(refs[0].t_lost_ns, 0);
	assert_true(refs[1].t_lost_ns > 0);
}

static void test_lists_not_supported(void **state)
{
	struct watch *w = NULL;

	(void)state;
	use(";unsupported=processes");
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_stop(w, 1, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_NONE);
	assert_non_null(strstr(binding.guard, "could not be read"));
	assert_true(binding.proved);
}

/* A driver call may outlast the run: what was told at the start must do. */
static void test_keeps_what_it_was_told(void **state)
{
	struct running *r = lem_calloc(1, sizeof(*r));
	struct watch *w = NULL;

	(void)state;
	use("");
	r->host_pid = engine;
	write_lists("0 %d 1000\n1 %d 1000\n", (int)engine, (int)engine);
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_resume(w, r);
	free(r);
	watch_stop(w, 1, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
	assert_int_equal(binding.n_foreigners, 0);
}

/* Listed a moment ago, gone when it is asked whose it was: it may have been the engine's. */
static void test_gone_before_it_was_asked(void **state)
{
	const struct running r = {.host_pid = engine};
	struct watch *w = NULL;
	pid_t gone = fork();

	(void)state;
	if (gone == 0)
		_exit(0);
	assert_int_equal(waitpid(gone, NULL, 0), gone);
	use("");
	write_lists("0 %d 1000\n0 %d 1000\n1 %d 1000\n1 1 1000\n", (int)gone, (int)engine,
		    (int)engine);
	assert_int_equal(watch_start(&binding, &w, NULL), 0);
	watch_resume(w, &r);
	watch_stop(w, 1, &binding);
	assert_int_equal(binding.guard_level, GPU_GUARD_SEEN);
	assert_int_equal(binding.n_foreigners, 1);
	assert_int_equal(binding.foreigners[0].pid, 1);
}

static void test_no_driver(void **state)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct watch *w = NULL;

	(void)state;
	use(";init=9");
	assert_true(watch_start(&binding, &w, &err) < 0);
	assert_null(w);
	assert_string_not_equal(err.what, "");
}

#define WATCH_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WATCH_TEST(test_engine_and_foreigner),
		WATCH_TEST(test_starts_beside_an_engine),
		WATCH_TEST(test_pause),
		WATCH_TEST(test_look_across_a_pause),
		WATCH_TEST(test_stray),
		WATCH_TEST(test_lost),
		WATCH_TEST(test_lists_not_supported),
		WATCH_TEST(test_keeps_what_it_was_told),
		WATCH_TEST(test_gone_before_it_was_asked),
		WATCH_TEST(test_no_driver),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
