#include "runner/docker_explain.h"

#include "base/str.h"

#define REFRESH_CDI                                                          \
	"sudo systemctl restart nvidia-cdi-refresh, or sudo nvidia-ctk cdi " \
	"generate --output=/var/run/cdi/nvidia.yaml"
#define CONFIGURE                                                \
	"install the NVIDIA Container Toolkit, then sudo "       \
	"nvidia-ctk runtime configure --runtime=docker && sudo " \
	"systemctl restart docker"

/* The first row whose words all occur. Sources of the words: routing.md section 3, moby's daemon
 * and runc's messages. */
static const struct {
	const char *words[2];
	const char *what, *fix;
} meanings[] = {
	{{"could not select device driver"},
	 "R20: the container engine has no way to pass NVIDIA GPUs",
	 CONFIGURE},
	{{"unresolvable CDI devices"},
	 "R21: no CDI specification that the container engine knows names a GPU asked for",
	 REFRESH_CDI},
	{{"CDI", "no such file or directory"},
	 "R22: the CDI specification names a file that is not there (it is stale)",
	 REFRESH_CDI},
	{{"/dev/nvidia", "no such file or directory"},
	 "R22: a device file that the GPU's specification names is not there (it is stale)",
	 REFRESH_CDI},
	{{"CDI device injection failed"},
	 "R21: the container engine cannot pass the GPUs by CDI",
	 REFRESH_CDI},
	{{"unknown or invalid runtime name"},
	 "R03: the container engine has no runtime named nvidia",
	 CONFIGURE},
	{{"driver/library version mismatch"},
	 "R24: the NVIDIA driver was updated, but the old one is still loaded",
	 "reboot, or reload the nvidia kernel modules"},
	{{"unsatisfied condition"},
	 "R25: the image needs a newer NVIDIA driver",
	 "choose an image made for an older CUDA (docker.image), or update the driver"},
	{{"libnvidia-ml.so.1"},
	 "R23: the container engine does not find the NVIDIA driver's libraries",
	 "install the driver or reboot; a Docker from snap cannot see them: use the "
	 "distribution's or the vendor's packages"},
	{{"driver not loaded"},
	 "R23: the NVIDIA driver is not loaded",
	 "sudo modprobe nvidia, or reboot"},
	{{"invoking the NVIDIA Container Runtime Hook directly"},
	 "R36: the NVIDIA Container Toolkit is set to a mode that refuses this way of asking",
	 "turn CDI on for the container engine, or register the runtime nvidia: sudo nvidia-ctk "
	 "runtime configure --runtime=docker && sudo systemctl restart docker"},
	{{"nvidia-container-cli", "unknown device"},
	 "R41: the NVIDIA driver does not know a GPU asked for",
	 "'lem gpus' lists those there are; a GPU that fell off the bus comes back with a reboot"},
	{{"Insufficient Permissions"},
	 "R34: SELinux keeps the container from the GPU",
	 "allow it: sudo setsebool -P container_use_devices on"},
	{{"exec format error"},
	 "the image is made for another processor architecture",
	 "use the image for this machine's architecture (docker.image)"},
	{{"fork/exec "},
	 "the container engine cannot start its own runtime",
	 "docker info names it; repair its package, or register the runtime nvidia again: sudo "
	 "nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker"},
	{{"exec: \"", "executable file not found"},
	 "the image has no such program",
	 "look what it has (docker run --rm --entrypoint ls IMAGE /), or name another image "
	 "(docker.image)"},
	{{"exec: \"", "no such file or directory"},
	 "the image has no such program, or not the loader it needs",
	 "look what it has (docker run --rm --entrypoint ls IMAGE /), or name another image "
	 "(docker.image)"},
	{{"exec: \"", "permission denied"},
	 "the program in the container cannot be executed",
	 "chmod +x it, and mount its folder without noexec"},
	{{"no space left on device"},
	 "the container engine's disk is full",
	 "docker system df tells what takes it, docker system prune frees it"},
	{{"error setting rlimit"},
	 "the container engine may not raise the limits that engines need (memlock, stack)",
	 "run the daemon with LimitMEMLOCK=infinity, or use a rootful engine"},
	{{"bind source path does not exist"},
	 "a folder to be mounted into the container does not exist",
	 "make it, or correct docker.volumes"},
	{{"network", "not found"},
	 "the container engine has no such network",
	 "docker network ls lists those there are (docker.network)"},
	{{"pull access denied"},
	 "the image does not exist, or needs a login",
	 "correct its name (docker.image); a private one: docker login, docker pull it, then "
	 "docker.pull: never"},
	{{"unauthorized"},
	 "the registry wants a login for this image",
	 "docker login, docker pull the image, then docker.pull: never"},
	{{"manifest unknown"},
	 "the registry has no such tag of the image",
	 "correct its name (docker.image)"},
	{{"no matching manifest"},
	 "the image does not exist for this machine's architecture",
	 "use another image (docker.image)"},
	{{"toomanyrequests"}, "the registry allows no more pulls for now", "wait, or docker login"},
	{{"no such host"},
	 "the container engine cannot reach the image's registry",
	 "check its network and proxy; or load the image (docker load) and use docker.pull: never"},
	{{"i/o timeout"},
	 "the container engine cannot reach the image's registry",
	 "check its network and proxy; or load the image (docker load) and use docker.pull: never"},
};

static bool occurs(const char *text, const char *const words[2])
{
	return strstr(text, words[0]) && (!words[1] || strstr(text, words[1]));
}

int docker_explain(struct lem_error *err)
{
	struct lem_error told = *err;

	if (err->code != LEM_E_ENGINE && err->code != LEM_E_NOT_FOUND)
		return -(int)err->code;
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++) {
		if (!occurs(told.why, meanings[i].words))
			continue;
		lem_fail(err, told.code, "%s", meanings[i].what);
		lem_error_why(err, "%s: %s", told.what, told.why);
		return lem_error_fix(err, "%s", meanings[i].fix);
	}
	return -(int)err->code;
}

/* ---- secrets ---- */

static const char *value_of(const struct launch_spec *s, const char *name)
{
	size_t n = strlen(name);
	const char *found = NULL;

	for (const char *const *e = s->env; e && *e; e++)
		if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
			found = *e + n + 1;
	return found;
}

void docker_scrub(const struct launch_spec *spec, struct lem_error *err)
{
	for (const char *const *name = spec->secrets; err && name && *name; name++) {
		const char *value = value_of(spec, *name);

		if (!value)
			continue;
		str_blot(err->what, value);
		str_blot(err->where, value);
		str_blot(err->why, value);
		str_blot(err->fix, value);
	}
}
