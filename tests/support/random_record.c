#include "example.h"

#include <math.h>

static int64_t any_i64(struct rand *rnd)
{
	static const int64_t special[] = {0, 1, -1, INT64_MIN, INT64_MAX, INT64_C(1) << 31};
	uint64_t k = rand_below(rnd, 12);

	return k < ARRAY_LEN(special) ? special[k] : (int64_t)rand_u64(rnd);
}

static double any_f64(struct rand *rnd)
{
	static const double special[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, 5e-324};
	uint64_t k = rand_below(rnd, 12);

	return k < ARRAY_LEN(special) ? special[k] : rand_normal(rnd) * 1e6;
}

/* Any bytes but NUL, at most size - 1 of them. */
static void any_chars(struct rand *rnd, char *buf, size_t size)
{
	size_t n = (size_t)rand_below(rnd, size);

	memset(buf, 0, size);
	for (size_t i = 0; i < n; i++)
		buf[i] = (char)(1 + rand_below(rnd, 255));
}

static const char *any_text(struct rand *rnd, struct arena *a)
{
	char buf[300];

	if (rand_below(rnd, 4) == 0)
		return NULL;
	any_chars(rnd, buf, 1 + (size_t)rand_below(rnd, sizeof(buf)));
	return arena_strdup(a, buf);
}

static void any_shape(struct rand *rnd, struct model_shape *s)
{
	any_chars(rnd, s->architecture, sizeof(s->architecture));
	any_chars(rnd, s->name, sizeof(s->name));
	any_chars(rnd, s->quant, sizeof(s->quant));
	int64_t *numbers[] = {&s->n_layer,       &s->n_embd,      &s->n_ff,
			      &s->n_head,        &s->n_head_kv,   &s->head_dim,
			      &s->n_vocab,       &s->n_ctx_train, &s->n_expert,
			      &s->n_expert_used, &s->n_ff_expert, &s->n_ff_shared,
			      &s->n_layer_dense, &s->n_swa,       &s->n_layer_full,
			      &s->quant_block,   &s->n_params};

	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		*numbers[i] = any_i64(rnd);
	s->gated_mlp = rand_below(rnd, 2);
	s->tied_embeddings = rand_below(rnd, 2);
	s->size_bytes = rand_u64(rnd);
	s->has_tokenizer = rand_below(rnd, 2);
	s->weights = (enum weights_kind)rand_below(rnd, 3);
}

static void any_proof(struct rand *rnd, struct gpu_binding *b)
{
	any_chars(rnd, b->proof, sizeof(b->proof));
	any_chars(rnd, b->guard, sizeof(b->guard));
	b->guard_level = (enum gpu_guard)rand_below(rnd, GPU_GUARD_STRAY + 1);
	b->n_observed = (size_t)rand_below(rnd, 4);
	b->observed = b->n_observed ? lem_calloc(b->n_observed, sizeof(*b->observed)) : NULL;
	for (size_t i = 0; i < b->n_observed; i++) {
		any_chars(rnd, b->observed[i].uuid, sizeof(b->observed[i].uuid));
		any_chars(rnd, b->observed[i].pci_bus_id, sizeof(b->observed[i].pci_bus_id));
	}
	b->n_foreigners = (size_t)rand_below(rnd, 4);
	b->foreigners =
		b->n_foreigners ? lem_calloc(b->n_foreigners, sizeof(*b->foreigners)) : NULL;
	for (size_t i = 0; i < b->n_foreigners; i++) {
		struct gpu_foreigner *f = &b->foreigners[i];

		any_chars(rnd, f->card_uuid, sizeof(f->card_uuid));
		any_chars(rnd, f->name, sizeof(f->name));
		any_chars(rnd, f->user, sizeof(f->user));
		f->pid = any_i64(rnd);
		f->graphics = rand_below(rnd, 2);
		f->memory_bytes = rand_u64(rnd);
		f->t_first_ns = any_i64(rnd);
		f->t_last_ns = any_i64(rnd);
	}
}

static void any_binding(struct rand *rnd, struct gpu_binding *b)
{
	b->n = (size_t)rand_below(rnd, 5);
	b->gpus = b->n ? lem_calloc(b->n, sizeof(*b->gpus)) : NULL;
	for (size_t i = 0; i < b->n; i++) {
		struct gpu_ref *g = &b->gpus[i];

		any_chars(rnd, g->requested, sizeof(g->requested));
		any_chars(rnd, g->uuid, sizeof(g->uuid));
		any_chars(rnd, g->pci_bus_id, sizeof(g->pci_bus_id));
		any_chars(rnd, g->name, sizeof(g->name));
		g->index = (int)any_i64(rnd);
		g->container_index = (int)any_i64(rnd);
		g->memory_bytes = rand_u64(rnd);
		any_chars(rnd, g->card_uuid, sizeof(g->card_uuid));
		g->t_lost_ns = any_i64(rnd);
	}
	any_proof(rnd, b);
	any_chars(rnd, b->path, sizeof(b->path));
	b->proved = rand_below(rnd, 2);
}

static double any_goal(struct rand *rnd)
{
	return rand_below(rnd, 2) ? NAN : (double)rand_below(rnd, 1000000) / 7;
}

static void any_load(struct rand *rnd, struct run_record *r)
{
	r->slo = (struct slo_limits){any_goal(rnd), any_goal(rnd), any_goal(rnd)};
	r->level = (struct level_record){
		.launch_id = any_text(rnd, &r->arena),
		.index = any_i64(rnd),
		.n = any_i64(rnd),
		.rate_hz = any_goal(rnd),
		.in_flight = any_i64(rnd),
	};
	r->work = (struct work_record){
		.source = any_text(rnd, &r->arena),
		.file_sha256 = any_text(rnd, &r->arena),
		.n_records = any_i64(rnd),
		.n_skipped = any_i64(rnd),
	};
}

static void any_requests(struct rand *rnd, struct run_record *r)
{
	r->n_token_stamps = (size_t)rand_below(rnd, 200);
	r->token_stamps_ns = r->n_token_stamps ? lem_calloc(r->n_token_stamps, 8) : NULL;
	for (size_t i = 0; i < r->n_token_stamps; i++)
		r->token_stamps_ns[i] = any_i64(rnd);
	r->stamp_tokens = r->n_token_stamps && rand_below(rnd, 2)
				  ? lem_calloc(r->n_token_stamps, sizeof(*r->stamp_tokens))
				  : NULL;
	for (size_t i = 0; i < r->n_token_stamps && r->stamp_tokens; i++)
		r->stamp_tokens[i] = (int32_t)any_i64(rnd);
	r->n_requests = (size_t)rand_below(rnd, 30);
	r->requests = r->n_requests ? lem_calloc(r->n_requests, sizeof(*r->requests)) : NULL;
	r->n_requests_asked = (size_t)rand_below(rnd, 1000);
	for (size_t i = 0; i < r->n_requests; i++) {
		struct request_record *q = &r->requests[i];

		int64_t *numbers[] = {&q->id,
				      &q->pass,
				      &q->prompt_index,
				      &q->t_scheduled_ns,
				      &q->t_sent_ns,
				      &q->t_first_ns,
				      &q->t_last_ns,
				      &q->input_tokens,
				      &q->output_tokens_asked,
				      &q->input_tokens_asked};

		for (size_t k = 0; k < ARRAY_LEN(numbers); k++)
			*numbers[k] = any_i64(rnd);
		q->first_stamp = (size_t)rand_below(rnd, r->n_token_stamps + 1);
		q->n_stamps = (int64_t)rand_below(rnd, r->n_token_stamps - q->first_stamp + 1);
		q->output_tokens = (int64_t)rand_below(rnd, 5000);
		q->cached_tokens = any_i64(rnd);
		q->uncounted = rand_below(rnd, 2);
		any_chars(rnd, q->failure, sizeof(q->failure));
		q->truncated = rand_below(rnd, 2);
		any_chars(rnd, q->finish, sizeof(q->finish));
		q->text = any_text(rnd, &r->arena);
	}
}

static void any_steps(struct rand *rnd, struct run_record *r)
{
	r->n_steps = (size_t)rand_below(rnd, 50);
	r->steps = r->n_steps ? lem_calloc(r->n_steps, sizeof(*r->steps)) : NULL;
	for (size_t i = 0; i < r->n_steps; i++) {
		struct step_record *s = &r->steps[i];

		s->prefill = rand_below(rnd, 2);
		s->t_start_ns = any_i64(rnd);
		s->t_end_ns = any_i64(rnd);
		s->n_seqs = (int32_t)any_i64(rnd);
		s->n_tokens = (int32_t)any_i64(rnd);
		s->n_prefill = (int32_t)any_i64(rnd);
		s->replica = (int32_t)any_i64(rnd);
	}
}

static void any_series(struct rand *rnd, struct series *s)
{
	s->signal = (enum signal)rand_below(rnd, SIGNAL_COUNT);
	s->domain = (enum domain)rand_below(rnd, DOMAIN_SELF + 1);
	any_chars(rnd, s->device, sizeof(s->device));
	any_chars(rnd, s->meter, sizeof(s->meter));
	any_chars(rnd, s->note, sizeof(s->note));
	s->n = (size_t)rand_below(rnd, 100);
	s->cap = s->n;
	s->t_begin_ns = s->n ? lem_calloc(s->n, 8) : NULL;
	s->t_end_ns = s->n ? lem_calloc(s->n, 8) : NULL;
	s->value = s->n ? lem_calloc(s->n, 8) : NULL;
	s->ok = s->n ? lem_calloc(s->n, 1) : NULL;
	for (size_t i = 0; i < s->n; i++) {
		s->t_begin_ns[i] = any_i64(rnd);
		s->t_end_ns[i] = any_i64(rnd);
		s->value[i] = any_i64(rnd);
		s->ok[i] = (uint8_t)rand_below(rnd, 2);
	}
	s->dropped = rand_u64(rnd);
	s->failed = rand_u64(rnd);
}

static void any_samples(struct rand *rnd, struct sample_set *s)
{
	s->n_series = (size_t)rand_below(rnd, 6);
	s->series = s->n_series ? lem_calloc(s->n_series, sizeof(*s->series)) : NULL;
	for (size_t i = 0; i < s->n_series; i++)
		any_series(rnd, &s->series[i]);
	s->n_status = (size_t)rand_below(rnd, 4);
	s->status = s->n_status ? lem_calloc(s->n_status, sizeof(*s->status)) : NULL;
	for (size_t i = 0; i < s->n_status; i++) {
		any_chars(rnd, s->status[i].meter, sizeof(s->status[i].meter));
		any_chars(rnd, s->status[i].device, sizeof(s->status[i].device));
		s->status[i].usable = rand_below(rnd, 2);
		any_chars(rnd, s->status[i].reason, sizeof(s->status[i].reason));
		any_chars(rnd, s->status[i].fix, sizeof(s->status[i].fix));
	}
	s->n_late = (size_t)rand_below(rnd, 40);
	s->late_ns = s->n_late ? lem_calloc(s->n_late, 8) : NULL;
	for (size_t i = 0; i < s->n_late; i++)
		s->late_ns[i] = any_i64(rnd);
	s->cpu_ns = any_i64(rnd);
	s->t_start_ns = any_i64(rnd);
	s->t_stop_ns = any_i64(rnd);
}

static void any_warmup(struct rand *rnd, struct warmup_record *w)
{
	w->enabled = rand_below(rnd, 2);
	w->converged = rand_below(rnd, 2);
	w->n = (size_t)rand_below(rnd, 10);
	w->latency_ms = w->n ? lem_calloc(w->n, sizeof(double)) : NULL;
	for (size_t i = 0; i < w->n; i++)
		w->latency_ms[i] = any_f64(rnd);
	w->final_cv = any_f64(rnd);
	w->target_cv = any_f64(rnd);
}

void random_record(struct run_record *r, struct rand *rnd)
{
	const char **texts[] = {
		&r->run_id,       &r->config_name,        &r->config_path,
		&r->config_hash,  &r->config_json,        &r->provenance_json,
		&r->error_json,   &r->cli_overrides_json, &r->environment_json,
		&r->engine_name,  &r->engine_version,     &r->engine_mode,
		&r->image_digest, &r->engine_build_json,  &r->model_name,
		&r->model_path,   &r->model_sha256,       &r->prompts_hash,
		&r->log_tail,     &r->prompts_form,
	};

	run_record_init(r);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = any_text(rnd, &r->arena);
	r->status = (enum run_status)rand_below(rnd, 3);
	r->wall_start_ns = any_i64(rnd);
	r->t_start_ns = any_i64(rnd);
	r->t_end_ns = any_i64(rnd);
	any_shape(rnd, &r->shape);
	any_binding(rnd, &r->binding);
	r->n_phases = (size_t)rand_below(rnd, ARRAY_LEN(r->phases) + 1);
	for (size_t i = 0; i < r->n_phases; i++)
		r->phases[i] = (struct phase_span){(enum run_phase)rand_below(rnd, PHASE_COUNT),
						   any_i64(rnd), any_i64(rnd)};
	r->window_start_ns = any_i64(rnd);
	r->window_end_ns = any_i64(rnd);
	any_warmup(rnd, &r->warmup);
	any_requests(rnd, r);
	any_steps(rnd, r);
	any_samples(rnd, &r->samples);
	r->server = (struct server_record){
		.used = rand_below(rnd, 2),
		.url = any_text(rnd, &r->arena),
		.metrics_before = any_text(rnd, &r->arena),
		.metrics_after = any_text(rnd, &r->arena),
		.arrivals = rand_below(rnd, 2),
		.prefix_cache = rand_below(rnd, 2),
		.client_cpu_ns = any_i64(rnd),
		.roofline_requests_per_cpu_s = any_goal(rnd),
		.roofline_chunks_per_cpu_s = any_goal(rnd),
		.n_retried = any_i64(rnd),
	};
	any_chars(rnd, r->server.urgency, sizeof(r->server.urgency));
	any_load(rnd, r);
	for (uint64_t n = rand_below(rnd, 4); n; n--)
		run_record_note(r, "note %d", (int)n);
}
