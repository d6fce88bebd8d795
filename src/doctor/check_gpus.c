/* check_gpus.c — the state of each GPU: modes, memory, processes, links, clocks. */
#include "doctor/check_list.h"

/* What the driver itself keeps on an idle card is some 600 MB on an A100 (engines.md section 7), so
 * less than this is nobody's. */
#define RESIDUE_BYTES (INT64_C(1) << 30)

static double gib(int64_t bytes)
{
	return (double)bytes / (double)(1 << 30);
}

static bool is_any(const struct doctor_gpu *g)
{
	(void)g;
	return true;
}

static void check_present(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str s = STR_INIT;
	size_t n = f->inventory.n;

	if (!doctor_has_gpus(f, r))
		return;
	for (size_t i = 0; i < n;) {
		const char *name = f->inventory.gpus[i].name;
		size_t k = 1;

		while (i + k < n && str_eq(f->inventory.gpus[i + k].name, name))
			k++;
		str_addf(&s, "%s%zu × %s", s.len ? ", " : "", k, *name ? name : "unknown");
		i += k;
	}
	doctor_value(r, "%s", str_c(&s));
	if (f->chosen) {
		str_reset(&s);
		doctor_list_gpus(f, is_any, &s);
		doctor_value(r, "%s of %zu", str_c(&s), n);
	}
}

static bool is_mig(const struct doctor_gpu *g)
{
	return g->device.mig;
}

static void check_mig(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;
	size_t n;

	if (!doctor_has_gpus(f, r))
		return;
	n = doctor_list_gpus(f, is_mig, &list);
	doctor_value(r, "off");
	if (n == 0)
		return;
	doctor_value(r, "on: %s", str_c(&list));
	doctor_say(r, DOCTOR_WARNING,
		   "%s cannot be used whole, one MIG instance serves one process, and energy is "
		   "that of "
		   "the whole card",
		   str_c(&list));
	doctor_fix(r, "choose MIG instances by UUID (lem gpus), or switch MIG off: sudo nvidia-smi "
		      "-mig 0");
}

static bool is_exclusive(const struct doctor_gpu *g)
{
	return g->device.compute_mode == 3;
}

static bool is_prohibited(const struct doctor_gpu *g)
{
	return g->device.compute_mode == 2;
}

static bool mode_is_unknown(const struct doctor_gpu *g)
{
	return g->device.compute_mode < 0 && !g->device.problem[0];
}

static void check_mode(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;

	if (!doctor_has_gpus(f, r))
		return;
	if (doctor_list_gpus(f, is_prohibited, &list)) {
		doctor_value(r, "prohibited: %s", str_c(&list));
		doctor_say(r, DOCTOR_ERROR, "%s: compute mode PROHIBITED lets no process use it",
			   str_c(&list));
	} else if (doctor_list_gpus(f, is_exclusive, &list)) {
		doctor_value(r, "exclusive: %s", str_c(&list));
		doctor_say(
			r, DOCTOR_ERROR,
			"%s: compute mode EXCLUSIVE_PROCESS takes a single process, engines often "
			"start several, and lem's proof needs one before them",
			str_c(&list));
	} else if (doctor_list_gpus(f, mode_is_unknown, &list)) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver does not tell the compute mode of %s",
			   str_c(&list));
	} else {
		doctor_value(r, "default");
	}
}

static bool fabric_is_not_up(const struct doctor_gpu *g)
{
	int64_t state = g->details.fabric_state.value;

	return state == NVML_FABRIC_NOT_STARTED || state == NVML_FABRIC_IN_PROGRESS ||
	       (state == NVML_FABRIC_COMPLETED && g->details.fabric_status.value != NVML_SUCCESS);
}

static bool has_fabric(const struct doctor_gpu *g)
{
	return g->details.fabric_state.value > NVML_FABRIC_NOT_SUPPORTED;
}

static void check_fabric(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;

	if (!doctor_has_gpus(f, r))
		return;
	if (doctor_list_gpus(f, fabric_is_not_up, &list)) {
		doctor_value(r, "not up: %s", str_c(&list));
		doctor_say(r, DOCTOR_ERROR,
			   "the links between the GPUs are not set up, so CUDA answers 802 (system "
			   "not "
			   "yet initialized); nvidia-fabricmanager must run, in version %s exactly",
			   f->driver->version);
	} else if (doctor_list_gpus(f, has_fabric, &list)) {
		doctor_value(r, "up");
	} else if (f->driver->answer == ANSWER_TIMED_OUT) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver did not answer");
	} else if (f->nvswitch) {
		doctor_say(r, DOCTOR_UNKNOWN,
			   "this machine has NVSwitch, but the driver does not tell whether the "
			   "fabric is up");
		doctor_fix(r, "systemctl is-active nvidia-fabricmanager");
	} else {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "no NVSwitch in this machine");
	}
}

static bool is_full(const struct doctor_gpu *g)
{
	return g->details.memory_used_bytes.told &&
	       g->details.memory_used_bytes.value > RESIDUE_BYTES;
}

static bool memory_is_unknown(const struct doctor_gpu *g)
{
	return !g->details.memory_used_bytes.told && !g->device.problem[0];
}

static bool is_free(const struct doctor_gpu *g)
{
	return g->details.memory_used_bytes.told && !is_full(g) && !g->device.problem[0];
}

/* Of all GPUs, chosen or not: "GPUs 3, 4", or "none". */
static void list_free(const struct doctor_facts *f, struct str *s)
{
	struct doctor_facts all = *f;

	all.chosen = false;
	if (doctor_list_gpus(&all, is_free, s) == 0)
		str_add(s, "none");
}

/* The GPU with the least free memory; NULL: none is known. */
static const struct doctor_gpu *find_fullest(const struct doctor_facts *f)
{
	const struct doctor_gpu *worst = NULL;

	for (size_t i = 0; i < f->inventory.n; i++) {
		const struct doctor_gpu *g = &f->driver->gpus[i];

		if (!doctor_counts(f, i) || !g->details.memory_free_bytes.told)
			continue;
		if (!worst ||
		    g->details.memory_free_bytes.value < worst->details.memory_free_bytes.value)
			worst = g;
	}
	return worst;
}

static void check_memory(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT, others = STR_INIT;
	const struct doctor_gpu *worst;

	if (!doctor_has_gpus(f, r))
		return;
	worst = find_fullest(f);
	if (doctor_list_gpus(f, memory_is_unknown, &list) || !worst) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver does not tell the memory of %s",
			   list.len ? str_c(&list) : "any GPU");
		return;
	}
	doctor_value(r, "at least %.1f of %.1f GiB", gib(worst->details.memory_free_bytes.value),
		     gib((int64_t)worst->device.memory_bytes));
	if (doctor_list_gpus(f, is_full, NULL) == 0)
		return;
	list_free(f, &others);
	doctor_say(r, f->chosen ? DOCTOR_ERROR : DOCTOR_WARNING,
		   "GPU %d has %.1f of %.1f GiB in use; free now: %s", worst->device.index,
		   gib(worst->details.memory_used_bytes.value),
		   gib((int64_t)worst->device.memory_bytes), str_c(&others));
}

static bool is_on_chosen(const struct doctor_facts *f, const struct gpu_process *p)
{
	return p->gpu_index >= 0 && doctor_counts(f, (size_t)p->gpu_index);
}

static void add_user(const struct doctor_named_process *u, struct str *s)
{
	str_addf(s, "%spid %ld", s->len ? ", " : "", (long)u->process->pid);
	if (u->name[0])
		str_addf(s, " (%s%s%s)", u->name, u->user[0] ? ", " : "", u->user);
	str_addf(s, " on GPU %d", u->process->gpu_index);
	if (u->process->memory_bytes)
		str_addf(s, " with %.1f GiB", gib((int64_t)u->process->memory_bytes));
}

static void check_processes(const struct doctor_facts *f, struct doctor_result *r)
{
	enum { SHOWN = 3 };
	_cleanup_str_ struct str s = STR_INIT;
	size_t n = 0;

	if (!doctor_has_gpus(f, r))
		return;
	if (!f->driver->has_processes) {
		doctor_say(r, DOCTOR_UNKNOWN, "%s",
			   f->driver->processes_error.what[0] ? f->driver->processes_error.what
							      : "the driver did not tell");
		return;
	}
	for (size_t i = 0; i < f->n_users; i++) {
		const struct doctor_named_process *u = &f->users[i];

		if (!is_on_chosen(f, u->process) || u->process->graphics)
			continue;
		if (n++ < SHOWN)
			add_user(u, &s);
	}
	doctor_value(r, "none");
	if (n == 0)
		return;
	doctor_value(r, "%zu", n);
	doctor_say(r, DOCTOR_WARNING, "what it draws would be counted as yours: %s%s", str_c(&s),
		   n > SHOWN ? " and more" : "");
	doctor_fix(r, "stop it, or choose another GPU (lem gpus lists all)");
}

static void check_peers(const struct doctor_facts *f, struct doctor_result *r)
{
	size_t pairs = 0, unknown = 0, broken = 0, a = 0, b = 0;

	if (!doctor_has_gpus(f, r))
		return;
	for (size_t i = 0; i < f->inventory.n; i++)
		for (size_t k = i + 1; k < f->inventory.n; k++) {
			uint8_t s = f->driver->p2p[i][k];

			if (!doctor_counts(f, i) || !doctor_counts(f, k))
				continue;
			pairs++;
			unknown += s == DOCTOR_P2P_UNKNOWN || s == NVML_P2P_UNKNOWN;
			if (s == NVML_P2P_OK || s == DOCTOR_P2P_UNKNOWN || s == NVML_P2P_UNKNOWN)
				continue;
			if (broken++ == 0) {
				a = i;
				b = k;
			}
		}
	if (pairs == 0) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "needs two GPUs");
	} else if (broken) {
		doctor_value(r, "%zu of %zu pairs cannot", broken, pairs);
		doctor_say(r, DOCTOR_WARNING,
			   "GPUs %zu and %zu cannot read each other's memory: NCCL is slower, and "
			   "may hang "
			   "at its start",
			   a, b);
	} else if (unknown) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver does not tell it for %zu of %zu pairs",
			   unknown, pairs);
	} else {
		doctor_value(r, "yes");
	}
}

static void check_models(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct gpu_device *first = NULL;
	size_t n = 0;

	if (!doctor_has_gpus(f, r))
		return;
	for (size_t i = 0; i < f->inventory.n; i++) {
		const struct gpu_device *g = &f->inventory.gpus[i];

		if (!doctor_counts(f, i) || g->problem[0])
			continue;
		n++;
		if (!first) {
			first = g;
		} else if (!str_eq(first->name, g->name) ||
			   first->memory_bytes != g->memory_bytes) {
			doctor_value(r, "GPU %d: %s, GPU %d: %s", first->index, first->name,
				     g->index, g->name);
			doctor_say(r, DOCTOR_WARNING,
				   "GPUs %d and %d differ: parallel ranks wait for the slower one",
				   first->index, g->index);
			doctor_fix(r, "put only GPUs of one model into gpus");
			return;
		}
	}
	doctor_value(r, "yes");
	if (n < 2)
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "needs two GPUs");
}

static bool persistence_is_off(const struct doctor_gpu *g)
{
	return g->details.persistence.told && !g->details.persistence.value;
}

static bool persistence_is_on(const struct doctor_gpu *g)
{
	return g->details.persistence.value != 0;
}

static void check_persistence(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!doctor_has_gpus(f, r))
		return;
	if (doctor_list_gpus(f, persistence_is_off, NULL)) {
		doctor_value(r, "off");
		doctor_say(
			r, DOCTOR_WARNING,
			"without a user the driver lets go of the GPUs: the energy counter starts "
			"again and the first call takes seconds");
		doctor_fix(r, "sudo nvidia-smi -pm 1");
	} else if (doctor_list_gpus(f, persistence_is_on, NULL)) {
		doctor_value(r, "on");
	} else {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver does not tell");
	}
}

static bool is_throttled(const struct doctor_gpu *g)
{
	return g->has_reasons &&
	       (g->reasons & (NVML_REASON_HW_SLOWDOWN | NVML_REASON_SW_THERMAL |
			      NVML_REASON_HW_THERMAL | NVML_REASON_HW_POWER_BRAKE));
}

static const char *throttle_text(unsigned long long reasons)
{
	if (reasons & (NVML_REASON_HW_THERMAL | NVML_REASON_SW_THERMAL))
		return "it is too hot";
	if (reasons & NVML_REASON_HW_POWER_BRAKE)
		return "the power supply asked for it (power brake)";
	return "the hardware asked for it";
}

static bool reasons_are_known(const struct doctor_gpu *g)
{
	return g->has_reasons;
}

static void check_clocks(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!doctor_has_gpus(f, r))
		return;
	for (size_t i = 0; i < f->inventory.n; i++) {
		const struct doctor_gpu *g = &f->driver->gpus[i];

		if (!doctor_counts(f, i) || !is_throttled(g))
			continue;
		if (g->details.temperature_c.told)
			doctor_value(r, "GPU %zu at %ld °C", i,
				     (long)g->details.temperature_c.value);
		doctor_say(r, DOCTOR_WARNING, "the clocks of GPU %zu are held back: %s", i,
			   throttle_text(g->reasons));
		doctor_fix(r,
			   "see nvidia-smi -q -d PERFORMANCE,TEMPERATURE; check cooling and power");
		return;
	}
	if (doctor_list_gpus(f, reasons_are_known, NULL) == 0)
		doctor_say(r, DOCTOR_UNKNOWN, "the driver does not tell");
	else
		doctor_value(r, "not held back");
}

const struct doctor_check check_gpus_present = {"gpus", "GPUs", "GPUs", check_present};
const struct doctor_check check_gpus_mig = {"R08", "GPUs", "MIG", check_mig};
const struct doctor_check check_gpus_mode = {"R28", "GPUs", "compute mode", check_mode};
const struct doctor_check check_gpus_fabric = {"R18", "GPUs", "NVSwitch fabric", check_fabric};
const struct doctor_check check_gpus_memory = {"R26", "GPUs", "free memory", check_memory};
const struct doctor_check check_gpus_processes = {"R27", "GPUs", "foreign processes",
						  check_processes};
const struct doctor_check check_gpus_peers = {"R39", "GPUs", "peer access", check_peers};
const struct doctor_check check_gpus_models = {"R40", "GPUs", "one model", check_models};
const struct doctor_check check_gpus_persistence = {"persistence", "GPUs", "persistence mode",
						    check_persistence};
const struct doctor_check check_gpus_clocks = {"clocks", "GPUs", "clocks", check_clocks};
