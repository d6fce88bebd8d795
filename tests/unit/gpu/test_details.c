/* Temperatures, modes, links: what is told, and that what is not told is not 0. */
#include <setjmp.h>

#include "fake_sysfs.h"
#include "gpu/inventory.h"
#include "gpu/links.h"
#include "use_fake.h"

#include <cmocka.h>

static struct nvml *opened(const char *library, const char *script)
{
	struct lem_error err = LEM_ERROR_INIT;
	struct nvml *nvml = NULL;

	use_fake_library(library, script);
	if (nvml_open(&nvml, &err) < 0)
		fail_msg("%s", err.what);
	return nvml;
}

static struct gpu_details one(const char *library, const char *script)
{
	_cleanup_nvml_ struct nvml *nvml = opened(library, script);
	struct gpu_details d;

	memset(&d, 0xee, sizeof(d));
	gpu_details_read(nvml, 1, &d);
	return d;
}

static void is(struct gpu_fact f, int64_t value)
{
	assert_true(f.told);
	assert_true(f.value == value);
}

static void test_everything_is_told(void **state)
{
	struct gpu_details d =
		one("libnvml_fake.so", "used=3g;cc=86;persistence=0;ecc=1;eccpending=0;remap=1;"
				       "remapfailed=1;retired=1;fabric=3:1");

	(void)state;
	is(d.temperature_c, 40);
	is(d.memory_used_bytes, INT64_C(3) << 30);
	is(d.memory_free_bytes, INT64_C(77) << 30);
	is(d.utilization_pct, 97);
	is(d.compute_capability, 86);
	is(d.persistence, 0);
	is(d.ecc, 1);
	is(d.ecc_pending, 0);
	is(d.row_remap_pending, 1);
	is(d.row_remap_failed, 1);
	is(d.page_retire_pending, 1);
	is(d.fabric_state, NVML_FABRIC_COMPLETED);
	is(d.fabric_status, NVML_UNINITIALIZED);
}

static void test_nothing_is_told(void **state)
{
	struct gpu_details d = one("libnvml_fake.so",
				   "unsupported=temperature,memory,utilization,cc,persistence,ecc,"
				   "remap,retired,fabric");

	(void)state;
	assert_false(d.temperature_c.told || d.memory_used_bytes.told || d.memory_free_bytes.told);
	assert_false(d.utilization_pct.told || d.compute_capability.told || d.persistence.told);
	assert_false(d.ecc.told || d.ecc_pending.told || d.row_remap_pending.told);
	assert_false(d.row_remap_failed.told || d.page_retire_pending.told);
	assert_false(d.fabric_state.told || d.fabric_status.told);
	d = one("libnvml_fake_old.so", ""); /* has no such functions */
	is(d.temperature_c, 40);
	assert_false(d.persistence.told || d.ecc.told || d.fabric_state.told);
	assert_false(d.compute_capability.told);
	d = one("libnvml_fake.so", "nohandle=0");
	assert_false(d.temperature_c.told || d.ecc.told);
}

static void test_fabric(void **state)
{
	struct gpu_details d = one("libnvml_fake.so", "fabric=2:999");

	(void)state;
	is(d.fabric_state, NVML_FABRIC_IN_PROGRESS);
	assert_false(d.fabric_status.told); /* counts only once it is complete */
	d = one("libnvml_fake.so", "fabric=3;unsupported=fabricv"); /* a driver of before 550 */
	is(d.fabric_state, NVML_FABRIC_COMPLETED);
	is(d.fabric_status, NVML_SUCCESS);
}

static void test_cuda_version(void **state)
{
	struct nvml *nvml = opened("libnvml_fake.so", "cuda=12040");

	(void)state;
	is(gpu_cuda_driver_version(nvml), 12040);
	nvml_close(nvml);
	nvml = opened("libnvml_fake.so", "cuda=0");
	assert_false(gpu_cuda_driver_version(nvml).told);
	nvml_close(nvml);
	nvml = opened("libnvml_fake_old.so", "");
	assert_false(gpu_cuda_driver_version(nvml).told);
	nvml_close(nvml);
}

/* ---- links ---- */

static struct gpu_links links_of(const char *library, const char *script)
{
	_cleanup_nvml_ struct nvml *nvml = opened(library, script);
	struct lem_error err = LEM_ERROR_INIT;
	struct gpu_links l;

	assert_int_equal(gpu_links_read(nvml, &l, &err), 0);
	return l;
}

static void test_links_through_a_switch(void **state)
{
	_cleanup_gpu_links_ struct gpu_links l = links_of("libnvml_fake.so", "gpus=3;nvlink=12");
	const struct gpu_link *p = gpu_link_between(&l, 2, 0);

	(void)state;
	assert_int_equal(l.n, 3);
	is(p->nvlinks, 12);
	assert_true(p->through_switch);
	is(p->peer_read, NVML_P2P_OK);
	is(p->peer_write, NVML_P2P_OK);
	is(p->level, NVML_TOPOLOGY_SYSTEM);
	assert_false(gpu_link_between(&l, 1, 1)->nvlinks.told);
}

static void test_links_of_pairs(void **state)
{
	_cleanup_gpu_links_ struct gpu_links l =
		links_of("libnvml_fake.so", "gpus=3;nvlink=0-1:4+1-2:2;topology=10");

	(void)state;
	is(gpu_link_between(&l, 0, 1)->nvlinks, 4);
	is(gpu_link_between(&l, 1, 0)->nvlinks, 4);
	is(gpu_link_between(&l, 1, 2)->nvlinks, 2);
	is(gpu_link_between(&l, 0, 2)->nvlinks, 0);
	assert_false(gpu_link_between(&l, 0, 1)->through_switch);
	is(gpu_link_between(&l, 0, 2)->level, NVML_TOPOLOGY_SINGLE);
}

static void test_peer_access(void **state)
{
	_cleanup_gpu_links_ struct gpu_links l = links_of("libnvml_fake.so", "gpus=4;p2p=0-1+2-3");

	(void)state;
	is(gpu_link_between(&l, 0, 1)->peer_read, NVML_P2P_OK);
	is(gpu_link_between(&l, 3, 2)->peer_read, NVML_P2P_OK);
	is(gpu_link_between(&l, 0, 2)->peer_read, NVML_P2P_CHIPSET);
	is(gpu_link_between(&l, 0, 2)->nvlinks, 0); /* it says so: none is active */
}

static void test_links_that_are_not_told(void **state)
{
	struct gpu_links l =
		links_of("libnvml_fake.so", "gpus=2;nvlink=18;unsupported=p2p,topology,nvlink");

	(void)state;
	assert_false(gpu_link_between(&l, 0, 1)->peer_read.told);
	assert_false(gpu_link_between(&l, 0, 1)->level.told);
	assert_false(gpu_link_between(&l, 0, 1)->nvlinks.told);
	gpu_links_release(&l);
	l = links_of("libnvml_fake_old.so", "gpus=2");
	assert_false(gpu_link_between(&l, 0, 1)->peer_read.told);
	gpu_links_release(&l);
	l = links_of("libnvml_fake.so", "gpus=3;nohandle=1;nvlink=18");
	assert_false(gpu_link_between(&l, 0, 1)->peer_read.told);
	is(gpu_link_between(&l, 0, 2)->nvlinks, 18);
	gpu_links_release(&l);
	l = links_of("libnvml_fake.so", "gpus=0");
	assert_int_equal(l.n, 0);
	gpu_links_release(&l);
}

static void test_texts(void **state)
{
	(void)state;
	for (int i = -1; i < 10; i++)
		assert_true(*gpu_p2p_text(i));
	assert_string_equal(gpu_p2p_text(NVML_P2P_OK), "ok");
	assert_string_equal(gpu_topology_text(NVML_TOPOLOGY_NODE), "NODE");
	assert_string_equal(gpu_topology_text(7), "?");
}

/* ---- hardware without a driver ---- */

static void test_hardware(void **state)
{
	struct fake_sysfs fs;

	(void)state;
	fake_sysfs_init(&fs);
	setenv("LEM_SYSFS_ROOT", fs.root, 1);
	assert_false(gpu_hardware_seen());
	fake_sysfs_write(&fs, "bus/pci/devices/0000:00:01.0/vendor", "0x8086");
	fake_sysfs_write(&fs, "bus/pci/devices/0000:00:01.0/class", "0x030000");
	fake_sysfs_write(&fs, "bus/pci/devices/0000:05:00.0/vendor", "0x10de"); /* an NVSwitch */
	fake_sysfs_write(&fs, "bus/pci/devices/0000:05:00.0/class", "0x068000");
	assert_false(gpu_hardware_seen());
	fake_sysfs_write(&fs, "bus/pci/devices/0000:10:00.0/vendor", "0x10de");
	fake_sysfs_write(&fs, "bus/pci/devices/0000:10:00.0/class", "0x030200");
	assert_true(gpu_hardware_seen());
	unsetenv("LEM_SYSFS_ROOT");
	fake_sysfs_release(&fs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_is_told),
		cmocka_unit_test(test_nothing_is_told),
		cmocka_unit_test(test_fabric),
		cmocka_unit_test(test_cuda_version),
		cmocka_unit_test(test_links_through_a_switch),
		cmocka_unit_test(test_links_of_pairs),
		cmocka_unit_test(test_peer_access),
		cmocka_unit_test(test_links_that_are_not_told),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_hardware),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
