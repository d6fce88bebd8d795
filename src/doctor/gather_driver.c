/* gather_driver.c — asks the NVIDIA driver everything, in a child process that may hang. */
#include <dirent.h>

#include "doctor/facts.h"
#include "gpu/links.h"
#include "sys/fs.h"

static void asking(struct doctor_driver *d, const char *fmt, ...) _printf_(2, 3);
static void asking(struct doctor_driver *d, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(d->asking, sizeof(d->asking), fmt, ap);
	va_end(ap);
	atomic_fetch_add(&d->beat, 1);
}

/* ---- in the child ---- */

/* Was the call good? Takes a note when it says that the GPU is gone. */
static bool good(struct doctor_gpu *g, int status)
{
	if (status == NVML_GPU_LOST || status == NVML_RESET_REQUIRED)
		g->trouble = status;
	return status == NVML_SUCCESS;
}

static void read_energy(const struct nvml *n, nvml_device dev, struct doctor_gpu *g)
{
	unsigned long long mj;
	unsigned mw;

	g->energy_status = n->total_energy ? n->total_energy(dev, &mj) : NVML_FUNCTION_NOT_FOUND;
	(void)good(g, g->energy_status);
	g->power_status = n->power_usage ? n->power_usage(dev, &mw) : NVML_FUNCTION_NOT_FOUND;
}

static void read_gpu(const struct nvml *n, struct doctor_driver *d, struct doctor_gpu *g)
{
	struct nvml_memory m;
	nvml_device dev;

	asking(d, "the state of GPU %d", g->device.index);
	if (n->device_by_index((unsigned)g->device.index, &dev) != NVML_SUCCESS)
		return;
	if (n->memory_info)
		(void)good(g, n->memory_info(dev, &m)); /* for what it says of a lost GPU */
	g->has_reasons = n->clock_reasons && good(g, n->clock_reasons(dev, &g->reasons));
	g->asked = true;
	asking(d, "the energy counter of GPU %d", g->device.index);
	read_energy(n, dev, g);
}

static void read_details(const struct nvml *n, struct doctor_driver *d)
{
	struct gpu_details all[DOCTOR_GPUS];

	asking(d, "the details of its GPUs");
	gpu_details_read(n, d->n_gpus, all);
	for (size_t i = 0; i < d->n_gpus; i++)
		d->gpus[i].details = all[i];
}

/* From the inventory's own memory into what both processes see. */
static void take_device(const struct gpu_device *from, struct doctor_gpu *g)
{
	*g = (struct doctor_gpu){
		.device = *from,
		.energy_status = NVML_UNINITIALIZED,
		.power_status = NVML_UNINITIALIZED,
	};
	g->device.migs = g->migs;
	g->device.n_migs = MIN(from->n_migs, (size_t)DOCTOR_MIGS);
	if (g->device.n_migs)
		memcpy(g->migs, from->migs, g->device.n_migs * sizeof(*g->migs));
}

static void read_pairs(const struct nvml *n, struct doctor_driver *d)
{
	_cleanup_gpu_links_ struct gpu_links links = {0};

	memset(d->p2p, DOCTOR_P2P_UNKNOWN, sizeof(d->p2p));
	asking(d, "which GPUs reach each other");
	if (d->n_gpus < 2 || gpu_links_read(n, &links, NULL) < 0)
		return;
	for (size_t i = 0; i < MIN(d->n_gpus, links.n); i++)
		for (size_t k = 0; k < MIN(d->n_gpus, links.n); k++) {
			const struct gpu_link *l = gpu_link_between(&links, i, k);

			if (i != k && l->peer_read.told)
				d->p2p[i][k] = (uint8_t)l->peer_read.value;
		}
}

static void read_processes(const struct nvml *n, struct doctor_driver *d)
{
	asking(d, "which processes use the GPUs");
	d->has_processes = gpu_processes_read(n, d->processes, DOCTOR_PROCESSES, &d->n_processes,
					      &d->processes_error) >= 0;
	d->n_processes = d->has_processes ? MIN(d->n_processes, (size_t)DOCTOR_PROCESSES) : 0;
}

static void ask(void *arg)
{
	struct doctor_driver *d = arg;
	struct gpu_inventory inv = {0};
	struct nvml *n = NULL;
	struct gpu_fact cuda;

	asking(d, "to be opened");
	if (nvml_open(&n, &d->error) < 0) {
		/* nvml_fail writes the return code there */
		if (sscanf(d->error.why, "NVML return code %d", &d->open_status) != 1)
			d->open_status = 0;
		return;
	}
	lem_strlcpy(d->version, n->driver_version, sizeof(d->version));
	cuda = gpu_cuda_driver_version(n);
	d->cuda_version = cuda.told ? (int)cuda.value : 0;
	asking(d, "for its GPUs");
	if (gpu_inventory_from(n, &inv, &d->error) < 0)
		return;
	d->n_gpus = MIN(inv.n, (size_t)DOCTOR_GPUS);
	for (size_t i = 0; i < d->n_gpus; i++)
		take_device(&inv.gpus[i], &d->gpus[i]);
	d->opened = true;
	read_details(n, d);
	read_pairs(n, d);
	read_processes(n, d);
	for (size_t i = 0; i < d->n_gpus; i++)
		read_gpu(n, d, &d->gpus[i]);
	asking(d, "to be closed");
	gpu_inventory_release(&inv);
	nvml_close(n);
}

/* ---- in the parent ---- */

static int is_nvidia_display(const struct dirent *e)
{
	_cleanup_free_ char *dir = doctor_path("/sys/bus/pci/devices");
	_cleanup_free_ char *vendor = lem_asprintf("%s/%s/vendor", dir, e->d_name);
	_cleanup_free_ char *class = lem_asprintf("%s/%s/class", dir, e->d_name);
	char line[32];

	return fs_read_line(vendor, line, sizeof(line)) && str_eq(line, "0x10de") &&
	       fs_read_line(class, line, sizeof(line)) && str_starts(line, "0x03");
}

static int count_pci(void)
{
	_cleanup_free_ char *dir = doctor_path("/sys/bus/pci/devices");
	struct dirent **names = NULL;
	int n = scandir(dir, &names, is_nvidia_display, NULL);

	if (n < 0)
		return errno == ENOENT ? 0 : -1; /* without the folder there is no PCI bus */
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return n;
}

/* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb …": the first word that is
 * a version number. */
static const char *module_version(struct arena *a)
{
	_cleanup_free_ char *path = doctor_path("/proc/driver/nvidia/version");
	char line[256], *save = NULL;

	if (!fs_read_line(path, line, sizeof(line)))
		return NULL;
	for (char *w = strtok_r(line, " \t", &save); w; w = strtok_r(NULL, " \t", &save))
		if (strchr(w, '.') && w[strspn(w, "0123456789.")] == '\0')
			return arena_strdup(a, w);
	return NULL;
}

static bool has_nvswitch(void)
{
	_cleanup_free_ char *proc = doctor_path("/proc/driver/nvidia-nvswitch/devices");
	_cleanup_free_ char *dev = doctor_path("/dev/nvidia-nvswitchctl");

	return fs_exists(proc) || fs_exists(dev);
}

static void describe_users(struct doctor_facts *f)
{
	const struct doctor_driver *d = f->driver;

	f->n_users = d->n_processes;
	f->users = arena_array(&f->arena, f->n_users + 1, sizeof(*f->users));
	for (size_t i = 0; i < f->n_users; i++) {
		struct doctor_named_process *u = &f->users[i];

		u->process = &d->processes[i];
		gpu_process_describe(u->process->pid, u->name, sizeof(u->name), u->user,
				     sizeof(u->user));
	}
}

static enum doctor_answer answer_of(const struct doctor_driver *d, enum bounded_end end)
{
	if (end == BOUNDED_HUNG)
		return ANSWER_TIMED_OUT;
	if (end == BOUNDED_DIED || d->opened)
		return end == BOUNDED_DIED ? ANSWER_FAILED : ANSWER_DONE;
	if (d->open_status == NVML_NO_PERMISSION)
		return ANSWER_REFUSED;
	return d->error.code == LEM_E_NOT_FOUND ? ANSWER_ABSENT : ANSWER_FAILED;
}

void doctor_ask_driver(struct doctor_facts *f)
{
	struct doctor_driver *d = f->driver = bounded_alloc(sizeof(*d));
	enum bounded_end end = BOUNDED_DIED;

	f->nvidia_pci_devices = count_pci();
	f->module_version = module_version(&f->arena);
	f->nvswitch = has_nvswitch();
	if (bounded_run(ask, d, &d->beat, ASK_TIMEOUT_NS, &end, &d->died_of, &d->error) < 0)
		d->answer = ANSWER_FAILED;
	else
		d->answer = answer_of(d, end);
	if (end != BOUNDED_DONE) /* it may have been writing when it was stopped */
		d->asking[sizeof(d->asking) - 1] = '\0';
	f->inventory.n = d->n_gpus;
	f->inventory.gpus = arena_array(&f->arena, d->n_gpus + 1, sizeof(*f->inventory.gpus));
	for (size_t i = 0; i < d->n_gpus; i++)
		f->inventory.gpus[i] = d->gpus[i].device;
	lem_strlcpy(f->inventory.driver_version, d->version, sizeof(d->version));
	describe_users(f);
}
