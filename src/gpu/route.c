#include "gpu/route.h"

#include "base/num.h"
#include "base/str.h"
#include "gpu/id.h"

#define CDI_PREFIX "nvidia.com/gpu="

enum { HOST_GPUS_MAX = 256, WARNINGS_MAX = 8 };

/* A growing NULL-terminated list of strings in an arena; small and bounded by its maker. */
struct list {
	const char **at;
	size_t n;
};

static struct list list_new(struct arena *a, size_t max)
{
	return (struct list){.at = arena_array(a, max + 1, sizeof(char *))};
}

static void list_add(struct list *l, const char *text)
{
	l->at[l->n++] = text;
}

static bool is_mig(const struct gpu_ref *g)
{
	return str_starts(g->uuid, "MIG-");
}

/* ---- inside a container: the host's numbers → what is visible here ---- */

struct host_map {
	int host[HOST_GPUS_MAX]; /* by position in the inventory seen here; -1 unknown */
	size_t n;
	bool known;
};

static int fail_map(struct lem_error *err, const char *why)
{
	(void)lem_fail(
		err, LEM_E_REFUSED,
		"gpus counts the host's GPUs, but which of them this container has cannot be "
		"told");
	(void)lem_error_why(err, "%s", why);
	return lem_error_fix(err, "write UUIDs ('lem gpus' on the host lists them), or pass "
				  "LEM_HOST_GPUS=2,5 into the container beside its device_ids "
				  "(deploy/docker-compose.yml does)");
}

static int parse_numbers(const char *text, int *at, size_t *ret_n)
{
	size_t n = 0;

	for (const char *p = text; p;) {
		size_t k = strcspn(p, ",");
		char item[16];
		int64_t v;

		if (k == 0 || k >= sizeof(item) || n == HOST_GPUS_MAX)
			return -1;
		memcpy(item, p, k);
		item[k] = '\0';
		if (!num_parse_i64(item, &v) || v < 0 || v > 100000)
			return -1;
		at[n++] = (int)v;
		p = p[k] ? p + k + 1 : NULL;
	}
	*ret_n = n;
	return 0;
}

static void sort_numbers(int *at, size_t n)
{
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k > 0 && at[k - 1] > at[k]; k--) {
			int swap = at[k];

			at[k] = at[k - 1];
			at[k - 1] = swap;
		}
}

static int find_uuid(const struct gpu_inventory *inv, const char *uuid, size_t n)
{
	for (size_t i = 0; i < inv->n; i++)
		if (strlen(inv->gpus[i].uuid) == n && strncasecmp(inv->gpus[i].uuid, uuid, n) == 0)
			return (int)i;
	return -1;
}

/* host_gpu_uuids names them in the order of host_gpus: sound whatever the runtime did. */
static int map_by_uuid(const struct gpu_place *place, const int *numbers, size_t n,
		       const struct gpu_inventory *inv, struct host_map *ret, struct lem_error *err)
{
	const char *p = place->host_gpu_uuids;

	for (size_t i = 0; i < n; i++) {
		size_t k = p ? strcspn(p, ",") : 0;
		int v = k ? find_uuid(inv, p, k) : -1;

		if (v >= 0)
			ret->host[v] = numbers[i];
		p = p && p[k] ? p + k + 1 : NULL;
		if (!p && i + 1 < n)
			return fail_map(err,
					"LEM_HOST_GPU_UUIDS names fewer GPUs than LEM_HOST_GPUS");
	}
	return 0;
}

/* The runtime keeps PCI order and loses the list's: the smaller number is the earlier device. */
static int map_by_order(int *numbers, size_t n, const struct gpu_inventory *inv,
			struct host_map *ret, struct lem_error *err)
{
	char why[160];

	sort_numbers(numbers, n);
	for (size_t i = 1; i < n; i++)
		if (numbers[i] == numbers[i - 1])
			return fail_map(err, "LEM_HOST_GPUS names a GPU twice");
	if (n != inv->n) {
		(void)snprintf(why, sizeof(why),
			       "it was declared to have %zu GPU%s, but %zu %s visible in it", n,
			       n == 1 ? "" : "s", inv->n, inv->n == 1 ? "is" : "are");
		return fail_map(err, why);
	}
	for (size_t i = 0; i < n; i++)
		ret->host[i] = numbers[i];
	return 0;
}

static int read_host_map(const struct gpu_place *place, const struct gpu_inventory *inv,
			 struct host_map *ret, struct lem_error *err)
{
	int numbers[HOST_GPUS_MAX];
	size_t n;

	ret->n = MIN(inv->n, (size_t)HOST_GPUS_MAX);
	for (size_t i = 0; i < ret->n; i++)
		ret->host[i] = -1;
	if (!place->host_gpus)
		return 0;
	if (parse_numbers(place->host_gpus, numbers, &n) < 0)
		return fail_map(err, "the list of host GPUs it was given is not a list of numbers");
	ret->known = true;
	return place->host_gpu_uuids ? map_by_uuid(place, numbers, n, inv, ret, err)
				     : map_by_order(numbers, n, inv, ret, err);
}

/* "5" or "host:5" of the config → the UUID of what is host GPU 5 here; other forms as they are. */
static int map_item(const struct host_map *m, const struct gpu_inventory *inv, const char *item,
		    const char **ret, struct lem_error *err)
{
	struct gpu_id id;
	int rc = gpu_id_parse(item, &id, err);

	*ret = item;
	if (rc < 0 || (id.kind != GPU_ID_INDEX && id.kind != GPU_ID_HOST_INDEX))
		return rc;
	if (!m->known)
		return fail_map(err, "nothing tells which host GPUs were given to it");
	for (size_t i = 0; i < m->n; i++)
		if (m->host[i] == id.index) {
			*ret = inv->gpus[i].uuid;
			return 0;
		}
	_cleanup_str_ struct str have = STR_INIT;

	for (size_t i = 0; i < m->n; i++)
		if (m->host[i] >= 0)
			str_addf(&have, "%s%d", have.len ? ", " : "", m->host[i]);
	(void)lem_fail(err, LEM_E_REFUSED,
		       "gpus lists host GPU %d, which this container was not given", id.index);
	return lem_error_fix(err,
			     "it has host GPUs %s; write these, or start it with other device_ids",
			     have.len ? str_c(&have) : "(none)");
}

static int resolve_in_container(const struct gpu_route_request *q, const struct gpu_inventory *inv,
				struct arena *a, struct gpu_binding *ret, struct lem_error *err)
{
	const char **items = arena_array(a, q->n + 1, sizeof(*items));
	struct host_map m = {0};
	int rc = read_host_map(q->place, inv, &m, err);

	for (size_t i = 0; i < q->n && rc >= 0; i++)
		rc = map_item(&m, inv, q->items[i], &items[i], err);
	if (rc >= 0)
		rc = gpu_resolve_within(inv, items, q->n, q->place->cuda_visible_devices,
					q->allow_outside_allocation, a, ret, err);
	for (size_t i = 0; i < q->n && rc >= 0; i++) {
		struct gpu_ref *g = &ret->gpus[i];

		lem_strlcpy(g->requested, q->items[i], sizeof(g->requested));
		if (m.known && (size_t)g->index < m.n && m.host[g->index] >= 0)
			g->index = m.host[g->index];
	}
	return rc;
}

/* A pod is its own world: its GPUs count from 0, and nobody knows the host's numbers. */
static int resolve(const struct gpu_route_request *q, const struct gpu_inventory *inv,
		   struct arena *a, struct gpu_binding *ret, struct lem_error *err)
{
	const struct gpu_place *p = q->place;

	if (p->in_container && !p->in_kubernetes && q->n)
		return resolve_in_container(q, inv, a, ret, err);
	return gpu_resolve_within(inv, q->items, q->n, p->cuda_visible_devices,
				  q->allow_outside_allocation, a, ret, err);
}

/* ---- what the engine's environment must say ---- */

/* Room for "NAME=" and n parts of at most part_max bytes, with commas. */
static char *room(struct arena *a, const char *name, size_t n, size_t part_max)
{
	return arena_alloc(a, strlen(name) + 1 + n * (part_max + 1) + 1);
}

/* The caller made room. Returns the end. */
static char *put(char *p, const char *text)
{
	size_t n = strlen(text);

	memcpy(p, text, n + 1);
	return p + n;
}

static const char *join_uuids(const struct gpu_binding *b, const char *name, struct arena *a)
{
	char *text = room(a, name, b->n, sizeof(b->gpus[0].uuid)), *p = put(text, name);

	for (size_t i = 0; i < b->n; i++) {
		*p++ = i ? ',' : '=';
		p = put(p, b->gpus[i].uuid);
	}
	return text;
}

static char *put_number(char *p, unsigned v)
{
	char digits[12];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	while (n)
		*p++ = digits[--n];
	return p;
}

/* Integers, because some engines apply int() to each item (R07); one MIG instance by its UUID. */
static const char *cuda_list(const struct gpu_binding *b, const int *ordinals, struct arena *a)
{
	static const char name[] = "CUDA_VISIBLE_DEVICES";
	char *text = room(a, name, b->n, 12), *p = put(text, name);

	for (size_t i = 0; i < b->n; i++) {
		*p++ = i ? ',' : '=';
		p = put_number(p, (unsigned)ordinals[i]);
	}
	*p = '\0';
	return text;
}

/* Positions among the GPUs seen here, which is what CUDA counts in PCI order. */
static int *visible_indices(const struct gpu_inventory *inv, const struct gpu_binding *b,
			    struct arena *a)
{
	int *ret = arena_array(a, b->n, sizeof(*ret));

	for (size_t i = 0; i < b->n; i++)
		for (size_t k = 0; k < inv->n; k++)
			if (strcmp(inv->gpus[k].uuid, b->gpus[i].card_uuid) == 0) {
				ret[i] = (int)k;
				break;
			}
	return ret;
}

static void route_process(const struct gpu_inventory *inv, struct arena *a, struct gpu_binding *b)
{
	struct list env = list_new(a, 3);

	for (size_t i = 0; i < b->n; i++)
		b->gpus[i].container_index = (int)i;
	list_add(&env, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
	list_add(&env, is_mig(&b->gpus[0]) ? join_uuids(b, "CUDA_VISIBLE_DEVICES", a)
					   : cuda_list(b, visible_indices(inv, b, a), a));
	list_add(&env, join_uuids(b, "LEM_GPU_UUIDS", a));
	b->env = env.at;
}

/* The rank of each GPU in PCI order among those given: the container counts its devices so. */
static int *ranks(const struct gpu_inventory *inv, struct arena *a, struct gpu_binding *b)
{
	const int *visible = visible_indices(inv, b, a);
	int *ret = arena_array(a, b->n, sizeof(*ret));

	for (size_t i = 0; i < b->n; i++) {
		for (size_t k = 0; k < b->n; k++)
			ret[i] += visible[k] < visible[i] ? 1 : 0;
		b->gpus[i].container_index = ret[i];
	}
	return ret;
}

static void route_container_env(const struct gpu_inventory *inv, struct arena *a,
				struct gpu_binding *b)
{
	struct list env = list_new(a, 5);

	list_add(&env, "CUDA_DEVICE_ORDER=PCI_BUS_ID");
	list_add(&env, cuda_list(b, ranks(inv, a, b), a));
	list_add(&env, join_uuids(b, "NVIDIA_VISIBLE_DEVICES", a));
	list_add(&env, "NVIDIA_DRIVER_CAPABILITIES=compute,utility");
	list_add(&env, join_uuids(b, "LEM_GPU_UUIDS", a));
	b->env = env.at;
}

/* ---- the path through the container engine, routing.md section 13 ---- */

static bool lists(const char *const *names, const char *uuid)
{
	for (; names && *names; names++)
		if (str_starts(*names, CDI_PREFIX) && str_eq(*names + sizeof(CDI_PREFIX) - 1, uuid))
			return true;
	return false;
}

/* The first GPU that no CDI specification names; NULL when all are named. */
static const struct gpu_ref *not_in_cdi(const struct gpu_binding *b,
					const struct gpu_engine_facts *f)
{
	for (size_t i = 0; i < b->n; i++)
		if (!lists(f->cdi_devices, b->gpus[i].uuid))
			return &b->gpus[i];
	return NULL;
}

static void request_cdi(const char *path, struct arena *a, struct gpu_binding *b)
{
	struct list ids = list_new(a, b->n);

	for (size_t i = 0; i < b->n; i++) {
		char *id = arena_alloc(a, sizeof(CDI_PREFIX) + sizeof(b->gpus[i].uuid));

		(void)put(put(id, CDI_PREFIX), b->gpus[i].uuid);
		list_add(&ids, id);
	}
	b->request = (struct gpu_device_request){.driver = "cdi", .ids = ids.at};
	lem_strlcpy(b->path, path, sizeof(b->path));
}

static void request_runtime(struct gpu_binding *b)
{
	b->request = (struct gpu_device_request){.runtime = "nvidia"};
	lem_strlcpy(b->path, "docker-runtime", sizeof(b->path));
}

static void request_hook(struct arena *a, struct gpu_binding *b)
{
	struct list ids = list_new(a, b->n);

	for (size_t i = 0; i < b->n; i++)
		list_add(&ids, b->gpus[i].uuid);
	b->request = (struct gpu_device_request){.driver = "nvidia", .ids = ids.at};
	lem_strlcpy(b->path, "docker-hook", sizeof(b->path));
}

static bool names_any_gpu(const struct gpu_engine_facts *f)
{
	for (const char *const *p = f->cdi_devices; p && *p; p++)
		if (str_starts(*p, CDI_PREFIX))
			return true;
	return false;
}

static int fail_cdi(const struct gpu_engine_facts *f, const struct gpu_ref *missing,
		    struct lem_error *err)
{
	const char *who = f->podman ? "Podman" : "rootless Docker";

	if (missing && names_any_gpu(f)) {
		(void)lem_fail(err, LEM_E_REFUSED,
			       "R21: no CDI specification names GPU %d (%s), so %s cannot pass it",
			       missing->index, missing->uuid, who);
		return lem_error_fix(err, "make the specification anew: sudo systemctl restart "
					  "nvidia-cdi-refresh, or sudo nvidia-ctk cdi generate "
					  "--output=/var/run/cdi/nvidia.yaml");
	}
	(void)lem_fail(err, LEM_E_REFUSED,
		       "R35: %s passes GPUs by CDI only, and has no CDI devices", who);
	return lem_error_fix(err, "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml%s",
			     f->podman
				     ? ""
				     : "; in the user's daemon.json \"features\": {\"cdi\": true} "
				       "(before Docker 28.2); restart the user's daemon");
}

static int fail_dropping(const char *version, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED,
		       "R35: Podman %.40s starts containers without the GPUs that are asked for "
		       "through its socket, and tells no error",
		       version);
	(void)lem_error_why(err, "its Docker-compatible API takes CDI devices since 5.4.0");
	return lem_error_fix(err, "update Podman to 5.4 or newer, point DOCKER_HOST at a Docker "
				  "engine, or use runner: process");
}

static int choose_path(const struct gpu_engine_facts *f, struct arena *a, struct gpu_binding *b,
		       struct list *warnings, struct lem_error *err)
{
	const struct gpu_ref *missing = not_in_cdi(b, f);

	if (!f->asked) {
		list_add(warnings, "no container engine was asked: CDI is assumed");
		request_cdi("docker-cdi", a, b);
		return 0;
	}
	if (f->drops_requests)
		return fail_dropping(f->drops_requests, err);
	if (f->rootless || f->podman) {
		/* what the host's specifications say is nothing to a daemon that does not read them
		 */
		if (missing || (!f->podman && !f->cdi_on))
			return fail_cdi(f, missing, err);
		request_cdi(f->podman ? "podman-cdi" : "docker-cdi", a, b);
		return 0;
	}
	if (f->cdi_on && !missing) {
		request_cdi("docker-cdi", a, b);
		return 0;
	}
	if (f->cdi_on && names_any_gpu(f))
		list_add(warnings,
			 arena_printf(a,
				      "R21: the CDI specifications do not name GPU %d (%s); the "
				      "older way is taken; sudo systemctl restart "
				      "nvidia-cdi-refresh makes them anew",
				      missing->index, missing->uuid));
	if (f->nvidia_runtime) {
		request_runtime(b);
		return 0;
	}
	request_hook(a, b);
	if (f->systemd_cgroups)
		list_add(warnings,
			 "R19: with the systemd cgroup driver this way of passing GPUs loses "
			 "them when systemd reloads; CDI does not");
	return 0;
}

/* ---- what holds on every path ---- */

static int check_mig(const struct gpu_route_request *q, const struct gpu_binding *b,
		     struct lem_error *err)
{
	for (size_t i = 0; i < b->n; i++) {
		if (!is_mig(&b->gpus[i]) || (b->n == 1 && q->processes <= 1))
			continue;
		if (b->n > 1)
			(void)lem_fail(err, LEM_E_REFUSED,
				       "R08: gpus lists the MIG instance %s beside others",
				       b->gpus[i].uuid);
		else
			(void)lem_fail(err, LEM_E_REFUSED,
				       "R08: %zu GPUs are needed together, and gpus lists the MIG "
				       "instance %s",
				       q->processes, b->gpus[i].uuid);
		(void)lem_error_why(err,
				    "a CUDA process sees one MIG instance at most, and instances "
				    "cannot exchange data");
		return lem_error_fix(
			err, "list one MIG instance alone with parallelism 1, or whole GPUs");
	}
	return 0;
}

static void warn_mixed(const struct gpu_binding *b, struct arena *a, struct list *warnings)
{
	for (size_t i = 1; i < b->n; i++)
		if (!str_eq(b->gpus[i].name, b->gpus[0].name)) {
			list_add(warnings,
				 arena_printf(a, "R40: the GPUs differ: %d is %s, %d is %s",
					      b->gpus[0].index, b->gpus[0].name, b->gpus[i].index,
					      b->gpus[i].name));
			return;
		}
}

static size_t count_items(const char *list)
{
	size_t n = *list ? 1 : 0;

	for (; *list; list++)
		n += *list == ',' ? 1 : 0;
	return n;
}

/* What Slurm says of the step is never routed by; a contradiction is worth a line. */
static void warn_slurm(const struct gpu_route_request *q, const struct gpu_inventory *inv,
		       struct arena *a, struct list *warnings)
{
	const struct gpu_place *p = q->place;
	const char *cvd = p->cuda_visible_devices;
	size_t usable = cvd ? count_items(cvd) : inv->n;

	if (!p->in_slurm)
		return;
	if (p->slurm_step_gpus && count_items(p->slurm_step_gpus) != usable)
		list_add(warnings,
			 arena_printf(a,
				      "Slurm gave this step the GPUs %s, but %zu can be used here",
				      p->slurm_step_gpus, usable));
	if (q->target == GPU_TO_CONTAINER)
		list_add(warnings, "R33: the container engine runs outside this Slurm job and its "
				   "limits; the GPUs are named by UUID");
}

static void no_gpus(const struct gpu_route_request *q, struct gpu_binding *ret)
{
	/* A CUDA build must not find a GPU; a default NVIDIA runtime passes all of them (R02). */
	static const char *const process[] = {"CUDA_VISIBLE_DEVICES=", NULL};
	static const char *const container[] = {
		"CUDA_VISIBLE_DEVICES=", "NVIDIA_VISIBLE_DEVICES=void", NULL};

	*ret = (struct gpu_binding){.env = q->target == GPU_TO_PROCESS ? process : container};
	lem_strlcpy(ret->path, "none", sizeof(ret->path));
}

int gpu_route(const struct gpu_route_request *q, const struct gpu_inventory *inv, struct arena *a,
	      struct gpu_binding *ret, struct lem_error *err)
{
	struct gpu_binding b = {0};
	struct list warnings;
	int rc;

	if (q->n == 0) {
		no_gpus(q, ret);
		return 0;
	}
	warnings = list_new(a, WARNINGS_MAX);
	rc = resolve(q, inv, a, &b, err);
	if (rc >= 0)
		rc = check_mig(q, &b, err);
	if (rc < 0)
		return rc;
	warn_mixed(&b, a, &warnings);
	warn_slurm(q, inv, a, &warnings);
	if (q->target == GPU_TO_PROCESS) {
		route_process(inv, a, &b);
		lem_strlcpy(b.path,
			    q->place->in_slurm       ? "slurm"
			    : q->place->in_container ? "container"
						     : "process",
			    sizeof(b.path));
	} else {
		route_container_env(inv, a, &b);
		rc = choose_path(q->engine, a, &b, &warnings, err);
	}
	if (rc < 0)
		return rc;
	b.warnings = warnings.n ? warnings.at : NULL;
	*ret = b;
	return 0;
}
