#include "example.h"

#include <math.h>

/* Bytes of an array; every test record comes from calloc, so that padding is zero on both sides. */
static bool same(const void *a, const void *b, size_t n)
{
	return n == 0 || memcmp(a, b, n) == 0;
}

static bool same_requests(const struct run_record *a, const struct run_record *b)
{
	if (a->n_requests != b->n_requests)
		return false;
	for (size_t i = 0; i < a->n_requests; i++) {
		struct request_record x = a->requests[i], y = b->requests[i];

		if (!str_eq(x.text, y.text))
			return false;
		x.text = y.text = NULL;
		if (memcmp(&x, &y, offsetof(struct request_record, truncated)) != 0 ||
		    x.truncated != y.truncated || x.uncounted != y.uncounted ||
		    !str_eq(x.finish, y.finish) || !str_eq(x.failure, y.failure))
			return false;
	}
	return true;
}

static bool same_steps(const struct run_record *a, const struct run_record *b)
{
	if (a->n_steps != b->n_steps)
		return false;
	for (size_t i = 0; i < a->n_steps; i++) {
		const struct step_record *x = &a->steps[i], *y = &b->steps[i];

		if (x->prefill != y->prefill || x->t_start_ns != y->t_start_ns ||
		    x->t_end_ns != y->t_end_ns || x->n_seqs != y->n_seqs ||
		    x->n_tokens != y->n_tokens || x->n_prefill != y->n_prefill ||
		    x->replica != y->replica)
			return false;
	}
	return true;
}

static bool same_series(const struct series *a, const struct series *b)
{
	return a->signal == b->signal && a->domain == b->domain && str_eq(a->device, b->device) &&
	       str_eq(a->meter, b->meter) && str_eq(a->note, b->note) && a->n == b->n &&
	       same(a->t_begin_ns, b->t_begin_ns, a->n * 8) &&
	       same(a->t_end_ns, b->t_end_ns, a->n * 8) && same(a->value, b->value, a->n * 8) &&
	       same(a->ok, b->ok, a->n) && a->dropped == b->dropped && a->failed == b->failed;
}

static bool same_status(const struct meter_status *a, const struct meter_status *b)
{
	return str_eq(a->meter, b->meter) && str_eq(a->device, b->device) &&
	       a->usable == b->usable && str_eq(a->reason, b->reason) && str_eq(a->fix, b->fix);
}

static bool same_samples(const struct sample_set *a, const struct sample_set *b)
{
	if (a->n_series != b->n_series || a->n_status != b->n_status || a->n_late != b->n_late)
		return false;
	for (size_t i = 0; i < a->n_series; i++)
		if (!same_series(&a->series[i], &b->series[i]))
			return false;
	for (size_t i = 0; i < a->n_status; i++)
		if (!same_status(&a->status[i], &b->status[i]))
			return false;
	return same(a->late_ns, b->late_ns, a->n_late * 8) && a->cpu_ns == b->cpu_ns &&
	       a->t_start_ns == b->t_start_ns && a->t_stop_ns == b->t_stop_ns;
}

static bool same_shape(const struct model_shape *a, const struct model_shape *b)
{
	size_t first = offsetof(struct model_shape, n_layer),
	       last = offsetof(struct model_shape, gated_mlp);

	return str_eq(a->architecture, b->architecture) && str_eq(a->name, b->name) &&
	       same((const char *)a + first, (const char *)b + first, last - first) &&
	       a->gated_mlp == b->gated_mlp && a->tied_embeddings == b->tied_embeddings &&
	       a->n_params == b->n_params && a->size_bytes == b->size_bytes &&
	       str_eq(a->quant, b->quant) && a->has_tokenizer == b->has_tokenizer &&
	       a->weights == b->weights;
}

static bool same_proof(const struct gpu_binding *a, const struct gpu_binding *b)
{
	if (!str_eq(a->proof, b->proof) || !str_eq(a->guard, b->guard) ||
	    a->guard_level != b->guard_level || a->n_observed != b->n_observed ||
	    a->n_foreigners != b->n_foreigners)
		return false;
	for (size_t i = 0; i < a->n_observed; i++)
		if (!str_eq(a->observed[i].uuid, b->observed[i].uuid) ||
		    !str_eq(a->observed[i].pci_bus_id, b->observed[i].pci_bus_id))
			return false;
	for (size_t i = 0; i < a->n_foreigners; i++) {
		const struct gpu_foreigner *x = &a->foreigners[i], *y = &b->foreigners[i];

		if (!str_eq(x->card_uuid, y->card_uuid) || x->pid != y->pid ||
		    !str_eq(x->name, y->name) || !str_eq(x->user, y->user) ||
		    x->graphics != y->graphics || x->memory_bytes != y->memory_bytes ||
		    x->t_first_ns != y->t_first_ns || x->t_last_ns != y->t_last_ns)
			return false;
	}
	return true;
}

static bool same_binding(const struct gpu_binding *a, const struct gpu_binding *b)
{
	if (a->n != b->n || !str_eq(a->path, b->path) || a->proved != b->proved)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		const struct gpu_ref *x = &a->gpus[i], *y = &b->gpus[i];

		if (!str_eq(x->requested, y->requested) || !str_eq(x->uuid, y->uuid) ||
		    !str_eq(x->pci_bus_id, y->pci_bus_id) || !str_eq(x->name, y->name) ||
		    x->index != y->index || x->container_index != y->container_index ||
		    x->memory_bytes != y->memory_bytes || x->t_lost_ns != y->t_lost_ns ||
		    !str_eq(x->card_uuid, y->card_uuid))
			return false;
	}
	return same_proof(a, b);
}

static bool same_phases(const struct run_record *a, const struct run_record *b)
{
	if (a->n_phases != b->n_phases)
		return false;
	for (size_t i = 0; i < a->n_phases; i++)
		if (a->phases[i].phase != b->phases[i].phase ||
		    a->phases[i].t_start_ns != b->phases[i].t_start_ns ||
		    a->phases[i].t_end_ns != b->phases[i].t_end_ns)
			return false;
	return a->window_start_ns == b->window_start_ns && a->window_end_ns == b->window_end_ns;
}

static bool same_warmup(const struct warmup_record *a, const struct warmup_record *b)
{
	return a->enabled == b->enabled && a->converged == b->converged && a->n == b->n &&
	       same(a->latency_ms, b->latency_ms, a->n * sizeof(double)) &&
	       same(&a->final_cv, &b->final_cv, sizeof(double)) &&
	       same(&a->target_cv, &b->target_cv, sizeof(double));
}

static bool same_notes(const struct run_record *a, const struct run_record *b)
{
	if (a->n_notes != b->n_notes)
		return false;
	for (size_t i = 0; i < a->n_notes; i++)
		if (!str_eq(a->notes[i], b->notes[i]))
			return false;
	return true;
}

static bool same_texts(const struct run_record *a, const struct run_record *b)
{
	return str_eq(a->run_id, b->run_id) && str_eq(a->config_name, b->config_name) &&
	       str_eq(a->config_path, b->config_path) && str_eq(a->config_hash, b->config_hash) &&
	       str_eq(a->config_json, b->config_json) &&
	       str_eq(a->provenance_json, b->provenance_json) &&
	       str_eq(a->cli_overrides_json, b->cli_overrides_json) &&
	       str_eq(a->environment_json, b->environment_json) &&
	       str_eq(a->error_json, b->error_json) && str_eq(a->engine_name, b->engine_name) &&
	       str_eq(a->engine_version, b->engine_version) &&
	       str_eq(a->engine_mode, b->engine_mode) &&
	       str_eq(a->engine_build_json, b->engine_build_json) &&
	       str_eq(a->image_digest, b->image_digest) && str_eq(a->model_name, b->model_name) &&
	       str_eq(a->model_path, b->model_path) && str_eq(a->model_sha256, b->model_sha256) &&
	       str_eq(a->prompts_hash, b->prompts_hash) &&
	       str_eq(a->prompts_form, b->prompts_form) && str_eq(a->log_tail, b->log_tail);
}

/* Not known is the same as not known. */
static bool same_f64(double a, double b)
{
	return (isnan(a) && isnan(b)) || a == b;
}

static bool same_server(const struct server_record *a, const struct server_record *b)
{
	return a->used == b->used && str_eq(a->url, b->url) &&
	       str_eq(a->metrics_before, b->metrics_before) &&
	       str_eq(a->metrics_after, b->metrics_after) && a->arrivals == b->arrivals &&
	       a->prefix_cache == b->prefix_cache && a->client_cpu_ns == b->client_cpu_ns &&
	       same_f64(a->roofline_requests_per_cpu_s, b->roofline_requests_per_cpu_s) &&
	       same_f64(a->roofline_chunks_per_cpu_s, b->roofline_chunks_per_cpu_s) &&
	       str_eq(a->urgency, b->urgency) && a->n_retried == b->n_retried;
}

static bool same_load(const struct run_record *a, const struct run_record *b)
{
	return same_f64(a->slo.ttft_ms, b->slo.ttft_ms) &&
	       same_f64(a->slo.tpot_ms, b->slo.tpot_ms) && same_f64(a->slo.e2e_ms, b->slo.e2e_ms) &&
	       str_eq(a->level.launch_id, b->level.launch_id) && a->level.index == b->level.index &&
	       a->level.n == b->level.n && same_f64(a->level.rate_hz, b->level.rate_hz) &&
	       a->level.in_flight == b->level.in_flight && str_eq(a->work.source, b->work.source) &&
	       str_eq(a->work.file_sha256, b->work.file_sha256) &&
	       a->work.n_records == b->work.n_records && a->work.n_skipped == b->work.n_skipped;
}

static bool same_stamps(const struct run_record *a, const struct run_record *b)
{
	return a->n_token_stamps == b->n_token_stamps && !a->stamp_tokens == !b->stamp_tokens &&
	       same(a->token_stamps_ns, b->token_stamps_ns, a->n_token_stamps * 8) &&
	       (!a->stamp_tokens || same(a->stamp_tokens, b->stamp_tokens,
					 a->n_token_stamps * sizeof(*a->stamp_tokens)));
}

bool records_equal(const struct run_record *a, const struct run_record *b, const char **ret_field)
{
	const struct {
		const char *name;
		bool same;
	} parts[] = {
		{"texts", same_texts(a, b)},
		{"status", a->status == b->status},
		{"times", a->wall_start_ns == b->wall_start_ns && a->t_start_ns == b->t_start_ns &&
				  a->t_end_ns == b->t_end_ns},
		{"shape", same_shape(&a->shape, &b->shape)},
		{"binding", same_binding(&a->binding, &b->binding)},
		{"phases", same_phases(a, b)},
		{"warmup", same_warmup(&a->warmup, &b->warmup)},
		{"requests", same_requests(a, b) && a->n_requests_asked == b->n_requests_asked &&
				     same_stamps(a, b)},
		{"server", same_server(&a->server, &b->server)},
		{"load", same_load(a, b)},
		{"steps", same_steps(a, b)},
		{"samples", same_samples(&a->samples, &b->samples)},
		{"notes", same_notes(a, b)},
	};

	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		*ret_field = parts[i].name;
		if (!parts[i].same)
			return false;
	}
	return true;
}
