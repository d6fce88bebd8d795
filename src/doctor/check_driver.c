/* check_driver.c — is there a driver, does it answer, do its parts fit together? */
#include "doctor/check_list.h"

static void check_loaded(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct doctor_driver *d = f->driver;
	int major = d->cuda_version / 1000, minor = d->cuda_version % 1000 / 10;

	if (d->answer == ANSWER_ABSENT && f->nvidia_pci_devices == 0 && !f->module_version) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU in this machine");
		return;
	}
	if (d->answer == ANSWER_DONE) {
		if (d->cuda_version)
			doctor_value(r, "%s, CUDA %d.%d", d->version, major, minor);
		else
			doctor_value(r, "%s", d->version);
		return;
	}
	if (d->answer == ANSWER_TIMED_OUT) {
		doctor_say(r, DOCTOR_UNKNOWN, "it did not answer");
		return;
	}
	if (d->open_status == NVML_VERSION_MISMATCH) {
		doctor_say(r, DOCTOR_UNKNOWN, "its library and its kernel module differ (R24)");
		return;
	}
	doctor_say(r, DOCTOR_ERROR, "%s: %s", d->error.what, d->error.why);
	if (d->answer == ANSWER_FAILED && d->died_of)
		doctor_say(r, DOCTOR_ERROR,
			   "the driver's library ended the process that asked it %s (%s)",
			   d->asking, strsignal(d->died_of));
	if (d->error.fix[0])
		doctor_fix(r, "%s", d->error.fix);
}

static void check_answers(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct doctor_driver *d = f->driver;

	if (d->answer != ANSWER_TIMED_OUT) {
		doctor_value(r, "yes");
		if (d->answer == ANSWER_ABSENT)
			doctor_say(r, DOCTOR_NOT_APPLICABLE, "there is no driver");
		return;
	}
	doctor_say(r, DOCTOR_ERROR,
		   "the driver did not answer within 5 s when it was asked %s; what it had not "
		   "told by "
		   "then is unknown below",
		   d->asking);
	doctor_fix(r, "sudo dmesg | grep -iE 'nvrm|xid'; if it stays so, reboot");
}

static void check_match(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct doctor_driver *d = f->driver;

	if (d->open_status == NVML_VERSION_MISMATCH) {
		doctor_value(r, "module %s", f->module_version ? f->module_version : "unknown");
		doctor_say(r, DOCTOR_ERROR,
			   "the driver's library and the loaded kernel module have different "
			   "versions");
		return;
	}
	if (d->answer == ANSWER_ABSENT) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "there is no driver");
		return;
	}
	if (!d->opened) {
		doctor_say(r, DOCTOR_UNKNOWN, "the driver did not say");
		return;
	}
	/* NVML itself refuses another version; the number is only shown. */
	doctor_value(r, "%s", f->module_version ? f->module_version : d->version);
}

static bool is_lost(const struct doctor_gpu *g)
{
	return g->device.problem[0] || g->trouble || g->details.row_remap_pending.value ||
	       g->details.row_remap_failed.value || g->details.page_retire_pending.value;
}

static const char *what_is_lost(const struct doctor_gpu *g)
{
	if (g->device.problem[0])
		return g->device.problem;
	if (g->trouble)
		return nvml_return_text(g->trouble);
	return g->details.row_remap_failed.value ? "memory rows could not be repaired"
						 : "memory repairs wait for a reset";
}

static bool was_not_asked(const struct doctor_gpu *g)
{
	return !g->asked && !g->device.problem[0];
}

static void check_lost(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str list = STR_INIT;
	const struct doctor_driver *d = f->driver;
	size_t first = 0;

	if (d->open_status == NVML_GPU_LOST || d->open_status == NVML_RESET_REQUIRED) {
		doctor_say(r, DOCTOR_ERROR, "the driver says: %s",
			   nvml_return_text(d->open_status));
		return;
	}
	if (!doctor_has_gpus(f, r))
		return;
	doctor_value(r, "none");
	if (doctor_list_gpus(f, is_lost, &list) == 0) {
		if (doctor_list_gpus(f, was_not_asked, &list))
			doctor_say(r, DOCTOR_UNKNOWN, "the driver did not tell of %s",
				   str_c(&list));
		return;
	}
	while (!is_lost(&d->gpus[first]) || !doctor_counts(f, first))
		first++;
	doctor_value(r, "%s", str_c(&list));
	doctor_say(r, DOCTOR_ERROR, "GPU %zu: %s", first, what_is_lost(&d->gpus[first]));
	if (d->gpus[first].device.fix[0])
		doctor_fix(r, "%s", d->gpus[first].device.fix);
	else if (d->gpus[first].trouble)
		doctor_fix(r, "%s", nvml_return_fix(d->gpus[first].trouble));
	else
		doctor_fix(r, "sudo nvidia-smi --gpu-reset -i %zu, or reboot", first);
}

const struct doctor_check check_driver_loaded = {"R23", "Driver", "NVIDIA driver", check_loaded};
const struct doctor_check check_driver_answers = {"driver-answers", "Driver", "the driver answers",
						  check_answers};
const struct doctor_check check_driver_match = {"R24", "Driver", "library fits kernel module",
						check_match};
const struct doctor_check check_gpus_lost = {"R41", "Driver", "lost or broken GPUs", check_lost};
