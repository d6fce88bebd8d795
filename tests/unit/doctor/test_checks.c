/*
 * Every rule that is looked for on a host is accepted on a good one and rejected on one where just
 * that is broken; and what cannot be known is never ok.
 */
#include <setjmp.h>

#include "doctor/catalogue.h"
#include "good_facts.h"

#include <cmocka.h>

#define ENGINE "Container engine"

static const char *const no_names[] = {NULL};
static const char *const one_name[] = {"nvidia.com/gpu=GPU-0a", NULL};
static const char *const only_runc[] = {"runc", NULL};

static void no_cdi(struct doctor_facts *f)
{
	f->engine.cdi_devices = no_names;
	f->engine.cdi_on = false;
}

static void renew(struct doctor_facts *f)
{
	for (size_t i = 0; i < f->inventory.n; i++)
		f->inventory.gpus[i] = f->driver->gpus[i].device;
}

/* ---- one way each to break a rule ---- */

static void no_runtime_no_cdi(struct doctor_facts *f)
{
	no_cdi(f);
	f->engine.info.runtimes = only_runc;
}

static void variable_refused(struct doctor_facts *f)
{
	no_cdi(f);
	f->toolkit.accepts_envvar = 0;
}

static void visible_cut(struct doctor_facts *f)
{
	f->place.cuda_visible_devices = "0,5,1";
}

static void visible_blank(struct doctor_facts *f)
{
	f->place.cuda_visible_devices = "0 1";
}

static void visible_empty(struct doctor_facts *f)
{
	f->place.cuda_visible_devices = "";
}

static void visible_twice(struct doctor_facts *f)
{
	f->place.cuda_visible_devices = "0,0";
}

static void visible_uuid(struct doctor_facts *f)
{
	f->place.cuda_visible_devices = "GPU-0a";
}

static void mig_on(struct doctor_facts *f)
{
	f->driver->gpus[1].device.mig = true;
	renew(f);
}

static void small_shm(struct doctor_facts *f)
{
	f->limits.shm_bytes = 64 << 20;
}

static void fabric_starts(struct doctor_facts *f)
{
	f->driver->gpus[0].details.fabric_state.value = NVML_FABRIC_IN_PROGRESS;
}

static void fabric_failed(struct doctor_facts *f)
{
	f->driver->gpus[0].details.fabric_status.value = NVML_UNKNOWN;
}

static void systemd_without_cdi(struct doctor_facts *f)
{
	no_cdi(f);
}

static void cdi_lacks_one(struct doctor_facts *f)
{
	f->engine.cdi_devices = one_name;
}

static void spec_is_stale(struct doctor_facts *f)
{
	f->engine.cdi.at[1].missing = "/dev/nvidia1";
}

static void no_library(struct doctor_facts *f)
{
	memset(f->driver, 0, sizeof(*f->driver));
	f->inventory.n = 0;
	f->driver->answer = ANSWER_ABSENT;
	(void)lem_fail(&f->driver->error, LEM_E_NOT_FOUND, "no NVIDIA driver");
	(void)lem_error_why(&f->driver->error, "libnvidia-ml.so.1 not found");
	(void)lem_error_fix(&f->driver->error, "install the NVIDIA driver");
}

static void driver_crashes(struct doctor_facts *f)
{
	no_library(f);
	f->driver->answer = ANSWER_FAILED;
	f->driver->died_of = 11;
}

static void docker_is_a_snap(struct doctor_facts *f)
{
	f->engine.info.root_dir = "/var/snap/docker/common/var-lib-docker";
}

static void versions_differ(struct doctor_facts *f)
{
	no_library(f);
	f->driver->answer = ANSWER_FAILED;
	f->driver->open_status = NVML_VERSION_MISMATCH;
	f->module_version = "570.86.15";
}

static void memory_used(struct doctor_facts *f)
{
	f->driver->gpus[1].details.memory_used_bytes.value = INT64_C(41) << 30;
	f->driver->gpus[1].details.memory_free_bytes.value = INT64_C(39) << 30;
}

static void somebody_computes(struct doctor_facts *f)
{
	static struct gpu_process p = {
		.gpu_index = 1, .pid = 812, .memory_bytes = UINT64_C(3) << 30};
	static struct doctor_named_process u = {.process = &p, .name = "python3", .user = "anna"};

	f->users = &u;
	f->n_users = 1;
}

static void exclusive(struct doctor_facts *f)
{
	f->driver->gpus[0].device.compute_mode = 3;
}

static void prohibited(struct doctor_facts *f)
{
	f->driver->gpus[0].device.compute_mode = 2;
}

static void in_slurm(struct doctor_facts *f)
{
	f->place.in_slurm = true;
	f->place.slurm_step_gpus = "5";
}

static void selinux_refuses(struct doctor_facts *f)
{
	f->engine.info.selinux = true;
	f->engine.selinux_allows = 0;
}

static void rootless_without_cdi(struct doctor_facts *f)
{
	f->engine.info.rootless = true;
	no_cdi(f);
}

static void mode_cdi_only(struct doctor_facts *f)
{
	no_runtime_no_cdi(f);
	f->toolkit.mode = "cdi";
}

static void no_peers(struct doctor_facts *f)
{
	f->driver->p2p[0][1] = f->driver->p2p[1][0] = NVML_P2P_CHIPSET;
}

static void two_models(struct doctor_facts *f)
{
	lem_strlcpy(f->driver->gpus[1].device.name, "NVIDIA A100-PCIE-40GB",
		    sizeof(f->driver->gpus[1].device.name));
	renew(f);
}

static void gpu_lost(struct doctor_facts *f)
{
	lem_strlcpy(f->driver->gpus[0].device.problem, "GPU lost: it has fallen off the bus",
		    sizeof(f->driver->gpus[0].device.problem));
	renew(f);
}

static void gpu_lost_later(struct doctor_facts *f)
{
	f->driver->gpus[0].trouble = NVML_GPU_LOST;
}

static void repair_waits(struct doctor_facts *f)
{
	f->driver->gpus[0].details.row_remap_pending.value = 1;
}

static void init_says_reset(struct doctor_facts *f)
{
	no_library(f);
	f->driver->answer = ANSWER_FAILED;
	f->driver->open_status = NVML_RESET_REQUIRED;
}

/* ---- other checks ---- */

static void driver_hangs(struct doctor_facts *f)
{
	no_library(f);
	f->driver->answer = ANSWER_TIMED_OUT;
	lem_strlcpy(f->driver->asking, "for its GPUs", sizeof(f->driver->asking));
}

static void engine_fails(struct doctor_facts *f, enum doctor_answer answer, enum lem_code code,
			 const char *what)
{
	f->engine = (struct doctor_engine){.answer = answer, .selinux_allows = -1};
	(void)lem_fail(&f->engine.error, code, "%s", what);
	(void)lem_error_fix(&f->engine.error, "do something");
}

static void engine_refuses(struct doctor_facts *f)
{
	engine_fails(f, ANSWER_REFUSED, LEM_E_IO, "no permission to use the socket");
}

static void engine_hangs(struct doctor_facts *f)
{
	engine_fails(f, ANSWER_TIMED_OUT, LEM_E_INTERRUPTED, "interrupted");
}

static void engine_is_down(struct doctor_facts *f)
{
	engine_fails(f, ANSWER_ABSENT, LEM_E_NOT_FOUND, "nobody listens at /var/run/docker.sock");
}

static void no_engine(struct doctor_facts *f)
{
	engine_fails(f, ANSWER_ABSENT, LEM_E_NOT_FOUND, "there is no container engine");
}

static void leftovers(struct doctor_facts *f)
{
	static const struct docker_listed left[] = {{.id = "0123456789abcdef", .name = "lem-1"}};

	f->engine.leftovers = left;
	f->engine.n_leftovers = 1;
}

static void no_persistence(struct doctor_facts *f)
{
	f->driver->gpus[0].details.persistence.value = 0;
}

static void hot(struct doctor_facts *f)
{
	f->driver->gpus[0].reasons = NVML_REASON_HW_THERMAL;
}

static void little_memlock(struct doctor_facts *f)
{
	f->limits.memlock_bytes = 64 << 10;
}

static void full_disks(struct doctor_facts *f)
{
	f->limits.images_free_bytes = INT64_C(1) << 30;
	f->limits.results_free_bytes = 1 << 20;
	f->limits.cache_free_bytes = 1 << 20;
}

static void counter_refused(struct doctor_facts *f)
{
	f->driver->gpus[1].energy_status = NVML_NO_PERMISSION;
	f->driver->gpus[1].power_status = NVML_NO_PERMISSION;
}

static void no_counter(struct doctor_facts *f)
{
	f->driver->gpus[1].energy_status = NVML_NOT_SUPPORTED;
}

static void rapl_denied(struct doctor_facts *f)
{
	f->cpu_meters[0].usable = false;
	lem_strlcpy(f->cpu_meters[0].reason, "RAPL: permission denied",
		    sizeof(f->cpu_meters[0].reason));
	lem_strlcpy(f->cpu_meters[0].fix, "sudo chmod a+r …", sizeof(f->cpu_meters[0].fix));
}

static void no_tools(struct doctor_facts *f)
{
	f->tools = (struct doctor_tools){.program_dir = "/opt"};
	(void)lem_fail(&f->tools.curl_error, LEM_E_UNSUPPORTED, "libcurl cannot be loaded");
}

static void in_container(struct doctor_facts *f)
{
	f->place.in_container = true;
}

static const struct breakage {
	const char *id, *group;
	void (*make)(struct doctor_facts *f);
	enum doctor_status expected;
	const char *says; /* part of the message */
} breakages[] = {
	{"R03", NULL, no_runtime_no_cdi, DOCTOR_ERROR, "no runtime named nvidia"},
	{"R03", NULL, variable_refused, DOCTOR_ERROR, "without a GPU and without an error"},
	{"R05", NULL, visible_cut, DOCTOR_ERROR, "\"5\""},
	{"R05", NULL, visible_blank, DOCTOR_ERROR, "0 1"},
	{"R05", NULL, visible_empty, DOCTOR_ERROR, "empty"},
	{"R06", NULL, visible_twice, DOCTOR_ERROR, "twice"},
	{"R07", NULL, visible_uuid, DOCTOR_WARNING, "UUIDs"},
	{"R08", NULL, mig_on, DOCTOR_WARNING, "GPU 1"},
	{"R17", NULL, small_shm, DOCTOR_ERROR, "2 GPUs needs 2 GiB"},
	{"R18", NULL, fabric_starts, DOCTOR_ERROR, "580.159.04"},
	{"R18", NULL, fabric_failed, DOCTOR_ERROR, "802"},
	{"R19", NULL, systemd_without_cdi, DOCTOR_WARNING, "daemon-reload"},
	{"R20", NULL, no_runtime_no_cdi, DOCTOR_ERROR, "neither"},
	{"R21", NULL, cdi_lacks_one, DOCTOR_WARNING, "UUID of GPU 1"},
	{"R22", NULL, spec_is_stale, DOCTOR_ERROR, "/dev/nvidia1"},
	{"R23", "Driver", no_library, DOCTOR_ERROR, "libnvidia-ml.so.1 not found"},
	{"R23", "Driver", driver_crashes, DOCTOR_ERROR, "Segmentation fault"},
	{"R23", ENGINE, docker_is_a_snap, DOCTOR_ERROR, "snap"},
	{"R24", NULL, versions_differ, DOCTOR_ERROR, "different versions"},
	{"R26", NULL, memory_used, DOCTOR_WARNING, "free now: GPU 0"},
	{"R27", NULL, somebody_computes, DOCTOR_WARNING, "pid 812 (python3, anna) on GPU 1"},
	{"R28", NULL, exclusive, DOCTOR_ERROR, "EXCLUSIVE_PROCESS"},
	{"R28", NULL, prohibited, DOCTOR_ERROR, "PROHIBITED"},
	{"R33", NULL, in_slurm, DOCTOR_WARNING, "numbers all GPUs"},
	{"R34", NULL, selinux_refuses, DOCTOR_ERROR, "SELinux"},
	{"R35", NULL, rootless_without_cdi, DOCTOR_ERROR, "by CDI only"},
	{"R36", NULL, mode_cdi_only, DOCTOR_ERROR, "mode cdi"},
	{"R39", NULL, no_peers, DOCTOR_WARNING, "GPUs 0 and 1"},
	{"R40", NULL, two_models, DOCTOR_WARNING, "differ"},
	{"R41", NULL, gpu_lost, DOCTOR_ERROR, "fallen off the bus"},
	{"R41", NULL, gpu_lost_later, DOCTOR_ERROR, "fallen off the bus"},
	{"R41", NULL, repair_waits, DOCTOR_ERROR, "wait for a reset"},
	{"R41", NULL, init_says_reset, DOCTOR_ERROR, "reset"},
	{"driver-answers", NULL, driver_hangs, DOCTOR_ERROR,
	 "within 5 s when it was asked for its GPUs"},
	{"container-engine", NULL, engine_refuses, DOCTOR_ERROR, "no permission"},
	{"container-engine", NULL, engine_hangs, DOCTOR_ERROR, "did not answer within 5 s"},
	{"container-engine", NULL, engine_is_down, DOCTOR_ERROR, "nobody listens"},
	{"leftovers", NULL, leftovers, DOCTOR_WARNING, "still there"},
	{"persistence", NULL, no_persistence, DOCTOR_WARNING, "energy counter"},
	{"clocks", NULL, hot, DOCTOR_WARNING, "too hot"},
	{"memlock", NULL, little_memlock, DOCTOR_WARNING, "lock"},
	{"disk-images", NULL, full_disks, DOCTOR_ERROR, "1.0 GiB"},
	{"disk-results", NULL, full_disks, DOCTOR_ERROR, "results"},
	{"disk-models", NULL, full_disks, DOCTOR_ERROR, "models"},
	{"energy-gpu", NULL, counter_refused, DOCTOR_ERROR, "GPU 1"},
	{"energy-gpu", NULL, no_counter, DOCTOR_WARNING, "wider intervals"},
	{"energy-cpu", NULL, rapl_denied, DOCTOR_WARNING, "permission denied"},
	{"libcurl", NULL, no_tools, DOCTOR_ERROR, "libcurl cannot be loaded"},
	{"worker-llama", NULL, no_tools, DOCTOR_ERROR, "/opt/lem-worker-llama"},
	{"worker-pytorch", NULL, no_tools, DOCTOR_ERROR, "/opt/lem_worker_pytorch.pyz"},
	{"gpuprobe", NULL, no_tools, DOCTOR_ERROR, "/opt/lem-gpuprobe"},
	{"place", NULL, in_container, DOCTOR_WARNING, "counts the visible ones"},
};

static void test_rejecting(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(breakages); i++) {
		const struct breakage *b = &breakages[i];
		struct doctor_facts *f = good_facts();
		struct doctor_result r;

		b->make(f);
		r = run_check(f, b->id, b->group);
		if (r.status != b->expected || !strstr(r.message, b->says))
			fail_msg("breakage %zu, %s: %s \"%s\", expected %s with \"%s\"", i, b->id,
				 doctor_status_name(r.status), r.message,
				 doctor_status_name(b->expected), b->says);
		assert_true(strlen(r.fix) > 8);
		arena_release(&f->arena);
	}
}

/* On the good machine nothing is wrong, and all that applies is ok. */
static void test_accepting(void **state)
{
	const struct doctor_facts *f = good_facts();

	(void)state;
	for (const struct doctor_check *const *c = doctor_checks; *c; c++) {
		struct doctor_result r;

		doctor_run(*c, f, &r);
		if (r.status != DOCTOR_OK && !str_eq(r.id, "R33"))
			fail_msg("%s: %s %s", r.id, doctor_status_name(r.status), r.message);
		assert_true(r.status != DOCTOR_OK || (r.value[0] && !r.message[0] && !r.fix[0]));
		assert_true(strlen(r.title) <= 26);
	}
}

/* The acceptance that the good machine cannot show: each in a world where the question is real. */
static void test_accepting_elsewhere(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	in_slurm(f);
	no_engine(f);
	assert_int_equal(run_check(f, "R33", NULL).status, DOCTOR_OK);

	f = good_facts(); /* the nvidia runtime instead of CDI */
	no_cdi(f);
	assert_string_equal(run_check(f, "R20", NULL).value, "runtime nvidia");
	assert_string_equal(run_check(f, "R03", NULL).value, "registered");
	f->toolkit.mode = "cdi";
	assert_int_equal(run_check(f, "R36", NULL).status, DOCTOR_OK);
	f->engine.info.cgroup_driver = "cgroupfs";
	assert_int_equal(run_check(f, "R19", NULL).status, DOCTOR_OK);

	f = good_facts();
	f->engine.info.rootless = true;
	assert_int_equal(run_check(f, "R35", NULL).status, DOCTOR_OK);
	f->engine.info.selinux = true;
	f->engine.selinux_allows = 1;
	assert_int_equal(run_check(f, "R34", NULL).status, DOCTOR_OK);
	f->place.cuda_visible_devices = "1,0";
	assert_int_equal(run_check(f, "R05", NULL).status, DOCTOR_OK);
	assert_int_equal(run_check(f, "R06", NULL).status, DOCTOR_OK);
	assert_int_equal(run_check(f, "R07", NULL).status, DOCTOR_OK);
	f->place.cuda_visible_devices = "0,0"; /* one problem has one rule */
	assert_int_equal(run_check(f, "R05", NULL).status, DOCTOR_OK);
	f->place.in_container = true;
	f->place.host_gpus = "2,5";
	assert_int_equal(run_check(f, "place", NULL).status, DOCTOR_OK);
	arena_release(&f->arena);
}

/* A rule that the catalogue says is looked for here has a check, and a test that breaks it. */
static void test_every_host_rule_is_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < doctor_n_rules; i++) {
		const struct doctor_rule *rule = &doctor_rules[i];
		bool checked = false, broken = false;

		for (const struct doctor_check *const *c = doctor_checks; *c; c++)
			checked |= str_eq((*c)->id, rule->id);
		for (size_t k = 0; k < ARRAY_LEN(breakages); k++)
			broken |= str_eq(breakages[k].id, rule->id);
		if (checked != !!(rule->where & (DOCTOR_ON_HOST | DOCTOR_IN_ENGINE)) ||
		    broken != checked)
			fail_msg("%s: check %d, test %d", rule->id, checked, broken);
	}
}

/* ---- what is not known ---- */

static void test_unknown_is_not_ok(void **state)
{
	static const char *const ids[] = {"R08", "R18", "R26", "R27",        "R28",
					  "R39", "R40", "R41", "energy-gpu", "persistence"};
	struct doctor_facts *f = good_facts();

	(void)state;
	driver_hangs(f);
	for (size_t i = 0; i < ARRAY_LEN(ids); i++)
		assert_int_equal(run_check(f, ids[i], NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R23", "Driver").status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R24", NULL).status, DOCTOR_UNKNOWN);

	f = good_facts();
	engine_refuses(f);
	for (const struct doctor_check *const *c = doctor_checks; *c; c++) {
		struct doctor_result r;

		doctor_run(*c, f, &r);
		if (str_eq(r.group, ENGINE) && !str_eq(r.id, "container-engine"))
			assert_int_equal(r.status, DOCTOR_UNKNOWN);
	}
}

/* A driver that answers, but not this. */
static void test_single_unknowns(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		f->driver->gpus[i].details = (struct gpu_details){0};
		f->driver->gpus[i].has_reasons = false;
		f->driver->gpus[i].device.compute_mode = -1;
	}
	memset(f->driver->p2p, DOCTOR_P2P_UNKNOWN, sizeof(f->driver->p2p));
	f->driver->has_processes = false;
	f->engine.info.cgroup_driver = f->engine.info.root_dir = NULL;
	f->engine.info.selinux = true;
	f->limits.shm_bytes = f->limits.results_free_bytes = -1;
	assert_int_equal(run_check(f, "R18", NULL).status, DOCTOR_UNKNOWN); /* it has NVSwitch */
	assert_int_equal(run_check(f, "R26", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R27", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R28", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R39", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "persistence", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "clocks", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R19", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R23", ENGINE).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R34", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "R17", NULL).status, DOCTOR_UNKNOWN);
	assert_int_equal(run_check(f, "disk-results", NULL).status, DOCTOR_UNKNOWN);
	f->nvswitch = false;
	assert_int_equal(run_check(f, "R18", NULL).status, DOCTOR_NOT_APPLICABLE);
	f->driver->gpus[1].asked = false;
	assert_int_equal(run_check(f, "R41", NULL).status, DOCTOR_UNKNOWN);
}

/* ---- where a question has no meaning ---- */

static void test_machine_without_gpus(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	no_library(f);
	f->nvidia_pci_devices = 0;
	f->module_version = NULL;
	f->has_rapl = false;
	rapl_denied(f);
	for (const struct doctor_check *const *c = doctor_checks; *c; c++) {
		struct doctor_result r;

		doctor_run(*c, f, &r);
		assert_true(r.status == DOCTOR_OK || r.status == DOCTOR_NOT_APPLICABLE);
		assert_true(r.status == DOCTOR_OK || r.message[0]);
	}
	assert_int_equal(run_check(f, "R23", "Driver").status, DOCTOR_NOT_APPLICABLE);
	f->nvidia_pci_devices = 1; /* a card, but no driver */
	assert_int_equal(run_check(f, "R23", "Driver").status, DOCTOR_ERROR);
}

static void test_one_gpu(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	f->inventory.n = f->driver->n_gpus = 1;
	small_shm(f);
	little_memlock(f);
	assert_int_equal(run_check(f, "R17", NULL).status, DOCTOR_NOT_APPLICABLE);
	assert_int_equal(run_check(f, "R39", NULL).status, DOCTOR_NOT_APPLICABLE);
	assert_int_equal(run_check(f, "R40", NULL).status, DOCTOR_NOT_APPLICABLE);
	assert_int_equal(run_check(f, "memlock", NULL).status, DOCTOR_NOT_APPLICABLE);
}

/* With a configuration only the GPUs that it names count, and what is in their way is an error. */
static void test_chosen_gpus(void **state)
{
	struct doctor_facts *f = good_facts();

	(void)state;
	f->chosen = true;
	f->choice[0] = true;
	memory_used(f); /* all on GPU 1 */
	mig_on(f);
	somebody_computes(f);
	no_peers(f);
	two_models(f);
	cdi_lacks_one(f);
	assert_int_equal(run_check(f, "R26", NULL).status, DOCTOR_OK);
	assert_int_equal(run_check(f, "R08", NULL).status, DOCTOR_OK);
	assert_int_equal(run_check(f, "R27", NULL).status, DOCTOR_OK);
	assert_int_equal(run_check(f, "R39", NULL).status, DOCTOR_NOT_APPLICABLE);
	assert_int_equal(run_check(f, "R40", NULL).status, DOCTOR_NOT_APPLICABLE);
	assert_int_equal(run_check(f, "R21", NULL).status, DOCTOR_OK);
	assert_string_equal(run_check(f, "gpus", NULL).value, "GPU 0 of 2");
	f->choice[1] = true;
	assert_int_equal(run_check(f, "R26", NULL).status, DOCTOR_ERROR);
	assert_non_null(strstr(run_check(f, "R26", NULL).message, "free now: GPU 0"));
}

static bool any(const struct doctor_gpu *g)
{
	return g->asked;
}

static void test_list_of_gpus(void **state)
{
	static const struct {
		const char *set, *text;
	} cases[] = {{"", ""},
		     {"x", "GPU 0"},
		     {"xx", "GPUs 0, 1"},
		     {"xxx", "GPUs 0 to 2"},
		     {"-x-x", "GPUs 1, 3"},
		     {"xx-xxxx-x", "GPUs 0, 1, 3 to 6, 8"}};
	static struct gpu_device devices[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct doctor_facts *f = good_facts();
		_cleanup_str_ struct str s = STR_INIT;

		f->inventory = (struct gpu_inventory){.gpus = devices, .n = 16};
		for (size_t k = 0; k < 16; k++)
			f->driver->gpus[k].asked =
				k < strlen(cases[i].set) && cases[i].set[k] == 'x';
		doctor_list_gpus(f, any, &s);
		assert_string_equal(str_c(&s), cases[i].text);
	}
}

/* ---- the toolkit's file ---- */

static void test_toolkit(void **state)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct doctor_toolkit t = {.installed = true};

	(void)state;
	doctor_parse_toolkit(
		"#accept-nvidia-visible-devices-envvar-when-unprivileged = true\n"
		"accept-nvidia-visible-devices-envvar-when-unprivileged = false # hard\n"
		"mode = \"no\"\n"
		"[nvidia-container-cli]\n"
		"\tno-cgroups=true\r\n"
		"[ nvidia-container-runtime ]\n"
		"mode = 'cdi'\n"
		"[nvidia-container-runtime.modes.csv]\n"
		"mode = \"other\"\n",
		&a, &t);
	assert_true(t.installed);
	assert_int_equal(t.accepts_envvar, 0);
	assert_int_equal(t.no_cgroups, 1);
	assert_string_equal(t.mode, "cdi");
	doctor_parse_toolkit("", &a, &t);
	assert_int_equal(t.accepts_envvar, -1);
	assert_int_equal(t.no_cgroups, -1);
	assert_null(t.mode);
	doctor_parse_toolkit("[\n=\n]\n[nvidia-container-cli\nno-cgroups\nno-cgroups = perhaps\n",
			     &a, &t);
	assert_int_equal(t.no_cgroups, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rejecting),
		cmocka_unit_test(test_accepting),
		cmocka_unit_test(test_accepting_elsewhere),
		cmocka_unit_test(test_every_host_rule_is_checked),
		cmocka_unit_test(test_unknown_is_not_ok),
		cmocka_unit_test(test_single_unknowns),
		cmocka_unit_test(test_machine_without_gpus),
		cmocka_unit_test(test_one_gpu),
		cmocka_unit_test(test_chosen_gpus),
		cmocka_unit_test(test_list_of_gpus),
		cmocka_unit_test(test_toolkit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
