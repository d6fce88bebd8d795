/*
 * check_engine.c — the container engine: can it be reached, and by which of its ways would it pass
 * these GPUs? lem takes CDI when the engine knows every GPU by UUID, else the nvidia runtime, else
 * the legacy hook (src/gpu/route.c).
 */
#include "doctor/check_list.h"

enum way { WAY_CDI, WAY_RUNTIME, WAY_HOOK };

static bool has_runtime(const struct doctor_facts *f)
{
	for (const char *const *r = f->engine.info.runtimes; r && *r; r++)
		if (str_eq(*r, "nvidia"))
			return true;
	return false;
}

static enum way way_of(const struct doctor_facts *f)
{
	if (f->engine.cdi_on && doctor_cdi_has_all(f))
		return WAY_CDI;
	return has_runtime(f) ? WAY_RUNTIME : WAY_HOOK;
}

/* For questions about passing GPUs to containers. */
static bool can_pass(const struct doctor_facts *f, struct doctor_result *r)
{
	return doctor_has_engine(f, r) && doctor_has_gpus(f, r);
}

static void check_socket(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct doctor_engine *e = &f->engine;
	const char *name = e->info.podman ? "Podman" : "Docker";

	switch (e->answer) {
	case ANSWER_DONE:
		doctor_value(r, "%s %s, API %s", name, e->info.server_version, e->api_version);
		return;
	case ANSWER_ABSENT:
		if (strstr(e->error.what, "nobody listens"))
			break;
		doctor_say(r, DOCTOR_NOT_APPLICABLE,
			   "none found; engines can only be started as processes of this host "
			   "(runner: process)");
		doctor_fix(r, "%s", e->error.fix);
		return;
	case ANSWER_TIMED_OUT:
		doctor_say(r, DOCTOR_ERROR, "the container engine did not answer within 5 s%s%s",
			   e->socket ? " at " : "", e->socket ? e->socket : "");
		doctor_fix(r, "sudo systemctl restart docker; its log: journalctl -u docker");
		return;
	case ANSWER_REFUSED:
	case ANSWER_FAILED: break;
	}
	doctor_say(r, DOCTOR_ERROR, "%s%s%s", e->error.what, e->error.why[0] ? ": " : "",
		   e->error.why);
	doctor_fix(r, "%s", e->error.fix[0] ? e->error.fix : "see: journalctl -u docker");
}

static void check_snap(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct docker_info *i = &f->engine.info;

	if (!doctor_has_engine(f, r))
		return;
	if (!i->root_dir) {
		doctor_say(r, DOCTOR_UNKNOWN, "the engine does not tell where it is installed");
	} else if (str_starts(i->root_dir, "/var/snap/") ||
		   (i->operating_system && strstr(i->operating_system, "Ubuntu Core"))) {
		doctor_value(r, "a snap (%s)", i->root_dir);
		doctor_say(
			r, DOCTOR_ERROR,
			"Docker from a snap sees neither the driver's libraries nor the toolkit");
		doctor_fix(r, "sudo snap remove docker && sudo apt-get install -y docker.io");
	} else {
		doctor_value(r, "%s", i->operating_system ? i->operating_system : "not a snap");
	}
}

static void check_way(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!can_pass(f, r))
		return;
	if (docker_drops_requests(&f->engine.info)) {
		doctor_say(r, DOCTOR_ERROR,
			   "R35: Podman %s ignores the GPUs that are asked for through its "
			   "socket, with no error; 5.4 or newer passes them",
			   f->engine.info.server_version ? f->engine.info.server_version : "");
		doctor_fix(r, "update Podman to 5.4 or newer, or use Docker");
		return;
	}
	switch (way_of(f)) {
	case WAY_CDI: doctor_value(r, "CDI, by UUID"); return;
	case WAY_RUNTIME: doctor_value(r, "runtime nvidia"); return;
	case WAY_HOOK: break;
	}
	doctor_say(r, DOCTOR_ERROR,
		   "%s has neither a CDI device for every GPU nor a runtime named nvidia",
		   f->engine.info.podman ? "Podman" : "Docker");
	if (f->toolkit.installed)
		doctor_fix(r,
			   "sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl "
			   "restart docker");
}

static void check_runtime(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!can_pass(f, r))
		return;
	if (way_of(f) == WAY_CDI) {
		doctor_value(r, "not used: CDI");
	} else if (!has_runtime(f)) {
		doctor_say(r, DOCTOR_ERROR,
			   "no runtime named nvidia is registered, so NVIDIA_VISIBLE_DEVICES has "
			   "no effect");
	} else if (f->toolkit.accepts_envvar == 0) {
		doctor_value(r, "refuses the variable");
		doctor_say(r, DOCTOR_ERROR,
			   "accept-nvidia-visible-devices-envvar-when-unprivileged is false: "
			   "containers "
			   "start without a GPU and without an error");
		doctor_fix(
			r,
			"use CDI: sudo nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml");
	} else {
		doctor_value(r, "registered");
	}
}

static void check_mode(const struct doctor_facts *f, struct doctor_result *r)
{
	const char *mode = f->toolkit.mode;
	bool direct = mode && (str_eq(mode, "cdi") || str_eq(mode, "csv"));

	if (!can_pass(f, r))
		return;
	doctor_value(r, "%s", mode ? mode : "auto");
	if (direct && way_of(f) == WAY_HOOK)
		doctor_say(r, DOCTOR_ERROR,
			   "mode %s makes the toolkit's hook refuse requests, and there is no "
			   "other way",
			   mode);
}

static void list_missing(const struct doctor_facts *f, struct str *s)
{
	for (size_t i = 0; i < f->inventory.n; i++)
		if (doctor_counts(f, i) && !f->inventory.gpus[i].problem[0] &&
		    !doctor_cdi_has(f, f->inventory.gpus[i].uuid))
			str_addf(s, "%s%zu", s->len ? ", " : "", i);
}

static void check_cdi(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str missing = STR_INIT;

	if (!can_pass(f, r))
		return;
	if (!f->engine.cdi_on) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "CDI is off in the container engine");
		doctor_fix(
			r,
			"{\"features\": {\"cdi\": true}} in /etc/docker/daemon.json (Docker 25 and "
			"newer), sudo systemctl restart docker");
		return;
	}
	list_missing(f, &missing);
	if (missing.len == 0) {
		doctor_value(r, "every GPU by UUID");
		return;
	}
	doctor_value(r, "lacks GPU %s", str_c(&missing));
	doctor_say(r, has_runtime(f) ? DOCTOR_WARNING : DOCTOR_ERROR,
		   "the CDI devices do not hold the UUID of GPU %s%s", str_c(&missing),
		   has_runtime(f) ? "; lem falls back to the nvidia runtime" : "");
	doctor_fix(r, "sudo nvidia-ctk cdi generate --device-name-strategy=uuid "
		      "--output=/var/run/cdi/nvidia.yaml && sudo systemctl restart docker");
}

static void check_stale(const struct doctor_facts *f, struct doctor_result *r)
{
	const struct cdi_registry *c = &f->engine.cdi;
	size_t stale = 0;

	if (!doctor_has_engine(f, r))
		return;
	for (size_t i = 0; i < c->n; i++) {
		if (!c->at[i].missing)
			continue;
		if (stale++ == 0)
			doctor_say(r, DOCTOR_ERROR, "%s names %s, which does not exist",
				   c->at[i].spec, c->at[i].missing);
	}
	if (stale) {
		doctor_value(r, "%zu of %zu devices", stale, c->n);
	} else if (c->problems && c->problems[0]) {
		doctor_say(r, DOCTOR_WARNING, "%s", c->problems[0]);
	} else if (c->n == 0) {
		doctor_say(r, DOCTOR_NOT_APPLICABLE, "there are no CDI specifications");
	} else {
		doctor_value(r, "%zu devices, all there", c->n);
	}
}

static void check_cgroups(const struct doctor_facts *f, struct doctor_result *r)
{
	const char *driver = f->engine.info.cgroup_driver;

	if (!can_pass(f, r))
		return;
	if (!driver) {
		doctor_say(r, DOCTOR_UNKNOWN, "the engine does not tell its cgroup driver");
		return;
	}
	doctor_value(r, "%s%s", driver, way_of(f) == WAY_CDI ? ", with CDI" : "");
	if (str_eq(driver, "systemd") && way_of(f) != WAY_CDI)
		doctor_say(r, DOCTOR_WARNING,
			   "with cgroup driver systemd and without CDI a `systemctl daemon-reload` "
			   "takes "
			   "the GPUs from running containers");
}

static void check_rootless(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!doctor_has_engine(f, r))
		return;
	if (!f->engine.info.rootless) {
		doctor_value(r, "no");
		return;
	}
	doctor_value(r, "yes");
	if (!doctor_has_gpus(f, r))
		return;
	if (way_of(f) != WAY_CDI && f->toolkit.no_cgroups != 1)
		doctor_say(r, DOCTOR_ERROR,
			   "a rootless engine passes GPUs by CDI only, and its CDI devices do not "
			   "hold them");
}

static void check_selinux(const struct doctor_facts *f, struct doctor_result *r)
{
	if (!can_pass(f, r))
		return;
	if (!f->engine.info.selinux) {
		doctor_value(r, "off for containers");
	} else if (f->engine.selinux_allows == 1) {
		doctor_value(r, "on, devices allowed");
	} else if (f->engine.selinux_allows == 0) {
		doctor_value(r, "on");
		doctor_say(r, DOCTOR_ERROR,
			   "SELinux separates containers and does not let them use devices");
	} else {
		doctor_value(r, "on");
		doctor_say(r, DOCTOR_UNKNOWN,
			   "whether SELinux lets containers use devices cannot be read");
		doctor_fix(r, "getsebool container_use_devices");
	}
}

static void check_leftovers(const struct doctor_facts *f, struct doctor_result *r)
{
	_cleanup_str_ struct str ids = STR_INIT;

	if (!doctor_has_engine(f, r))
		return;
	for (size_t i = 0; i < f->engine.n_leftovers; i++)
		str_addf(&ids, " %.12s", f->engine.leftovers[i].id);
	doctor_value(r, "none");
	if (f->engine.n_leftovers == 0)
		return;
	doctor_value(r, "%zu", f->engine.n_leftovers);
	doctor_say(r, DOCTOR_WARNING,
		   "containers of a lem that has ended are still there; the next run removes them");
	doctor_fix(r, "docker rm -f%s", str_c(&ids));
}

#define GROUP "Container engine"
const struct doctor_check check_engine_socket = {"container-engine", GROUP, "container engine",
						 check_socket};
const struct doctor_check check_engine_snap = {"R23", GROUP, "sees the driver", check_snap};
const struct doctor_check check_engine_way = {"R20", GROUP, "a way to pass GPUs", check_way};
const struct doctor_check check_engine_cdi = {"R21", GROUP, "CDI devices", check_cdi};
const struct doctor_check check_engine_stale = {"R22", GROUP, "CDI specifications", check_stale};
const struct doctor_check check_engine_runtime = {"R03", GROUP, "nvidia runtime", check_runtime};
const struct doctor_check check_engine_mode = {"R36", GROUP, "toolkit mode", check_mode};
const struct doctor_check check_engine_cgroups = {"R19", GROUP, "cgroup driver", check_cgroups};
const struct doctor_check check_engine_rootless = {"R35", GROUP, "rootless", check_rootless};
const struct doctor_check check_engine_selinux = {"R34", GROUP, "SELinux", check_selinux};
const struct doctor_check check_engine_leftovers = {"leftovers", GROUP, "left-over containers",
						    check_leftovers};
