#include "base/jsonw.h"
#include "campaign/impl.h"

static const char *status_of(const struct campaign *c)
{
	bool all_ready = true, interrupted = false, refused_only = true;

	for (size_t i = 0; i < c->n; i++) {
		enum cell_status s = c->cells[i].status;

		all_ready = all_ready && s == CELL_READY;
		interrupted = interrupted || s == CELL_INTERRUPTED || s == CELL_NOT_STARTED;
		refused_only = refused_only && (s == CELL_READY || s == CELL_REFUSED);
	}
	if (!campaign_ok(c))
		return "refused";
	if (all_ready)
		return "ready";
	return interrupted ? "interrupted" : refused_only ? "refused" : "finished";
}

static void add_optional(struct jsonw *w, const char *key, const char *value)
{
	jsonw_str(w, key, value && *value ? value : NULL);
}

static void add_error(struct jsonw *w, const struct lem_error *err)
{
	if (!err->code) {
		jsonw_null(w, "error");
		return;
	}
	jsonw_object(w, "error");
	jsonw_str(w, "code", lem_code_name(err->code));
	add_optional(w, "what", err->what);
	add_optional(w, "where", err->where);
	add_optional(w, "why", err->why);
	add_optional(w, "fix", err->fix);
	jsonw_end_object(w);
}

static void add_verdict(struct jsonw *w, const struct verdict *v)
{
	jsonw_object(w, "verdict");
	jsonw_str(w, "level", verdict_name(v->level));
	jsonw_array(w, "reasons");
	for (size_t i = 0; i < v->n_reasons; i++)
		jsonw_str(w, NULL, v->reasons[i]);
	jsonw_end_array(w);
	jsonw_end_object(w);
}

/* A cell without a run has no verdict. */
static void add_cell_verdict(struct jsonw *w, const struct campaign_cell *cell)
{
	if (!cell->run_id[0] || cell->status == CELL_REFUSED)
		jsonw_null(w, "verdict");
	else
		add_verdict(w, &cell->verdict);
}

/* null of a cell with one load. */
static void add_levels(struct jsonw *w, const struct campaign_cell *cell)
{
	if (!cell->levels) {
		jsonw_null(w, "levels");
		return;
	}
	jsonw_array(w, "levels");
	for (size_t i = 0; i < cell->n_levels; i++) {
		const struct campaign_level *v = &cell->levels[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "run_id", v->run_id);
		jsonw_i64(w, "index", v->level.index);
		jsonw_i64(w, "n", v->level.n);
		jsonw_f64(w, "rate_hz", v->level.rate_hz);
		if (v->level.in_flight)
			jsonw_i64(w, "in_flight", v->level.in_flight);
		else
			jsonw_null(w, "in_flight");
		jsonw_i64(w, "exit_code", v->exit_code);
		add_verdict(w, &v->verdict);
		quantity_json(w, "output_tokens_per_s", &v->output_tokens_per_s);
		quantity_json(w, "j_per_output_token", &v->j_per_output_token);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void add_gpus(struct jsonw *w, const struct campaign_cell *cell)
{
	const struct str_list *asked = &config_experiment(cell->config)->gpus;

	jsonw_array(w, "gpus_requested");
	for (size_t i = 0; i < asked->n; i++)
		jsonw_str(w, NULL, asked->at[i]);
	jsonw_end_array(w);
	if (!cell->where) {
		jsonw_null(w, "gpus");
		return;
	}
	jsonw_array(w, "gpus");
	for (size_t i = 0; i < cell->n_gpus; i++) {
		jsonw_object(w, NULL);
		jsonw_str(w, "requested", cell->gpus[i].requested);
		jsonw_i64(w, "index", cell->gpus[i].index);
		jsonw_str(w, "uuid", cell->gpus[i].uuid);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void add_place(struct jsonw *w, const struct campaign_cell *cell)
{
	jsonw_str(w, "engine", backend_name(config_experiment(cell->config)->backend));
	jsonw_str(w, "runner", cell->where);
	jsonw_str(w, "routing_path", cell->path);
	jsonw_str(w, "image", cell->image);
	add_gpus(w, cell);
	jsonw_array(w, "warnings");
	for (const char *const *p = cell->warnings; p && *p; p++)
		jsonw_str(w, NULL, *p);
	jsonw_end_array(w);
}

static void add_cell(struct jsonw *w, const struct campaign_cell *cell)
{
	jsonw_object(w, NULL);
	jsonw_str(w, "name", cell->name);
	jsonw_str(w, "campaign", cell->campaign);
	jsonw_str(w, "file", cell->file);
	if (cell->item)
		jsonw_u64(w, "item", cell->item);
	else
		jsonw_null(w, "item");
	jsonw_str(w, "config_hash", cell->config_hash);
	add_place(w, cell);
	jsonw_str(w, "status", cell_status_name(cell->status));
	if (cell->status == CELL_READY || cell->status == CELL_NOT_STARTED)
		jsonw_null(w, "exit_code");
	else
		jsonw_i64(w, "exit_code", cell->exit_code);
	add_optional(w, "run_id", cell->run_id);
	add_optional(w, "results_dir", cell->results_dir);
	add_cell_verdict(w, cell);
	quantity_json(w, "output_tokens_per_s", &cell->output_tokens_per_s);
	quantity_json(w, "j_per_output_token", &cell->j_per_output_token);
	add_optional(w, "energy_scope", cell->energy_scope);
	add_levels(w, cell);
	add_error(w, &cell->err);
	jsonw_end_object(w);
}

void campaign_json(const struct campaign *c, struct str *out)
{
	_cleanup_str_ struct str findings = STR_INIT;
	struct jsonw w;

	config_findings_json(&c->findings, &findings);
	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.campaign/1");
	jsonw_str(&w, "status", status_of(c));
	jsonw_i64(&w, "exit_code", campaign_exit_code(c));
	jsonw_array(&w, "cells");
	for (size_t i = 0; i < c->n; i++)
		add_cell(&w, &c->cells[i]);
	jsonw_end_array(&w);
	jsonw_raw(&w, "findings", str_c(&findings));
	jsonw_end_object(&w);
	str_addc(out, '\n');
}
