#include "example.h"

#include <math.h>

enum { REQUESTS = 20, OUT = 4, SAMPLES = 40 };
#define S NS_PER_S

static void set(char *dst, size_t size, const char *text)
{
	assert(lem_strlcpy(dst, text, size) < size);
}
#define SET(field, text) set(field, sizeof(field), text)

static void fill_texts(struct run_record *r, const char *run_id)
{
	struct arena *a = &r->arena;

	r->run_id = arena_strdup(a, run_id);
	r->config_name = arena_strdup(a, "größe \"q\"");
	r->config_path = arena_strdup(a, "configs/größe.yaml");
	r->config_hash = arena_strdup(a, "0123456789abcdef");
	r->config_json = arena_strdup(a, "{\"backend\": \"llamacpp\"}");
	r->provenance_json = arena_strdup(a, "{\"backend\": {\"source\": \"file\"}}");
	r->cli_overrides_json = NULL;
	r->environment_json = arena_strdup(a, "{\"host\": \"n1\", \"cpu\": \"x\"}");
	r->engine_name = arena_strdup(a, "llamacpp");
	r->engine_version = arena_strdup(a, "b1234");
	r->engine_mode = arena_strdup(a, "offline/static");
	r->engine_build_json = arena_strdup(a, "{\"threads\": 2}");
	r->image_digest = NULL;
	r->model_name = arena_strdup(a, "synthetic:llama-15m");
	r->model_path = arena_strdup(a, "/models/llama-15m.gguf");
	r->model_sha256 = NULL;
	r->prompts_hash = arena_strdup(a, "feedbeef");
	r->work = (struct work_record){.source = arena_strdup(a, "trace (azure) größe.csv"),
				       .file_sha256 = arena_strdup(a, "c0ffee"),
				       .n_records = 23,
				       .n_skipped = 3};
	r->log_tail = arena_strdup(a, "last line\n\x1b[31mred\x1b[0m \xff\n");
}

static void fill_shape(struct model_shape *s)
{
	SET(s->architecture, "llama");
	SET(s->name, "llama 15m");
	SET(s->quant, "Q8_0");
	s->n_layer = 6;
	s->n_embd = 288;
	s->n_ff = 768;
	s->n_head = 6;
	s->n_head_kv = 6;
	s->head_dim = 48;
	s->n_vocab = 32000;
	s->n_ctx_train = 2048;
	s->gated_mlp = true;
	s->n_params = 24407712;
	s->size_bytes = 26000000;
	s->weights = WEIGHTS_SYNTHETIC;
}

static void fill_proof(struct gpu_binding *b)
{
	SET(b->proof, "lem-gpuprobe, run the same way: 2 devices in the order of gpus");
	SET(b->guard, "the engine's processes were on GPU 2, 3 during the window");
	b->guard_level = GPU_GUARD_SEEN;
	b->n_observed = 2;
	b->observed = lem_calloc(2, sizeof(*b->observed));
	for (int i = 0; i < 2; i++) {
		SET(b->observed[i].uuid, i ? "GPU-bb" : "GPU-aa");
		SET(b->observed[i].pci_bus_id, i ? "00000000:66:00.0" : "00000000:65:00.0");
	}
	b->n_foreigners = 1;
	b->foreigners = lem_calloc(1, sizeof(*b->foreigners));
	b->foreigners[0] = (struct gpu_foreigner){.card_uuid = "GPU-bb",
						  .pid = 812,
						  .name = "python3",
						  .user = "x",
						  .memory_bytes = UINT64_C(1) << 30,
						  .t_first_ns = 1,
						  .t_last_ns = 2};
}

static void fill_binding(struct gpu_binding *b)
{
	b->n = 2;
	b->gpus = lem_calloc(2, sizeof(*b->gpus));
	SET(b->path, "process");
	b->proved = true;
	for (int i = 0; i < 2; i++) {
		struct gpu_ref *g = &b->gpus[i];

		SET(g->requested, i ? "3" : "GPU-aa");
		SET(g->uuid, i ? "GPU-bb" : "GPU-aa");
		SET(g->pci_bus_id, i ? "00000000:66:00.0" : "00000000:65:00.0");
		SET(g->name, "NVIDIA H100 80GB HBM3");
		g->index = i ? 3 : 2;
		g->container_index = i;
		g->memory_bytes = UINT64_C(85520809984);
		SET(g->card_uuid, g->uuid);
	}
	fill_proof(b);
}

static void fill_phases(struct run_record *r)
{
	static const enum run_phase order[] = {PHASE_BASELINE, PHASE_LOAD, PHASE_WARMUP,
					       PHASE_MEASURE, PHASE_STOP};

	r->wall_start_ns = INT64_C(1795527600) * S; /* 2026-11-24T13:40:00Z */
	r->t_start_ns = 1000 * S;
	r->t_end_ns = 1050 * S;
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		r->phases[r->n_phases++] = (struct phase_span){
			order[i], (1000 + 10 * (int64_t)i) * S, (1010 + 10 * (int64_t)i) * S};
	r->window_start_ns = 1030 * S;
	r->window_end_ns = 1040 * S;
	r->warmup = (struct warmup_record){.enabled = true,
					   .converged = true,
					   .n = 3,
					   .latency_ms = lem_calloc(3, sizeof(double)),
					   .final_cv = 0.0125,
					   .target_cv = 0.05};
	for (int i = 0; i < 3; i++)
		r->warmup.latency_ms[i] = 100.25 / (i + 1);
}

static void fill_requests(struct run_record *r)
{
	r->requests = lem_calloc(REQUESTS, sizeof(*r->requests));
	r->token_stamps_ns = lem_calloc(REQUESTS * OUT, sizeof(int64_t));
	r->n_requests_asked = REQUESTS;
	for (int64_t i = 0; i < REQUESTS; i++) {
		struct request_record *q = &r->requests[r->n_requests++];

		*q = (struct request_record){.id = i,
					     .pass = i / 10,
					     .prompt_index = i % 10,
					     .t_scheduled_ns = 1030 * S,
					     .t_sent_ns = 1030 * S + i * S / 2,
					     .t_first_ns = 1030 * S + i * S / 2 + S / 8,
					     .t_last_ns = 1030 * S + i * S / 2 + S / 2,
					     .input_tokens = 32,
					     .output_tokens = OUT,
					     .output_tokens_asked = i % 2 ? OUT : 0,
					     .first_stamp = r->n_token_stamps,
					     .n_stamps = OUT,
					     .truncated = i == 7};
		SET(q->finish, i == 19 ? "eos" : "length");
		q->text = i % 3 ? NULL : arena_strdup(&r->arena, "Être ou ne pas être\n");
		for (int k = 0; k < OUT; k++)
			r->token_stamps_ns[r->n_token_stamps++] = q->t_first_ns + k * S / 8;
	}
	r->steps = lem_calloc(REQUESTS, sizeof(*r->steps));
	for (int64_t i = 0; i < REQUESTS; i++)
		r->steps[r->n_steps++] = (struct step_record){
			i % 2 == 0, 1030 * S + i * S / 2, 1030 * S + i * S / 2 + S / 4,
			1,          i % 2 ? 1 : 32,       i % 2 ? 0 : 32};
}

static void fill_series(struct series *s, enum signal signal, enum domain domain,
			const char *device, const char *meter)
{
	s->signal = signal;
	s->domain = domain;
	SET(s->device, device);
	SET(s->meter, meter);
	SET(s->note, domain == DOMAIN_CPU_ESTIMATE ? "estimated" : "");
	s->n = s->cap = SAMPLES;
	s->t_begin_ns = lem_calloc(SAMPLES, 8);
	s->t_end_ns = lem_calloc(SAMPLES, 8);
	s->value = lem_calloc(SAMPLES, 8);
	s->ok = lem_calloc(SAMPLES, 1);
	for (int64_t i = 0; i < SAMPLES; i++) {
		s->t_begin_ns[i] = 1030 * S + i * S / 4;
		s->t_end_ns[i] = s->t_begin_ns[i] + 1500;
		s->value[i] = INT64_C(123456789012) + i * 75000000;
		s->ok[i] = i != 13;
	}
	s->failed = 1;
	s->dropped = UINT64_C(1) << 40;
}

static void fill_status(struct meter_status *m, const char *meter, const char *device, bool usable,
			const char *reason, const char *fix)
{
	SET(m->meter, meter);
	SET(m->device, device);
	m->usable = usable;
	SET(m->reason, reason);
	SET(m->fix, fix);
}

static void fill_samples(struct sample_set *s)
{
	s->n_series = 4;
	s->series = lem_calloc(4, sizeof(*s->series));
	fill_series(&s->series[0], SIGNAL_ENERGY_COUNTER_UJ, DOMAIN_GPU, "GPU-aa", "nvml");
	fill_series(&s->series[1], SIGNAL_ENERGY_COUNTER_UJ, DOMAIN_GPU, "GPU-bb", "nvml");
	fill_series(&s->series[2], SIGNAL_TEMPERATURE_C, DOMAIN_GPU, "GPU-aa", "nvml");
	fill_series(&s->series[3], SIGNAL_CPU_TIME_NS, DOMAIN_SELF, "self", "self");
	s->n_status = 3;
	s->status = lem_calloc(3, sizeof(*s->status));
	fill_status(&s->status[0], "nvml", "GPU-aa", true, "", "");
	fill_status(&s->status[1], "rapl_perf", "", false,
		    "RAPL: no power PMU in this virtual machine",
		    "run on the host, or set energy.estimate_watts_per_core");
	fill_status(&s->status[2], "rapl_powercap", "", false, "no /sys/class/powercap here",
		    "run on the host, or set energy.estimate_watts_per_core");
	s->n_late = 10;
	s->late_ns = lem_calloc(10, 8);
	for (int64_t i = 0; i < 10; i++)
		s->late_ns[i] = i * 12345;
	s->cpu_ns = 7654321;
	s->t_start_ns = 1000 * S;
	s->t_stop_ns = 1050 * S;
}

void example_record(struct run_record *r, const char *run_id)
{
	run_record_init(r);
	r->status = RUN_COMPLETED;
	fill_texts(r, run_id);
	fill_shape(&r->shape);
	fill_binding(&r->binding);
	fill_phases(r);
	fill_requests(r);
	fill_samples(&r->samples);
	run_record_note(r, "GPU 3 was busy before the run: %d %%", 12);
}

static struct quantity within(double value, double half, const char *method)
{
	return quantity_of(value, value - half, value + half, method);
}

static void fill_energy(struct summary *s)
{
	const char *no_cpu = "RAPL: no power PMU in this virtual machine";

	s->gpu_j = within(6000, 12, "counter, interpolated");
	s->gpu_above_idle_j = within(4600, 30, "counter, interpolated, minus idle");
	s->cpu_j = s->dram_j = quantity_unknown(no_cpu);
	s->cpu_estimated_j = quantity_unknown("not asked for");
	s->prefill_j = s->decode_j = quantity_unknown("prefill and decode share steps");
	s->n_per_gpu = 2;
	for (int i = 0; i < 2; i++) {
		struct gpu_energy *g = &s->per_gpu[i];

		SET(g->uuid, i ? "GPU-bb" : "GPU-aa");
		g->total_j = within(3000, 6, "counter, interpolated");
		g->above_idle_j = within(2300, 15, "counter, interpolated, minus idle");
		g->temperature_max_c = i ? (double)NAN : 61;
		g->clock_reasons = i ? 0 : 4;
	}
	s->idle_w = within(140, 2.5, "mean power");
	s->resident_idle_w = quantity_unknown("no baseline with the engine loaded");
	SET(s->energy_scope, "gpu");
	s->j_per_output_token = within(75, 0.15, "gpu");
	s->j_per_input_token = within(9.375, 0.01875, "gpu");
	s->j_per_total_token = within(0.00833, 1e-5, "gpu");
	s->j_per_request = within(300, 0.6, "gpu");
}

static void fill_goals(struct slo_summary *s)
{
	s->limits = (struct slo_limits){1500, 130, (double)NAN};
	s->judged = 20;
	s->good = 3;
	s->missed_ttft = 17;
	s->missed_tpot = 1;
	s->failed = 1;
	s->good_output_tokens = 12;
	s->met_by_99 = (struct slo_limits){9625, 126, (double)NAN};
	s->share = quantity_of(0.15, 0.052, 0.36, "good / judged; Wilson");
	s->requests_per_s = within(0.3, 0.1, "jackknife over 10 slices");
	s->output_tokens_per_s = within(1.2, 0.4, "jackknife over 10 slices");
	s->j_per_request = within(2000, 4, "gpu");
	s->j_per_output_token = within(500, 1, "gpu");
}

void example_summary(struct summary *s)
{
	*s = (struct summary){.window_ns = 10 * S,
			      .requests_done = 20,
			      .requests_asked = 20,
			      .input_tokens = 640,
			      .output_tokens = 80,
			      .meter_late_p99_ms = 0.12,
			      .prompts_cut = 1};
	s->input_lengths = (struct length_stats){.n = 20,
						 .total = 640,
						 .min = 16,
						 .max = 48,
						 .mean = 32,
						 .p50 = 32,
						 .p90 = 44.5,
						 .p99 = 48};
	s->input_lengths.bins[4] = 9;
	s->input_lengths.bins[5] = 11;
	s->output_lengths = (struct length_stats){
		.n = 20, .total = 80, .min = 4, .max = 4, .mean = 4, .p50 = 4, .p90 = 4, .p99 = 4};
	s->output_lengths.bins[2] = 20;
	verdict_add(&s->verdict, VERDICT_SUSPECT, "the warm-up did not settle (variation %.1f %%)",
		    12.5);
	s->prefill_tokens_per_s = within(256, 3, "synchronised steps");
	s->decode_tokens_per_s = within(8, 0.25, "synchronised steps");
	s->output_tokens_per_s = within(8, 0.5, "jackknife over 10 slices");
	s->total_tokens_per_s = within(72, 4.5, "jackknife over 10 slices");
	s->requests_per_s = within(2, 0, "jackknife over 10 slices");
	s->ttft = (struct latency_stats){20, 125, 125, 125, 125, 125, 125, 125, ""};
	s->itl = (struct latency_stats){60, 125, 124.5, 126, 126.5, 127, 120, 130, ""};
	s->tpot = (struct latency_stats){20, 125, 125, 125.25, 125.5, 126, 124, 126, ""};
	s->e2e = (struct latency_stats){20, 500, 500, 500, 500, 500, 499, 501, ""};
	SET(s->ttft_sched.reason, "no schedule");
	s->e2e_sched = (struct latency_stats){20, 5250, 5250, 9550, 9775, 9955, 500, 10000, ""};
	fill_energy(s);
	s->flops_prefill = quantity_of(3.2e10, 3.2e10, 3.2e10, "from the model's shape");
	s->flops_decode = quantity_of(4e9, 4e9, 4e9, "from the model's shape");
	s->flops_total = quantity_of(3.6e10, 3.6e10, 3.6e10, "from the model's shape");
	s->mfu = quantity_unknown("the peak of this device is not known");
	fill_goals(&s->slo);
	s->self_cpu_share = within(0.0008, 0.0001, "CPU time");
}
