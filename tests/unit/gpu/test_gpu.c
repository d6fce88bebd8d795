/* What `gpus:` means, and what the fake driver shows. */
#include <fcntl.h>
#include <setjmp.h>
#include <unistd.h>

#include "gpu/id.h"
#include "use_fake.h"

#include <cmocka.h>

#define UUID(n) "GPU-1a2b3c4" #n "-fa4e-4000-8000-000000abcdef"

static struct gpu_mig instances[] = {
	{.uuid = "MIG-11111111-0000-5000-8000-000000000001", .name = "D MIG 1g", .memory_bytes = 7},
	{.uuid = "MIG-11111111-0000-5000-8000-000000000002"},
	{.uuid = "MIG-22222222-0000-5000-8000-000000000003"},
	{.uuid = "MIG-GPU-cafecafe-0000-4000-8000-000000000005/9/0"},
	{.uuid = "MIG-33333333-0000-5000-8000-000000000004"},
};
static struct gpu_device two_gpus[] = {
	{.index = 0,
	 .uuid = UUID(0),
	 .pci_bus_id = "00000000:17:00.0",
	 .name = "A",
	 .memory_bytes = 1},
	{.index = 1,
	 .uuid = UUID(1),
	 .pci_bus_id = "00000000:65:00.0",
	 .name = "B",
	 .memory_bytes = 2},
	{.index = 2,
	 .uuid = "GPU-deadbeef-0000-4000-8000-000000000003",
	 .pci_bus_id = "00000001:65:00.0",
	 .name = "C"},
	{.index = 3, .uuid = "", .problem = "GPU lost: it has fallen off the bus", .fix = "reboot"},
	{.index = 4,
	 .uuid = "GPU-cafecafe-0000-4000-8000-000000000005",
	 .name = "D",
	 .mig = true,
	 .migs = instances,
	 .n_migs = ARRAY_LEN(instances)},
	{.index = 5, .uuid = "GPU-cafebabe-0000-4000-8000-000000000006", .mig = true},
};
static const struct gpu_inventory host = {.gpus = two_gpus, .n = ARRAY_LEN(two_gpus)};

static void test_parse_forms(void **state)
{
	struct gpu_id id;

	(void)state;
	assert_int_equal(gpu_id_parse("2", &id, NULL), 0);
	assert_true(id.kind == GPU_ID_INDEX && id.index == 2);
	assert_int_equal(gpu_id_parse("host:5", &id, NULL), 0);
	assert_true(id.kind == GPU_ID_HOST_INDEX && id.index == 5);
	assert_int_equal(gpu_id_parse(UUID(1), &id, NULL), 0);
	assert_int_equal(id.kind, GPU_ID_UUID);
	assert_int_equal(gpu_id_parse("GPU-1A2B3C4D", &id, NULL), 0);
	assert_int_equal(gpu_id_parse("MIG-1a2b3c4d-0000-0000-0000-000000000000", &id, NULL), 0);
	assert_int_equal(id.kind, GPU_ID_MIG);
	assert_int_equal(gpu_id_parse("65:00.0", &id, NULL), 0);
	assert_string_equal(id.text, "00000000:65:00.0");
	assert_int_equal(gpu_id_parse("0001:65:00.0", &id, NULL), 0);
	assert_string_equal(id.text, "00000001:65:00.0");
	assert_int_equal(id.kind, GPU_ID_PCI);
}

static void test_parse_refuses(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"-1",
		"+1",
		"01",
		"0x1",
		"1 ",
		"1.0",
		"1e3",
		"99999999999999999999",
		"100001",
		"host:",
		"host:-1",
		"host:a",
		"GPU-",
		"GPU-1",
		"GPU-1a2b3c4",
		"GPU-1a2b3c4g",
		"GPU-1a2b3c4d-fa4e-4000-8000-000000abcdef0",
		"1a2b3c4d",
		"all",
		"none",
		"65:00",
		"65:00.",
		"65:00.00",
		"165:00.0",
		"65:000.0",
		":65:00.0",
		"000000000:65:00.0",
		"65:00.0x",
		"a:b:c:d.0",
		"gpu-1a2b3c4d",
	};
	struct gpu_id id = {.index = 42};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct lem_error err = LEM_ERROR_INIT;

		if (gpu_id_parse(bad[i], &id, &err) == 0)
			fail_msg("accepted `%s`", bad[i]);
		assert_int_equal(err.code, LEM_E_USAGE);
		assert_non_null(strstr(err.what, bad[i]));
		assert_true(*err.fix);
	}
	assert_int_equal(id.index, 42);
}

static struct gpu_binding resolve(struct arena *a, const char *cvd, const char *item,
				  const char *second)
{
	const char *items[] = {item, second};
	struct gpu_binding b = {.n = 99};
	struct lem_error err = LEM_ERROR_INIT;
	int r = gpu_resolve(&host, items, second ? 2 : 1, cvd, a, &b, &err);

	if (r < 0)
		fail_msg("%s: %s", item, err.what);
	return b;
}

static void refuse(const char *cvd, const char *item, const char *second, const char *what,
		   const char *fix)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	const char *items[] = {item, second};
	struct gpu_binding b = {.n = 99};
	struct lem_error err = LEM_ERROR_INIT;

	assert_true(gpu_resolve(&host, items, second ? 2 : 1, cvd, &a, &b, &err) < 0);
	assert_int_equal(b.n, 99);
	if (!strstr(err.what, what) || !strstr(err.fix, fix))
		fail_msg("got: %s / %s", err.what, err.fix);
}

static void test_resolve(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b = resolve(&a, NULL, "1", "0");

	(void)state;
	assert_int_equal(b.n, 2);
	assert_string_equal(b.gpus[0].uuid, UUID(1));
	assert_int_equal(b.gpus[0].index, 1);
	assert_int_equal(b.gpus[0].container_index, 0);
	assert_int_equal(b.gpus[1].container_index, 1);
	assert_string_equal(b.gpus[0].requested, "1");
	assert_int_equal(b.gpus[0].memory_bytes, 2);
	assert_string_equal(b.path, "process");
	assert_string_equal(resolve(&a, NULL, "GPU-1A2B3C41", NULL).gpus[0].name, "B");
	assert_string_equal(resolve(&a, NULL, "GPU-deadbeef", NULL).gpus[0].name, "C");
	assert_string_equal(resolve(&a, NULL, "0000:65:00.0", NULL).gpus[0].name, "B");
	assert_string_equal(resolve(&a, NULL, "0001:65:00.0", NULL).gpus[0].name, "C");
	assert_string_equal(resolve(&a, NULL, "host:2", NULL).gpus[0].name, "C");
	assert_int_equal(gpu_resolve(&host, NULL, 0, "0,0", &a, &b, NULL), 0);
	assert_int_equal(b.n, 0);
	assert_string_equal(b.path, "none");
}

static void test_resolve_refuses(void **state)
{
	(void)state;
	refuse(NULL, "7", NULL, "there are 6 GPUs", "0 = GPU-1a2b3c40");
	refuse(NULL, "host:7", NULL, "gpus lists host:7", "use one of");
	refuse(NULL, "GPU-00000000", NULL, "gpus lists GPU-0", "use one of");
	refuse(NULL, "00:1f.0", NULL, "gpus lists 00:1f.0", "use one of");
	refuse(NULL, "1", "GPU-1a2b3c41",
	       "R06: gpus lists GPU 1 (GPU-1a2b3c41) twice: 1 and GPU-1a2b3c41", "once");
	refuse(NULL, "0", "0", "twice", "once");
	refuse(NULL, "3", NULL, "fallen off the bus", "reboot");
	refuse(NULL, "zero", NULL, "does not name a GPU", "write an index");
}

static void test_mig(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b = resolve(&a, NULL, "MIG-11111111-0000-5000-8000-000000000001", NULL);

	(void)state;
	assert_string_equal(b.gpus[0].uuid, instances[0].uuid);
	assert_string_equal(b.gpus[0].card_uuid, two_gpus[4].uuid);
	assert_string_equal(b.gpus[0].name, "D MIG 1g");
	assert_int_equal(b.gpus[0].memory_bytes, 7);
	assert_int_equal(b.gpus[0].index, 4);
	b = resolve(&a, NULL, "MIG-22222222", "1");
	assert_string_equal(b.gpus[0].uuid, instances[2].uuid);
	assert_string_equal(b.gpus[0].name, "D"); /* its own is not known */
	assert_int_equal(b.gpus[0].memory_bytes, 0);
	b = resolve(&a, NULL, "MIG-GPU-CAFECAFE-0000-4000-8000-000000000005/9/0", NULL);
	assert_string_equal(b.gpus[0].uuid, instances[3].uuid);
	refuse(NULL, "4", NULL, "R08: GPU 4 (gpus: 4) is split by MIG",
	       "MIG-11111111-0000-5000-8000-000000000001");
	refuse(NULL, "4", NULL, "split", "and 1 more");
	refuse(NULL, "5", NULL, "split by MIG", "nvidia-smi -i 5 -mig 0");
	refuse(NULL, "MIG-11111111", NULL, "more than one", "digits");
	refuse(NULL, "MIG-99999999", NULL, "no GPU has such a MIG instance", "MIG-22222222");
	refuse(NULL, "MIG-22222222", "MIG-22222222-0000", "R06", "once");
	refuse(NULL, "MIG-2222", NULL, "does not name", "hex digits");
}

static void test_mig_in_cuda_visible_devices(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	assert_string_equal(resolve(&a, "MIG-22222222", "0", NULL).gpus[0].uuid, instances[2].uuid);
	assert_string_equal(resolve(&a, "4", "MIG-22222222", NULL).gpus[0].uuid, instances[2].uuid);
	assert_string_equal(resolve(&a, "GPU-1a2b3c40,MIG-22222222", "1", NULL).gpus[0].uuid,
			    instances[2].uuid);
	refuse("MIG-22222222", "MIG-33333333", NULL, "hides", "0 = MIG-22222222");
	refuse("0", "MIG-33333333", NULL, "hides", "unset");
	refuse("MIG-22222222,MIG-22222222", "0", NULL, "R05", "unset");
	refuse("0,MIG-22222222", "0", NULL, "mixes", "unset");
	refuse("MIG-11111111", "0", NULL, "fits more than one", "unset");
}

/* What lies outside the shell's own GPUs can be had by name; numbers still count inside. */
static void test_outside_what_the_shell_may_use(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	const char *items[] = {"0", "host:0"};
	struct gpu_binding b;
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	assert_int_equal(gpu_resolve_within(&host, items, 2, "2,1", true, &a, &b, &err), 0);
	assert_string_equal(b.gpus[0].name, "C");
	assert_string_equal(b.gpus[1].name, "A");
	assert_int_equal(gpu_resolve_within(&host, &items[1], 1, "", true, &a, &b, &err), 0);
	items[0] = "2";
	assert_true(gpu_resolve_within(&host, items, 2, "2,1", true, &a, &b, &err) < 0);
}

static void test_an_ambiguous_prefix_is_refused(void **state)
{
	struct gpu_device twins[] = {{.uuid = "GPU-aaaaaaaa-1"},
				     {.index = 1, .uuid = "GPU-aaaaaaaa-2"}};
	struct gpu_inventory inv = {.gpus = twins, .n = 2};
	const char *item = "GPU-aaaaaaaa";
	struct lem_error err = LEM_ERROR_INIT;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;

	(void)state;
	assert_true(gpu_resolve(&inv, &item, 1, NULL, &a, &b, &err) < 0);
	assert_non_null(strstr(err.what, "more than one"));
}

static void test_no_gpu_at_all(void **state)
{
	struct gpu_inventory none = {0};
	const char *item = "0";
	struct lem_error err = LEM_ERROR_INIT;
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;

	(void)state;
	assert_true(gpu_resolve(&none, &item, 1, NULL, &a, &b, &err) < 0);
	assert_int_equal(err.code, LEM_E_REFUSED);
	assert_non_null(strstr(err.what, "there are 0 GPUs"));
	assert_non_null(strstr(err.fix, "gpus: []"));
}

/* routing.md section 7: what CUDA would cut short in silence is an error here. */
static void test_cuda_visible_devices(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	assert_string_equal(resolve(&a, "2,0", "0", NULL).gpus[0].name, "C");
	assert_string_equal(resolve(&a, "2,0", "1", NULL).gpus[0].name, "A");
	assert_string_equal(resolve(&a, "2,0", "host:0", NULL).gpus[0].name, "A");
	assert_string_equal(resolve(&a, "GPU-deadbeef", "0", NULL).gpus[0].name, "C");
	refuse("2,0", "2", NULL, "CUDA_VISIBLE_DEVICES leaves this shell 2 of 6 GPUs",
	       "0 = GPU-deadbeef (host:2), 1 = GPU-1a2b3c40 (host:0)");
	refuse("2,0", "host:1", NULL, "hides from this shell", "unset");
	refuse("2,0", "GPU-1a2b3c41", NULL, "hides", "unset");
	refuse("", "0", NULL, "empty", "gpus: []");
	static const char *const irregular[] = {
		"0,0",
		"0,9",
		"9",
		"-1",
		"0,-1",
		"all",
		"none",
		"void",
		"NoDevFiles",
		"0;1",
		"0 1",
		" 1",
		"01",
		"0x1",
		"1abc",
		",1",
		"1,",
		"0,,1",
		"0,GPU-deadbeef",
		"GPU-deadbeef,0",
		"GPU-deadbeef,GPU-deadbeef",
		"GPU-99999999",
		"GPU-1",
		"host:0",
		"0000:65:00.0",
		"MIG-1a2b3c4d",
	};
	for (size_t i = 0; i < ARRAY_LEN(irregular); i++)
		refuse(irregular[i], "0", NULL, "CUDA_VISIBLE_DEVICES=", "unset it");
}

/* -- the fake driver ------------------------------------------------------------------------- */

static void test_inventory(void **state)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	struct lem_error err = LEM_ERROR_INIT;

	(void)state;
	use_fake("gpus=3;limit=650000;driver=580.159.04;nohandle=1");
	assert_int_equal(gpu_inventory_read(&inv, &err), 0);
	assert_int_equal(inv.n, 3);
	assert_string_equal(inv.driver_version, "580.159.04");
	assert_string_equal(inv.gpus[2].pci_bus_id, "00000000:12:00.0");
	assert_string_equal(inv.gpus[2].name, "Fake H100 80GB");
	assert_true(str_starts(inv.gpus[2].uuid, "GPU-1a2b3c42-"));
	assert_int_equal(inv.gpus[2].index, 2);
	assert_int_equal(inv.gpus[2].minor, 0);
	assert_int_equal(inv.gpus[2].power_limit_mw, 650000);
	assert_int_equal(inv.gpus[2].memory_bytes, 80ull << 30);
	assert_int_equal(inv.gpus[2].compute_mode, -1); /* the fake's does not tell */
	assert_false(inv.gpus[2].mig);
	assert_non_null(strstr(inv.gpus[1].problem, "fallen off the bus"));
	assert_true(*inv.gpus[1].fix);
	assert_string_equal(inv.gpus[1].uuid, "");
}

static void test_inventory_lists_instances(void **state)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};

	(void)state;
	use_fake("gpus=3;migs=1:2+2:7;name1=Fake A100");
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_false(inv.gpus[0].mig);
	assert_int_equal(inv.gpus[0].n_migs, 0);
	assert_true(inv.gpus[1].mig);
	assert_int_equal(inv.gpus[1].n_migs, 2); /* the hole in the driver's list is no instance */
	assert_string_equal(inv.gpus[1].migs[1].uuid, "MIG-2b3c4d11-fa4e-5000-8000-000000abcdf0");
	assert_string_equal(inv.gpus[1].migs[0].name, "Fake A100 MIG 1g.10gb");
	assert_true(inv.gpus[1].migs[0].memory_bytes == UINT64_C(10) << 30);
	assert_int_equal(inv.gpus[1].migs[1].gpu_instance, 8);
	assert_int_equal(inv.gpus[1].migs[1].compute_instance, 0);
	assert_int_equal(inv.gpus[2].n_migs, 7);
}

static void test_mig_without_instances(void **state)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};

	(void)state;
	use_fake("gpus=1;mig=1");
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_true(inv.gpus[0].mig);
	assert_int_equal(inv.gpus[0].n_migs, 0);
	gpu_inventory_release(&inv);
	use_fake_library("libnvml_fake_old.so", "gpus=1;migs=0:3");
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_int_equal(inv.gpus[0].n_migs, 0);
}

static void fails(const char *what, const char *fix, enum lem_code code)
{
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	struct lem_error err = LEM_ERROR_INIT;

	assert_true(gpu_inventory_read(&inv, &err) < 0);
	if (!strstr(err.what, what) || !strstr(err.fix, fix))
		fail_msg("got: %s / %s", err.what, err.fix);
	assert_int_equal(err.code, code);
}

/* As in a container: the library numbers what it can open; minor numbers, UUIDs and buses stay. */
static void test_only_what_can_be_opened_is_listed(void **state)
{
	char dir[] = "/tmp/lem-dev-XXXXXX";
	const int minors[] = {6, 3}; /* of GPUs 2 and 5 out of 9 */
	struct gpu_inventory inv = {0};
	struct lem_error err;
	_cleanup_free_ char *script = NULL;

	(void)state;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_LEN(minors); i++) {
		_cleanup_free_ char *node = lem_asprintf("%s/nvidia%d", dir, minors[i]);
		_cleanup_fd_ int fd = open(node, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
	}
	script = lem_asprintf("gpus=9;dev=%s", dir);
	use_fake(script);
	assert_int_equal(gpu_inventory_read(&inv, &err), 0);
	assert_int_equal(inv.n, 2);
	for (size_t i = 0; i < inv.n; i++) {
		_cleanup_free_ char *node = lem_asprintf("%s/nvidia%d", dir, minors[i]);

		assert_int_equal(inv.gpus[i].index, i);
		assert_int_equal(inv.gpus[i].minor, minors[i]);
		unlink(node);
	}
	assert_string_equal(inv.gpus[0].uuid, "GPU-1a2b3c42-fa4e-4000-8000-000000abcdf1");
	assert_string_equal(inv.gpus[1].uuid, "GPU-1a2b3c45-fa4e-4000-8000-000000abcdf4");
	gpu_inventory_release(&inv);
	rmdir(dir);
}

static void test_driver_errors(void **state)
{
	(void)state;
	use_fake("init=9");
	fails("driver is not loaded", "modprobe nvidia", LEM_E_NOT_FOUND);
	use_fake("init=18");
	fails("different versions", "reboot", LEM_E_UNSUPPORTED);
	use_fake("init=4");
	fails("permission denied", "root", LEM_E_IO);
	use_fake("init=12345");
	fails("unknown error", "", LEM_E_IO);
	use_fake_library("libnvml_fake_broken.so", "gpus=1");
	fails("no function nvmlDeviceGetUUID", "update", LEM_E_UNSUPPORTED);
	use_fake_library("no-such-library.so", "");
	fails("cannot load", "LEM_NVML_LIBRARY", LEM_E_NOT_FOUND);
	use_fake("gpus=0");
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	assert_int_equal(gpu_inventory_read(&inv, NULL), 0);
	assert_int_equal(inv.n, 0);
}

static void test_no_driver_at_all(void **state)
{
	(void)state;
	unsetenv("LEM_NVML_LIBRARY");
	_cleanup_gpu_inventory_ struct gpu_inventory inv = {0};
	struct lem_error err = LEM_ERROR_INIT;
	if (gpu_inventory_read(&inv, &err) == 0)
		return; /* this machine has one */
	assert_non_null(strstr(err.what, "no NVIDIA driver (libnvidia-ml.so.1 not found)"));
	assert_non_null(strstr(err.fix, "install"));
}

static void test_values(void **state)
{
	int64_t v = 0;

	(void)state;
	assert_true(nvml_value_i64(NVML_VALUE_DOUBLE, (union nvml_value){.d = 1.5e6}, &v) &&
		    v == 1500000);
	assert_true(nvml_value_i64(NVML_VALUE_U32, (union nvml_value){.u32 = UINT32_MAX}, &v) &&
		    v == UINT32_MAX);
	assert_true(nvml_value_i64(NVML_VALUE_I64, (union nvml_value){.i64 = -5}, &v) && v == -5);
	assert_true(nvml_value_i64(NVML_VALUE_I32, (union nvml_value){.i32 = -7}, &v) && v == -7);
	assert_true(nvml_value_i64(NVML_VALUE_U16, (union nvml_value){.u16 = 9}, &v) && v == 9);
	assert_false(nvml_value_i64(NVML_VALUE_U64, (union nvml_value){.u64 = UINT64_MAX}, &v));
	assert_false(nvml_value_i64(NVML_VALUE_DOUBLE, (union nvml_value){.d = 1e300}, &v));
	assert_false(nvml_value_i64(99, (union nvml_value){.u64 = 1}, &v));
	assert_int_equal(v, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse_forms),
		cmocka_unit_test(test_parse_refuses),
		cmocka_unit_test(test_resolve),
		cmocka_unit_test(test_resolve_refuses),
		cmocka_unit_test(test_mig),
		cmocka_unit_test(test_mig_in_cuda_visible_devices),
		cmocka_unit_test(test_outside_what_the_shell_may_use),
		cmocka_unit_test(test_an_ambiguous_prefix_is_refused),
		cmocka_unit_test(test_no_gpu_at_all),
		cmocka_unit_test(test_cuda_visible_devices),
		cmocka_unit_test(test_inventory),
		cmocka_unit_test(test_inventory_lists_instances),
		cmocka_unit_test(test_mig_without_instances),
		cmocka_unit_test(test_only_what_can_be_opened_is_listed),
		cmocka_unit_test(test_driver_errors),
		cmocka_unit_test(test_no_driver_at_all),
		cmocka_unit_test(test_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
