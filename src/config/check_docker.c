/* The docker section: what cannot work, and what would undo the routing by another door. */
#include "base/num.h"
#include "config/impl.h"
#include "sys/fs.h"

#define SHM_PER_GPU (INT64_C(1) << 30) /* NCCL between several GPUs; routing.md 10, R17 */

static void check_place(struct config *c)
{
	const char *place = c->exp.runner == RUNNER_PROCESS ? "process"
			    : c->exp.runner == RUNNER_SLURM ? "slurm"
							    : "external";
	struct finding *f;

	if (c->exp.runner == RUNNER_AUTO || c->exp.runner == RUNNER_DOCKER ||
	    config_invalid(c, "runner"))
		return;
	f = finding_add(c, SEVERITY_ERROR, "C13", "docker", config_where(c, "docker"),
			"has no effect with runner: %s", place);
	finding_hint(c, f, "write runner: docker, or remove the section");
}

static void check_shm(struct config *c)
{
	const struct docker_config *d = &c->exp.docker;
	int64_t n = (int64_t)c->exp.gpus.n;
	char size[24];
	struct finding *f;

	if (!d->shm_size.set || config_invalid(c, "gpus") || n < 2 ||
	    d->shm_size.v >= n * SHM_PER_GPU)
		return;
	f = finding_add(c, SEVERITY_ERROR, "R17", "docker.shm_size",
			config_where(c, "docker.shm_size"),
			"is %s, but %" PRId64 " GPUs need %" PRId64
			" GiB of /dev/shm to talk to each other",
			num_format_bytes((uint64_t)d->shm_size.v, size, sizeof(size)), n, n);
	finding_hint(c, f, "remove it, or write %" PRId64 "g", n);
}

static void check_image(struct config *c)
{
	const char *image = c->exp.docker.image;

	if (!image)
		return;
	/* a reference is one word, lower case up to the tag; Docker tells the rest */
	if (image[0] == '-' || strpbrk(image, " \t\r\n'\""))
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", "docker.image",
					 config_where(c, "docker.image"), "is not an image: %s",
					 image),
			     "write it like vllm/vllm-openai:v0.32.0");
	else if (str_ends(image, ":latest") ||
		 (!strchr(image, '@') &&
		  !strchr(strrchr(image, '/') ? strrchr(image, '/') : image, ':')))
		finding_hint(c,
			     finding_add(c, SEVERITY_WARNING, "C23", "docker.image",
					 config_where(c, "docker.image"),
					 "moves: %s names another image tomorrow", image),
			     "name a version, or a digest; the digest that ran is in the result");
}

static struct finding *bad_volume(struct config *c, const char *code, const char *volume,
				  const char *what)
{
	return finding_add(c, SEVERITY_ERROR, code, "docker.volumes",
			   config_where(c, "docker.volumes"), "%s: %s", volume, what);
}

/* A path is the folder itself, or lies below it. */
static bool below(const char *path, const char *folder)
{
	size_t n = strlen(folder);

	return strncmp(path, folder, n) == 0 && (!path[n] || path[n] == '/');
}

static bool has_dots(const char *path)
{
	for (const char *p = strstr(path, ".."); p; p = strstr(p + 2, ".."))
		if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	return false;
}

/* Doors through which devices come in beside gpus, and lem's own folder. */
static bool check_target(struct config *c, const char *volume, const char *target)
{
	struct finding *f;

	if (target[0] != '/' || !target[1] || has_dots(target)) {
		f = bad_volume(c, "C03", volume,
			       "the path in the container is not an absolute one");
		finding_hint(c, f, "write it like /data:/data:ro");
		return false;
	}
	if (below(target, "/dev")) {
		f = bad_volume(c, "R01", volume,
			       "shows the container devices that gpus does not list");
		finding_hint(c, f, "remove it; gpus decides");
		return false;
	}
	if (below(target, "/var/run/nvidia-container-devices") ||
	    below(target, "/run/nvidia-container-devices")) {
		f = bad_volume(c, "R02", volume,
			       "asks the container toolkit for devices beside gpus");
		finding_hint(c, f, "remove it; gpus decides");
		return false;
	}
	if (below(target, "/lem")) {
		f = bad_volume(c, "C14", volume, "/lem is where lem puts its own files");
		finding_hint(c, f, "choose another path in the container");
		return false;
	}
	return true;
}

static void check_host_path(struct config *c, const char *volume, const char *host)
{
	const char *home = getenv("HOME");
	bool of_home = host[0] == '~' && (!host[1] || host[1] == '/');
	_cleanup_free_ char *full = of_home ? lem_asprintf("%s%s", home ? home : "", host + 1)
					    : fs_join(c->exp.root_dir, host);
	_cleanup_free_ char *real = realpath(full, NULL);
	struct finding *f;

	if (real && (str_eq(real, "/") || below(real, "/dev"))) {
		f = bad_volume(c, "R01", volume,
			       "shows the container devices that gpus does not list");
		finding_hint(c, f, "name the folder that is needed, outside /dev");
	} else if (host[0] == '~' && !of_home) {
		f = bad_volume(c, "C03", volume,
			       "only ~ and ~/… are known, not another user's home");
		finding_hint(c, f, "write the full path");
	} else if (!fs_exists(full)) {
		f = bad_volume(
			c, "C19", volume,
			"the path on this machine does not exist; Docker would make an empty "
			"folder there, owned by root");
		finding_hint(c, f, "make it, or correct the path: %s", full);
	}
}

static void check_volume(struct config *c, const char *volume)
{
	const char *colon = strchr(volume, ':'), *mode;
	char *host, *target;

	if (!colon || colon == volume || !colon[1]) {
		finding_hint(c, bad_volume(c, "C03", volume, "is not HOST:CONTAINER"),
			     "write it like /data:/data:ro");
		return;
	}
	host = arena_strndup(&c->arena, volume, (size_t)(colon - volume));
	mode = strchr(colon + 1, ':');
	target = mode ? arena_strndup(&c->arena, colon + 1, (size_t)(mode - colon - 1))
		      : arena_strdup(&c->arena, colon + 1);
	if (mode && !str_eq(mode, ":ro") && !str_eq(mode, ":rw")) {
		finding_hint(c,
			     bad_volume(c, "C03", volume, "ends in something else than ro or rw"),
			     "write it like /data:/data:ro");
		return;
	}
	if (check_target(c, volume, target))
		check_host_path(c, volume, host);
}

/* "container:NAME" would share another container's network, "host" the host's: both are allowed
 * for the network, for neither shows devices. A name is one word. */
static void check_word(struct config *c, const char *path, const char *value)
{
	if (!value || (value[0] != '-' && !strpbrk(value, " \t\r\n'\"")))
		return;
	finding_hint(c,
		     finding_add(c, SEVERITY_ERROR, "C03", path, config_where(c, path),
				 "must be one word, is %s", value),
		     "leave it out for the default");
}

void check_docker(struct config *c)
{
	const struct docker_config *d = &c->exp.docker;

	if (!d->present || c->exp.backend == BACKEND_OPENAI)
		return;
	check_place(c);
	check_image(c);
	check_shm(c);
	check_word(c, "docker.network", d->network);
	check_word(c, "docker.user", d->user);
	for (size_t i = 0; i < d->volumes.n; i++)
		check_volume(c, d->volumes.at[i]);
}
