/* What can be known to be wrong before a container is made. */
#include <sys/utsname.h>

#include "model/gpu_binding.h"
#include "runner/docker_run.h"
#include "sys/fs.h"

/* ---- the image ---- */

/* The Go names that images carry, for what uname says. */
static const char *host_architecture(void)
{
	static const char *const names[][2] = {{"x86_64", "amd64"},    {"aarch64", "arm64"},
					       {"armv7l", "arm"},      {"i686", "386"},
					       {"ppc64le", "ppc64le"}, {"s390x", "s390x"},
					       {"riscv64", "riscv64"}};
	struct utsname u;

	if (uname(&u) < 0)
		return NULL;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(u.machine, names[i][0]))
			return names[i][1];
	return NULL;
}

static int check_architecture(const char *ref, const struct docker_image *image,
			      struct lem_error *err)
{
	const char *host = host_architecture();
	const char *theirs = image->architecture ? image->architecture : "";

	if (image->os && *image->os && !str_eq(image->os, "linux"))
		return lem_fail(err, LEM_E_REFUSED, "the image %.150s is made for %.20s, not Linux",
				ref, image->os);
	if (!host || !*theirs || str_eq(theirs, host))
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED, "the image %.150s is made for %.20s, this machine is %s",
		       ref, theirs, host);
	(void)lem_error_why(err, "emulated, it would run without GPUs and measure the emulator");
	return lem_error_fix(err, "use the image for %s (docker.image), or build it here", host);
}

int docker_check_image(struct docker *d, const struct launch_spec *spec, struct arena *a,
		       struct docker_image *ret, struct lem_error *err)
{
	int rc = docker_image(d, spec->image, a, ret, err);

	if (rc >= 0)
		return check_architecture(spec->image, ret, err);
	if (docker_last_status(d) != 404)
		return rc;
	if (!str_eq(spec->pull, "never")) {
		*ret = (struct docker_image){.id = NULL}; /* start pulls it */
		return 0;
	}
	(void)lem_fail(err, LEM_E_REFUSED, "the image %.200s is not on this host", spec->image);
	(void)lem_error_why(err, "docker.pull is never");
	return lem_error_fix(err, "docker pull %.200s, or set docker.pull: missing", spec->image);
}

/* ---- the environment ---- */

static bool is_of(const char *entry, const char *name)
{
	size_t n = strlen(name);

	return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

/* Twice with different values: someone set what is derived from gpus. */
static int check_variable(const struct launch_spec *spec, const char *name, struct lem_error *err)
{
	const char *seen = NULL;

	for (const char *const *e = spec->env; e && *e; e++) {
		if (!is_of(*e, name))
			continue;
		if (seen && !str_eq(seen, *e)) {
			(void)lem_fail(err, LEM_E_REFUSED,
				       "R04: env sets %.100s, gpus means %.200s", seen, *e);
			return lem_error_fix(err, "remove %s from env: it is derived from gpus",
					     name);
		}
		seen = *e;
	}
	if (!seen || !str_eq(seen + strlen(name) + 1, "all"))
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED, "R02: %s would show the container every GPU", seen);
	return lem_error_fix(err, "remove it from env and list the GPUs in gpus");
}

/* ---- what is mounted ---- */

/* "/host/path:/inside[:options]" or "volume:/inside[:options]". */
static int check_bind(const char *bind, struct lem_error *err)
{
	const char *inside = strstr(bind, ":/");
	_cleanup_free_ char *host = inside ? lem_strndup(bind, (size_t)(inside - bind)) : NULL;
	const char *options = inside ? strchr(inside + 2, ':') : NULL;
	bool read_only = options && strstr(options, "ro");

	if (!host || !*host || *host == '.' || *host == '~') {
		(void)lem_fail(err, LEM_E_REFUSED, "'%.200s' cannot be mounted into a container",
			       bind);
		return lem_error_fix(err, "write it as /path/on/the/host:/path/inside[:ro]");
	}
	if (*host != '/' || !read_only || fs_exists(host))
		return 0; /* what may be written is made when the container starts */
	(void)lem_fail(err, LEM_E_REFUSED,
		       "%.200s does not exist, so it cannot be mounted into a container", host);
	return lem_error_fix(err, "make it, or correct its path (docker.volumes)");
}

int docker_check_spec(const struct launch_spec *spec, struct lem_error *err)
{
	int rc;

	if (!spec->image || !*spec->image) {
		(void)lem_fail(err, LEM_E_REFUSED, "no container image is named for %s",
			       spec->engine ? spec->engine : "the engine");
		return lem_error_fix(err, "name one: docker: {image: REPOSITORY:TAG}, or use "
					  "runner: process");
	}
	if ((rc = check_variable(spec, "CUDA_VISIBLE_DEVICES", err)) < 0 ||
	    (rc = check_variable(spec, "NVIDIA_VISIBLE_DEVICES", err)) < 0)
		return rc;
	for (const char *const *b = spec->binds; b && *b; b++)
		if ((rc = check_bind(*b, err)) < 0)
			return rc;
	return 0;
}
