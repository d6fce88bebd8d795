/* Where lem runs, told by files under LEM_PLACE_ROOT and by the environment. */
#include <ftw.h>
#include <setjmp.h>
#include <sys/stat.h>

#include "gpu/place.h"
#include "sys/fs.h"

#include <cmocka.h>

static char root[64];

static const char *const variables[] = {
	"CUDA_VISIBLE_DEVICES", "KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID",
	"SLURM_STEP_GPUS",      "SLURM_JOB_GPUS",          "LEM_HOST_GPUS",
	"LEM_HOST_GPU_UUIDS",   "NVIDIA_VISIBLE_DEVICES",  "container",
};

static int fresh(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
	lem_strlcpy(root, "/tmp/lem-place-XXXXXX", sizeof(root));
	assert_non_null(mkdtemp(root));
	setenv("LEM_PLACE_ROOT", root, 1);
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path);
}

static int sweep(void **state)
{
	(void)state;
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put(const char *path, const char *text)
{
	_cleanup_free_ char *full = lem_asprintf("%s%s", root, path);
	_cleanup_free_ char *dir = lem_strdup(full);
	FILE *f;

	*strrchr(dir, '/') = '\0';
	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	f = fopen(full, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void put_namespaces(const char *pid)
{
	static const char *const spaces[][2] = {{"ipc", "ipc:[4026531839]"},
						{"uts", "uts:[4026531838]"},
						{"cgroup", "cgroup:[4026531835]"}};
	_cleanup_free_ char *dir = lem_asprintf("%s/proc/self/ns", root);
	_cleanup_free_ char *pid_link = lem_asprintf("%s/pid", dir);

	assert_int_equal(fs_mkdirs(dir, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
		_cleanup_free_ char *link = lem_asprintf("%s/%s", dir, spaces[i][0]);

		assert_int_equal(symlink(spaces[i][1], link), 0);
	}
	assert_int_equal(symlink(pid, pid_link), 0);
}

static struct gpu_place place(struct arena *a)
{
	struct gpu_place p;

	memset(&p, 0xee, sizeof(p));
	gpu_place_read(a, &p);
	return p;
}

static bool contained(void)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	return place(&a).in_container;
}

static void test_a_workstation(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	put("/proc/self/cgroup", "0::/user.slice/user-1000.slice/session-1.scope\n");
	put("/proc/self/mountinfo", "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n");
	setenv("LEM_HOST_GPUS", "2,5", 1); /* means nothing outside a container */
	setenv("SLURM_STEP_GPUS", "", 1);
	struct gpu_place p = place(&a);

	assert_null(p.cuda_visible_devices);
	assert_null(p.slurm_step_gpus);
	assert_null(p.host_gpus);
	assert_null(p.host_gpu_uuids);
	assert_false(p.in_container || p.in_kubernetes || p.in_slurm);
}

static void test_nothing_can_be_read(void **state)
{
	(void)state;
	assert_false(contained());
}

static void test_marker_files(void **state)
{
	(void)state;
	put("/.dockerenv", "");
	assert_true(contained());
	sweep(state);
	fresh(state);
	put("/run/.containerenv", "engine=\"podman-4.9\"\n");
	assert_true(contained());
	sweep(state);
	fresh(state);
	setenv("container", "podman", 1);
	assert_true(contained());
	setenv("container", "systemd-nspawn", 1);
	assert_false(contained());
}

/* A virtual machine made from an image has /.dockerenv, and is no container. */
static void test_a_marker_on_a_machine_of_its_own(void **state)
{
	(void)state;
	put("/.dockerenv", "");
	put_namespaces("pid:[4026531836]");
	assert_false(contained());
	put("/proc/self/cgroup", "5:devices:/docker/0123456789abcdef\n");
	assert_true(contained());
	sweep(state);
	fresh(state);
	put("/.dockerenv", "");
	put_namespaces("pid:[4026532281]");
	assert_true(contained());
}

static void test_cgroups(void **state)
{
	static const struct {
		const char *line;
		bool container;
	} rows[] = {
		{"0::/system.slice/docker-0123456789abcdef.scope\n", true},
		{"12:cpuset:/docker/0123456789abcdef\n", true},
		{"0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-01.scope\n", true},
		{"0::/machine.slice/libpod-0123.scope/container\n", true},
		{"0::/system.slice/docker.service\n", false},
		{"0::/system.slice/containerd.service\n", false},
		{"0::/user.slice/user-1000.slice/user@1000.service/app.slice\n", false},
		{"0::/system.slice/slurmstepd.scope/job_5/step_0/user/task_0\n", false},
		{"0::/\n", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		put("/proc/self/cgroup", rows[i].line);
		if (contained() != rows[i].container)
			fail_msg("%s", rows[i].line);
	}
}

static void test_root_mounts(void **state)
{
	(void)state;
	put("/proc/self/mountinfo",
	    "30 1 0:28 / / rw - overlay overlay rw,lowerdir=/run/live/rootfs,upperdir=/run/rw\n"
	    "40 30 0:5 / /mnt rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n");
	assert_false(contained()); /* a live system; an overlay elsewhere */
	put("/proc/self/mountinfo",
	    "30 1 0:28 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A\n");
	assert_true(contained());
	put("/proc/self/mountinfo", "30 1 0:28 / / rw - overlay overlay "
				    "rw,upperdir=/var/lib/containerd/"
				    "io.containerd.snapshotter.v1.overlayfs/snapshots/9/fs\n");
	assert_true(contained());
}

static void test_a_pod(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	put("/var/run/secrets/kubernetes.io/serviceaccount/token", "x");
	assert_true(place(&a).in_kubernetes);
	assert_true(place(&a).in_container);
	sweep(state);
	fresh(state);
	setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1", 1);
	assert_true(place(&a).in_kubernetes);
	setenv("KUBERNETES_SERVICE_HOST", "", 1);
	assert_false(place(&a).in_kubernetes);
}

static void test_slurm(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_place p;

	(void)state;
	setenv("SLURM_JOB_ID", "77", 1);
	setenv("SLURM_JOB_GPUS", "4,5", 1);
	setenv("CUDA_VISIBLE_DEVICES", "", 1);
	p = place(&a);
	assert_true(p.in_slurm);
	assert_string_equal(p.slurm_step_gpus, "4,5");
	assert_string_equal(p.cuda_visible_devices, ""); /* empty is not unset */
	setenv("SLURM_STEP_GPUS", "5", 1);
	assert_string_equal(place(&a).slurm_step_gpus, "5");
}

static void test_what_a_container_was_told(void **state)
{
	static const struct {
		const char *nvd, *host_gpus;
	} rows[] = {
		{"2,5", "2,5"},         {"3", "3"},     {"void", NULL},
		{"all", NULL},          {"none", NULL}, {"", NULL},
		{"2,", NULL},           {",2", NULL},   {"2,,5", NULL},
		{"GPU-1a2b3c4d", NULL}, {"2, 5", NULL}, {"0,all", NULL},
		{"1:0", NULL},
	};
	_cleanup_arena_ struct arena a = ARENA_INIT;

	(void)state;
	put("/.dockerenv", "");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		setenv("NVIDIA_VISIBLE_DEVICES", rows[i].nvd, 1);
		if (!str_eq(place(&a).host_gpus, rows[i].host_gpus))
			fail_msg("NVIDIA_VISIBLE_DEVICES=%s", rows[i].nvd);
	}
	setenv("NVIDIA_VISIBLE_DEVICES", "7", 1);
	setenv("LEM_HOST_GPUS", "2,5", 1);
	setenv("LEM_HOST_GPU_UUIDS", "GPU-a,GPU-b", 1);
	assert_string_equal(place(&a).host_gpus, "2,5");
	assert_string_equal(place(&a).host_gpu_uuids, "GPU-a,GPU-b");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fresh, sweep)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_workstation),
		TEST(test_nothing_can_be_read),
		TEST(test_marker_files),
		TEST(test_a_marker_on_a_machine_of_its_own),
		TEST(test_cgroups),
		TEST(test_root_mounts),
		TEST(test_a_pod),
		TEST(test_slurm),
		TEST(test_what_a_container_was_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
