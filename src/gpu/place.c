#include "gpu/place.h"

#include "base/str.h"
#include "sys/fs.h"

enum { PROC_FILE_MAX_BYTES = 256 << 10 };

static const char *root(void)
{
	const char *s = getenv("LEM_PLACE_ROOT");

	return s ? s : "";
}

static bool exists(const char *path)
{
	_cleanup_free_ char *full = lem_asprintf("%s%s", root(), path);

	return fs_exists(full);
}

/* "" when it cannot be read. */
static void read_proc(const char *path, struct str *out)
{
	_cleanup_free_ char *full = lem_asprintf("%s%s", root(), path);

	if (fs_read_file(full, PROC_FILE_MAX_BYTES, out, NULL) < 0)
		str_reset(out);
}

static bool has_any(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strstr(text, *words))
			return true;
	return false;
}

/* How the engines name their cgroups, with both cgroup drivers. A service such as docker.service is
 * no container. In a private cgroup namespace the path is "/" and says nothing. */
static bool cgroup_tells(void)
{
	static const char *const names[] = {
		"/docker/",         "/docker-", "/libpod-",         "/libpod_parent/", "/kubepods",
		"/cri-containerd-", "/crio-",   ":cri-containerd:", "/nerdctl-",       NULL,
	};
	_cleanup_str_ struct str s = STR_INIT;

	read_proc("/proc/self/cgroup", &s);
	return has_any(str_c(&s), names);
}

/* The root file system of a container is an overlay in the engine's own storage. */
static bool root_mount_tells(void)
{
	static const char *const stores[] = {"/docker/overlay2/", "/docker/rootfs/overlayfs/",
					     "/containers/storage/overlay",
					     "io.containerd.snapshotter", NULL};
	_cleanup_str_ struct str s = STR_INIT;
	char *save = NULL;

	read_proc("/proc/self/mountinfo", &s);
	if (!s.len)
		return false;
	/* "36 35 98:0 / / rw,… shared:1 - overlay overlay rw,lowerdir=…": root, then mount point */
	for (char *line = strtok_r(s.buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strstr(line, " / / ") && strstr(line, " - overlay ") && has_any(line, stores))
			return true;
	return false;
}

static bool environment_tells(void)
{
	const char *s = getenv("container"); /* set by Podman, and by convention */

	return str_eq(s, "podman") || str_eq(s, "docker") || str_eq(s, "oci");
}

/*
 * A machine whose disk was made from an image keeps the image's marker files, but its processes are
 * in the kernel's initial namespaces, whose inode numbers are fixed (include/linux/proc_ns.h). A
 * container shares one or two of these with its host, not all. Unreadable: the marker is believed.
 */
static bool in_initial_namespaces(void)
{
	static const struct {
		const char *path, *initial;
	} spaces[] = {
		{"/proc/self/ns/ipc", "ipc:[4026531839]"},
		{"/proc/self/ns/uts", "uts:[4026531838]"},
		{"/proc/self/ns/pid", "pid:[4026531836]"},
		{"/proc/self/ns/cgroup", "cgroup:[4026531835]"},
	};

	for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
		_cleanup_free_ char *full = lem_asprintf("%s%s", root(), spaces[i].path);
		char target[64];
		ssize_t n = readlink(full, target, sizeof(target) - 1);

		if (n < 0)
			return false;
		target[n] = '\0';
		if (!str_eq(target, spaces[i].initial))
			return false;
	}
	return true;
}

static bool in_container(void)
{
	if (cgroup_tells() || root_mount_tells())
		return true;
	return (exists("/.dockerenv") || exists("/run/.containerenv") || environment_tells()) &&
	       !in_initial_namespaces();
}

static bool in_kubernetes(void)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");

	return (host && *host) || exists("/var/run/secrets/kubernetes.io/serviceaccount");
}

static const char *copy_env(struct arena *a, const char *name)
{
	const char *s = getenv(name);

	return s && *s ? arena_strdup(a, s) : NULL;
}

static bool is_list_of_numbers(const char *s)
{
	return s && *s && s[strspn(s, "0123456789,")] == '\0' && *s != ',' && !str_ends(s, ",") &&
	       !strstr(s, ",,");
}

/* Inside, NVIDIA_VISIBLE_DEVICES is information only where it is still the list of host numbers
 * that the container was started with: CDI makes it "void", images set "all" (routing.md R38). */
static const char *read_host_gpus(struct arena *a)
{
	const char *told = copy_env(a, "LEM_HOST_GPUS");
	const char *nvd = getenv("NVIDIA_VISIBLE_DEVICES");

	if (told)
		return told;
	return is_list_of_numbers(nvd) ? arena_strdup(a, nvd) : NULL;
}

void gpu_place_read(struct arena *a, struct gpu_place *ret)
{
	const char *job = getenv("SLURM_JOB_ID");
	struct gpu_place p = {0};

	p.cuda_visible_devices = arena_strdup(a, getenv("CUDA_VISIBLE_DEVICES"));
	p.in_kubernetes = in_kubernetes();
	p.in_container = p.in_kubernetes || in_container();
	p.in_slurm = job && *job;
	p.slurm_step_gpus = copy_env(a, "SLURM_STEP_GPUS");
	if (!p.slurm_step_gpus)
		p.slurm_step_gpus = copy_env(a, "SLURM_JOB_GPUS");
	if (p.in_container) {
		p.host_gpus = read_host_gpus(a);
		p.host_gpu_uuids = copy_env(a, "LEM_HOST_GPU_UUIDS");
	}
	*ret = p;
}
