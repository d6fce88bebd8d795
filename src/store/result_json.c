#include <math.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "store/impl.h"

/* The `lem.result/1` document; docs/results.md says what each field means. */

static void put_latency(struct jsonw *w, const char *key, const struct latency_stats *s)
{
	jsonw_object(w, key);
	jsonw_u64(w, "n", s->n);
	if (s->n) {
		jsonw_f64(w, "mean", s->mean);
		jsonw_f64(w, "p50", s->p50);
		jsonw_f64(w, "p90", s->p90);
		jsonw_f64(w, "p95", s->p95);
		jsonw_f64(w, "p99", s->p99);
		jsonw_f64(w, "min", s->min);
		jsonw_f64(w, "max", s->max);
	} else {
		jsonw_null(w, "p50");
		jsonw_str(w, "reason", s->reason[0] ? s->reason : "not measured");
	}
	jsonw_end_object(w);
}

static void put_json(struct jsonw *w, const char *key, const char *json)
{
	if (json && *json)
		jsonw_raw(w, key, json);
	else
		jsonw_null(w, key);
}

/* 0 says "not known" of a size. */
static void put_size(struct jsonw *w, const char *key, int64_t value)
{
	if (value > 0)
		jsonw_i64(w, key, value);
	else
		jsonw_null(w, key);
}

/* 0 is a count; what is below is not known. */
static void put_count(struct jsonw *w, const char *key, int64_t value)
{
	if (value >= 0)
		jsonw_i64(w, key, value);
	else
		jsonw_null(w, key);
}

static void put_time(struct jsonw *w, const char *key, int64_t wall_ns)
{
	char buf[32];

	jsonw_str(w, key, wall_ns ? clock_format_utc(wall_ns, buf, sizeof(buf)) : NULL);
}

static void put_verdict(struct jsonw *w, const struct verdict *v)
{
	jsonw_object(w, "verdict");
	jsonw_str(w, "level", verdict_name(v->level));
	jsonw_array(w, "reasons");
	for (size_t i = 0; i < v->n_reasons; i++)
		jsonw_str(w, NULL, v->reasons[i]);
	jsonw_end_array(w);
	jsonw_end_object(w);
}

static void put_engine(struct jsonw *w, const struct run_record *r)
{
	jsonw_object(w, "engine");
	jsonw_str(w, "name", r->engine_name);
	jsonw_str(w, "version", r->engine_version);
	jsonw_str(w, "mode", r->engine_mode);
	jsonw_str(w, "image_digest", r->image_digest);
	put_json(w, "reported", r->engine_build_json);
	jsonw_end_object(w);
}

/* null where there was one load only. */
static void put_level(struct jsonw *w, const struct level_record *v)
{
	if (!v->n) {
		jsonw_null(w, "level");
		return;
	}
	jsonw_object(w, "level");
	jsonw_str(w, "launch_id", v->launch_id);
	jsonw_i64(w, "index", v->index);
	jsonw_i64(w, "n", v->n);
	jsonw_f64(w, "rate_hz", v->rate_hz);
	put_size(w, "in_flight", v->in_flight);
	jsonw_end_object(w);
}

static void put_model(struct jsonw *w, const struct run_record *r)
{
	const struct model_shape *s = &r->shape;

	jsonw_object(w, "model");
	jsonw_str(w, "name", r->model_name);
	jsonw_str(w, "path", r->model_path);
	jsonw_str(w, "sha256", r->model_sha256);
	jsonw_str(w, "weights",
		  s->weights == WEIGHTS_SYNTHETIC ? "synthetic"
		  : s->weights == WEIGHTS_REAL    ? "real"
						  : "unknown");
	jsonw_str(w, "architecture", s->architecture[0] ? s->architecture : NULL);
	jsonw_str(w, "quantization", s->quant[0] ? s->quant : NULL);
	put_size(w, "parameters", model_shape_params(s));
	put_size(w, "size_bytes", (int64_t)s->size_bytes);
	put_size(w, "layers", s->n_layer);
	put_size(w, "hidden_size", s->n_embd);
	put_size(w, "intermediate_size", s->n_ff);
	put_size(w, "heads", s->n_head);
	put_size(w, "kv_heads", s->n_head_kv);
	put_size(w, "head_dim", s->head_dim);
	put_size(w, "vocabulary", s->n_vocab);
	jsonw_i64(w, "experts", s->n_expert);
	jsonw_i64(w, "experts_used", s->n_expert_used);
	jsonw_end_object(w);
}

static void put_gpus(struct jsonw *w, const struct gpu_binding *b)
{
	jsonw_array(w, "gpus");
	for (size_t i = 0; i < b->n; i++) {
		const struct gpu_ref *g = &b->gpus[i];

		jsonw_object(w, NULL);
		jsonw_i64(w, "index", g->index);
		jsonw_str(w, "uuid", g->uuid);
		jsonw_str(w, "pci_bus_id", g->pci_bus_id);
		jsonw_str(w, "name", g->name);
		jsonw_i64(w, "container_index", g->container_index);
		jsonw_str(w, "requested", g->requested);
		jsonw_str(w, "card_uuid", gpu_ref_card(g));
		put_size(w, "memory_bytes", (int64_t)g->memory_bytes);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void put_foreigners(struct jsonw *w, const struct gpu_binding *b)
{
	jsonw_array(w, "foreigners");
	for (size_t i = 0; i < b->n_foreigners; i++) {
		const struct gpu_foreigner *f = &b->foreigners[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "gpu", f->card_uuid);
		jsonw_i64(w, "pid", f->pid);
		jsonw_str(w, "name", f->name[0] ? f->name : NULL);
		jsonw_str(w, "user", f->user[0] ? f->user : NULL);
		jsonw_bool(w, "graphics", f->graphics);
		put_size(w, "memory_bytes", (int64_t)f->memory_bytes);
		jsonw_i64(w, "first_ns", f->t_first_ns);
		jsonw_i64(w, "last_ns", f->t_last_ns);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void put_routing(struct jsonw *w, const struct gpu_binding *b)
{
	jsonw_object(w, "routing");
	jsonw_str(w, "path", b->path[0] ? b->path : "none");
	jsonw_bool(w, "proved", b->proved);
	jsonw_str(w, "proof", b->proof[0] ? b->proof : NULL);
	jsonw_array(w, "requested");
	for (size_t i = 0; i < b->n; i++)
		jsonw_str(w, NULL, b->gpus[i].uuid);
	jsonw_end_array(w);
	jsonw_array(w, "observed");
	for (size_t i = 0; i < b->n_observed; i++) {
		const struct gpu_observed *o = &b->observed[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "uuid", o->uuid[0] ? o->uuid : NULL);
		jsonw_str(w, "pci_bus_id", o->pci_bus_id[0] ? o->pci_bus_id : NULL);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	jsonw_str(w, "guard", b->guard[0] ? b->guard : NULL);
	put_foreigners(w, b);
	jsonw_end_object(w);
}

static void put_window(struct jsonw *w, const struct run_record *r, const struct summary *s)
{
	int64_t offset = r->wall_start_ns - r->t_start_ns;

	jsonw_object(w, "window");
	put_size(w, "start_ns", r->window_start_ns);
	put_size(w, "end_ns", r->window_end_ns);
	put_time(w, "start", r->window_start_ns ? r->window_start_ns + offset : 0);
	jsonw_f64(w, "seconds", s->window_ns > 0 ? (double)s->window_ns / 1e9 : NAN);
	jsonw_i64(w, "requests", s->requests_done);
	jsonw_i64(w, "requests_asked", s->requests_asked);
	jsonw_u64(w, "prompts_truncated", s->prompts_cut);
	jsonw_end_object(w);
	jsonw_object(w, "tokens");
	jsonw_i64(w, "input", s->input_tokens);
	jsonw_i64(w, "output", s->output_tokens);
	jsonw_end_object(w);
}

static void put_energy(struct jsonw *w, const struct summary *s)
{
	jsonw_object(w, "energy");
	jsonw_str(w, "scope", s->energy_scope[0] ? s->energy_scope : "none");
	quantity_json(w, "gpu_j", &s->gpu_j);
	quantity_json(w, "gpu_above_idle_j", &s->gpu_above_idle_j);
	quantity_json(w, "cpu_j", &s->cpu_j);
	quantity_json(w, "dram_j", &s->dram_j);
	quantity_json(w, "cpu_estimated_j", &s->cpu_estimated_j);
	jsonw_array(w, "per_gpu");
	for (size_t i = 0; i < s->n_per_gpu; i++) {
		const struct gpu_energy *g = &s->per_gpu[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "uuid", g->uuid);
		quantity_json(w, "total_j", &g->total_j);
		quantity_json(w, "above_idle_j", &g->above_idle_j);
		jsonw_f64(w, "temperature_max_c", g->temperature_max_c);
		jsonw_u64(w, "clock_event_reasons", g->clock_reasons);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	quantity_json(w, "prefill_j", &s->prefill_j);
	quantity_json(w, "decode_j", &s->decode_j);
	quantity_json(w, "idle_w", &s->idle_w);
	quantity_json(w, "resident_idle_w", &s->resident_idle_w);
	jsonw_str(w, "systematic",
		  "the device's own gain error, +-5 % of the figure (arXiv 2312.02741), is not "
		  "part of the intervals");
	jsonw_end_object(w);
	jsonw_object(w, "efficiency");
	quantity_json(w, "j_per_output_token", &s->j_per_output_token);
	quantity_json(w, "j_per_input_token", &s->j_per_input_token);
	quantity_json(w, "j_per_total_token", &s->j_per_total_token);
	quantity_json(w, "j_per_request", &s->j_per_request);
	jsonw_end_object(w);
}

static void put_speed(struct jsonw *w, const struct summary *s)
{
	jsonw_object(w, "throughput");
	quantity_json(w, "output_tokens_per_s", &s->output_tokens_per_s);
	quantity_json(w, "total_tokens_per_s", &s->total_tokens_per_s);
	quantity_json(w, "requests_per_s", &s->requests_per_s);
	quantity_json(w, "prefill_tokens_per_s", &s->prefill_tokens_per_s);
	quantity_json(w, "decode_tokens_per_s", &s->decode_tokens_per_s);
	jsonw_end_object(w);
	jsonw_object(w, "latency");
	put_latency(w, "ttft_ms", &s->ttft);
	put_latency(w, "itl_ms", &s->itl);
	put_latency(w, "itl_by_chunk_ms", &s->itl_chunk);
	put_latency(w, "tpot_ms", &s->tpot);
	put_latency(w, "e2e_ms", &s->e2e);
	put_latency(w, "ttft_from_schedule_ms", &s->ttft_sched);
	put_latency(w, "e2e_from_schedule_ms", &s->e2e_sched);
	jsonw_end_object(w);
	jsonw_object(w, "flops");
	quantity_json(w, "prefill", &s->flops_prefill);
	quantity_json(w, "decode", &s->flops_decode);
	quantity_json(w, "total", &s->flops_total);
	quantity_json(w, "mfu", &s->mfu);
	jsonw_end_object(w);
}

/* A limit of 0 is none. */
static void put_limits(struct jsonw *w, const struct slo_limits *l)
{
	jsonw_object(w, "limits");
	jsonw_f64(w, "ttft_ms", slo_is_set(l->ttft_ms) ? l->ttft_ms : NAN);
	jsonw_f64(w, "tpot_ms", slo_is_set(l->tpot_ms) ? l->tpot_ms : NAN);
	jsonw_f64(w, "e2e_ms", slo_is_set(l->e2e_ms) ? l->e2e_ms : NAN);
	jsonw_end_object(w);
}

static void put_slo(struct jsonw *w, const struct slo_summary *s)
{
	jsonw_object(w, "slo");
	if (!slo_any(&s->limits)) {
		jsonw_null(w, "limits");
		jsonw_str(w, "reason",
			  "the configuration has no goals (slo.ttft_ms, slo.tpot_ms, "
			  "slo.e2e_ms)");
		jsonw_end_object(w);
		return;
	}
	put_limits(w, &s->limits);
	jsonw_str(w, "limits_from", s->later ? "command_line" : "run");
	jsonw_i64(w, "judged", s->judged);
	jsonw_i64(w, "good", s->good);
	jsonw_object(w, "missed");
	jsonw_i64(w, "ttft", s->missed_ttft);
	jsonw_i64(w, "tpot", s->missed_tpot);
	jsonw_i64(w, "e2e", s->missed_e2e);
	jsonw_i64(w, "failed", s->failed);
	jsonw_i64(w, "untold", s->untold);
	jsonw_end_object(w);
	jsonw_object(w, "met_by_99_percent");
	jsonw_f64(w, "ttft_ms", s->met_by_99.ttft_ms);
	jsonw_f64(w, "tpot_ms", s->met_by_99.tpot_ms);
	jsonw_f64(w, "e2e_ms", s->met_by_99.e2e_ms);
	jsonw_end_object(w);
	quantity_json(w, "share", &s->share);
	quantity_json(w, "goodput_requests_per_s", &s->requests_per_s);
	quantity_json(w, "good_output_tokens_per_s", &s->output_tokens_per_s);
	quantity_json(w, "j_per_good_request", &s->j_per_request);
	quantity_json(w, "j_per_good_output_token", &s->j_per_output_token);
	jsonw_end_object(w);
}

/* null of an engine that speaks lem's own protocol. */
static void put_client(struct jsonw *w, const struct run_record *r, const struct summary *s)
{
	if (!r->server.used) {
		jsonw_null(w, "client");
		return;
	}
	jsonw_object(w, "client");
	jsonw_str(w, "url", r->server.url);
	jsonw_str(w, "mode", r->server.arrivals ? "server" : "offline");
	put_latency(w, "schedule_lag_ms", &s->lag);
	quantity_json(w, "busy", &s->client_busy);
	jsonw_str(w, "urgency", r->server.urgency[0] ? r->server.urgency : NULL);
	jsonw_object(w, "roofline");
	quantity_json(w, "requests_per_cpu_s", &s->roofline_requests);
	quantity_json(w, "chunks_per_cpu_s", &s->roofline_chunks);
	jsonw_end_object(w);
	jsonw_object(w, "headroom");
	quantity_json(w, "requests", &s->headroom_requests);
	quantity_json(w, "chunks", &s->headroom_chunks);
	jsonw_end_object(w);
	jsonw_i64(w, "chunks", s->chunks);
	put_count(w, "cached_tokens", s->cached_tokens);
	jsonw_i64(w, "lengths_differ", s->lengths_differ);
	jsonw_i64(w, "lengths_untold", s->lengths_untold);
	jsonw_i64(w, "chunks_untold", s->chunks_untold);
	put_count(w, "retried", r->server.n_retried);
	jsonw_object(w, "failures");
	for (size_t i = 0; i < s->n_failures; i++)
		jsonw_i64(w, s->failures[i].name, s->failures[i].n);
	jsonw_end_object(w);
	jsonw_bool(w, "server_metrics", r->server.metrics_before && r->server.metrics_after);
	jsonw_end_object(w);
}

static void put_meters(struct jsonw *w, const struct run_record *r, const struct summary *s)
{
	jsonw_object(w, "meters");
	jsonw_array(w, "sources");
	for (size_t i = 0; i < r->samples.n_status; i++) {
		const struct meter_status *m = &r->samples.status[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "meter", m->meter);
		jsonw_str(w, "device", m->device[0] ? m->device : NULL);
		jsonw_bool(w, "usable", m->usable);
		jsonw_str(w, "reason", m->reason[0] ? m->reason : NULL);
		jsonw_str(w, "fix", m->fix[0] ? m->fix : NULL);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	quantity_json(w, "self_cpu_share", &s->self_cpu_share);
	jsonw_f64(w, "late_p99_ms", s->meter_late_p99_ms);
	jsonw_end_object(w);
}

static void put_phases(struct jsonw *w, const struct run_record *r)
{
	jsonw_array(w, "phases");
	for (size_t i = 0; i < r->n_phases; i++) {
		jsonw_object(w, NULL);
		jsonw_str(w, "phase", run_phase_name(r->phases[i].phase));
		jsonw_i64(w, "start_ns", r->phases[i].t_start_ns);
		jsonw_i64(w, "end_ns", r->phases[i].t_end_ns);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
	jsonw_object(w, "warmup");
	jsonw_bool(w, "enabled", r->warmup.enabled);
	jsonw_bool(w, "converged", r->warmup.converged);
	jsonw_u64(w, "iterations", r->warmup.n);
	jsonw_f64(w, "final_cv", r->warmup.enabled ? r->warmup.final_cv : NAN);
	jsonw_f64(w, "target_cv", r->warmup.target_cv);
	jsonw_end_object(w);
}

static void put_provenance(struct jsonw *w, const struct run_record *r)
{
	jsonw_object(w, "provenance");
	jsonw_str(w, "lem_version", LEM_VERSION);
	jsonw_str(w, "config_path", r->config_path);
	jsonw_str(w, "prompts_sha256", r->prompts_hash);
	jsonw_str(w, "prompts_form", r->prompts_form);
	put_json(w, "effective_config", r->config_json);
	put_json(w, "parameters", r->provenance_json);
	put_json(w, "cli_overrides", r->cli_overrides_json);
	jsonw_end_object(w);
}

void result_json(const struct run_record *r, const struct summary *sum, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.result/1");
	jsonw_str(&w, "run_id", r->run_id);
	jsonw_str(&w, "config_name", r->config_name);
	jsonw_str(&w, "config_hash", r->config_hash);
	jsonw_str(&w, "status", run_status_name(r->status));
	put_json(&w, "error", r->error_json);
	put_verdict(&w, &sum->verdict);
	put_time(&w, "started", r->wall_start_ns);
	put_time(&w, "ended", r->wall_start_ns + (r->t_end_ns - r->t_start_ns));
	put_level(&w, &r->level);
	put_engine(&w, r);
	put_model(&w, r);
	put_gpus(&w, &r->binding);
	put_routing(&w, &r->binding);
	put_window(&w, r, sum);
	result_put_work(&w, r, sum);
	put_energy(&w, sum);
	put_speed(&w, sum);
	put_slo(&w, &sum->slo);
	put_client(&w, r, sum);
	put_meters(&w, r, sum);
	put_phases(&w, r);
	put_json(&w, "environment", r->environment_json);
	put_provenance(&w, r);
	jsonw_array(&w, "notes");
	for (size_t i = 0; i < r->n_notes; i++)
		jsonw_str(&w, NULL, r->notes[i]);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}
