#include "base/num.h"
#include "cli/gpus_view.h"

enum { NAME_COLUMNS_MAX = 34 };

static int name_columns(const struct gpu_inventory *inv)
{
	size_t n = strlen("name");

	for (size_t i = 0; i < inv->n; i++)
		n = MAX(n, strlen(inv->gpus[i].name));
	return (int)MIN(n, (size_t)NAME_COLUMNS_MAX);
}

/* The domain has four digits on every machine but a few: "0000:65:00.0". */
static const char *short_pci(const char *id)
{
	return strlen(id) == 16 && str_starts(id, "0000") ? id + 4 : id;
}

static void put_memory(const struct gpu_device *g, const struct gpu_details *d, struct str *out)
{
	char cell[48] = "-";
	double total = (double)g->memory_bytes / (1 << 30);

	if (g->memory_bytes && d->memory_free_bytes.told)
		(void)snprintf(cell, sizeof(cell), "%.1f of %.1f GiB",
			       (double)d->memory_free_bytes.value / (1 << 30), total);
	else if (g->memory_bytes)
		(void)snprintf(cell, sizeof(cell), "%.1f GiB", total);
	str_addf(out, "  %-18s", cell);
}

static void put_state(const struct gpu_device *g, const struct gpu_details *d, bool ascii,
		      struct str *out)
{
	if (d->temperature_c.told)
		str_addf(out, "  %3" PRId64 " %s", d->temperature_c.value, ascii ? " C" : "°C");
	else
		str_addf(out, "  %6s", "-");
	if (g->power_limit_mw)
		str_addf(out, "  %4.0f W", g->power_limit_mw / 1e3);
	else
		str_addf(out, "  %6s", "-");
}

static void put_instances(const struct gpu_device *g, struct str *out)
{
	if (!g->mig)
		return;
	if (g->n_migs == 0)
		str_add(out, "     MIG is on, no instance was made\n");
	for (size_t i = 0; i < g->n_migs; i++) {
		const struct gpu_mig *m = &g->migs[i];

		str_addf(out, "     %s", m->uuid);
		if (m->gpu_instance >= 0 && m->compute_instance >= 0)
			str_addf(out, "  GI %d CI %d", m->gpu_instance, m->compute_instance);
		if (m->memory_bytes)
			str_addf(out, "  %.1f GiB", (double)m->memory_bytes / (1 << 30));
		str_addc(out, '\n');
	}
}

static void put_processes(const struct gpus_view *v, int gpu, struct str *out)
{
	for (size_t i = 0; i < v->n_processes; i++) {
		const struct gpus_process *p = &v->processes[i];
		char bytes[32] = "";

		if (p->process.gpu_index != gpu)
			continue;
		if (p->process.memory_bytes)
			num_format_bytes(p->process.memory_bytes, bytes, sizeof(bytes));
		str_addf(out, "     pid %-8lld %-20s %-12s %s%s\n", (long long)p->process.pid,
			 *p->name ? p->name : "?", *p->user ? p->user : "?", bytes,
			 p->process.graphics ? "  graphics" : "");
	}
}

static void put_gpu(const struct gpus_view *v, size_t i, int name_width, bool ascii,
		    struct str *out)
{
	const struct gpu_device *g = &v->inventory.gpus[i];
	const struct gpu_details *d = &v->details[i];

	str_addf(out, "%3d  %-*.*s  %-12s", g->index, name_width, name_width,
		 *g->name ? g->name : "-", *g->pci_bus_id ? short_pci(g->pci_bus_id) : "-");
	put_memory(g, d, out);
	put_state(g, d, ascii, out);
	str_addf(out, "  %s\n",
		 v->write_as[i]        ? v->write_as[i]
		 : g->mig && g->n_migs ? "instance"
		 : v->refusals[i]      ? "no"
				       : "-");
	if (*g->uuid)
		str_addf(out, "     %s\n", g->uuid);
	if (*g->problem)
		str_addf(out, "     cannot be used: %s\n", g->problem);
	if (*g->problem && *g->fix)
		str_addf(out, "     fix: %s\n", g->fix);
	put_instances(g, out);
	put_processes(v, g->index, out);
}

static void put_gpus(const struct gpus_view *v, bool ascii, struct str *out)
{
	int width = name_columns(&v->inventory);

	str_addf(out, "\nGPU  %-*s  %-12s  %-18s  %6s  %6s  %s\n", width, "name", "PCI bus id",
		 "memory free", "temp", "limit", "in gpus:");
	for (size_t i = 0; i < v->inventory.n; i++)
		put_gpu(v, i, width, ascii, out);
	if (v->no_processes.code)
		str_addf(out, "\nProcesses are not told: %s.\n", v->no_processes.what);
}

/* "NV18", "NODE", with "!" where there is no peer access; "?" when nothing is told. */
static void put_link(const struct gpu_link *l, struct str *out)
{
	bool blocked = (l->peer_read.told && l->peer_read.value != NVML_P2P_OK) ||
		       (l->peer_write.told && l->peer_write.value != NVML_P2P_OK);
	char cell[24];

	if (l->nvlinks.told && l->nvlinks.value > 0)
		(void)snprintf(cell, sizeof(cell), "NV%" PRId64, l->nvlinks.value);
	else
		(void)snprintf(cell, sizeof(cell), "%s",
			       l->level.told ? gpu_topology_text(l->level.value) : "?");
	str_addf(out, "%s%s", cell, blocked ? "!" : "");
	for (size_t n = strlen(cell) + blocked; n < 5; n++)
		str_addc(out, ' ');
}

static void strip_blanks(struct str *out)
{
	while (out->len && out->buf[out->len - 1] == ' ')
		out->buf[--out->len] = '\0';
}

static void put_links(const struct gpu_links *links, struct str *out)
{
	if (links->n < 2)
		return;
	str_add(out, "\nlinks");
	for (size_t i = 0; i < links->n; i++)
		str_addf(out, " %-4zu", i);
	strip_blanks(out);
	for (size_t a = 0; a < links->n; a++) {
		str_addf(out, "\n%5zu ", a);
		for (size_t b = 0; b < links->n; b++) {
			if (a == b)
				str_add(out, "-    ");
			else
				put_link(gpu_link_between(links, a, b), out);
		}
		strip_blanks(out);
	}
	str_add(out,
		"\nNV# NVLinks; PIX one PCIe switch, PXB several, PHB host bridge, NODE one NUMA "
		"node, SYS between\nsockets; ! no peer access; ? not told\n");
}

static void put_place(const struct gpus_view *v, struct str *out)
{
	const struct gpu_place *p = &v->place;

	str_addf(out, "\nlem runs %s%s",
		 p->in_kubernetes  ? "in a Kubernetes pod"
		 : p->in_container ? "in a container"
				   : "on the host",
		 p->in_slurm ? ", in a Slurm job" : "");
	if (p->in_slurm && p->slurm_step_gpus)
		str_addf(out, " (GPUs %s)", p->slurm_step_gpus);
	if (p->in_container && !p->in_kubernetes)
		str_addf(out,
			 p->host_gpus ? " that was given the host's GPUs %s"
				      : ", not told which of the host's GPUs it has: name them "
					"by UUID%s",
			 p->host_gpus ? p->host_gpus : "");
	str_add(out, ".\n");
	if (v->no_visible.code) {
		str_addf(out, "%s.\n", v->no_visible.what);
		if (*v->no_visible.fix)
			str_addf(out, "  hint: %s\n", v->no_visible.fix);
	} else if (p->cuda_visible_devices) {
		str_addf(out,
			 "CUDA_VISIBLE_DEVICES=%s lets this shell use %zu of them; gpus: counts "
			 "in its order.\n",
			 p->cuda_visible_devices, v->n_visible);
	}
}

void gpus_text(const struct gpus_view *v, bool ascii, struct str *out)
{
	size_t n = v->inventory.n;

	if (v->none) {
		str_addf(out, "No NVIDIA GPU here: %s, and no NVIDIA card is on the PCI bus.\n",
			 v->none);
		return;
	}
	str_addf(out, "NVIDIA driver %s",
		 *v->inventory.driver_version ? v->inventory.driver_version : "(version not told)");
	if (v->cuda_version.told)
		str_addf(out, ", CUDA %" PRId64 ".%" PRId64, v->cuda_version.value / 1000,
			 v->cuda_version.value % 1000 / 10);
	str_addf(out, ", %zu GPU%s\n", n, n == 1 ? "" : "s");
	if (n) {
		put_gpus(v, ascii, out);
		put_links(&v->links, out);
	}
	put_place(v, out);
}
