/*
 * The docker section. What would break the routing of GPUs is refused here by name, with the rule
 * it breaks: privileged shows every GPU (R01), a device request or list of one's own fights with
 * the one made from gpus (R02), a runtime of one's own changes how devices get in (R03), a count
 * says how many but not which (R37).
 */
#include "config/option.h"

#define MIB (1024.0 * 1024.0)
#define TIB (MIB * MIB)

#define BREAKS(key, rule, why, instead)                                          \
	{                                                                        \
		key, .verdict = REJECT, .code = rule, .help = why, .to = instead \
	}
#define PRIVILEGED \
	"shows the container every GPU of the machine, so that gpus could not be enforced"
#define REQUEST "would choose devices beside gpus, and the last one to speak wins silently"
#define COUNT   "says how many GPUs, not which: Docker always takes the first ones"
#define NUMBERS "is the container's own business: /dev/shm is private and large enough"
#define NO_ROOT "remove it: lem reads energy on the host and needs no privilege"
#define BY_GPUS "remove it; write gpus: [2, 5] at the top level"

#define AT(f) offsetof(struct docker_config, f)
static const struct option options[] = {
	{"image", OPT_STR, AT(image),
	 .help = "Image to run, by tag or digest; null: the engine's official one at the version "
		 "lem was written for. llamacpp has one with server: true, none that fits the "
		 "embedded worker."},
	{"pull", OPT_CHOICE, AT(pull), "missing", CHOICES("missing", "never", "always"),
	 .outside_hash = true, .help = "When the image is fetched."},
	{"shm_size", OPT_BYTES, AT(shm_size), RANGE(MIB, TIB),
	 .help = "Size of /dev/shm, such as 16g, at least 1g for each of several GPUs; null: 8g, "
		 "or 1g for each GPU when that is more."},
	{"volumes", OPT_STR_LIST, AT(volumes),
	 .help = "Folders and files to show the container, HOST:CONTAINER or HOST:CONTAINER:ro; a "
		 "relative HOST starts at the folder of this file, ~ is the home folder."},
	{"network", OPT_STR, AT(network),
	 .help = "host, none, or the name of a Docker network; null: Docker's default network, "
		 "with the engine's port on 127.0.0.1 only."},
	{"user", OPT_STR, AT(user),
	 .help = "UID, UID:GID or a name known in the image; null: the image's own."},

	BREAKS("privileged", "R01", PRIVILEGED, NO_ROOT),
	BREAKS("cap_add", "R01", "gives rights that reach beyond the listed GPUs", NO_ROOT),
	BREAKS("security_opt", "R01", "loosens what keeps the other GPUs away", NO_ROOT),
	BREAKS("gpus", "R02", REQUEST, BY_GPUS),
	BREAKS("devices", "R02", REQUEST, BY_GPUS),
	BREAKS("device_ids", "R02", REQUEST, BY_GPUS),
	BREAKS("device_requests", "R02", REQUEST, BY_GPUS),
	BREAKS("device_cgroup_rules", "R02", REQUEST, BY_GPUS),
	BREAKS("deploy", "R02", REQUEST, BY_GPUS),
	BREAKS("runtime", "R03",
	       "decides how GPUs get in, which lem chooses by what the Docker Engine offers",
	       "remove it; lem doctor tells which way is taken"),
	BREAKS("count", "R37", COUNT, BY_GPUS),
	BREAKS("ipc", "R17", NUMBERS, "remove it; shm_size sets its size"),
	BREAKS("ipc_mode", "R17", NUMBERS, "remove it; shm_size sets its size"),
	BREAKS("pid", "R27", "would mix the engine's processes with those of the host",
	       "remove it"),
	BREAKS("environment", NULL, "has a place that is the same for every runner",
	       "write env at the top level"),
	BREAKS("env", NULL, "has a place that is the same for every runner",
	       "write env at the top level"),
	BREAKS("command", NULL, "is made from the engine's own section",
	       "write the engine's options, or its extra_args"),
	BREAKS("entrypoint", NULL, "is made from the engine's own section",
	       "write the engine's options, or its extra_args"),
	BREAKS("ports", NULL, "is chosen by lem: a free one on 127.0.0.1", "remove it"),
	BREAKS("strategy", NULL, "no longer exists: every run has a fresh container", "remove it"),
	BREAKS("warmup_delay", NULL, "belonged to persistent containers, which no longer exist",
	       "remove it"),
	BREAKS("auto_teardown", NULL, "belonged to persistent containers, which no longer exist",
	       "remove it"),
};
#undef AT

const struct section section_docker = {
	"docker",
	"How the engine's container is made. Which GPUs it gets is decided by `gpus` alone.",
	PRESENT(struct docker_config, present), TABLE(options)};
