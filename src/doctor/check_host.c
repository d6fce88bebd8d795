/* check_host.c — limits, disks, where lem runs, energy counters, programs. */
#include "base/num.h"
#include "doctor/check_list.h"
#include "gpu/id.h"

#define GIB (INT64_C(1) << 30)

static double gib(int64_t bytes)
{
	return (double)bytes / (double)GIB;
}

static bool counts(const struct doctor_gpu *g)
{
	return !g->device.problem[0];
}

/* ---- limits ---- */

static void check_shm(const struct doctor_facts *f, struct doctor_result *r)
{
	int64_t n = (int64_t)doctor_list_gpus(f, counts, NULL);
	char size[24];

	if (f->limits.shm_bytes < 0) {
		doctor_say(r, DOCTOR_UNKNOWN, "/dev/shm cannot be read");
		return;
	}
	num_format_bytes((uint64_t)f->limits.shm_bytes, size, sizeof(size));
	doctor_value(r, "%s", size);
	if (n < 2) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "matters for engines on two GPUs and more");
		return;
	}
	if (f->limits.shm_bytes >= n * GIB)
		return;
	doctor_say(r, DOCTOR_ERROR,
		   "/dev/shm has %s; NCCL on %ld GPUs needs %ld GiB of it in an engine that "
		   "runs as "
		   "a process (containers get their own from lem)",
		   size, (long)n, (long)n);
	if (f->place.in_container)
		doctor_fix(r, "start this container with --shm-size 16g");
	else
		doctor_fix(r, "sudo mount -o remount,size=16g /dev/shm");
}

static void check_memlock(const struct doctor_facts *f, struct doctor_result *r)
{
	enum { ENOUGH_MIB = 8 }; /* what Linux gives since 5.16; it was 64 KiB before */
	int64_t mib = f->limits.memlock_bytes >> 20;

	if (f->limits.memlock_bytes < 0) {
		doctor_value(r, "unlimited");
		return;
	}
	doctor_value(r, "%ld MiB", (long)mib);
	if (mib >= ENOUGH_MIB)
		return;
	if (doctor_list_gpus(f, counts, NULL) < 2) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "matters for engines on two GPUs and more");
		return;
	}
	doctor_say(r, DOCTOR_WARNING,
		   "an engine that runs as a process may lock only %ld MiB; several GPUs exchange "
		   "data "
		   "through locked memory",
		   (long)mib);
	doctor_fix(r, "ulimit -l unlimited; for good: LimitMEMLOCK=infinity, or memlock in "
		      "/etc/security/limits.conf");
}

/* One file system: an error below `least`, a warning below `enough`. */
static void judge_space(struct doctor_result *r, const char *dir, int64_t free_bytes, double least,
			double enough, const char *what)
{
	double have = gib(free_bytes);

	if (free_bytes < 0) {
		doctor_say(r, DOCTOR_UNKNOWN, "the free space of %s cannot be read", dir);
		return;
	}
	doctor_value(r, "%.*f GiB free in %s", have < 10 ? 1 : 0, have, dir);
	if (have < enough)
		doctor_say(r, have < least ? DOCTOR_ERROR : DOCTOR_WARNING,
			   "%.1f GiB are free in %s; %s", have, dir, what);
}

static void check_images_space(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!doctor_has_engine(f, r))
		return;
	if (!f->limits.images_dir) {
		doctor_say(r, DOCTOR_UNKNOWN,
			   "the container engine does not tell where its images lie");
		return;
	}
	judge_space(r, f->limits.images_dir, f->limits.images_free_bytes, 5, 40,
		    "an engine's image takes 10 to 40 GiB");
	doctor_fix(r, "docker system df; docker image prune");
}

static void check_results_space(const struct doctor_facts *f, struct doctor_result *r)
{
	judge_space(r, f->limits.results_dir, f->limits.results_free_bytes, 0.1, 1,
		    "results go there");
	doctor_fix(r, "make room, or choose another folder: LEM_RESULTS_DIR");
}

static void check_cache_space(const struct doctor_facts *f, struct doctor_result *r)
{
	judge_space(r, f->limits.cache_dir, f->limits.cache_free_bytes, 0.1, 10,
		    "models are downloaded into it");
	doctor_fix(r, "make room, or choose another folder: LEM_CACHE_DIR");
}

/* ---- place ---- */

static void check_place(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct gpu_place *p = &f->place;
	const char *kind = p->in_kubernetes  ? "a Kubernetes pod"
			   : p->in_container ? "a container"
					     : "this host itself";

	doctor_value(r, "%s%s", kind, p->in_slurm ? ", a Slurm job" : "");
	if (p->in_container && f->inventory.n && !p->host_gpus && !p->host_gpu_uuids)
		doctor_say(
			r, DOCTOR_WARNING,
			"the host's numbers of the GPUs are not told in here, so `gpus` counts the "
			"visible ones from 0");
	if (r->status == DOCTOR_WARNING)
		doctor_fix(r, "use UUIDs in gpus, or start the container with LEM_HOST_GPUS and "
			      "LEM_HOST_GPU_UUIDS");
}

/* What gpu_resolve says of the variable, which it reads before it looks for any GPU. */
static bool visible_is_wrong(const struct doctor_facts *f, struct lem_error *err)
{
	static const char *const any[] = {"0"};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;

	*err = (struct lem_error)LEM_ERROR_INIT;
	return gpu_resolve(&f->inventory, any, 1, f->place.cuda_visible_devices, &a, &b, err) < 0 &&
	       (str_starts(err->what, "R05: ") || str_starts(err->what, "CUDA_VISIBLE_DEVICES"));
}

static bool has_visible(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!doctor_has_gpus(f, r))
		return false;
	if (f->place.cuda_visible_devices)
		return true;
	doctor_value(r, "not set");
	return false;
}

static bool is_twice(const struct lem_error *err)
{
	return strstr(err->what, "twice") != NULL;
}

static void check_visible(const struct doctor_facts *f, struct doctor_result *r)
{
	struct lem_error err;

	if (!has_visible(f, r))
		return;
	doctor_value(r, "%s", f->place.cuda_visible_devices);
	if (!visible_is_wrong(f, &err) || is_twice(&err))
		return;
	doctor_say(r, DOCTOR_ERROR, "%s%s%s",
		   str_starts(err.what, "R05: ") ? err.what + 5 : err.what, err.why[0] ? "; " : "",
		   err.why);
	doctor_fix(r, "%s", err.fix);
}

static void check_visible_once(const struct doctor_facts *f, struct doctor_result *r)
{
	struct lem_error err;

	if (!has_visible(f, r))
		return;
	doctor_value(r, "%s", f->place.cuda_visible_devices);
	if (!visible_is_wrong(f, &err) || !is_twice(&err))
		return;
	doctor_say(r, DOCTOR_ERROR,
		   "CUDA_VISIBLE_DEVICES=\"%s\" names a GPU twice: CUDA answers error 101, PyTorch "
		   "sees "
		   "none",
		   f->place.cuda_visible_devices);
	doctor_fix(r, "unset CUDA_VISIBLE_DEVICES, or name each GPU once");
}

static void check_visible_numbers(const struct doctor_facts *f, struct doctor_result *r)
{
	const char *cvd = f->place.cuda_visible_devices;

	if (!has_visible(f, r))
		return;
	doctor_value(r, "%s", cvd);
	if (strstr(cvd, "GPU-") || strstr(cvd, "MIG-"))
		doctor_say(r, DOCTOR_WARNING,
			   "CUDA_VISIBLE_DEVICES holds UUIDs, which vLLM cannot read; lem replaces "
			   "them by "
			   "numbers in what it starts, other programs get them as they are");
}

static void check_slurm(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!f->place.in_slurm) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "not in a Slurm job");
		return;
	}
	doctor_value(r, "this job: %s",
		     f->place.slurm_step_gpus ? f->place.slurm_step_gpus : "GPUs not told");
	if (f->engine.answer == ANSWER_DONE)
		doctor_say(r, DOCTOR_WARNING,
			   "the container engine knows nothing of this job and numbers all GPUs of "
			   "the "
			   "machine");
}

/* ---- energy ---- */

static bool no_counter(const struct doctor_gpu *g)
{
	return g->energy_status != NVML_SUCCESS && !g->device.problem[0];
}

static bool no_energy(const struct doctor_gpu *g)
{
	return no_counter(g) && g->power_status != NVML_SUCCESS;
}

static void check_gpu_energy(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;
	size_t i = 0;

	if (!doctor_has_gpus(f, r))
		return;
	if (doctor_list_gpus(f, no_counter, &list) == 0) {
		doctor_value(r, "readable");
		return;
	}
	while (!no_counter(&f->driver->gpus[i]) || !doctor_counts(f, i))
		i++;
	const char *why = nvml_return_text(f->driver->gpus[i].energy_status);

	if (f->driver->answer == ANSWER_TIMED_OUT) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver did not answer");
	} else if (doctor_list_gpus(f, no_energy, NULL)) {
		doctor_say(r, DOCTOR_ERROR,
			   "neither the energy counter nor the power of %s can be read: %s",
			   str_c(&list), why);
		doctor_fix(r, "%s", nvml_return_fix(f->driver->gpus[i].energy_status));
	} else {
		doctor_say(r, DOCTOR_WARNING,
			   "%s has no readable energy counter (%s); energy is summed from power "
			   "readings, "
			   "with wider intervals",
			   str_c(&list), why);
		doctor_fix(
			r,
			"use a Volta or newer GPU and a current driver, or accept the intervals");
	}
}

/* psys is the whole platform, package and memory together: no figure is made of it. */
static bool gives_figures(const struct meter_status *m)
{
	return m->usable && !str_starts(m->device, "psys");
}

/* "rapl_perf: package-0, dram-0": the domains of one meter. */
static void show_domains(const struct doctor_facts *f, const char *meter, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;

	for (size_t i = 0; i < f->n_cpu_meters; i++) {
		const struct meter_status *m = &f->cpu_meters[i];

		if (gives_figures(m) && str_eq(m->meter, meter) && m->device[0])
			str_addf(&list, "%s%s", list.len ? ", " : ": ", m->device);
	}
	doctor_value(r, "%s%s", meter, str_c(&list));
}

/* Nothing that a figure could be made of. A machine that has no counter cannot be mended; one that
 * hides it can. */
static void say_unmeasured(const struct doctor_facts *f, const struct meter_status *why,
			   bool has_psys, struct doctor_result *r)
{
	if (has_psys && !(why && why->fix[0])) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE,
			   "CPU energy is not measured: the only counter here is psys, of the "
			   "whole platform, and no figure is made of it");
		return;
	}
	if (!why) {
		doctor_say(r, DOCTOR_UNKNOWN, "no counter of the CPU said anything");
		return;
	}
	doctor_say(r, f->has_rapl ? DOCTOR_WARNING : DOCTOR_NOT_APPLICABLE,
		   "CPU energy is not measured: %s", why->reason);
	doctor_fix(r, "%s", why->fix);
}

static void check_cpu_energy(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct meter_status *first = NULL;
	bool has_psys = false;

	for (size_t i = 0; i < f->n_cpu_meters; i++) {
		const struct meter_status *m = &f->cpu_meters[i];

		if (gives_figures(m)) {
			show_domains(f, m->meter, r);
			return;
		}
		has_psys |= m->usable;
		if (m->reason[0] && (!first || (!first->fix[0] && m->fix[0])))
			first = m;
	}
	say_unmeasured(f, first, has_psys, r);
}

/* ---- tools ---- */

static void check_curl(const struct doctor_facts *f, struct doctor_result *r)
{
	doctor_value(r, "found");
	if (f->tools.curl)
		return;
	doctor_value(r, "missing");
	doctor_say(r, DOCTOR_ERROR, "%s: downloads and containers need it",
		   f->tools.curl_error.what);
	doctor_fix(r, "%s",
		   f->tools.curl_error.fix[0] ? f->tools.curl_error.fix
					      : "sudo apt-get install -y libcurl4");
}

static void check_client(const struct doctor_facts *f, struct doctor_result *r)
{
	if (f->tools.docker_client)
		doctor_value(r, "%s", f->tools.docker_client);
	else
		doctor_say(r, DOCTOR_NOT_APPLICABLE,
			   "not installed; lem speaks to the engine itself");
}

static void beside(const struct doctor_facts *f, struct doctor_result *r, bool there,
		   const char *name, const char *what)
{
	doctor_value(r, "found");
	if (there)
		return;
	doctor_value(r, "missing");
	doctor_say(r, DOCTOR_ERROR, "%s/%s is missing: %s", f->tools.program_dir, name, what);
	doctor_fix(r, "install lem as a whole (make install), or run it from its build folder");
}

static void check_worker(const struct doctor_facts *f, struct doctor_result *r)
{
	beside(f, r, f->tools.worker_llama, "lem-worker-llama", "llama.cpp cannot be started");
}

static void check_pytorch(const struct doctor_facts *f, struct doctor_result *r)
{
	beside(f, r, f->tools.worker_pytorch, "lem_worker_pytorch.pyz",
	       "the PyTorch engine cannot be started");
}

static void check_probe(const struct doctor_facts *f, struct doctor_result *r)
{
	if (f->inventory.n == 0 && !f->tools.gpuprobe) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU in this machine");
		return;
	}
	beside(f, r, f->tools.gpuprobe, "lem-gpuprobe",
	       "which GPUs an engine sees cannot be proved");
}

const struct doctor_check check_limit_shm = {"R17", "Limits", "shared memory", check_shm};
const struct doctor_check check_limit_memlock = {"memlock", "Limits", "locked memory",
						 check_memlock};
const struct doctor_check check_limit_images = {"disk-images", "Limits", "room for images",
						check_images_space};
const struct doctor_check check_limit_results = {"disk-results", "Limits", "room for results",
						 check_results_space};
const struct doctor_check check_limit_cache = {"disk-models", "Limits", "room for models",
					       check_cache_space};
const struct doctor_check check_place_kind = {"place", "Place", "lem runs in", check_place};
const struct doctor_check check_place_visible = {"R05", "Place", "CUDA_VISIBLE_DEVICES",
						 check_visible};
const struct doctor_check check_place_once = {"R06", "Place", "each GPU named once",
					      check_visible_once};
const struct doctor_check check_place_numbers = {"R07", "Place", "numbers, not UUIDs",
						 check_visible_numbers};
const struct doctor_check check_place_slurm = {"R33", "Place", "Slurm", check_slurm};
const struct doctor_check check_energy_gpu = {"energy-gpu", "Energy", "GPU energy counter",
					      check_gpu_energy};
const struct doctor_check check_energy_cpu = {"energy-cpu", "Energy", "CPU energy counter",
					      check_cpu_energy};
const struct doctor_check check_tool_curl = {"libcurl", "Programs", "libcurl", check_curl};
const struct doctor_check check_tool_client = {"docker-client", "Programs", "docker client",
					       check_client};
const struct doctor_check check_tool_worker = {"worker-llama", "Programs", "llama.cpp worker",
					       check_worker};
const struct doctor_check check_tool_pytorch = {"worker-pytorch", "Programs", "PyTorch worker",
						check_pytorch};
const struct doctor_check check_tool_probe = {"gpuprobe", "Programs", "GPU probe", check_probe};
