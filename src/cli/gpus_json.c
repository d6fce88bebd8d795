#include "base/jsonw.h"
#include "cli/gpus_view.h"

static void put_fact(struct jsonw *w, const char *key, struct gpu_fact f)
{
	if (f.told)
		jsonw_i64(w, key, f.value);
	else
		jsonw_null(w, key);
}

static void put_flag(struct jsonw *w, const char *key, struct gpu_fact f)
{
	if (f.told)
		jsonw_bool(w, key, f.value != 0);
	else
		jsonw_null(w, key);
}

/* 0 is "unknown" in the inventory. */
static void put_bytes(struct jsonw *w, const char *key, uint64_t bytes)
{
	if (bytes)
		jsonw_u64(w, key, bytes);
	else
		jsonw_null(w, key);
}

static void put_text(struct jsonw *w, const char *key, const char *text)
{
	jsonw_str(w, key, text && *text ? text : NULL);
}

static void put_number(struct jsonw *w, const char *key, int value)
{
	if (value >= 0)
		jsonw_i64(w, key, value);
	else
		jsonw_null(w, key);
}

static void put_instances(struct jsonw *w, const struct gpu_device *g)
{
	jsonw_array(w, "mig_instances");
	for (size_t i = 0; i < g->n_migs; i++) {
		jsonw_object(w, NULL);
		jsonw_str(w, "uuid", g->migs[i].uuid);
		put_text(w, "name", g->migs[i].name);
		put_bytes(w, "memory_bytes", g->migs[i].memory_bytes);
		put_number(w, "gpu_instance", g->migs[i].gpu_instance);
		put_number(w, "compute_instance", g->migs[i].compute_instance);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void put_processes(struct jsonw *w, const struct gpus_view *v, int gpu)
{
	if (v->no_processes.code) {
		jsonw_null(w, "processes");
		jsonw_str(w, "processes_reason", v->no_processes.what);
		return;
	}
	jsonw_array(w, "processes");
	for (size_t i = 0; i < v->n_processes; i++) {
		const struct gpus_process *p = &v->processes[i];

		if (p->process.gpu_index != gpu)
			continue;
		jsonw_object(w, NULL);
		jsonw_i64(w, "pid", p->process.pid);
		put_text(w, "name", p->name);
		put_text(w, "user", p->user);
		put_bytes(w, "memory_bytes", p->process.memory_bytes);
		jsonw_bool(w, "graphics_only", p->process.graphics);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void put_details(struct jsonw *w, const struct gpu_details *d)
{
	put_fact(w, "memory_free_bytes", d->memory_free_bytes);
	put_fact(w, "memory_used_bytes", d->memory_used_bytes);
	put_fact(w, "temperature_c", d->temperature_c);
	put_fact(w, "utilization_pct", d->utilization_pct);
	if (d->compute_capability.told) {
		char text[32];

		(void)snprintf(text, sizeof(text), "%" PRId64 ".%" PRId64,
			       d->compute_capability.value / 10, d->compute_capability.value % 10);
		jsonw_str(w, "compute_capability", text);
	} else {
		jsonw_null(w, "compute_capability");
	}
	put_flag(w, "persistence_mode", d->persistence);
	put_flag(w, "ecc", d->ecc);
	put_flag(w, "ecc_after_reset", d->ecc_pending);
	put_flag(w, "row_remap_pending", d->row_remap_pending);
	put_flag(w, "row_remap_failed", d->row_remap_failed);
	put_flag(w, "page_retire_pending", d->page_retire_pending);
	put_fact(w, "fabric_state", d->fabric_state);
	put_fact(w, "fabric_status", d->fabric_status);
}

static void put_gpu(struct jsonw *w, const struct gpus_view *v, size_t i)
{
	const struct gpu_device *g = &v->inventory.gpus[i];

	jsonw_object(w, NULL);
	jsonw_i64(w, "index", g->index);
	put_text(w, "uuid", g->uuid);
	put_text(w, "pci_bus_id", g->pci_bus_id);
	put_number(w, "minor", g->minor);
	put_text(w, "name", g->name);
	put_bytes(w, "memory_total_bytes", g->memory_bytes);
	put_details(w, &v->details[i]);
	if (g->power_limit_mw)
		jsonw_f64(w, "power_limit_w", g->power_limit_mw / 1e3);
	else
		jsonw_null(w, "power_limit_w");
	put_number(w, "compute_mode", g->compute_mode);
	jsonw_bool(w, "mig", g->mig);
	put_instances(w, g);
	put_processes(w, v, g->index);
	put_text(w, "problem", g->problem);
	put_text(w, "fix", g->fix);
	jsonw_str(w, "write_as", v->write_as[i]);
	jsonw_str(w, "refused", v->refusals[i] ? v->refusals[i]->what : NULL);
	jsonw_end_object(w);
}

static void put_link(struct jsonw *w, const struct gpu_link *l, size_t a, size_t b)
{
	jsonw_object(w, NULL);
	jsonw_u64(w, "a", a);
	jsonw_u64(w, "b", b);
	jsonw_str(w, "peer_read", l->peer_read.told ? gpu_p2p_text(l->peer_read.value) : NULL);
	jsonw_str(w, "peer_write", l->peer_write.told ? gpu_p2p_text(l->peer_write.value) : NULL);
	jsonw_str(w, "topology", l->level.told ? gpu_topology_text(l->level.value) : NULL);
	put_fact(w, "nvlinks", l->nvlinks);
	jsonw_bool(w, "through_switch", l->through_switch);
	jsonw_end_object(w);
}

static void put_place(struct jsonw *w, const struct gpus_view *v)
{
	const struct gpu_place *p = &v->place;

	jsonw_object(w, "place");
	jsonw_bool(w, "container", p->in_container);
	jsonw_bool(w, "kubernetes", p->in_kubernetes);
	jsonw_bool(w, "slurm", p->in_slurm);
	jsonw_str(w, "slurm_step_gpus", p->slurm_step_gpus);
	jsonw_str(w, "host_gpus", p->host_gpus);
	jsonw_str(w, "host_gpu_uuids", p->host_gpu_uuids);
	jsonw_str(w, "cuda_visible_devices", p->cuda_visible_devices);
	put_text(w, "cuda_visible_devices_problem", v->no_visible.code ? v->no_visible.what : "");
	jsonw_end_object(w);
}

static void put_driver(struct jsonw *w, const struct gpus_view *v)
{
	char cuda[32];

	if (v->none) {
		jsonw_null(w, "driver");
		jsonw_str(w, "driver_reason", v->none);
		return;
	}
	(void)snprintf(cuda, sizeof(cuda), "%" PRId64 ".%" PRId64, v->cuda_version.value / 1000,
		       v->cuda_version.value % 1000 / 10);
	jsonw_object(w, "driver");
	put_text(w, "version", v->inventory.driver_version);
	jsonw_str(w, "cuda", v->cuda_version.told ? cuda : NULL);
	jsonw_end_object(w);
}

void gpus_json(const struct gpus_view *v, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.gpus/1");
	put_driver(&w, v);
	jsonw_array(&w, "gpus");
	for (size_t i = 0; i < v->inventory.n; i++)
		put_gpu(&w, v, i);
	jsonw_end_array(&w);
	jsonw_array(&w, "links");
	for (size_t a = 0; a < v->links.n; a++)
		for (size_t b = a + 1; b < v->links.n; b++)
			put_link(&w, gpu_link_between(&v->links, a, b), a, b);
	jsonw_end_array(&w);
	put_place(&w, v);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}
