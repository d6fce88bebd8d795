#include "gpu/links.h"

enum { MAX_GPUS = 256 };

/* One GPU's side of its links. */
struct end {
	nvml_device dev;
	bool open, told; /* told: it says whether its links are active */
	struct nvml_pci_info pci;
	int64_t to_others; /* active ones that end at no GPU: at a switch */
};

static bool same_slot(const struct nvml_pci_info *a, const struct nvml_pci_info *b)
{
	return a->domain == b->domain && a->bus == b->bus && a->device == b->device;
}

static int find_slot(const struct end *ends, size_t n, const struct nvml_pci_info *pci)
{
	for (size_t i = 0; i < n; i++)
		if (ends[i].open && same_slot(&ends[i].pci, pci))
			return (int)i;
	return -1;
}

/* Counts the active links of GPU i by where they end: in row[k] for GPU k. */
static void count_links(const struct nvml *nvml, struct end *ends, size_t n, size_t i, int64_t *row)
{
	struct end *e = &ends[i];

	if (!e->open || !nvml->nvlink_state)
		return;
	for (unsigned link = 0; link < NVML_NVLINK_MAX_LINKS; link++) {
		struct nvml_pci_info pci = {0};
		int active = 0, other = -1;

		/* INVALID_ARGUMENT: it has no more */
		if (nvml->nvlink_state(e->dev, link, &active) != NVML_SUCCESS)
			break;
		e->told = true;
		if (!active)
			continue;
		if (nvml->nvlink_remote && nvml->nvlink_remote(e->dev, link, &pci) == NVML_SUCCESS)
			other = find_slot(ends, n, &pci);
		if (other >= 0)
			row[other]++;
		else
			e->to_others++;
	}
}

static struct gpu_fact ask_peer(const struct nvml *nvml, nvml_device a, nvml_device b, int caps)
{
	int status = 0;

	if (!nvml->p2p_status || nvml->p2p_status(a, b, caps, &status) != NVML_SUCCESS)
		return (struct gpu_fact){0};
	return (struct gpu_fact){true, status};
}

static void read_pair(const struct nvml *nvml, const struct end *a, const struct end *b,
		      int64_t direct, struct gpu_link *l)
{
	struct gpu_fact by_nvlink;
	int level = 0;

	if (!a->open || !b->open)
		return;
	l->peer_read = ask_peer(nvml, a->dev, b->dev, NVML_P2P_CAPS_READ);
	l->peer_write = ask_peer(nvml, a->dev, b->dev, NVML_P2P_CAPS_WRITE);
	if (nvml->common_ancestor && nvml->common_ancestor(a->dev, b->dev, &level) == NVML_SUCCESS)
		l->level = (struct gpu_fact){true, level};
	if (!a->told || !b->told)
		return;
	l->nvlinks = (struct gpu_fact){true, direct};
	by_nvlink = ask_peer(nvml, a->dev, b->dev, NVML_P2P_CAPS_NVLINK);
	if (direct == 0 && by_nvlink.told && by_nvlink.value == NVML_P2P_OK) {
		l->nvlinks.value = MIN(a->to_others, b->to_others);
		l->through_switch = l->nvlinks.value > 0;
	}
}

static void open_ends(const struct nvml *nvml, struct end *ends, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ends[i].open = nvml->device_by_index((unsigned)i, &ends[i].dev) == NVML_SUCCESS &&
			       nvml->pci_info &&
			       nvml->pci_info(ends[i].dev, &ends[i].pci) == NVML_SUCCESS;
}

int gpu_links_read(const struct nvml *nvml, struct gpu_links *ret, struct lem_error *err)
{
	_cleanup_free_ struct end *ends = NULL;
	_cleanup_free_ int64_t *direct = NULL;
	struct gpu_links links;
	unsigned count = 0;
	int r = nvml->device_count(&count);

	if (r != NVML_SUCCESS)
		return nvml_fail(err, r, "count the GPUs");
	links.n = MIN(count, (unsigned)MAX_GPUS);
	links.at = lem_calloc(links.n * links.n + 1, sizeof(*links.at));
	ends = lem_calloc(links.n + 1, sizeof(*ends));
	direct = lem_calloc(links.n * links.n + 1, sizeof(*direct));
	open_ends(nvml, ends, links.n);
	for (size_t i = 0; i < links.n; i++)
		count_links(nvml, ends, links.n, i, &direct[i * links.n]);
	for (size_t i = 0; i < links.n; i++)
		for (size_t k = 0; k < links.n; k++)
			if (i != k)
				read_pair(nvml, &ends[i], &ends[k], direct[i * links.n + k],
					  &links.at[i * links.n + k]);
	*ret = links;
	return 0;
}

void gpu_links_release(struct gpu_links *links)
{
	free(links->at);
	*links = (struct gpu_links){0};
}

const char *gpu_p2p_text(int64_t status)
{
	switch (status) {
	case NVML_P2P_OK: return "ok";
	case NVML_P2P_CHIPSET: return "the chipset does not support it";
	case NVML_P2P_GPU: return "a GPU does not support it";
	case NVML_P2P_IOH_TOPOLOGY: return "the path between them does not support it";
	case NVML_P2P_DISABLED: return "switched off in the driver";
	case NVML_P2P_NOT_SUPPORTED: return "not supported";
	default: return "unknown";
	}
}

const char *gpu_topology_text(int64_t level)
{
	switch (level) {
	case NVML_TOPOLOGY_INTERNAL: return "INT";
	case NVML_TOPOLOGY_SINGLE: return "PIX";
	case NVML_TOPOLOGY_MULTIPLE: return "PXB";
	case NVML_TOPOLOGY_HOSTBRIDGE: return "PHB";
	case NVML_TOPOLOGY_NODE: return "NODE";
	case NVML_TOPOLOGY_SYSTEM: return "SYS";
	default: return "?";
	}
}
