/* Routing, path by path: what the engine is told for what the config asks. Random inventories and
 * the CUDA that reads the result are in test_route_property.c. */
#include <setjmp.h>

#include "gpu/route.h"

#include <cmocka.h>

enum { N_GPUS = 8 };

static struct gpu_device devices[N_GPUS];
static const struct gpu_inventory host = {.gpus = devices, .n = N_GPUS};
static char cdi_names[N_GPUS][128];

#define UUID(i) devices[i].uuid

static int make_host(void **state)
{
	(void)state;
	for (int i = 0; i < N_GPUS; i++) {
		devices[i] = (struct gpu_device){.index = i, .minor = N_GPUS - 1 - i};
		(void)snprintf(devices[i].uuid, sizeof(devices[i].uuid),
			       "GPU-%08x-1111-2222-3333-44445555666%d", 0xabc00000u + (unsigned)i,
			       i);
		(void)snprintf(devices[i].pci_bus_id, sizeof(devices[i].pci_bus_id),
			       "00000000:%02X:00.0", 0x11 + i);
		lem_strlcpy(devices[i].name, "NVIDIA H100", sizeof(devices[i].name));
		(void)snprintf(cdi_names[i], sizeof(cdi_names[i]), "nvidia.com/gpu=%s",
			       devices[i].uuid);
	}
	return 0;
}

struct routed {
	struct arena a;
	struct gpu_binding b;
	struct lem_error err;
	int rc;
};

static struct gpu_place workstation;

static struct routed route(const struct gpu_place *place, enum gpu_target target,
			   const struct gpu_engine_facts *engine, const struct gpu_inventory *inv,
			   const char *const *items)
{
	struct routed r = {.a = ARENA_INIT};
	struct gpu_route_request q = {
		.items = items, .target = target, .place = place, .engine = engine};

	while (items[q.n])
		q.n++;
	r.rc = gpu_route(&q, inv, &r.a, &r.b, &r.err);
	return r;
}

#define ITEMS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *value(const struct gpu_binding *b, const char *name)
{
	size_t n = strlen(name);

	for (const char *const *p = b->env; p && *p; p++)
		if (strncmp(*p, name, n) == 0 && (*p)[n] == '=')
			return *p + n + 1;
	return NULL;
}

static bool warned(const struct gpu_binding *b, const char *what)
{
	for (const char *const *p = b->warnings; p && *p; p++)
		if (strstr(*p, what))
			return true;
	return false;
}

static const struct gpu_engine_facts *with_cdi(void)
{
	static const char *names[N_GPUS + 1];
	static struct gpu_engine_facts f;

	for (int i = 0; i < N_GPUS; i++)
		names[i] = cdi_names[i];
	f = (struct gpu_engine_facts){
		.asked = true, .cdi_on = true, .cdi_listed = true, .cdi_devices = names};
	return &f;
}

static void test_process(void **state)
{
	(void)state;
	struct routed r = route(&workstation, GPU_TO_PROCESS, NULL, &host, ITEMS("5", "2"));

	assert_int_equal(r.rc, 0);
	assert_string_equal(r.b.path, "process");
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "5,2");
	assert_string_equal(value(&r.b, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
	assert_null(value(&r.b, "NVIDIA_VISIBLE_DEVICES")); /* left untouched */
	assert_int_equal(r.b.gpus[0].container_index, 0);
	assert_int_equal(r.b.gpus[1].container_index, 1);
	assert_null(r.b.request.driver);
	arena_release(&r.a);
}

/* gpus → CUDA_VISIBLE_DEVICES in a container. */
static void test_order_in_a_container(void **state)
{
	static const struct {
		const char *items[5];
		const char *cvd;
	} rows[] = {
		{{"2", "5"}, "0,1"},
		{{"5", "2"}, "1,0"},
		{{"3"}, "0"},
		{{"7", "0", "4"}, "2,0,1"},
		{{"0", "1", "2", "3"}, "0,1,2,3"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct routed r =
			route(&workstation, GPU_TO_CONTAINER, with_cdi(), &host, rows[i].items);

		assert_int_equal(r.rc, 0);
		assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), rows[i].cvd);
		arena_release(&r.a);
	}
}

static void test_cdi(void **state)
{
	(void)state;
	struct routed r = route(&workstation, GPU_TO_CONTAINER, with_cdi(), &host, ITEMS("5", "2"));
	_cleanup_free_ char *both = lem_asprintf("%s,%s", UUID(5), UUID(2));

	assert_string_equal(r.b.path, "docker-cdi");
	assert_string_equal(r.b.request.driver, "cdi");
	assert_string_equal(r.b.request.ids[0], cdi_names[5]);
	assert_string_equal(r.b.request.ids[1], cdi_names[2]);
	assert_null(r.b.request.ids[2]);
	assert_null(r.b.request.runtime);
	assert_string_equal(value(&r.b, "NVIDIA_VISIBLE_DEVICES"), both);
	assert_string_equal(value(&r.b, "LEM_GPU_UUIDS"), both);
	assert_string_equal(value(&r.b, "NVIDIA_DRIVER_CAPABILITIES"), "compute,utility");
	assert_int_equal(r.b.gpus[0].container_index, 1);
	assert_int_equal(r.b.gpus[1].container_index, 0);
	assert_null(r.b.warnings);
	arena_release(&r.a);
}

static void test_without_cdi_the_runtime(void **state)
{
	const struct gpu_engine_facts f = {.asked = true, .nvidia_runtime = true};

	(void)state;
	struct routed r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("1"));

	assert_string_equal(r.b.path, "docker-runtime");
	assert_string_equal(r.b.request.runtime, "nvidia");
	assert_null(r.b.request.driver); /* both at once: the last one wins silently */
	assert_string_equal(value(&r.b, "NVIDIA_VISIBLE_DEVICES"), UUID(1));
	arena_release(&r.a);
}

static void test_a_stale_specification_is_told_and_not_used(void **state)
{
	const char *const names[] = {cdi_names[0], NULL};
	const struct gpu_engine_facts f = {.asked = true,
					   .nvidia_runtime = true,
					   .cdi_on = true,
					   .cdi_listed = true,
					   .cdi_devices = names};

	(void)state;
	struct routed r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("0", "1"));

	assert_string_equal(r.b.path, "docker-runtime");
	assert_true(warned(&r.b, "R21"));
	assert_true(warned(&r.b, UUID(1)));
	arena_release(&r.a);
}

static void test_the_hook_is_the_last_way(void **state)
{
	const struct gpu_engine_facts f = {.asked = true, .systemd_cgroups = true};

	(void)state;
	struct routed r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("4", "3"));

	assert_string_equal(r.b.path, "docker-hook");
	assert_string_equal(r.b.request.driver, "nvidia");
	assert_string_equal(r.b.request.ids[0], UUID(4));
	assert_string_equal(r.b.request.ids[1], UUID(3));
	assert_true(warned(&r.b, "R19"));
	arena_release(&r.a);
}

static void refused(struct routed *r, const char *what, const char *fix)
{
	assert_true(r->rc < 0);
	assert_int_equal(lem_code_exit(r->err.code), 2);
	if (!strstr(r->err.what, what) || !strstr(r->err.fix, fix))
		fail_msg("got: %s | %s | %s", r->err.what, r->err.why, r->err.fix);
	arena_release(&r->a);
}

static void test_rootless_and_podman_need_cdi(void **state)
{
	const struct gpu_engine_facts rootless = {
		.asked = true, .rootless = true, .nvidia_runtime = true};
	struct gpu_engine_facts podman = *with_cdi();
	const char *const other[] = {"nvidia.com/gpu=GPU-00000000-0", NULL};
	struct routed r = route(&workstation, GPU_TO_CONTAINER, &rootless, &host, ITEMS("1"));

	(void)state;
	refused(&r, "R35: rootless Docker", "cdi generate");
	podman.podman = true;
	r = route(&workstation, GPU_TO_CONTAINER, &podman, &host, ITEMS("1"));
	assert_string_equal(r.b.path, "podman-cdi");
	arena_release(&r.a);
	podman.drops_requests = "4.3.1";
	r = route(&workstation, GPU_TO_CONTAINER, &podman, &host, ITEMS("1"));
	refused(&r, "R35: Podman 4.3.1 starts containers without the GPUs", "5.4");
	podman.drops_requests = NULL;
	podman.cdi_devices = other;
	r = route(&workstation, GPU_TO_CONTAINER, &podman, &host, ITEMS("1"));
	refused(&r, "R21: no CDI specification names GPU 1", "nvidia-cdi-refresh");
}

static void test_a_dry_run_assumes_cdi_and_says_so(void **state)
{
	const struct gpu_engine_facts f = {.asked = false};

	(void)state;
	struct routed r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("2"));

	assert_string_equal(r.b.path, "docker-cdi");
	assert_true(warned(&r.b, "CDI is assumed"));
	arena_release(&r.a);
	r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("9"));
	refused(&r, "gpus lists 9", "use one of");
}

static void test_no_gpus(void **state)
{
	const char *const none[] = {NULL};

	(void)state;
	struct routed r = route(&workstation, GPU_TO_PROCESS, NULL, &host, none);

	assert_int_equal(r.b.n, 0);
	assert_string_equal(r.b.path, "none");
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "");
	r = route(&workstation, GPU_TO_CONTAINER, with_cdi(), &host, none);
	assert_string_equal(value(&r.b, "NVIDIA_VISIBLE_DEVICES"), "void");
	assert_null(r.b.request.driver);
	assert_null(r.b.request.runtime);
}

static void test_slurm(void **state)
{
	const struct gpu_place unconstrained = {
		.in_slurm = true, .cuda_visible_devices = "4,5", .slurm_step_gpus = "4,5"};
	struct gpu_place odd = unconstrained;
	struct routed r = route(&unconstrained, GPU_TO_PROCESS, NULL, &host, ITEMS("1", "0"));

	(void)state;
	assert_string_equal(r.b.path, "slurm");
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "5,4");
	assert_null(r.b.warnings);
	arena_release(&r.a);
	r = route(&unconstrained, GPU_TO_PROCESS, NULL, &host, ITEMS("4"));
	refused(&r, "gpus lists 4", "use one of: 0 = GPU-abc0000");
	r = route(&unconstrained, GPU_TO_CONTAINER, with_cdi(), &host, ITEMS("0"));
	assert_string_equal(r.b.request.ids[0], cdi_names[4]);
	assert_true(warned(&r.b, "R33"));
	arena_release(&r.a);
	odd.slurm_step_gpus = "4,5,6";
	r = route(&odd, GPU_TO_PROCESS, NULL, &host, ITEMS("0"));
	assert_true(warned(&r.b, "4,5,6"));
	arena_release(&r.a);
}

/* What a container given host GPUs 2 and 5 sees. */
static struct gpu_inventory inside(struct gpu_device two[2])
{
	two[0] = devices[2];
	two[1] = devices[5];
	two[0].index = 0;
	two[1].index = 1;
	return (struct gpu_inventory){.gpus = two, .n = 2};
}

static void test_inside_a_container(void **state)
{
	struct gpu_device two[2];
	struct gpu_inventory inv = inside(two);
	struct gpu_place p = {.in_container = true, .host_gpus = "5,2"};
	struct routed r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("5", "2"));

	(void)state;
	assert_int_equal(r.rc, 0);
	assert_string_equal(r.b.path, "container");
	assert_string_equal(r.b.gpus[0].uuid, UUID(5));
	assert_int_equal(r.b.gpus[0].index, 5);
	assert_string_equal(r.b.gpus[0].requested, "5");
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "1,0");
	arena_release(&r.a);
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("0"));
	refused(&r, "host GPU 0, which this container was not given", "2, 5");
	p.host_gpus = NULL;
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("2"));
	refused(&r, "cannot be told", "LEM_HOST_GPUS");
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS(UUID(5)));
	assert_int_equal(r.rc, 0);
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "1");
	arena_release(&r.a);
}

static void test_inside_by_uuid_and_what_contradicts(void **state)
{
	struct gpu_device two[2];
	struct gpu_inventory inv = inside(two);
	_cleanup_free_ char *uuids = lem_asprintf("%s,%s,%s", UUID(2), UUID(4), UUID(5));
	struct gpu_place p = {.in_container = true, .host_gpus = "2,4,5", .host_gpu_uuids = uuids};
	struct routed r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("5"));

	(void)state;
	assert_int_equal(r.rc, 0);
	assert_string_equal(r.b.gpus[0].uuid, UUID(5));
	arena_release(&r.a);
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("4")); /* declared, but not visible */
	refused(&r, "host GPU 4", "2, 5");
	p.host_gpu_uuids = NULL;
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("5"));
	refused(&r, "cannot be told", "UUIDs");
	assert_non_null(strstr(r.err.why, "3 GPUs, but 2 are visible"));
	p.host_gpus = "2,2";
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("2"));
	refused(&r, "cannot be told", "UUIDs");
	p.host_gpus = "2,x";
	r = route(&p, GPU_TO_PROCESS, NULL, &inv, ITEMS("2"));
	refused(&r, "cannot be told", "UUIDs");
}

static void test_a_pod_counts_its_own(void **state)
{
	struct gpu_device two[2];
	struct gpu_inventory inv = inside(two);
	const struct gpu_place pod = {.in_container = true, .in_kubernetes = true};
	struct routed r = route(&pod, GPU_TO_PROCESS, NULL, &inv, ITEMS("1", "0"));

	(void)state;
	assert_string_equal(r.b.gpus[0].uuid, UUID(5));
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "1,0");
	arena_release(&r.a);
}

static void test_mixed_gpus_are_told(void **state)
{
	(void)state;
	lem_strlcpy(devices[6].name, "NVIDIA L40S", sizeof(devices[6].name));
	struct routed r = route(&workstation, GPU_TO_PROCESS, NULL, &host, ITEMS("0", "6"));

	assert_true(warned(&r.b, "R40"));
	arena_release(&r.a);
}

static void test_outside_the_allocation(void **state)
{
	const struct gpu_place p = {.cuda_visible_devices = "0"};
	const char *const items[] = {"host:3"};
	struct gpu_route_request q = {
		.items = items, .n = 1, .target = GPU_TO_PROCESS, .place = &p};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;
	struct lem_error err;

	(void)state;
	assert_true(gpu_route(&q, &host, &a, &b, &err) < 0);
	q.allow_outside_allocation = true;
	assert_int_equal(gpu_route(&q, &host, &a, &b, &err), 0);
	assert_string_equal(b.gpus[0].uuid, UUID(3));
}

static struct gpu_mig instances[2];

static void split_gpu_3(void)
{
	for (int i = 0; i < 2; i++)
		(void)snprintf(instances[i].uuid, sizeof(instances[i].uuid),
			       "MIG-%08x-1111-5222-8333-444455556666", 0x77700000 + i);
	devices[3].mig = true;
	devices[3].migs = instances;
	devices[3].n_migs = 2;
}

static void test_a_mig_instance(void **state)
{
	(void)state;
	split_gpu_3();
	struct routed r =
		route(&workstation, GPU_TO_PROCESS, NULL, &host, ITEMS(instances[1].uuid));

	assert_int_equal(r.rc, 0);
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), instances[1].uuid);
	assert_string_equal(value(&r.b, "LEM_GPU_UUIDS"), instances[1].uuid);
	assert_string_equal(r.b.gpus[0].card_uuid, UUID(3));
	arena_release(&r.a);
	/* its own name among the CDI devices, and 0 inside */
	(void)snprintf(cdi_names[0], sizeof(cdi_names[0]), "nvidia.com/gpu=%s", instances[1].uuid);
	r = route(&workstation, GPU_TO_CONTAINER, with_cdi(), &host, ITEMS(instances[1].uuid));
	assert_string_equal(r.b.path, "docker-cdi");
	assert_string_equal(r.b.request.ids[0], cdi_names[0]);
	assert_null(r.b.request.ids[1]);
	assert_string_equal(value(&r.b, "CUDA_VISIBLE_DEVICES"), "0");
	assert_string_equal(value(&r.b, "NVIDIA_VISIBLE_DEVICES"), instances[1].uuid);
	arena_release(&r.a);
}

static void test_mig_instances_do_not_combine(void **state)
{
	const char *const items[] = {instances[0].uuid};
	struct gpu_route_request q = {
		.items = items, .n = 1, .target = GPU_TO_PROCESS, .place = &workstation};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;
	struct lem_error err;

	(void)state;
	split_gpu_3();
	struct routed r = route(&workstation, GPU_TO_PROCESS, NULL, &host,
				ITEMS(instances[0].uuid, instances[1].uuid));

	refused(&r, "R08: gpus lists the MIG instance", "alone");
	r = route(&workstation, GPU_TO_PROCESS, NULL, &host, ITEMS("1", instances[1].uuid));
	refused(&r, "R08: gpus lists the MIG instance", "alone");
	r = route(&workstation, GPU_TO_PROCESS, NULL, &host, ITEMS("3"));
	refused(&r, "R08: GPU 3 (gpus: 3) is split by MIG", instances[0].uuid);
	q.processes = 2;
	assert_true(gpu_route(&q, &host, &a, &b, &err) < 0);
	assert_non_null(strstr(err.what, "R08: 2 GPUs are needed together"));
	q.processes = 1;
	assert_int_equal(gpu_route(&q, &host, &a, &b, &err), 0);
}

/* The host may have specifications that a rootless daemon does not read. */
static void test_rootless_with_cdi_off(void **state)
{
	struct gpu_engine_facts f = *with_cdi();
	struct routed r;

	(void)state;
	f.rootless = true;
	r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("1"));
	assert_int_equal(r.rc, 0);
	assert_string_equal(r.b.path, "docker-cdi");
	arena_release(&r.a);
	f.cdi_on = false;
	r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("1"));
	refused(&r, "R35: rootless Docker", "daemon.json");
	f.podman = true; /* reads the host's specifications itself */
	r = route(&workstation, GPU_TO_CONTAINER, &f, &host, ITEMS("1"));
	assert_string_equal(r.b.path, "podman-cdi");
	arena_release(&r.a);
}

/* dockerd is outside the job: what the job may use still counts. */
static void test_docker_in_a_slurm_job(void **state)
{
	const struct gpu_place job = {
		.in_slurm = true, .cuda_visible_devices = "4,5", .slurm_step_gpus = "4,5"};
	const char *const items[] = {"0", "host:2"};
	struct gpu_route_request q = {.items = items,
				      .n = 2,
				      .target = GPU_TO_CONTAINER,
				      .place = &job,
				      .engine = with_cdi()};
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding b;
	struct lem_error err;

	(void)state;
	assert_true(gpu_route(&q, &host, &a, &b, &err) < 0);
	assert_non_null(strstr(err.what, "host:2, which CUDA_VISIBLE_DEVICES hides"));
	q.allow_outside_allocation = true;
	assert_int_equal(gpu_route(&q, &host, &a, &b, &err), 0);
	assert_string_equal(b.gpus[0].uuid, UUID(4)); /* numbers count in the job all the same */
	assert_string_equal(b.gpus[1].uuid, UUID(2));
	assert_string_equal(value(&b, "CUDA_VISIBLE_DEVICES"), "1,0");
	assert_true(warned(&b, "R33"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_process, make_host),
		cmocka_unit_test_setup(test_order_in_a_container, make_host),
		cmocka_unit_test_setup(test_cdi, make_host),
		cmocka_unit_test_setup(test_without_cdi_the_runtime, make_host),
		cmocka_unit_test_setup(test_a_stale_specification_is_told_and_not_used, make_host),
		cmocka_unit_test_setup(test_the_hook_is_the_last_way, make_host),
		cmocka_unit_test_setup(test_rootless_and_podman_need_cdi, make_host),
		cmocka_unit_test_setup(test_a_dry_run_assumes_cdi_and_says_so, make_host),
		cmocka_unit_test_setup(test_no_gpus, make_host),
		cmocka_unit_test_setup(test_slurm, make_host),
		cmocka_unit_test_setup(test_inside_a_container, make_host),
		cmocka_unit_test_setup(test_inside_by_uuid_and_what_contradicts, make_host),
		cmocka_unit_test_setup(test_a_pod_counts_its_own, make_host),
		cmocka_unit_test_setup(test_mixed_gpus_are_told, make_host),
		cmocka_unit_test_setup(test_outside_the_allocation, make_host),
		cmocka_unit_test_setup(test_a_mig_instance, make_host),
		cmocka_unit_test_setup(test_mig_instances_do_not_combine, make_host),
		cmocka_unit_test_setup(test_rootless_with_cdi_off, make_host),
		cmocka_unit_test_setup(test_docker_in_a_slurm_job, make_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
