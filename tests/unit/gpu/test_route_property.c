/*
 * Random machines, places, requests and container engines against a model of its own of what CUDA
 * then shows (routing.md section 7): the UUIDs asked for, in their order, or a refusal exactly when
 * the request is wrong. What a request means is known because it is made from the answer.
 */
#include <setjmp.h>

#include "base/num.h"
#include "base/rand.h"
#include "base/str.h"
#include "gpu/route.h"

#include <cmocka.h>

enum { CASES = 120000, MAX_GPUS = 16, MAX_MIGS = 3, MAX_ITEMS = 20, TEXT = 1024 };

enum kind { HOST, HOST_CVD, SLURM, POD, MAPPED, MAPPED_BY_UUID, UNMAPPED, KINDS };

/* What is asked for: a card that lem sees, or an instance of it. */
struct wish {
	char item[112];
	size_t gpu; /* position among those seen */
	int mig;    /* -1: the card */
};

struct world {
	struct rand rand;
	struct gpu_device machine[MAX_GPUS], seen[MAX_GPUS];
	struct gpu_mig migs[MAX_GPUS][MAX_MIGS];
	size_t n_machine, n_seen;
	size_t host_of[MAX_GPUS]; /* seen → machine */
	size_t allowed[MAX_GPUS]; /* A: positions among those seen */
	size_t n_allowed;
	enum kind kind;
	struct gpu_place place;
	char cvd[TEXT], host_gpus[TEXT], host_uuids[TEXT];
	struct wish wishes[MAX_ITEMS];
	size_t n;
	bool wrong; /* the request */

	enum gpu_target target;
	struct gpu_engine_facts facts;
	char names[MAX_GPUS * (MAX_MIGS + 1)][128];
	const char *cdi[MAX_GPUS * (MAX_MIGS + 1) + 1];
};

static size_t below(struct world *w, size_t n)
{
	return (size_t)rand_below(&w->rand, n);
}

static bool one_in(struct world *w, size_t n)
{
	return below(w, n) == 0;
}

static void shuffle(struct world *w, size_t *at, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t k = below(w, i), swap = at[i - 1];

		at[i - 1] = at[k];
		at[k] = swap;
	}
}

/* ---- a machine ---- */

static void random_uuid(struct world *w, const char *prefix, char *buf, size_t size)
{
	uint64_t a = rand_u64(&w->rand), b = rand_u64(&w->rand);

	(void)snprintf(buf, size, "%s%08x-%04x-4%03x-8%03x-%012" PRIx64, prefix,
		       (unsigned)(a >> 32), (unsigned)(a & 0xffff), (unsigned)(a >> 16 & 0xfff),
		       (unsigned)(b & 0xfff), b >> 16);
}

static void split(struct world *w, size_t i)
{
	struct gpu_device *g = &w->machine[i];

	g->mig = true;
	g->migs = w->migs[i];
	g->n_migs = below(w, MAX_MIGS + 1);
	for (size_t k = 0; k < g->n_migs; k++) {
		w->migs[i][k] = (struct gpu_mig){.memory_bytes = k + 1};
		random_uuid(w, "MIG-", w->migs[i][k].uuid, sizeof(w->migs[i][k].uuid));
	}
}

static void make_machine(struct world *w)
{
	unsigned domain = 0, bus = (unsigned)below(w, 8);
	size_t minors[MAX_GPUS];
	bool with_mig = one_in(w, 4);

	w->n_machine = 1 + below(w, MAX_GPUS);
	for (size_t i = 0; i < w->n_machine; i++)
		minors[i] = i;
	shuffle(w, minors, w->n_machine);
	for (size_t i = 0; i < w->n_machine; i++) {
		struct gpu_device *g = &w->machine[i];

		*g = (struct gpu_device){.index = (int)i, .minor = (int)minors[i]};
		random_uuid(w, "GPU-", g->uuid, sizeof(g->uuid));
		if (i && one_in(w, 8)) /* two that begin alike */
			memcpy(g->uuid, w->machine[i - 1].uuid, 4 + 8 + below(w, 10));
		if (one_in(w, 6)) {
			domain += 1 + (unsigned)below(w, 3);
			bus = 0;
		}
		bus += 1 + (unsigned)below(w, 12);
		(void)snprintf(g->pci_bus_id, sizeof(g->pci_bus_id), "%08X:%02X:00.0", domain, bus);
		(void)snprintf(g->name, sizeof(g->name), "NVIDIA %c100", one_in(w, 5) ? 'A' : 'H');
		if (with_mig && one_in(w, 3))
			split(w, i);
	}
}

/* ---- where lem runs ---- */

static void see(struct world *w)
{
	bool all = w->kind <= SLURM;

	w->n_seen = 0;
	for (size_t i = 0; i < w->n_machine; i++) {
		if (!all && !one_in(w, 2) && !(i + 1 == w->n_machine && w->n_seen == 0))
			continue;
		w->host_of[w->n_seen] = i;
		w->seen[w->n_seen] = w->machine[i];
		w->seen[w->n_seen].index = (int)w->n_seen;
		w->n_seen++;
	}
}

static void allow(struct world *w)
{
	bool by_uuid = one_in(w, 2);
	size_t n = 0;

	for (size_t i = 0; i < w->n_seen; i++)
		w->allowed[i] = i;
	w->n_allowed = w->n_seen;
	if (w->kind != HOST_CVD && w->kind != SLURM)
		return;
	shuffle(w, w->allowed, w->n_seen);
	w->n_allowed = 1 + below(w, w->n_seen);
	for (size_t i = 0; i < w->n_allowed; i++) {
		size_t v = w->allowed[i];

		n += (size_t)(by_uuid ? snprintf(w->cvd + n, TEXT - n, "%s%s", i ? "," : "",
						 w->seen[v].uuid)
				      : snprintf(w->cvd + n, TEXT - n, "%s%zu", i ? "," : "", v));
	}
	w->place.cuda_visible_devices = w->cvd;
}

/* The host's numbers in any order, as a compose file lists them. */
static void tell_host_numbers(struct world *w)
{
	size_t order[MAX_GPUS], n = 0, u = 0;

	for (size_t i = 0; i < w->n_seen; i++)
		order[i] = i;
	shuffle(w, order, w->n_seen);
	for (size_t i = 0; i < w->n_seen; i++) {
		n += (size_t)snprintf(w->host_gpus + n, TEXT - n, "%s%zu", i ? "," : "",
				      w->host_of[order[i]]);
		u += (size_t)snprintf(w->host_uuids + u, TEXT - u, "%s%s", i ? "," : "",
				      w->seen[order[i]].uuid);
	}
	w->place.host_gpus = w->host_gpus;
	w->place.host_gpu_uuids = w->kind == MAPPED_BY_UUID ? w->host_uuids : NULL;
}

static void make_place(struct world *w)
{
	w->kind = (enum kind)below(w, KINDS);
	w->place = (struct gpu_place){.in_container = w->kind >= POD,
				      .in_kubernetes = w->kind == POD,
				      .in_slurm = w->kind == SLURM};
	see(w);
	allow(w);
	if (w->kind == MAPPED || w->kind == MAPPED_BY_UUID)
		tell_host_numbers(w);
}

/* ---- a request ---- */

/* Shortest beginning of a UUID, in characters, that no other GPU here has; at least `least`. */
static size_t unique_length(const struct world *w, size_t gpu, size_t least)
{
	size_t longest = least;

	for (size_t i = 0; i < w->n_seen; i++) {
		size_t same = 0;

		while (i != gpu && w->seen[i].uuid[same] == w->seen[gpu].uuid[same])
			same++;
		longest = same + 1 > longest ? same + 1 : longest;
	}
	return longest;
}

static void write_uuid(struct world *w, struct wish *wish)
{
	const char *uuid = w->seen[wish->gpu].uuid;
	size_t n = strlen(uuid);

	if (one_in(w, 2))
		n = unique_length(w, wish->gpu, 4 + 8);
	(void)snprintf(wish->item, sizeof(wish->item), "%.*s", (int)n, uuid);
	for (char *p = wish->item + 4; *p && n % 2; p++)
		*p = (char)(*p >= 'a' && *p <= 'f' ? *p - 'a' + 'A' : *p);
}

static void write_pci(struct world *w, struct wish *wish)
{
	const char *id = w->seen[wish->gpu].pci_bus_id;

	/* "00000000:65:00.0", "0000:65:00.0", "65:00.0" */
	(void)snprintf(wish->item, sizeof(wish->item), "%s",
		       id + (str_starts(id, "00000000:") && one_in(w, 2) ? 9
			     : one_in(w, 2)                              ? 4
									 : 0));
}

static size_t position_in_allowed(const struct world *w, size_t gpu)
{
	size_t i = 0;

	while (w->allowed[i] != gpu)
		i++;
	return i;
}

static void write_number(struct world *w, struct wish *wish)
{
	bool mapped = w->kind == MAPPED || w->kind == MAPPED_BY_UUID, host = one_in(w, 2);
	size_t n = mapped ? w->host_of[wish->gpu]
		   : host ? wish->gpu
			  : position_in_allowed(w, wish->gpu);

	(void)snprintf(wish->item, sizeof(wish->item), "%s%zu", host ? "host:" : "", n);
}

static void write_item(struct world *w, struct wish *wish)
{
	size_t form = below(w, w->kind == UNMAPPED ? 2 : 4);

	if (wish->mig >= 0)
		lem_strlcpy(wish->item, w->seen[wish->gpu].migs[wish->mig].uuid,
			    sizeof(wish->item));
	else if (form == 0)
		write_uuid(w, wish);
	else if (form == 1)
		write_pci(w, wish);
	else
		write_number(w, wish);
}

/* Whole cards of A in any order; now and then one instance of one that is split. */
static void make_right(struct world *w)
{
	size_t order[MAX_GPUS], n = 0, at_most = 1 + below(w, w->n_allowed);

	memcpy(order, w->allowed, sizeof(order));
	shuffle(w, order, w->n_allowed);
	w->n = 0;
	w->wrong = false;
	for (size_t i = 0; i < w->n_allowed; i++) {
		const struct gpu_device *g = &w->seen[order[i]];

		if (g->mig && g->n_migs && i == 0) {
			w->wishes[0] =
				(struct wish){.gpu = order[0], .mig = (int)below(w, g->n_migs)};
			w->n = 1;
			break;
		}
		if (!g->mig && n++ < at_most)
			w->wishes[w->n++] = (struct wish){.gpu = order[i], .mig = -1};
	}
	for (size_t i = 0; i < w->n; i++)
		write_item(w, &w->wishes[i]);
}

static void insert(struct world *w, const char *item)
{
	size_t at = below(w, w->n + 1);

	memmove(&w->wishes[at + 1], &w->wishes[at], (w->n - at) * sizeof(w->wishes[0]));
	w->wishes[at] = (struct wish){.mig = -1};
	lem_strlcpy(w->wishes[at].item, item, sizeof(w->wishes[at].item));
	w->n++;
	w->wrong = true;
}

static const char *absent_item(struct world *w, char *buf, size_t size)
{
	switch (below(w, 4)) {
	case 0: random_uuid(w, "GPU-", buf, size); break;
	case 1: random_uuid(w, "MIG-", buf, size); break;
	case 2: (void)snprintf(buf, size, "0fff:1f:00.0"); break;
	default:
		(void)snprintf(buf, size, "%s%zu", one_in(w, 2) ? "host:" : "",
			       MAX_GPUS + below(w, 100));
	}
	return buf;
}

/* A card of the shell that another one begins like: NULL when there is none. */
static const char *ambiguous_item(struct world *w, char *buf, size_t size)
{
	for (size_t i = 0; i < w->n_seen; i++) {
		size_t n = unique_length(w, i, 4 + 8);

		if (n == 4 + 8)
			continue;
		(void)snprintf(buf, size, "%.12s", w->seen[i].uuid);
		return buf;
	}
	return NULL;
}

/* A card that CUDA_VISIBLE_DEVICES hides, or one that is split, by its whole UUID. */
static const char *forbidden_item(struct world *w)
{
	for (size_t i = 0; i < w->n_seen; i++) {
		bool allowed = false;

		for (size_t k = 0; k < w->n_allowed; k++)
			allowed |= w->allowed[k] == i;
		if (!allowed || w->seen[i].mig)
			return w->seen[i].uuid;
	}
	return NULL;
}

static void make_wrong(struct world *w)
{
	static const char *const malformed[] = {"",      "all",  "-1",          "0x1", "01",
						"GPU-1", "1;2",  "65:00",       " 0",  "none",
						"cpu",   "host", "GPU-xyzxyzxy"};
	const char *item = NULL;
	struct wish again;
	char buf[112];

	switch (below(w, 5)) {
	case 0:
		if (w->n == 0)
			return;
		again = w->wishes[below(w, w->n)];
		write_item(w, &again); /* the same GPU, perhaps in another form */
		item = again.item;
		break;
	case 1: item = absent_item(w, buf, sizeof(buf)); break;
	case 2: item = malformed[below(w, ARRAY_LEN(malformed))]; break;
	case 3: item = ambiguous_item(w, buf, sizeof(buf)); break;
	default: item = forbidden_item(w); break;
	}
	if (!item && w->kind == UNMAPPED)
		item = "0"; /* nobody can say which one that is */
	if (item)
		insert(w, item);
}

/* ---- a container engine ---- */

static void make_engine(struct world *w)
{
	bool whole = !one_in(w, 4);
	size_t n = 0;

	w->target = one_in(w, 3) ? GPU_TO_PROCESS : GPU_TO_CONTAINER;
	w->facts = (struct gpu_engine_facts){.asked = !one_in(w, 5),
					     .rootless = one_in(w, 5),
					     .podman = one_in(w, 6),
					     .nvidia_runtime = one_in(w, 2),
					     .cdi_on = !one_in(w, 3),
					     .systemd_cgroups = one_in(w, 2)};
	for (size_t i = 0; i < w->n_machine; i++) {
		const struct gpu_device *g = &w->machine[i];

		if (whole || one_in(w, 2))
			(void)snprintf(w->names[n++], sizeof(w->names[0]), "nvidia.com/gpu=%s",
				       g->uuid);
		for (size_t k = 0; k < g->n_migs; k++)
			(void)snprintf(w->names[n++], sizeof(w->names[0]), "nvidia.com/gpu=%s",
				       g->migs[k].uuid);
	}
	for (size_t i = 0; i < n; i++)
		w->cdi[i] = w->names[i];
	w->cdi[n] = NULL;
	w->facts.cdi_devices = w->cdi;
}

static const char *uuid_wished(const struct world *w, size_t i)
{
	const struct gpu_device *g = &w->seen[w->wishes[i].gpu];

	return w->wishes[i].mig < 0 ? g->uuid : g->migs[w->wishes[i].mig].uuid;
}

static bool all_in_cdi(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		bool found = false;

		for (size_t k = 0; w->cdi[k]; k++)
			found |= str_eq(strchr(w->cdi[k], '=') + 1, uuid_wished(w, i));
		if (!found)
			return false;
	}
	return true;
}

/* The path of routing.md section 13; NULL: none can pass these GPUs. */
static const char *path_expected(const struct world *w)
{
	const struct gpu_engine_facts *f = &w->facts;

	if (w->target == GPU_TO_PROCESS)
		return w->kind == SLURM ? "slurm" : w->kind >= POD ? "container" : "process";
	if (!f->asked)
		return "docker-cdi";
	if (f->podman)
		return all_in_cdi(w) ? "podman-cdi" : NULL;
	if (f->rootless)
		return f->cdi_on && all_in_cdi(w) ? "docker-cdi" : NULL;
	if (f->cdi_on && all_in_cdi(w))
		return "docker-cdi";
	return f->nvidia_runtime ? "docker-runtime" : "docker-hook";
}

/* ---- CUDA ---- */

struct cuda {
	const char *uuids[MAX_GPUS * (MAX_MIGS + 1)];
	size_t n;
};

static const char *env_of(const struct gpu_binding *b, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);

	for (const char *const *p = b->env; p && *p; p++)
		if (strncmp(*p, name, n) == 0 && (*p)[n] == '=') {
			assert_null(found); /* twice: who wins is anybody's guess */
			found = *p + n + 1;
		}
	return found;
}

/* The machine's GPU with this UUID, or the card of this instance. */
static const struct gpu_device *card_of(const struct world *w, const char *uuid)
{
	for (size_t i = 0; i < w->n_machine; i++) {
		if (str_eq(w->machine[i].uuid, uuid))
			return &w->machine[i];
		for (size_t k = 0; k < w->machine[i].n_migs; k++)
			if (str_eq(w->machine[i].migs[k].uuid, uuid))
				return &w->machine[i];
	}
	return NULL;
}

/* Device nodes have minor numbers, which say nothing of the order; CUDA orders by PCI bus id, or by
 * speed when it is not told otherwise. */
static void order(const struct world *w, struct cuda *c, bool by_pci)
{
	for (size_t i = 1; i < c->n; i++)
		for (size_t k = i; k > 0; k--) {
			const struct gpu_device *a = card_of(w, c->uuids[k - 1]);
			const struct gpu_device *b = card_of(w, c->uuids[k]);
			const char *swap = c->uuids[k];
			int d = by_pci ? 0 : strcmp(b->name, a->name);

			if ((d ? d : strcmp(a->pci_bus_id, b->pci_bus_id)) <= 0)
				break;
			c->uuids[k] = c->uuids[k - 1];
			c->uuids[k - 1] = swap;
		}
}

/* The first item that CUDA does not like ends the list; one that comes twice is an error. */
static size_t choose(const struct cuda *c, const char *cvd, const char **ret)
{
	_cleanup_free_ char *copy = lem_strdup(cvd);
	char *save = NULL;
	size_t n = 0;

	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		const char *hit = NULL;
		int64_t v;

		if (num_parse_i64(t, &v))
			hit = v >= 0 && (size_t)v < c->n ? c->uuids[v] : NULL;
		else
			for (size_t i = 0; i < c->n && !hit; i++)
				hit = strcmp(c->uuids[i], t) == 0 ? c->uuids[i] : NULL;
		if (!hit)
			break;
		for (size_t i = 0; i < n; i++)
			if (ret[i] == hit)
				return 0;
		ret[n++] = hit;
	}
	return n;
}

static void add_nodes_of_process(const struct world *w, struct cuda *c)
{
	for (size_t i = 0; i < w->n_seen; i++)
		c->uuids[c->n++] = w->seen[i].uuid;
}

/* An instance is reached by its UUID alone; it has no ordinal beside whole cards. */
static bool is_instance_seen(const struct world *w, const char *uuid)
{
	for (size_t i = 0; i < w->n_seen; i++)
		for (size_t k = 0; k < w->seen[i].n_migs; k++)
			if (str_eq(w->seen[i].migs[k].uuid, uuid))
				return true;
	return false;
}

/* What the engine mounts: by the request where there is one, else by the runtime's variable. */
static void add_nodes_of_container(const struct world *w, const struct gpu_binding *b,
				   struct cuda *c)
{
	static char nvd[4096];
	char *save = NULL;

	if (b->request.driver) {
		bool cdi = str_eq(b->request.driver, "cdi");

		assert_true(cdi || str_eq(b->request.driver, "nvidia"));
		assert_null(b->request.runtime);
		for (const char *const *p = b->request.ids; *p; p++) {
			assert_int_equal(str_starts(*p, "nvidia.com/gpu="), cdi);
			c->uuids[c->n++] = cdi ? *p + strlen("nvidia.com/gpu=") : *p;
		}
	} else {
		assert_string_equal(b->request.runtime, "nvidia");
		lem_strlcpy(nvd, env_of(b, "NVIDIA_VISIBLE_DEVICES"), sizeof(nvd));
		for (char *t = strtok_r(nvd, ",", &save); t; t = strtok_r(NULL, ",", &save))
			c->uuids[c->n++] = t;
	}
	for (size_t i = 0; i < c->n; i++)
		assert_non_null(card_of(w, c->uuids[i])); /* a whole UUID: never "all", an index */
}

static size_t cuda_shows(const struct world *w, const struct gpu_binding *b, const char **ret)
{
	const char *cvd = env_of(b, "CUDA_VISIBLE_DEVICES");
	struct cuda c = {0};

	assert_non_null(cvd);
	if (w->target == GPU_TO_PROCESS)
		add_nodes_of_process(w, &c);
	else
		add_nodes_of_container(w, b, &c);
	order(w, &c, str_eq(env_of(b, "CUDA_DEVICE_ORDER"), "PCI_BUS_ID"));
	if (w->target == GPU_TO_PROCESS && is_instance_seen(w, cvd)) {
		ret[0] = cvd;
		return 1;
	}
	return choose(&c, cvd, ret);
}

/* ---- what must hold ---- */

static char *join(const struct world *w)
{
	struct str s = STR_INIT;

	for (size_t i = 0; i < w->n; i++)
		str_addf(&s, "%s%s", i ? "," : "", uuid_wished(w, i));
	return str_detach(&s);
}

static void check_container(const struct world *w, const struct gpu_binding *b, const char *uuids)
{
	size_t n = 0;

	assert_string_equal(env_of(b, "NVIDIA_VISIBLE_DEVICES"), uuids);
	assert_string_equal(env_of(b, "NVIDIA_DRIVER_CAPABILITIES"), "compute,utility");
	for (const char *const *p = b->request.ids; p && *p; p++, n++)
		assert_non_null(strstr(*p, uuid_wished(w, n))); /* the same ids in the same order */
	assert_int_equal(n, b->request.driver ? w->n : 0);
}

static void check_right(const struct world *w, const struct gpu_binding *b)
{
	_cleanup_free_ char *uuids = join(w);
	const char *shown[MAX_GPUS * (MAX_MIGS + 1)];
	bool mapped = w->kind == MAPPED || w->kind == MAPPED_BY_UUID;

	assert_int_equal(b->n, w->n);
	assert_string_equal(b->path, path_expected(w));
	assert_string_equal(env_of(b, "LEM_GPU_UUIDS"), uuids);
	assert_int_equal(cuda_shows(w, b, shown), w->n);
	for (size_t i = 0; i < w->n; i++) {
		const struct gpu_device *g = &w->seen[w->wishes[i].gpu];

		assert_string_equal(shown[i], uuid_wished(w, i));
		assert_string_equal(b->gpus[i].uuid, uuid_wished(w, i));
		assert_string_equal(b->gpus[i].card_uuid, g->uuid);
		assert_string_equal(b->gpus[i].pci_bus_id, g->pci_bus_id);
		assert_int_equal(b->gpus[i].index,
				 mapped ? (int)w->host_of[w->wishes[i].gpu] : g->index);
	}
	if (w->target == GPU_TO_CONTAINER)
		check_container(w, b, uuids);
	else
		assert_null(env_of(b, "NVIDIA_VISIBLE_DEVICES"));
}

static void describe(const struct world *w, uint64_t seed, size_t number, const char *what)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (size_t i = 0; i < w->n; i++)
		str_addf(&s, "%s%s", i ? ", " : "", w->wishes[i].item);
	fail_msg("seed %" PRIu64
		 " case %zu: %zu GPUs, kind %d, CUDA_VISIBLE_DEVICES %s, gpus [%s]: %s",
		 seed, number, w->n_seen, (int)w->kind,
		 w->place.cuda_visible_devices ? w->place.cuda_visible_devices : "unset", str_c(&s),
		 what);
}

struct tally {
	size_t right, wrong, impassable, containers, reordered, instances;
};

static void run_case(struct world *w, uint64_t seed, size_t number, struct tally *t)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_inventory inv = {.gpus = w->seen, .n = w->n_seen};
	const char *items[MAX_ITEMS];
	struct gpu_route_request q = {.items = items,
				      .n = w->n,
				      .target = w->target,
				      .place = &w->place,
				      .engine = &w->facts};
	struct gpu_binding b = {.n = 99};
	struct lem_error err = LEM_ERROR_INIT;
	bool refused, expected;

	for (size_t i = 0; i < w->n; i++)
		items[i] = w->wishes[i].item;
	refused = gpu_route(&q, &inv, &a, &b, &err) < 0;
	expected = w->wrong || (w->n && !path_expected(w));
	if (refused != expected)
		describe(w, seed, number, refused ? err.what : "not refused");
	t->wrong += w->wrong;
	t->impassable += refused && !w->wrong;
	if (refused) {
		assert_int_equal(b.n, 99);
		assert_int_equal(lem_code_exit(err.code), 2);
		assert_true(*err.fix);
		return;
	}
	if (w->n == 0)
		return;
	check_right(w, &b);
	t->right++;
	t->containers += w->target == GPU_TO_CONTAINER;
	t->instances += w->wishes[0].mig >= 0;
	for (size_t i = 1; i < w->n; i++)
		if (w->wishes[i].gpu < w->wishes[i - 1].gpu) {
			t->reordered++;
			break;
		}
}

static void test_cuda_shows_what_was_asked_for(void **state)
{
	const char *env = getenv("LEM_TEST_SEED");
	static struct world w;
	uint64_t seed = 20261129;
	struct tally t = {0};

	(void)state;
	if (env)
		assert_true(num_parse_u64(env, &seed));
	printf("# %d cases, seed %" PRIu64 " (LEM_TEST_SEED sets another)\n", CASES, seed);
	rand_seed(&w.rand, seed);
	for (size_t i = 0; i < CASES; i++) {
		make_machine(&w);
		make_place(&w);
		make_right(&w);
		if (one_in(&w, 3))
			make_wrong(&w);
		make_engine(&w);
		run_case(&w, seed, i, &t);
	}
	printf("# %zu routed (%zu in containers, %zu not in PCI order, %zu MIG instances), "
	       "%zu wrong, %zu impassable\n",
	       t.right, t.containers, t.reordered, t.instances, t.wrong, t.impassable);
	/* every kind was there in numbers */
	assert_true(t.right > CASES / 3 && t.containers > CASES / 5 && t.reordered > CASES / 8);
	assert_true(t.wrong > CASES / 8 && t.impassable > CASES / 100 && t.instances > CASES / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuda_shows_what_was_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
