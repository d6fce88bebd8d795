/* The fake CUDA driver behaves as the measured table of routing.md section 7 says, seen directly
 * and through the real lem-gpuprobe; and it sees what routing asks for, for every list of GPUs. */
#include <dlfcn.h>
#include <poll.h>
#include <setjmp.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/str.h"
#include "fake_gpus.h"
#include "gpu/proof.h"
#include "gpu/route.h"
#include "sys/proc.h"

#include <cmocka.h>

#define A "GPU-1a2b3c40-fa4e-4000-8000-000000abcdef"
#define B "GPU-1a2b3c41-fa4e-4000-8000-000000abcdf0"

static struct {
	int (*init)(unsigned);
	int (*count)(int *);
	int (*uuid)(unsigned char[16], int);
} cuda;
static char probe_path[512];

static int load_fake(void **state)
{
	const char *build = getenv("LEM_BUILD_ROOT");
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/fakes/libcuda_fake.so", build ? build : ".");
	void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	(void)state;
	assert_non_null(lib);
	setenv("LEM_CUDA_LIBRARY", path, 1);
	(void)snprintf(probe_path, sizeof(probe_path), "%s/lem-gpuprobe", build ? build : ".");
	*(void **)&cuda.init = dlsym(lib, "cuInit");
	*(void **)&cuda.count = dlsym(lib, "cuDeviceGetCount");
	*(void **)&cuda.uuid = dlsym(lib, "cuDeviceGetUuid_v2");
	assert_true(cuda.init && cuda.count && cuda.uuid);
	unsetenv("CUDA_DEVICE_ORDER");
	return 0;
}

static void set_or_unset(const char *name, const char *value)
{
	if (value)
		setenv(name, value, 1);
	else
		unsetenv(name);
}

/* "A,B" as enumerated, or "error N". A letter is the UUID's eighth digit. */
static void enumerate(char *buf, size_t size)
{
	int n = 0, r = cuda.init(0);

	*buf = '\0';
	if (r == 0)
		r = cuda.count(&n);
	if (r != 0)
		(void)snprintf(buf, size, "error %d", r);
	for (int i = 0; i < n; i++) {
		unsigned char uuid[16] = {0};
		size_t used = strlen(buf);

		assert_int_equal(cuda.uuid(uuid, i), 0);
		(void)snprintf(buf + used, size - used, "%s%c", i ? "," : "",
			       'A' + (uuid[3] & 0x0f));
	}
}

/* Everything that the probe prints, and how it ended. */
static int run_probe(struct str *text)
{
	const char *const argv[] = {probe_path, NULL};
	const struct proc_spec spec = {.argv = argv};
	_cleanup_proc_ struct proc p = PROC_INIT;
	int64_t t_end_ns = clock_now_ns() + 20 * NS_PER_S;
	struct pollfd out;
	char buf[4096];
	ssize_t n = 1;

	assert_int_equal(proc_spawn(&spec, &p, NULL), 0);
	out = (struct pollfd){.fd = p.out, .events = POLLIN};
	while (n > 0) {
		assert_int_equal(poll(&out, 1, 20000), 1);
		n = read(p.out, buf, sizeof(buf));
		if (n > 0)
			str_addn(text, buf, (size_t)n);
	}
	assert_true(proc_wait_until(&p, t_end_ns));
	assert_true(WIFEXITED(p.status));
	return WEXITSTATUS(p.status);
}

static void enumerate_by_probe(char *buf, size_t size)
{
	_cleanup_str_ struct str text = STR_INIT;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_observed *seen = NULL;
	struct lem_error err = LEM_ERROR_INIT;
	size_t n = 0;
	const char *status;

	*buf = '\0';
	if (run_probe(&text) == 0) {
		assert_int_equal(gpu_proof_parse(str_c(&text), &a, &seen, &n, &err), 0);
	} else {
		assert_int_equal(gpu_proof_parse(str_c(&text), &a, &seen, &n, &err),
				 -LEM_E_ROUTING);
		status = strstr(str_c(&text), "\"status\": ");
		assert_non_null(status);
		(void)snprintf(buf, size, "error %d", (int)strtol(status + 10, NULL, 10));
	}
	for (size_t i = 0; i < n; i++) {
		size_t used = strlen(buf);

		(void)snprintf(buf + used, size - used, "%s%c", i ? "," : "",
			       'A' + (seen[i].uuid[11] - '0'));
	}
}

static const struct row {
	const char *visible, *devices;
} table[] = {
	{NULL, "A,B"},
	{"1,0", "B,A"},
	{"0,0", "error 101"},
	{"1,1,0", "error 101"},
	{A "," A, "error 101"},
	{"0,5,1", "A"},
	{"0,1,2,3", "A,B"},
	{"5", "error 100"},
	{"-1", "error 100"},
	{"", "error 100"},
	{"all", "error 100"},
	{"none", "error 100"},
	{"void", "error 100"},
	{"NoDevFiles", "error 100"},
	{"abc", "error 100"},
	{",1", "error 100"},
	{"0,-1,1", "A"},
	{" 1, 0", "B,A"},
	{"1 ,0", "B,A"},
	{"1abc", "B"},
	{"01", "B"},
	{"0x1", "A"},
	{"0 1", "A"},
	{"0;1", "A"},
	{B "," A, "B,A"},
	{B, "B"},
	{"GPU-1a2b3c41", "B"},
	{"GPU-1a2b3c4", "error 100"}, /* fits both */
	{"GPU-", "error 100"},
	{"GPU-1A2B3C41-FA4E-4000-8000-000000ABCDF0", "B"},
	{"0," B, "A"},
	{B ",0", "B"},
	{A ",GPU-deadbeef-0000-4000-8000-000000000000," B, "A"},
	{"MIG-5e6f7080-fa4e-5000-8000-000000000000", "error 100"},
};

static void check_table(void (*see)(char *, size_t))
{
	char got[64];

	setenv("LEM_FAKE_CUDA", "gpus=2;dev=*", 1);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		set_or_unset("CUDA_VISIBLE_DEVICES", table[i].visible);
		see(got, sizeof(got));
		if (!str_eq(got, table[i].devices))
			fail_msg("CUDA_VISIBLE_DEVICES=%s gives %s, not %s",
				 table[i].visible ? table[i].visible : "(unset)", got,
				 table[i].devices);
	}
	unsetenv("CUDA_VISIBLE_DEVICES");
}

static void test_table(void **state)
{
	(void)state;
	check_table(enumerate);
}

static void test_table_through_the_probe(void **state)
{
	(void)state;
	check_table(enumerate_by_probe);
}

static void expect(const char *script, const char *visible, const char *devices)
{
	char got[64];

	setenv("LEM_FAKE_CUDA", script, 1);
	set_or_unset("CUDA_VISIBLE_DEVICES", visible);
	enumerate(got, sizeof(got));
	if (!str_eq(got, devices))
		fail_msg("%s, CUDA_VISIBLE_DEVICES=%s: %s, not %s", script,
			 visible ? visible : "(unset)", got, devices);
	unsetenv("CUDA_VISIBLE_DEVICES");
}

/* A prefix as short as one digit will do while it is unique; without "GPU-" it is no UUID. */
static void test_other_uuids(void **state)
{
	static const char lies[] = "gpus=2;dev=*;uuid=0:GPU-fb000000-0000-4000-8000-000000000000;"
				   "uuid=1:GPU-c1000001-0000-4000-8000-000000000001";

	(void)state;
	expect(lies, "GPU-c", "B");
	expect(lies, "GPU-F", "A");
	expect(lies, "c1000001-0000-4000-8000-000000000001", "error 100");
	expect(lies, A, "error 100");
}

static void test_order(void **state)
{
	(void)state;
	expect("gpus=3;dev=*;order=fastest:2+0+1", NULL, "C,A,B");
	expect("gpus=3;dev=*;order=fastest:2+0+1", "0,1", "C,A");
	expect("gpus=3;dev=*;order=fastest:1", NULL, "B,A,C");
	setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID", 1);
	expect("gpus=3;dev=*;order=fastest:2+0+1", NULL, "A,B,C");
	expect("gpus=3;dev=*;order=fastest:2+0+1", "0,2", "A,C");
	unsetenv("CUDA_DEVICE_ORDER");
}

static void test_mig(void **state)
{
	char first[64], second[64], buf[96];
	_cleanup_str_ struct str text = STR_INIT;

	(void)state;
	fake_mig_uuid(0, 0, first, sizeof(first));
	fake_mig_uuid(0, 1, second, sizeof(second));
	expect("gpus=2;dev=*;mig=0:2", "1", "error 100");
	expect("gpus=2;dev=*;mig=0:2", A, "error 100");
	setenv("LEM_FAKE_CUDA", "gpus=2;dev=*;mig=0:2", 1);
	for (int i = 0; i < 3; i++) {
		static const char *const visible[] = {NULL, "0", "second"};

		str_reset(&text);
		set_or_unset("CUDA_VISIBLE_DEVICES", i == 2 ? second : visible[i]);
		assert_int_equal(run_probe(&text), 0);
		(void)snprintf(buf, sizeof(buf), "[{\"uuid\": \"%s\"", i == 2 ? second : first);
		assert_non_null(strstr(str_c(&text), buf));
		assert_null(strstr(str_c(&text), "GPU-"));
	}
	unsetenv("CUDA_VISIBLE_DEVICES");
}

/* A driver before 11.4 tells the card's UUID, which is enough with the bus id. */
static void test_old_driver(void **state)
{
	const char *build = getenv("LEM_BUILD_ROOT");
	_cleanup_free_ char *was = lem_strdup(getenv("LEM_CUDA_LIBRARY"));
	_cleanup_free_ char *path =
		lem_asprintf("%s/tests/fakes/libcuda_fake_old.so", build ? build : ".");
	_cleanup_str_ struct str text = STR_INIT;

	(void)state;
	setenv("LEM_CUDA_LIBRARY", path, 1);
	setenv("LEM_FAKE_CUDA", "gpus=1;dev=*;mig=0:1", 1);
	assert_int_equal(run_probe(&text), 0);
	assert_non_null(
		strstr(str_c(&text), "{\"uuid\": \"" A "\", \"pci_bus_id\": \"0000:10:00.0\""));
	setenv("LEM_CUDA_LIBRARY", was, 1);
}

static void test_failures(void **state)
{
	char got[64];

	(void)state;
	expect("init=802", NULL, "error 802");
	expect("init=999", NULL, "error 999");
	expect("init=100", NULL, "error 100");
	expect("init=3", NULL, "error 3");
	expect("gpus=0;dev=*", NULL, "error 100");
	expect("gpus=2;dev=/nonexistent", NULL, "error 100");
	setenv("LEM_FAKE_CUDA", "init=802", 1);
	enumerate_by_probe(got, sizeof(got));
	assert_string_equal(got, "error 802");
}

static void test_hang_is_bounded(void **state)
{
	char got[64];

	(void)state;
	setenv("LEM_FAKE_CUDA", "hang=1", 1);
	setenv("LEM_GPUPROBE_TIMEOUT_S", "1", 1);
	enumerate_by_probe(got, sizeof(got));
	assert_string_equal(got, "error -3");
	unsetenv("LEM_GPUPROBE_TIMEOUT_S");
}

static void test_probe_without_a_driver(void **state)
{
	_cleanup_free_ char *was = lem_strdup(getenv("LEM_CUDA_LIBRARY"));
	char got[64];

	(void)state;
	setenv("LEM_CUDA_LIBRARY", "/nonexistent/libcuda.so.1", 1);
	enumerate_by_probe(got, sizeof(got));
	assert_string_equal(got, "error -1");
	setenv("LEM_CUDA_LIBRARY", "libc.so.6", 1);
	enumerate_by_probe(got, sizeof(got));
	assert_string_equal(got, "error -2");
	setenv("LEM_CUDA_LIBRARY", was, 1);
}

static void test_probe_tells_what_it_saw(void **state)
{
	_cleanup_str_ struct str text = STR_INIT;

	(void)state;
	setenv("LEM_FAKE_CUDA", "gpus=2;dev=*", 1);
	setenv("CUDA_VISIBLE_DEVICES", "1,0", 1);
	setenv("CUDA_DEVICE_ORDER", "\"\\\n\xff", 1);
	assert_int_equal(run_probe(&text), 0);
	assert_string_equal(strstr(str_c(&text), "\"cuda_driver\""),
			    "\"cuda_driver\": 13000, \"cuda_visible_devices\": \"1,0\", "
			    "\"cuda_device_order\": \"\\\"\\\\??\"}\n");
	unsetenv("CUDA_VISIBLE_DEVICES");
	unsetenv("CUDA_DEVICE_ORDER");
}

/* ---- routing, read by CUDA ---- */

enum { N = 4 };
static struct gpu_device devices[N];
static const struct gpu_inventory host = {.gpus = devices, .n = N};
static char dev_dir[64];

static void make_host(void)
{
	for (unsigned i = 0; i < N; i++) {
		devices[i] = (struct gpu_device){.index = (int)i};
		fake_gpu_uuid(i, devices[i].uuid, sizeof(devices[i].uuid));
		(void)snprintf(devices[i].pci_bus_id, sizeof(devices[i].pci_bus_id),
			       "00000000:%02X:00.0", fake_gpu_bus(i));
	}
}

static void place_node(unsigned index, bool present)
{
	_cleanup_free_ char *path = lem_asprintf("%s/nvidia%u", dev_dir, fake_gpu_minor(index, N));
	_cleanup_fclose_ FILE *f = present ? fopen(path, "we") : NULL;

	if (!present)
		unlink(path);
	assert_true(!present || f);
}

static const char *value(const struct gpu_binding *b, const char *name)
{
	size_t n = strlen(name);

	for (const char *const *p = b->env; p && *p; p++)
		if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
			return *p + n + 1;
	return NULL;
}

/* Routes the list and lets CUDA enumerate with what the engine would be given: in a container only
 * the nodes of the devices asked for exist. */
static void check_list(const unsigned *list, size_t n, enum gpu_target target)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	const struct gpu_place place = {0};
	const struct gpu_engine_facts none = {0};
	const char *items[N];
	char want[16] = "", got[64];
	struct gpu_route_request q = {
		.items = items, .n = n, .target = target, .place = &place, .engine = &none};
	struct gpu_binding b;
	struct lem_error err;

	for (unsigned i = 0; i < N; i++)
		place_node(i, target == GPU_TO_PROCESS);
	for (size_t i = 0; i < n; i++) {
		items[i] = arena_printf(&a, "%u", list[i]);
		place_node(list[i], true);
		want[2 * i] = (char)('A' + list[i]);
		want[2 * i + 1] = i + 1 < n ? ',' : '\0';
	}
	assert_int_equal(gpu_route(&q, &host, &a, &b, &err), 0);
	set_or_unset("CUDA_VISIBLE_DEVICES", value(&b, "CUDA_VISIBLE_DEVICES"));
	set_or_unset("CUDA_DEVICE_ORDER", value(&b, "CUDA_DEVICE_ORDER"));
	enumerate(got, sizeof(got));
	assert_string_equal(got, want);
}

static size_t check_all(unsigned *list, size_t n, enum gpu_target target)
{
	size_t checked = 0;

	for (unsigned i = 0; i < N; i++) {
		bool used = false;

		for (size_t k = 0; k < n; k++)
			used = used || list[k] == i;
		if (used)
			continue;
		list[n] = i;
		check_list(list, n + 1, target);
		checked += 1 + check_all(list, n + 1, target);
	}
	return checked;
}

static void test_cuda_sees_what_was_routed(void **state)
{
	_cleanup_free_ char *script = NULL;
	unsigned list[N + 1];

	(void)state;
	make_host();
	(void)snprintf(dev_dir, sizeof(dev_dir), "/tmp/lem-cuda-fake-XXXXXX");
	assert_non_null(mkdtemp(dev_dir));
	script = lem_asprintf("gpus=4;dev=%s;order=fastest:3+1+2+0", dev_dir);
	setenv("LEM_FAKE_CUDA", script, 1);
	assert_int_equal(check_all(list, 0, GPU_TO_PROCESS), 64); /* 4 + 12 + 24 + 24 */
	assert_int_equal(check_all(list, 0, GPU_TO_CONTAINER), 64);
	for (unsigned i = 0; i < N; i++)
		place_node(i, false);
	assert_int_equal(rmdir(dev_dir), 0);
	unsetenv("CUDA_VISIBLE_DEVICES");
	unsetenv("CUDA_DEVICE_ORDER");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_table_through_the_probe),
		cmocka_unit_test(test_other_uuids),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_mig),
		cmocka_unit_test(test_old_driver),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_hang_is_bounded),
		cmocka_unit_test(test_probe_without_a_driver),
		cmocka_unit_test(test_probe_tells_what_it_saw),
		cmocka_unit_test(test_cuda_sees_what_was_routed),
	};

	return cmocka_run_group_tests_name("cuda_fake", tests, load_fake, NULL);
}
