#include "gpu/inventory.h"

#include <dirent.h>

#include "sys/fs.h"

/* Far above any host; they bound what a lying library can make us allocate. */
enum { MAX_GPUS = 256, MAX_MIGS = 64 };

static void set_problem(struct gpu_device *g, int status)
{
	lem_strlcpy(g->problem, nvml_return_text(status), sizeof(g->problem));
	lem_strlcpy(g->fix, nvml_return_fix(status), sizeof(g->fix));
}

static void read_identity(const struct nvml *nvml, nvml_device dev, struct gpu_device *g)
{
	struct nvml_pci_info pci = {0};
	unsigned u;

	if (nvml->name && nvml->name(dev, g->name, sizeof(g->name)) != NVML_SUCCESS)
		g->name[0] = '\0';
	if (nvml->pci_info && nvml->pci_info(dev, &pci) == NVML_SUCCESS) {
		pci.bus_id[sizeof(pci.bus_id) - 1] = '\0';
		lem_strlcpy(g->pci_bus_id, pci.bus_id, sizeof(g->pci_bus_id));
	}
	if (nvml->minor_number && nvml->minor_number(dev, &u) == NVML_SUCCESS)
		g->minor = (int)u;
}

static void read_state(const struct nvml *nvml, nvml_device dev, struct gpu_device *g)
{
	struct nvml_memory memory;
	unsigned u, pending;
	int mode;

	if (nvml->memory_info && nvml->memory_info(dev, &memory) == NVML_SUCCESS)
		g->memory_bytes = memory.total_bytes;
	if (nvml->power_limit && nvml->power_limit(dev, &u) == NVML_SUCCESS)
		g->power_limit_mw = u;
	if (nvml->mig_mode && nvml->mig_mode(dev, &u, &pending) == NVML_SUCCESS)
		g->mig = u == 1;
	if (nvml->compute_mode && nvml->compute_mode(dev, &mode) == NVML_SUCCESS)
		g->compute_mode = mode;
}

static bool read_mig(const struct nvml *nvml, nvml_device card, unsigned index, struct gpu_mig *m)
{
	struct nvml_memory memory;
	nvml_device dev;
	unsigned id;

	*m = (struct gpu_mig){.gpu_instance = -1, .compute_instance = -1};
	if (nvml->mig_by_index(card, index, &dev) != NVML_SUCCESS ||
	    nvml->uuid(dev, m->uuid, sizeof(m->uuid)) != NVML_SUCCESS)
		return false;
	m->uuid[sizeof(m->uuid) - 1] = '\0';
	if (!nvml->name || nvml->name(dev, m->name, sizeof(m->name)) != NVML_SUCCESS)
		m->name[0] = '\0';
	m->name[sizeof(m->name) - 1] = '\0';
	if (nvml->memory_info && nvml->memory_info(dev, &memory) == NVML_SUCCESS)
		m->memory_bytes = memory.total_bytes;
	if (nvml->gpu_instance && nvml->gpu_instance(dev, &id) == NVML_SUCCESS)
		m->gpu_instance = (int)id;
	if (nvml->compute_instance && nvml->compute_instance(dev, &id) == NVML_SUCCESS)
		m->compute_instance = (int)id;
	return true;
}

static void read_migs(const struct nvml *nvml, nvml_device dev, struct gpu_device *g)
{
	unsigned max = 0;

	if (!nvml->mig_max || !nvml->mig_by_index || nvml->mig_max(dev, &max) != NVML_SUCCESS)
		return;
	max = MIN(max, (unsigned)MAX_MIGS);
	g->migs = lem_calloc(MAX(max, 1u), sizeof(*g->migs));
	for (unsigned i = 0; i < max; i++)
		g->n_migs += read_mig(nvml, dev, i, &g->migs[g->n_migs]) ? 1 : 0;
}

static void read_device(const struct nvml *nvml, unsigned index, struct gpu_device *g)
{
	nvml_device dev;
	int r = nvml->device_by_index(index, &dev);

	*g = (struct gpu_device){.index = (int)index, .minor = -1, .compute_mode = -1};
	if (r == NVML_SUCCESS)
		r = nvml->uuid(dev, g->uuid, sizeof(g->uuid));
	if (r != NVML_SUCCESS) {
		g->uuid[0] = '\0';
		set_problem(g, r);
		return;
	}
	g->uuid[sizeof(g->uuid) - 1] = '\0';
	read_identity(nvml, dev, g);
	read_state(nvml, dev, g);
	if (g->mig)
		read_migs(nvml, dev, g);
}

int gpu_inventory_from(const struct nvml *nvml, struct gpu_inventory *ret, struct lem_error *err)
{
	struct gpu_inventory inv = {0};
	unsigned n = 0;
	int r = nvml->device_count(&n);

	if (r != NVML_SUCCESS)
		return nvml_fail(err, r, "count the GPUs");
	inv.n = MIN(n, (unsigned)MAX_GPUS);
	inv.gpus = lem_calloc(MAX(inv.n, (size_t)1), sizeof(*inv.gpus));
	for (unsigned i = 0; i < inv.n; i++)
		read_device(nvml, i, &inv.gpus[i]);
	lem_strlcpy(inv.driver_version, nvml->driver_version, sizeof(inv.driver_version));
	*ret = inv;
	return 0;
}

int gpu_inventory_read(struct gpu_inventory *ret, struct lem_error *err)
{
	_cleanup_nvml_ struct nvml *nvml = NULL;
	int r = nvml_open(&nvml, err);

	return r < 0 ? r : gpu_inventory_from(nvml, ret, err);
}

/* PCI vendor 0x10de is NVIDIA; class 0x03 a display controller (VGA or 3D). */
static bool is_nvidia_gpu(const char *devices, const char *name)
{
	_cleanup_free_ char *vendor_path = lem_asprintf("%s/%s/vendor", devices, name);
	_cleanup_free_ char *class_path = lem_asprintf("%s/%s/class", devices, name);
	char vendor[16], class[16];

	return fs_read_line(vendor_path, vendor, sizeof(vendor)) && str_eq(vendor, "0x10de") &&
	       fs_read_line(class_path, class, sizeof(class)) && str_starts(class, "0x03");
}

bool gpu_hardware_seen(void)
{
	const char *root = getenv("LEM_SYSFS_ROOT");
	_cleanup_free_ char *devices =
		lem_asprintf("%s/bus/pci/devices", root && *root ? root : "/sys");
	bool seen = (!root || !*root) && fs_exists("/proc/driver/nvidia/version");
	DIR *d = opendir(devices);
	struct dirent *e;

	while (d && !seen && (e = readdir(d)))
		seen = e->d_name[0] != '.' && is_nvidia_gpu(devices, e->d_name);
	if (d)
		closedir(d);
	return seen;
}

void gpu_inventory_release(struct gpu_inventory *inv)
{
	for (size_t i = 0; i < inv->n; i++)
		free(inv->gpus[i].migs);
	free(inv->gpus);
	*inv = (struct gpu_inventory){0};
}
