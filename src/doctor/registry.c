#include "doctor/catalogue.h"
#include "doctor/check_list.h"

const struct doctor_check *const doctor_checks[] = {
	&check_driver_loaded,
	&check_driver_answers,
	&check_driver_match,
	&check_gpus_lost,
	&check_gpus_present,
	&check_gpus_mig,
	&check_gpus_mode,
	&check_gpus_fabric,
	&check_gpus_memory,
	&check_gpus_processes,
	&check_gpus_peers,
	&check_gpus_models,
	&check_gpus_persistence,
	&check_gpus_clocks,
	&check_engine_socket,
	&check_engine_snap,
	&check_engine_way,
	&check_engine_cdi,
	&check_engine_stale,
	&check_engine_runtime,
	&check_engine_mode,
	&check_engine_cgroups,
	&check_engine_rootless,
	&check_engine_selinux,
	&check_engine_leftovers,
	&check_limit_shm,
	&check_limit_memlock,
	&check_limit_images,
	&check_limit_results,
	&check_limit_cache,
	&check_place_kind,
	&check_place_visible,
	&check_place_once,
	&check_place_numbers,
	&check_place_slurm,
	&check_energy_gpu,
	&check_energy_cpu,
	&check_tool_curl,
	&check_tool_client,
	&check_tool_worker,
	&check_tool_pytorch,
	&check_tool_probe,
	NULL,
};

void doctor_value(struct doctor_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->value, sizeof(r->value), fmt, ap);
	va_end(ap);
}

void doctor_say(struct doctor_result *r, enum doctor_status s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->message, sizeof(r->message), fmt, ap);
	va_end(ap);
	r->status = s;
}

void doctor_fix(struct doctor_result *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(r->fix, sizeof(r->fix), fmt, ap);
	va_end(ap);
}

const char *doctor_status_name(enum doctor_status s)
{
	static const char *const names[] = {"ok", "warning", "error", "unknown", "not_applicable"};

	return names[s];
}

void doctor_run(const struct doctor_check *c, const struct doctor_facts *f,
		struct doctor_result *ret)
{
	const struct doctor_rule *rule = doctor_rule(c->id);

	*ret = (struct doctor_result){.id = c->id, .group = c->group, .title = c->title};
	c->run(f, ret);
	if (ret->status == DOCTOR_OK)
		ret->fix[0] = ret->message[0] = '\0';
	if ((ret->status == DOCTOR_WARNING || ret->status == DOCTOR_ERROR) && !ret->fix[0] && rule)
		doctor_fix(ret, "%s", rule->fix);
}

bool doctor_has_gpus(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct doctor_driver *d = f->driver;

	if (d->n_gpus)
		return true;
	if (d->opened || (d->answer == ANSWER_ABSENT && f->nvidia_pci_devices == 0))
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "no NVIDIA GPU in this machine");
	else
		doctor_say(r, DOCTOR_UNKNOWN, "the driver told of no GPU");
	return false;
}

bool doctor_has_engine(const struct doctor_facts *f, struct doctor_result *r)
{
	if (f->engine.answer == ANSWER_DONE)
		return true;
	if (f->engine.answer == ANSWER_ABSENT)
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "no container engine");
	else
		doctor_say(r, DOCTOR_UNKNOWN, "the container engine cannot be asked");
	return false;
}

size_t doctor_list_gpus(const struct doctor_facts *f, bool (*is_in)(const struct doctor_gpu *g),
			struct str *s)
{
	_cleanup_str_ struct str numbers = STR_INIT;
	size_t n = 0, run;

	for (size_t i = 0; i < f->inventory.n; i += MAX(run, (size_t)1)) {
		for (run = 0; i + run < f->inventory.n && doctor_counts(f, i + run) &&
			      is_in(&f->driver->gpus[i + run]);)
			run++;
		if (run > 2)
			str_addf(&numbers, "%s%zu to %zu", n ? ", " : "", i, i + run - 1);
		else if (run)
			str_addf(&numbers, "%s%zu", n ? ", " : "", i);
		if (run == 2)
			str_addf(&numbers, ", %zu", i + 1);
		n += run;
	}
	if (s && n)
		str_addf(s, "GPU%s %s", n > 1 ? "s" : "", str_c(&numbers));
	return n;
}
