#include "random_world.h"

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

const char *world_uuid(const struct world *w, size_t i)
{
	const struct gpu_device *g = &w->seen[w->wishes[i].gpu];

	return w->wishes[i].mig < 0 ? g->uuid : g->migs[w->wishes[i].mig].uuid;
}

static bool all_in_cdi(const struct world *w)
{
	for (size_t i = 0; i < w->n; i++) {
		bool found = false;

		for (size_t k = 0; w->cdi[k]; k++)
			found |= str_eq(strchr(w->cdi[k], '=') + 1, world_uuid(w, i));
		if (!found)
			return false;
	}
	return true;
}

const char *world_path(const struct world *w)
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

void world_make(struct world *w)
{
	make_machine(w);
	make_place(w);
	make_right(w);
	if (one_in(w, 3))
		make_wrong(w);
	make_engine(w);
}
