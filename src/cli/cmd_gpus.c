#include <getopt.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/gpus_view.h"
#include "gpu/id.h"

static const char usage[] =
	"usage: lem gpus [--json]\n"
	"\n"
	"Lists the NVIDIA GPUs of this host, what runs on them, how they are joined, and what to\n"
	"write in `gpus:` of a configuration to get each one from this shell: its number, or\n"
	"UUID where a number would not be sound. MIG instances are named by their MIG-… UUID.\n"
	"Exit code 0 also where there is no GPU; 1 when there is one and its driver does not "
	"work.\n";

enum { PROCESSES_MAX = 1024 };

/* Does this one item get a GPU from here, and which? NULL and err otherwise. */
static const char *routed(const struct gpus_view *v, const char *item, struct arena *a,
			  struct lem_error *err)
{
	const struct gpu_route_request q = {
		.items = &item, .n = 1, .target = GPU_TO_PROCESS, .place = &v->place};
	struct gpu_binding b;

	return gpu_route(&q, &v->inventory, a, &b, err) < 0 ? NULL : b.gpus[0].uuid;
}

/* Numbers are tried as a configuration would use them, so that what is shown is what works. */
static void try_item(struct gpus_view *v, const char *item)
{
	const char *uuid = routed(v, item, &v->arena, NULL);

	for (size_t i = 0; uuid && i < v->inventory.n; i++)
		if (!v->write_as[i] && str_eq(v->inventory.gpus[i].uuid, uuid))
			v->write_as[i] = arena_strdup(&v->arena, item);
}

static void try_numbers(struct gpus_view *v)
{
	_cleanup_free_ char *host = lem_strdup(v->place.host_gpus ? v->place.host_gpus : "");
	char *save = NULL;

	for (char *t = strtok_r(host, ",", &save); t; t = strtok_r(NULL, ",", &save))
		try_item(v, t);
	for (size_t i = 0; i < v->inventory.n; i++) {
		char item[24];

		(void)snprintf(item, sizeof(item), "%zu", i);
		try_item(v, item);
	}
}

static void find_names(struct gpus_view *v)
{
	size_t n = v->inventory.n;

	v->write_as = arena_array(&v->arena, n + 1, sizeof(*v->write_as));
	v->refusals = arena_array(&v->arena, n + 1, sizeof(*v->refusals));
	try_numbers(v);
	for (size_t i = 0; i < n; i++) {
		const struct gpu_device *g = &v->inventory.gpus[i];
		struct lem_error *err = arena_new(&v->arena, struct lem_error);

		if (v->write_as[i] || !*g->uuid)
			continue;
		if (routed(v, g->uuid, &v->arena, err))
			v->write_as[i] = "UUID";
		else
			v->refusals[i] = err;
	}
}

static void read_visible(struct gpus_view *v)
{
	struct gpu_part *parts;

	if (gpu_visible(&v->inventory, v->place.cuda_visible_devices, &v->arena, &parts,
			&v->n_visible, &v->no_visible) >= 0)
		v->no_visible.code = LEM_E_NONE;
}

static void read_processes(const struct nvml *nvml, struct gpus_view *v)
{
	struct gpu_process *at = arena_array(&v->arena, PROCESSES_MAX, sizeof(*at));

	if (gpu_processes_read(nvml, at, PROCESSES_MAX, &v->n_processes, &v->no_processes) < 0)
		return;
	v->no_processes.code = LEM_E_NONE;
	v->n_processes = MIN(v->n_processes, (size_t)PROCESSES_MAX);
	v->processes = arena_array(&v->arena, v->n_processes + 1, sizeof(*v->processes));
	for (size_t i = 0; i < v->n_processes; i++) {
		struct gpus_process *p = &v->processes[i];

		p->process = at[i];
		gpu_process_describe(at[i].pid, p->name, sizeof(p->name), p->user, sizeof(p->user));
	}
}

/* Which rule of the catalogue a driver that does not answer breaks. */
static int fail_driver(struct lem_error *err)
{
	if (err->code == LEM_E_UNSUPPORTED && strstr(err->what, "different versions"))
		return lem_error_context(err, "R24");
	if (err->code == LEM_E_NOT_FOUND)
		return lem_error_context(err, "R23");
	return -(int)err->code;
}

static bool is_set(const char *name)
{
	const char *s = getenv(name);

	return s && *s;
}

/* No library and no card is a host without GPUs; a library named by hand must work. */
static int open_driver(struct gpus_view *v, struct nvml **ret, struct lem_error *err)
{
	int r = nvml_open(ret, err);

	if (r >= 0)
		return r;
	if (err->code == LEM_E_NOT_FOUND && str_starts(err->what, "no NVIDIA driver") &&
	    !is_set("LEM_NVML_LIBRARY") && !gpu_hardware_seen()) {
		v->none = arena_strdup(&v->arena, err->what);
		return 0;
	}
	return fail_driver(err);
}

static int gather(struct gpus_view *v, struct lem_error *err)
{
	_cleanup_nvml_ struct nvml *nvml = NULL;
	int r = open_driver(v, &nvml, err);

	gpu_place_read(&v->arena, &v->place);
	if (r < 0 || v->none)
		return r;
	r = gpu_inventory_from(nvml, &v->inventory, err);
	if (r >= 0)
		r = gpu_links_read(nvml, &v->links, err);
	if (r < 0)
		return r;
	v->details = arena_array(&v->arena, v->inventory.n + 1, sizeof(*v->details));
	gpu_details_read(nvml, v->inventory.n, v->details);
	v->cuda_version = gpu_cuda_driver_version(nvml);
	read_processes(nvml, v);
	read_visible(v);
	find_names(v);
	return 0;
}

static void view_release(struct gpus_view *v)
{
	gpu_inventory_release(&v->inventory);
	gpu_links_release(&v->links);
	arena_release(&v->arena);
}

static int show(bool json)
{
	_cleanup_(view_release) struct gpus_view v = {.arena = ARENA_INIT};
	_cleanup_str_ struct str out = STR_INIT;
	struct lem_error err = LEM_ERROR_INIT;

	if (gather(&v, &err) < 0)
		return cli_error_as(&err, json);
	if (json)
		gpus_json(&v, &out);
	else
		gpus_text(&v, cli_ascii(), &out);
	fputs(str_c(&out), stdout);
	return CLI_OK;
}

int cmd_gpus(int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case 'j': json = true; break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return cli_bad_option("gpus", c, argv);
		}
	}
	if (optind < argc)
		return cli_usage("gpus", "'%s' is one word too many", argv[optind]);
	return show(json);
}
