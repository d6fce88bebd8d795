/*
 * facts.h — what `lem doctor` finds out about this host, once, before anything is judged. Gathering
 * is I/O and bounded in time (gather_*.c); the checks (check_*.c) are then pure functions of this.
 *
 * Everything carries its own "not known": a reason, a negative number, or NULL.
 *
 * Environment, for tests: LEM_DOCTOR_ROOT stands before the paths of files in /proc, /sys, /etc,
 * /usr, /snap and /dev; LEM_CDI_DIRS, LEM_NVML_LIBRARY, LEM_SYSFS_ROOT, DOCKER_HOST as everywhere.
 */
#ifndef LEM_DOCTOR_FACTS_H
#define LEM_DOCTOR_FACTS_H

#include "gpu/cdi.h"
#include "gpu/details.h"
#include "gpu/inventory.h"
#include "gpu/place.h"
#include "gpu/processes.h"
#include "model/sample.h"
#include "runner/docker_api.h"
#include "sys/bounded.h"
#include "sys/host.h"

enum { DOCTOR_GPUS = 64, DOCTOR_PROCESSES = 256, DOCTOR_MIGS = 8, DOCTOR_P2P_UNKNOWN = 255 };

/* How an inquiry ended. Anything but DONE leaves what it had found until then. */
enum doctor_answer {
	ANSWER_DONE,
	ANSWER_ABSENT,   /* there is nothing to ask */
	ANSWER_REFUSED,  /* no permission */
	ANSWER_FAILED,   /* see its error */
	ANSWER_TIMED_OUT /* within ASK_TIMEOUT_NS */
};
#define ASK_TIMEOUT_NS (5 * NS_PER_S)

struct doctor_gpu {
	struct gpu_device device;
	struct gpu_mig migs[DOCTOR_MIGS]; /* device.migs points here */
	bool asked;                       /* for its state, and it answered */
	int trouble; /* NVML_GPU_LOST or NVML_RESET_REQUIRED, said by any call; else 0 */
	struct gpu_details details;
	bool has_reasons;
	unsigned long long reasons; /* NVML_REASON_* */
	int energy_status;          /* NVML return of the energy counter */
	int power_status;           /* and of the power reading */
};

/* In shared memory: filled by a child process. */
struct doctor_driver {
	atomic_uint beat;
	char asking[96]; /* what the driver was asked last */
	bool opened;
	int open_status; /* of nvmlInit; 0 when it was not reached */
	struct lem_error error;
	char version[NVML_VERSION_SIZE];
	int cuda_version; /* 13000; 0 unknown */
	size_t n_gpus;    /* the first so many; a machine with more is not known */
	struct doctor_gpu gpus[DOCTOR_GPUS];
	uint8_t p2p[DOCTOR_GPUS][DOCTOR_GPUS]; /* NVML_P2P_*, DOCTOR_P2P_UNKNOWN */
	bool has_processes;
	struct lem_error processes_error;
	size_t n_processes;
	struct gpu_process processes[DOCTOR_PROCESSES];
	/* by the parent */
	enum doctor_answer answer;
	int died_of; /* signal */
};

struct doctor_named_process {
	const struct gpu_process *process;
	char name[64], user[32];
};

struct doctor_toolkit {
	bool installed;   /* nvidia-ctk, nvidia-container-runtime or nvidia-container-cli */
	const char *mode; /* of nvidia-container-runtime in config.toml; NULL: no file or not set */
	int accepts_envvar; /* accept-nvidia-visible-devices-envvar-when-unprivileged; -1 not set */
	int no_cgroups;     /* nvidia-container-cli.no-cgroups; -1 not set */
};

struct doctor_engine {
	enum doctor_answer answer;
	struct lem_error error;
	const char *socket, *api_version; /* NULL: not reached */
	struct docker_info info;
	const struct docker_listed *leftovers; /* of a lem that has ended */
	size_t n_leftovers;
	struct cdi_registry cdi;        /* specifications as this host has them */
	int selinux_allows;             /* boolean container_use_devices; -1 unknown */
	const char *const *cdi_devices; /* what the engine knows: its own list, else of cdi */
	bool cdi_on;
};

struct doctor_limits {
	int64_t shm_bytes;     /* size of /dev/shm; -1 unknown */
	int64_t memlock_bytes; /* soft limit; -1 no limit */
	/* free for this user; -1 unknown */
	int64_t images_free_bytes, results_free_bytes, cache_free_bytes;
	const char *images_dir, *results_dir, *cache_dir; /* NULL: not known */
};

struct doctor_tools {
	bool curl;
	struct lem_error curl_error;
	const char *docker_client; /* path; NULL: none */
	const char *program_dir;
	bool worker_llama, worker_pytorch, gpuprobe;
};

struct doctor_facts {
	struct arena arena;
	struct doctor_driver *driver;
	struct gpu_inventory inventory; /* of driver->gpus; not to be released */
	struct doctor_named_process *users;
	size_t n_users;
	int nvidia_pci_devices;     /* display controllers of NVIDIA on the PCI bus; -1 unknown */
	const char *module_version; /* of the loaded kernel module; NULL: not loaded, or not told */
	bool nvswitch;              /* this machine has NVSwitch */
	struct host_facts host;
	struct gpu_place place;
	struct doctor_engine engine;
	struct doctor_toolkit toolkit;
	struct doctor_limits limits;
	struct doctor_tools tools;
	struct meter_status *cpu_meters; /* rapl_perf and rapl_powercap */
	size_t n_cpu_meters;
	bool has_rapl; /* the kernel offers such counters, readable or not */
	/* of a configuration, when one was given; else all GPUs count */
	bool chosen;
	bool choice[DOCTOR_GPUS];
};

/* Asks everything. Never fails: what cannot be known says so. Bounded: 5 s of silence for the
 * driver and for the container engine each. results_dir: where results would go. */
void doctor_gather(const char *results_dir, struct doctor_facts **ret);
void doctor_facts_free(struct doctor_facts *f); /* NULL is fine */

/* Does lem's GPU i count for the checks: chosen by the configuration, or no configuration. */
static inline bool doctor_counts(const struct doctor_facts *f, size_t i)
{
	return !f->chosen || (i < DOCTOR_GPUS && f->choice[i]);
}
/* The container engine's CDI devices hold this GPU. */
bool doctor_cdi_has(const struct doctor_facts *f, const char *uuid);
/* All GPUs that count, and at least one of them. */
bool doctor_cdi_has_all(const struct doctor_facts *f);

/* ---- one file each; used by doctor_gather and by tests ---- */
void doctor_ask_driver(struct doctor_facts *f);
void doctor_ask_engine(struct doctor_facts *f);
void doctor_read_host(struct doctor_facts *f, const char *results_dir);
/* The parts of the toolkit's config.toml that matter (pure). */
void doctor_parse_toolkit(const char *text, struct arena *a, struct doctor_toolkit *ret);
/* $LEM_DOCTOR_ROOT before an absolute path; malloc'ed. */
char *doctor_path(const char *path);

#endif
