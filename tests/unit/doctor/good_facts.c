#include "good_facts.h"

static const char *const runtimes[] = {"nvidia", "runc", NULL};
static const char *const spec_dirs[] = {"/etc/cdi", "/var/run/cdi", NULL};
static const char *const cdi_names[] = {"nvidia.com/gpu=0", "nvidia.com/gpu=GPU-0a",
					"nvidia.com/gpu=GPU-1b", "nvidia.com/gpu=all", NULL};
static struct cdi_device cdi_devices[] = {
	{.name = "nvidia.com/gpu=GPU-0a", .spec = "/var/run/cdi/nvidia.yaml"},
	{.name = "nvidia.com/gpu=GPU-1b", .spec = "/var/run/cdi/nvidia.yaml"},
};
static const char *const no_problems[] = {NULL};
static struct meter_status cpu_meters[] = {
	{.meter = "rapl_perf", .device = "package-0", .usable = true}};

static struct gpu_fact told(int64_t value)
{
	return (struct gpu_fact){true, value};
}

static void make_gpu(struct doctor_gpu *g, int index, const char *uuid)
{
	*g = (struct doctor_gpu){
		.device = {.index = index,
			   .memory_bytes = UINT64_C(80) << 30,
			   .name = "NVIDIA H100 80GB HBM3"},
		.details = {.temperature_c = told(34),
			    .memory_used_bytes = told(600 << 20),
			    .memory_free_bytes = told(INT64_C(79) << 30),
			    .persistence = told(1),
			    .row_remap_pending = told(0),
			    .row_remap_failed = told(0),
			    .fabric_state = told(NVML_FABRIC_COMPLETED),
			    .fabric_status = told(NVML_SUCCESS)},
		.asked = true,
		.has_reasons = true,
		.reasons = NVML_REASON_IDLE,
	};
	lem_strlcpy(g->device.uuid, uuid, sizeof(g->device.uuid));
}

static void make_driver(struct doctor_driver *d)
{
	memset(d, 0, sizeof(*d));
	d->opened = d->has_processes = true;
	d->cuda_version = 13000;
	d->n_gpus = 2;
	lem_strlcpy(d->version, "580.159.04", sizeof(d->version));
	make_gpu(&d->gpus[0], 0, "GPU-0a");
	make_gpu(&d->gpus[1], 1, "GPU-1b");
}

static struct doctor_engine make_engine(void)
{
	return (struct doctor_engine){
		.socket = "/var/run/docker.sock",
		.api_version = "1.45",
		.info = {.server_version = "26.1.5",
			 .operating_system = "Debian GNU/Linux 12",
			 .root_dir = "/var/lib/docker",
			 .cgroup_driver = "systemd",
			 .runtimes = runtimes,
			 .cdi_spec_dirs = spec_dirs},
		.cdi = {.at = cdi_devices, .n = ARRAY_LEN(cdi_devices), .problems = no_problems},
		.cdi_devices = cdi_names,
		.cdi_on = true,
		.selinux_allows = -1,
	};
}

struct doctor_facts *good_facts(void)
{
	static struct doctor_driver driver;
	static struct gpu_device devices[2];
	static struct doctor_facts f;

	make_driver(&driver);
	cdi_devices[0].missing = cdi_devices[1].missing = NULL;
	cpu_meters[0] = (struct meter_status){.meter = "rapl_perf", .usable = true};
	for (size_t i = 0; i < 2; i++)
		devices[i] = driver.gpus[i].device;
	f = (struct doctor_facts){
		.driver = &driver,
		.inventory = {.gpus = devices, .n = 2},
		.nvidia_pci_devices = 2,
		.module_version = "580.159.04",
		.nvswitch = true,
		.engine = make_engine(),
		.toolkit = {.installed = true, .accepts_envvar = -1, .no_cgroups = -1},
		.limits = {.shm_bytes = INT64_C(64) << 30,
			   .memlock_bytes = -1,
			   .images_free_bytes = INT64_C(500) << 30,
			   .results_free_bytes = INT64_C(500) << 30,
			   .cache_free_bytes = INT64_C(500) << 30,
			   .images_dir = "/var/lib/docker",
			   .results_dir = "results",
			   .cache_dir = "/home/u/.cache/lem"},
		.tools = {.curl = true,
			  .docker_client = "/usr/bin/docker",
			  .program_dir = "/usr/local/bin",
			  .worker_llama = true,
			  .worker_pytorch = true,
			  .gpuprobe = true},
		.cpu_meters = cpu_meters,
		.n_cpu_meters = 1,
		.has_rapl = true,
	};
	return &f;
}

struct doctor_result run_check(const struct doctor_facts *f, const char *id, const char *group)
{
	struct doctor_result r;

	for (const struct doctor_check *const *c = doctor_checks; *c; c++) {
		if (!str_eq((*c)->id, id) || (group && !str_eq((*c)->group, group)))
			continue;
		doctor_run(*c, f, &r);
		return r;
	}
	fprintf(stderr, "there is no check %s\n", id);
	abort();
}
