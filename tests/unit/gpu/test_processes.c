/* Which processes the driver lists on which GPU, whatever its version and MIG make of it. */
#include <setjmp.h>

#include "gpu/processes.h"
#include "use_fake.h"

#include <cmocka.h>

enum { CAP = 16 };

static struct gpu_process at[CAP];

static size_t read_with(const char *library, const char *script, size_t cap)
{
	_cleanup_nvml_ struct nvml *nvml = NULL;
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 12345;

	use_fake_library(library, script);
	memset(at, 0xee, sizeof(at));
	assert_int_equal(nvml_open(&nvml, &err), 0);
	if (gpu_processes_read(nvml, at, cap, &n, &err) < 0)
		fail_msg("%s: %s", script, err.what);
	return n;
}

static size_t read_all(const char *script)
{
	return read_with("libnvml_fake.so", script, CAP);
}

static void fails(const char *library, const char *script, enum lem_code code, const char *what)
{
	_cleanup_nvml_ struct nvml *nvml = NULL;
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 12345;

	use_fake_library(library, script);
	assert_int_equal(nvml_open(&nvml, &err), 0);
	assert_true(gpu_processes_read(nvml, at, CAP, &n, &err) < 0);
	assert_int_equal(err.code, code);
	assert_int_equal(n, 12345);
	if (!strstr(err.what, what))
		fail_msg("got: %s", err.what);
}

static void test_none(void **state)
{
	(void)state;
	assert_int_equal(read_all("gpus=4"), 0);
	assert_int_equal(read_all("gpus=0"), 0);
}

static void test_compute_and_graphics(void **state)
{
	(void)state;
	assert_int_equal(read_all("gpus=3;procs=0:100:3g+2:100+2:300:1g;graphics=2:100+1:400:5m"),
			 4);
	assert_int_equal(at[0].gpu_index, 0);
	assert_int_equal(at[0].pid, 100);
	assert_true(at[0].memory_bytes == UINT64_C(3) << 30);
	assert_false(at[0].graphics);
	assert_true(str_starts(at[0].card_uuid, "GPU-1a2b3c40-"));
	assert_int_equal(at[1].gpu_index, 1);
	assert_int_equal(at[1].pid, 400);
	assert_true(at[1].graphics);
	assert_int_equal(at[2].gpu_index, 2);
	assert_int_equal(at[2].pid, 100);
	assert_int_equal(at[2].memory_bytes, 0); /* not told is not all of 64 bits */
	assert_false(at[2].graphics);            /* in both lists */
	assert_int_equal(at[3].pid, 300);
	assert_true(str_starts(at[3].card_uuid, "GPU-1a2b3c42-"));
}

static void test_more_than_fit(void **state)
{
	(void)state;
	assert_int_equal(read_with("libnvml_fake.so", "gpus=2;procs=0:1+0:2+0:3+1:4+1:5", 2), 5);
	assert_int_equal(at[1].pid, 2);
	assert_int_equal(at[2].pid, (pid_t)0xeeeeeeee); /* untouched */
	assert_int_equal(read_with("libnvml_fake.so", "procs=0:1", 0), 1);
}

static void test_mig(void **state)
{
	(void)state;
	/* the card lists what its instances run: one entry each */
	assert_int_equal(read_all("gpus=2;migs=1:3;procs=1.0:10:1g+1.2:20:2g+0:30"), 3);
	assert_int_equal(at[1].pid, 10);
	assert_int_equal(at[1].gpu_index, 1);
	assert_true(str_starts(at[1].card_uuid, "GPU-1a2b3c41-"));
	/* without the privilege to see the whole card the instances tell */
	assert_int_equal(read_all("gpus=2;migs=1:3;procs=1.0:10:1g+1.2:20:2g+0:30;permission=card"),
			 3);
	assert_int_equal(at[2].pid, 20);
	assert_true(at[2].memory_bytes == UINT64_C(2) << 30);
	fails("libnvml_fake.so", "gpus=2;migs=1:3;permission=card,mig", LEM_E_IO, "on GPU 1");
}

static void test_what_the_driver_does_not_tell(void **state)
{
	(void)state;
	fails("libnvml_fake_old.so", "gpus=1", LEM_E_UNSUPPORTED, "list the processes on GPU 0");
	fails("libnvml_fake.so", "gpus=2;unsupported=processes", LEM_E_UNSUPPORTED, "GPU 0");
	fails("libnvml_fake.so", "gpus=2;permission=processes", LEM_E_IO, "permission denied");
	fails("libnvml_fake.so", "gpus=2;lost=0s;lostgpu=1", LEM_E_IO, "GPU 1");
	/* a data centre card without a graphics list */
	assert_int_equal(read_all("procs=0:1;unsupported=graphics"), 1);
	/* one that cannot be opened runs nothing */
	assert_int_equal(read_all("gpus=2;procs=0:1+1:2;nohandle=0"), 1);
	assert_int_equal(at[0].gpu_index, 1);
}

static void test_the_535_branch_is_asked_by_the_older_name(void **state)
{
	(void)state;
	assert_int_equal(read_all("driver=535.54.03;procs=0:1:7"), 1);
	assert_int_equal(at[0].memory_bytes, 2); /* the fake's mark of the older function */
	assert_int_equal(read_all("driver=550.54.03;procs=0:1:7"), 1);
	assert_int_equal(at[0].memory_bytes, 7);
}

static void test_a_file_is_read_at_each_call(void **state)
{
	_cleanup_nvml_ struct nvml *nvml = NULL;
	_cleanup_free_ char *path = lem_asprintf("/tmp/lem-procs-%d", (int)getpid());
	_cleanup_free_ char *script = lem_asprintf("gpus=2;procsfile=%s", path);
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 0;
	FILE *f;

	(void)state;
	use_fake(script);
	assert_int_equal(nvml_open(&nvml, &err), 0);
	assert_int_equal(gpu_processes_read(nvml, at, CAP, &n, &err), 0);
	assert_int_equal(n, 0);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs("1 77 1024\nrubbish\n0 78 5g\n", f);
	fclose(f);
	assert_int_equal(gpu_processes_read(nvml, at, CAP, &n, &err), 0);
	unlink(path);
	assert_int_equal(n, 2);
	assert_int_equal(at[0].pid, 78);
	assert_int_equal(at[1].pid, 77);
	assert_int_equal(at[1].memory_bytes, 1024);
}

static void own_comm(char *comm, size_t size)
{
	FILE *f = fopen("/proc/self/comm", "re");

	assert_non_null(f);
	assert_non_null(fgets(comm, (int)size, f));
	fclose(f);
	comm[strcspn(comm, "\n")] = '\0';
}

static void test_processes_by_name(void **state)
{
	char comm[32];
	bool own = false;

	(void)state;
	own_comm(comm, sizeof(comm));
	_cleanup_free_ char *script = lem_asprintf("gpus=2;proccomm=1:%s", comm);
	size_t n = read_all(script);

	for (size_t i = 0; i < MIN(n, (size_t)CAP); i++)
		own |= at[i].pid == getpid() && at[i].gpu_index == 1;
	assert_true(own);
	assert_int_equal(read_all("proccomm=0:no-such-program"), 0);
}

static void test_describe(void **state)
{
	char name[64] = "x", user[32] = "x", comm[32];

	(void)state;
	own_comm(comm, sizeof(comm));
	gpu_process_describe(getpid(), name, sizeof(name), user, sizeof(user));
	assert_string_equal(name, comm);
	assert_true(*user);
	if (geteuid() == 0)
		assert_string_equal(user, "root");
	gpu_process_describe(getpid(), name, 3, user, 2); /* cut, not overrun */
	assert_int_equal(strlen(name), 2);
	assert_int_equal(strlen(user), 1);
	gpu_process_describe(0x7ffffffe, name, sizeof(name), user, sizeof(user));
	assert_string_equal(name, "");
	assert_string_equal(user, "");
	gpu_process_describe(-1, name, sizeof(name), user, sizeof(user));
	assert_string_equal(name, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_compute_and_graphics),
		cmocka_unit_test(test_more_than_fit),
		cmocka_unit_test(test_mig),
		cmocka_unit_test(test_what_the_driver_does_not_tell),
		cmocka_unit_test(test_the_535_branch_is_asked_by_the_older_name),
		cmocka_unit_test(test_a_file_is_read_at_each_call),
		cmocka_unit_test(test_processes_by_name),
		cmocka_unit_test(test_describe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
