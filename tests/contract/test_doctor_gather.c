/*
 * What `lem doctor` finds out, against a fake driver, a scripted container engine and folders that
 * stand for /proc, /etc and /dev: gathered whole, refused, hanging, crashing.
 */
#include <ftw.h>
#include <setjmp.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "docker_case.h"
#include "doctor/config_checks.h"
#include "runner/lease.h"
#include "sys/fs.h"
#include "use_fake.h"

#include <cmocka.h>

#define UUID0 "GPU-1a2b3c40-fa4e-4000-8000-000000abcdef"

static void put(const struct docker_case *c, const char *name, const char *text)
{
	_cleanup_free_ char *path = lem_asprintf("%s%s", c->dir, name);
	_cleanup_free_ char *dir = lem_strndup(path, (size_t)(strrchr(path, '/') - path));

	assert_return_code(fs_mkdirs(dir, NULL), 0);
	assert_return_code(fs_write_atomic(path, text, strlen(text), NULL), 0);
}

/* A machine of its own: this folder is /proc, /sys, /etc and /dev, and there is no CDI. */
static int setup(void **state)
{
	struct docker_case *c;
	_cleanup_free_ char *cdi = NULL;

	docker_case_setup(state);
	c = *state;
	cdi = lem_asprintf("%s/cdi", c->dir);
	setenv("LEM_DOCTOR_ROOT", c->dir, 1);
	setenv("LEM_CDI_DIRS", cdi, 1);
	setenv("LEM_SYSFS_ROOT", c->dir, 1);
	unsetenv("CUDA_VISIBLE_DEVICES");
	use_fake("gpus=2");
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	return at->level ? remove(path) : 0; /* the folder itself is docker_case's */
}

static int teardown(void **state)
{
	const struct docker_case *c = *state;

	(void)nftw(c->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	unsetenv("LEM_DOCTOR_ROOT");
	unsetenv("LEM_CDI_DIRS");
	unsetenv("LEM_SYSFS_ROOT");
	return docker_case_teardown(state);
}

static struct doctor_result check(const struct doctor_facts *f, const char *id, const char *group)
{
	struct doctor_result r = {0};
	bool found = false;

	for (const struct doctor_check *const *c = doctor_checks; *c; c++)
		if (str_eq((*c)->id, id) && (!group || str_eq((*c)->group, group)) && !found) {
			doctor_run(*c, f, &r);
			found = true;
		}
	assert_true(found);
	return r;
}

#define ASSERT_CHECK(f, id, expected, text)                                                      \
	do {                                                                                     \
		struct doctor_result r_ = check(f, id, NULL);                                    \
		const char *said_ = r_.status == DOCTOR_OK ? r_.value : r_.message;              \
		if (r_.status != (expected) || !strstr(said_, text))                             \
			fail_msg("%s: %s \"%s\" (%s)", id, doctor_status_name(r_.status), said_, \
				 r_.value);                                                      \
	} while (0)

/* ---- the driver ---- */

static void test_driver(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;

	put(c, "/proc/driver/nvidia/version",
	    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Thu Feb 22 01:44:30 "
	    "UTC\n");
	put(c, "/sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n");
	put(c, "/sys/bus/pci/devices/0000:17:00.0/class", "0x030200\n");
	put(c, "/sys/bus/pci/devices/0000:18:00.0/vendor", "0x10de\n");
	put(c, "/sys/bus/pci/devices/0000:18:00.0/class", "0x068000\n"); /* an NVSwitch */
	use_fake("gpus=4;name3=Other;driver=580.159.04;fabric=3;persistence=1;p2p=0-1+2-3;"
		 "used=1;used2=20g;remap=0;cuda=13000");
	doctor_gather(c->dir, &f);
	assert_int_equal(f->nvidia_pci_devices, 1);
	assert_string_equal(f->module_version, "580.159.04");
	assert_int_equal(f->inventory.n, 4);
	ASSERT_CHECK(f, "R23", DOCTOR_OK, "580.159.04, CUDA 13.0");
	ASSERT_CHECK(f, "R24", DOCTOR_OK, "580.159.04");
	ASSERT_CHECK(f, "R41", DOCTOR_OK, "none");
	ASSERT_CHECK(f, "R18", DOCTOR_OK, "up");
	ASSERT_CHECK(f, "R26", DOCTOR_WARNING,
		     "GPU 2 has 20.0 of 80.0 GiB in use; free now: GPUs 0, 1, 3");
	ASSERT_CHECK(f, "R39", DOCTOR_WARNING, "GPUs 0 and 2");
	ASSERT_CHECK(f, "R40", DOCTOR_WARNING, "GPUs 0 and 3");
	ASSERT_CHECK(f, "persistence", DOCTOR_OK, "on");
	ASSERT_CHECK(f, "energy-gpu", DOCTOR_OK, "readable");
	doctor_facts_free(f);
}

static void test_processes(void **state)
{
	struct docker_case *c = *state;
	_cleanup_free_ char *script =
		lem_asprintf("gpus=2;procs=1:%d:3221225472;graphics=0:1:1000", (int)getpid());
	struct doctor_facts *f;

	use_fake(script);
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "R27", DOCTOR_WARNING,
		     " on GPU 1 with 3.0 GiB"); /* a desktop does not count */
	ASSERT_CHECK(f, "R27", DOCTOR_WARNING, "(test_doctor_gat, ");
	doctor_facts_free(f);
}

static const struct {
	const char *script, *id;
	enum doctor_status expected;
	const char *text;
} broken[] = {
	{"init=18", "R24", DOCTOR_ERROR, "different versions"},
	{"init=18", "R23", DOCTOR_UNKNOWN, "R24"},
	{"init=4", "R23", DOCTOR_ERROR, "permission"},
	{"init=15", "R41", DOCTOR_ERROR, "lost"},
	{"gpus=2;mig=1", "R08", DOCTOR_WARNING, "GPUs 0, 1"},
	{"gpus=2;computemode=3", "R28", DOCTOR_ERROR, "GPUs 0, 1"},
	{"gpus=2;computemode=2", "R28", DOCTOR_ERROR, "PROHIBITED"},
	{"gpus=2;computemode=0", "R28", DOCTOR_OK, "default"},
	{"gpus=2;fabric=2", "R18", DOCTOR_ERROR, "802"},
	{"gpus=2;fabric=3:999", "R18", DOCTOR_ERROR, "802"},
	{"gpus=2;lost=0ms;lostgpu=1", "R41", DOCTOR_ERROR, "GPU 1"},
	{"gpus=2;nohandle=1", "R41", DOCTOR_ERROR, "GPU 1"},
	{"gpus=2;remap=1", "R41", DOCTOR_ERROR, "reset"},
	{"gpus=2;retired=1", "R41", DOCTOR_ERROR, "reset"},
	{"gpus=2;persistence=0", "persistence", DOCTOR_WARNING, "energy counter"},
	{"gpus=2;unsupported=energy", "energy-gpu", DOCTOR_WARNING, "GPUs 0, 1"},
	{"gpus=2;permission=energy,usage", "energy-gpu", DOCTOR_ERROR, "permission"},
	{"gpus=2;unsupported=processes", "R27", DOCTOR_UNKNOWN, ""},
	{"gpus=2;unsupported=p2p", "R39", DOCTOR_UNKNOWN, "1 of 1"},
	{"gpus=2;unsupported=memory", "R26", DOCTOR_UNKNOWN, "GPUs 0, 1"},
	{"gpus=2;unsupported=persistence", "persistence", DOCTOR_UNKNOWN, ""},
	{"gpus=2;unsupported=reasons", "clocks", DOCTOR_UNKNOWN, ""},
	{"gpus=0", "R08", DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU"},
};

static void test_broken_drivers(void **state)
{
	struct docker_case *c = *state;

	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		struct doctor_facts *f;
		struct doctor_result r;

		use_fake(broken[i].script);
		doctor_gather(c->dir, &f);
		r = check(f, broken[i].id, NULL);
		if (r.status != broken[i].expected ||
		    !strstr(r.status == DOCTOR_OK ? r.value : r.message, broken[i].text))
			fail_msg("%s: %s is %s: %s", broken[i].script, broken[i].id,
				 doctor_status_name(r.status), r.message);
		doctor_facts_free(f);
	}
}

static void test_no_library(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;

	setenv("LEM_NVML_LIBRARY", "/nonexistent/libnvidia-ml.so.1", 1);
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "R23", DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU");
	doctor_facts_free(f);
	put(c, "/sys/bus/pci/devices/0000:17:00.0/vendor", "0x10de\n");
	put(c, "/sys/bus/pci/devices/0000:17:00.0/class", "0x030200\n");
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "R23", DOCTOR_ERROR, "/nonexistent/libnvidia-ml.so.1");
	ASSERT_CHECK(f, "R26", DOCTOR_UNKNOWN, "told of no GPU");
	doctor_facts_free(f);
}

/* The driver hangs in a call that nothing ends: what was told before stays, the rest is unknown. */
static void test_driver_hangs(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;

	use_fake("gpus=2;name=Kept;hang=0ms;hangfor=3600s");
	doctor_gather(c->dir, &f);
	assert_int_equal(f->driver->answer, ANSWER_TIMED_OUT);
	ASSERT_CHECK(f, "driver-answers", DOCTOR_ERROR, "the energy counter of GPU 0");
	ASSERT_CHECK(f, "gpus", DOCTOR_OK, "2 × Kept");
	ASSERT_CHECK(f, "energy-gpu", DOCTOR_UNKNOWN, "did not answer");
	ASSERT_CHECK(f, "R41", DOCTOR_UNKNOWN, "GPU 1");
	doctor_facts_free(f);
}

/* ---- the container engine ---- */

#define INFO(runtimes, more)                                                              \
	"{\"ServerVersion\":\"28.3.0\",\"OperatingSystem\":\"Debian\",\"DockerRootDir\":" \
	"\"/var/lib/docker\",\"CgroupDriver\":\"systemd\",\"Runtimes\":{" runtimes "}" more "}"
#define NVIDIA    "\"nvidia\":{},\"runc\":{}"
#define RUNC      "\"runc\":{}"
#define CDI(list) ",\"CDISpecDirs\":[\"/etc/cdi\"],\"DiscoveredDevices\":[" list "]"
#define DEVICE(u) "{\"Source\":\"cdi\",\"ID\":\"nvidia.com/gpu=" u "\"}"

static const struct {
	const char *info, *id, *group;
	enum doctor_status expected;
	const char *text;
} engines[] = {
	{INFO(RUNC, CDI(DEVICE(UUID0))), "R20", NULL, DOCTOR_OK, "CDI"},
	{INFO(RUNC, CDI(DEVICE(UUID0))), "R21", NULL, DOCTOR_OK, "every GPU"},
	{INFO(RUNC, CDI(DEVICE(UUID0))), "R19", NULL, DOCTOR_OK, "with CDI"},
	{INFO(RUNC, CDI(DEVICE("GPU-other"))), "R21", NULL, DOCTOR_ERROR, "UUID of GPU 0"},
	{INFO(NVIDIA, CDI(DEVICE("GPU-other"))), "R21", NULL, DOCTOR_WARNING, "falls back"},
	{INFO(NVIDIA, ""), "R20", NULL, DOCTOR_OK, "runtime nvidia"},
	{INFO(NVIDIA, ""), "R03", NULL, DOCTOR_OK, "registered"},
	{INFO(NVIDIA, ""), "R21", NULL, DOCTOR_NOT_APPLICABLE, "CDI is off"},
	{INFO(NVIDIA, ""), "R19", NULL, DOCTOR_WARNING, "daemon-reload"},
	{INFO(RUNC, ""), "R20", NULL, DOCTOR_ERROR, "neither"},
	{INFO(RUNC, ""), "R03", NULL, DOCTOR_ERROR, "no runtime"},
	{INFO(RUNC, ",\"SecurityOptions\":[\"name=rootless\"]"), "R35", NULL, DOCTOR_ERROR, "CDI"},
	{INFO(RUNC, ",\"SecurityOptions\":[\"name=selinux\"]"), "R34", NULL, DOCTOR_UNKNOWN,
	 "SELinux"},
	{INFO(RUNC, ",\"DockerRootDir\":\"/var/snap/docker/x\""), "R23", "Container engine",
	 DOCTOR_ERROR, "snap"},
};

static void test_engines(void **state)
{
	struct docker_case *c = *state;

	use_fake("gpus=1");
	for (size_t i = 0; i < ARRAY_LEN(engines); i++) {
		struct doctor_facts *f;
		struct doctor_result r;

		fake_set_info(c->f, engines[i].info);
		doctor_gather(c->dir, &f);
		r = check(f, engines[i].id, engines[i].group);
		if (r.status != engines[i].expected ||
		    !strstr(r.status == DOCTOR_OK ? r.value : r.message, engines[i].text))
			fail_msg("engine %zu: %s is %s: %s%s", i, engines[i].id,
				 doctor_status_name(r.status), r.message, r.value);
		doctor_facts_free(f);
	}
}

static void test_engine_files(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;

	use_fake("gpus=1");
	fake_set_info(c->f, INFO(NVIDIA, ""));
	put(c, "/etc/nvidia-container-runtime/config.toml",
	    "accept-nvidia-visible-devices-envvar-when-unprivileged = false\n"
	    "[nvidia-container-runtime]\nmode = \"cdi\"\n");
	put(c, "/sys/fs/selinux/booleans/container_use_devices", "1 1\n");
	put(c, "/usr/bin/nvidia-ctk", "");
	put(c, "/cdi/nvidia.yaml",
	    "cdiVersion: \"0.6.0\"\nkind: nvidia.com/gpu\ndevices:\n"
	    "- name: " UUID0
	    "\n  containerEdits:\n    deviceNodes:\n    - path: /dev/nonexistent-gpu7\n");
	doctor_gather(c->dir, &f);
	assert_true(f->toolkit.installed);
	assert_int_equal(f->engine.selinux_allows, 1);
	ASSERT_CHECK(f, "R03", DOCTOR_ERROR, "envvar");
	ASSERT_CHECK(f, "R36", DOCTOR_OK, "cdi");
	ASSERT_CHECK(f, "R22", DOCTOR_ERROR, "/dev/nonexistent-gpu7");
	doctor_facts_free(f);

	put(c, "/cdi/nvidia.yaml",
	    "cdiVersion: \"0.6.0\"\nkind: nvidia.com/gpu\ndevices:\n"
	    "- name: " UUID0 "\n  containerEdits:\n    deviceNodes:\n    - path: /dev/null\n");
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "R22", DOCTOR_OK, "1 devices");
	doctor_facts_free(f);
	put(c, "/cdi/nvidia.yaml", "cdiVersion: [\n");
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "R22", DOCTOR_WARNING, "nvidia.yaml");
	doctor_facts_free(f);
}

static void test_leftovers(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;
	char own[160];

	fake_add_container(c->f, "aaaaaaaaaaaaaaaa", "lem-of-somebody", "elsewhere 1 1");
	fake_add_container(c->f, "bbbbbbbbbbbbbbbb", "lem-alive", lease_own(own, sizeof(own)));
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "leftovers", DOCTOR_OK, "none"); /* in doubt it is somebody's */
	doctor_facts_free(f);

	char *dead = strrchr(own, ' '); /* this pid, started at another time */

	assert_non_null(dead);
	lem_strlcpy(dead + 1, "1", 2);
	fake_add_container(c->f, "cccccccccccccccc", "lem-dead", own);
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "leftovers", DOCTOR_WARNING, "still there");
	assert_string_equal(check(f, "leftovers", NULL).fix, "docker rm -f cccccccccccc");
	doctor_facts_free(f);
}

/* It takes the request and says nothing. */
static void test_engine_hangs(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;
	int64_t t0 = clock_now_ns();

	fake_on(c->f, "GET /_ping", -1, HOW(FAKE_SILENT, 200, ""));
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "container-engine", DOCTOR_ERROR, "did not answer within 5 s");
	ASSERT_CHECK(f, "R20", DOCTOR_UNKNOWN, "cannot be asked");
	assert_true(clock_now_ns() - t0 >= 5 * NS_PER_S);
	doctor_facts_free(f);
}

static void test_engine_fails(void **state)
{
	struct docker_case *c = *state;
	struct doctor_report r = {0};
	struct doctor_facts *f;

	fake_on(c->f, "GET /info", -1, REPLY(500, "{\"message\":\"the disk is on fire\"}"));
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "container-engine", DOCTOR_ERROR, "the disk is on fire");
	doctor_facts_free(f);
	fake_docker_down(c->f);
	doctor_gather(c->dir, &f);
	assert_int_equal(f->engine.answer, ANSWER_ABSENT);
	doctor_facts_free(f);
	unlink(c->socket);
	doctor_gather(c->dir, &f);
	ASSERT_CHECK(f, "container-engine", DOCTOR_NOT_APPLICABLE, "none found");
	ASSERT_CHECK(f, "R20", DOCTOR_NOT_APPLICABLE, "no container engine");
	doctor_check_image(f, "r/engine:1", &r); /* one that is needed is another matter */
	assert_int_equal(r.at[0].status, DOCTOR_ERROR);
	assert_non_null(strstr(r.at[0].message, "there is no container engine"));
	assert_non_null(strstr(r.at[0].fix, "runner: process"));
	doctor_report_release(&r);
	doctor_facts_free(f);
}

/* ---- an image ---- */

static void test_image(void **state)
{
	struct docker_case *c = *state;
	struct doctor_report r = {0};
	struct doctor_facts *f;

	use_fake("gpus=1;cuda=12040");
	fake_set_image(
		c->f,
		"{\"Id\":\"sha256:1\",\"Architecture\":\"s390x\",\"Os\":\"linux\",\"Config\":"
		"{\"Env\":[\"CUDA_VERSION=13.0.1\"]}}",
		NULL);
	doctor_gather(c->dir, &f);
	doctor_check_image(f, "vllm/vllm-openai:v1", &r);
	assert_int_equal(r.n, 3);
	assert_int_equal(r.at[0].status, DOCTOR_OK);
	assert_string_equal(r.at[1].id, "X04");
	assert_int_equal(r.at[1].status, DOCTOR_ERROR);
	assert_string_equal(r.at[2].id, "R25");
	assert_int_equal(r.at[2].status, DOCTOR_ERROR);
	doctor_report_release(&r);

	fake_set_image(c->f, NULL, NULL);
	doctor_check_image(f, "vllm/vllm-openai:v1", &r);
	assert_int_equal(r.n, 1);
	assert_int_equal(r.at[0].status, DOCTOR_NOT_APPLICABLE);
	assert_non_null(strstr(r.at[0].message, "not on this host"));
	doctor_report_release(&r);
	doctor_facts_free(f);
}

/* ---- the rest of the host ---- */

static void test_host(void **state)
{
	struct docker_case *c = *state;
	struct doctor_facts *f;

	setenv("CUDA_VISIBLE_DEVICES", "0;1", 1);
	put(c, "/class/powercap/intel-rapl:0/name", "package-0\n"); /* and no energy_uj */
	doctor_gather("/nonexistent/results", &f);
	assert_true(f->has_rapl);
	ASSERT_CHECK(f, "energy-cpu", DOCTOR_WARNING, "RAPL");
	ASSERT_CHECK(f, "R05", DOCTOR_ERROR, "0;1");
	assert_true(f->limits.results_free_bytes > 0); /* of the nearest folder that exists */
	ASSERT_CHECK(f, "libcurl", DOCTOR_OK, "found");
	doctor_facts_free(f);
	unsetenv("CUDA_VISIBLE_DEVICES");
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_driver),       T(test_processes),    T(test_broken_drivers),
		T(test_no_library),   T(test_driver_hangs), T(test_engines),
		T(test_engine_files), T(test_leftovers),    T(test_engine_hangs),
		T(test_engine_fails), T(test_image),        T(test_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
