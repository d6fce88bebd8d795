/* libcurl is opened when it is needed; a system without it gets a clear error. */
#include "sys/curl.h"
#include "sys/fs.h"

#include <setjmp.h>
#include <sys/wait.h>

#include <cmocka.h>

static void test_loads_once(void **state)
{
	struct lem_error err;
	const struct curl_api *a = curl_api(&err);

	(void)state;
	assert_non_null(a);
	assert_non_null(a->easy_init);
	assert_non_null(a->slist_free_all);
	assert_string_equal(a->easy_strerror(CURLE_OK), "No error");
	assert_ptr_equal(curl_api(NULL), a);
}

/* In a process of its own, where the loader finds a broken library first. */
static void test_broken_library(void **state)
{
	char dir[] = "/tmp/lem-test-curl-XXXXXX", me[4096];
	_cleanup_free_ char *fake = NULL;
	ssize_t n = readlink("/proc/self/exe", me, sizeof(me) - 1);
	int status;
	pid_t pid;

	(void)state;
	assert_true(n > 0);
	me[n] = '\0';
	assert_non_null(mkdtemp(dir));
	fake = fs_join(dir, "libcurl.so.4");
	assert_int_equal(fs_write_atomic(fake, "no library", 10, NULL), 0);
	pid = fork();
	if (pid == 0) {
		setenv("LD_LIBRARY_PATH", dir, 1);
		execl(me, me, "broken", (char *)NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	unlink(fake);
	rmdir(dir);
}

static int expect_refusal(void)
{
	struct lem_error err;

	if (curl_api(&err) || curl_api(NULL))
		return 1;
	if (err.code != LEM_E_UNSUPPORTED || !strstr(err.what, "libcurl cannot be loaded"))
		return 2;
	return strstr(err.fix, "libcurl4") ? 0 : 3;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads_once),
		cmocka_unit_test(test_broken_library),
	};

	(void)argv;
	return argc > 1 ? expect_refusal() : cmocka_run_group_tests(tests, NULL, NULL);
}
