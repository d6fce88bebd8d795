#include "store/codec.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "stored numbers are little endian");

static const char magic[8] = "lem.run";

struct codec {
	bool decoding, bad;
	struct str *out;     /* encoding */
	const char *p, *end; /* decoding */
	struct arena *arena; /* decoded texts live here */
	uint32_t version;
};

static void raw(struct codec *c, void *field, size_t n)
{
	if (n == 0)
		return; /* an absent column has no address */
	if (!c->decoding) {
		str_addn(c->out, field, n);
	} else if (c->bad || (size_t)(c->end - c->p) < n) {
		c->bad = true;
	} else {
		memcpy(field, c->p, n);
		c->p += n;
	}
}

#define FIELD(c, lvalue) raw((c), &(lvalue), sizeof(lvalue))

/* Enums and bools go as int64, so that their size in memory does not matter. */
#define SMALL(c, lvalue)                                       \
	do {                                                   \
		int64_t small_ = (int64_t)(lvalue);            \
		FIELD((c), small_);                            \
		if ((c)->decoding)                             \
			(lvalue) = (__typeof__(lvalue))small_; \
	} while (0)

/* An enum: a value that it does not have is damage. */
#define CHOICE(c, lvalue, n)                                    \
	do {                                                    \
		int64_t choice_ = (int64_t)(lvalue);            \
		FIELD((c), choice_);                            \
		if (choice_ < 0 || choice_ >= (int64_t)(n))     \
			(c)->bad |= (c)->decoding, choice_ = 0; \
		if ((c)->decoding)                              \
			(lvalue) = (__typeof__(lvalue))choice_; \
	} while (0)

static void text(struct codec *c, const char **s)
{
	int64_t n = !c->decoding && *s ? (int64_t)strlen(*s) : -1;

	FIELD(c, n);
	if (!c->decoding) {
		if (*s)
			str_addn(c->out, *s, (size_t)n);
		return;
	}
	*s = NULL;
	if (c->bad || n < 0)
		return;
	if (n > c->end - c->p) {
		c->bad = true;
		return;
	}
	*s = arena_strndup(c->arena, c->p, (size_t)n);
	c->p += n;
}

/* A fixed buffer, stored as a text. */
static void chars(struct codec *c, char *buf, size_t size)
{
	const char *s = buf;

	text(c, &s);
	if (c->decoding)
		lem_strlcpy(buf, s ? s : "", size);
}

/* The length of an array of elements that take at least elem bytes each; 0 when it cannot be. */
static size_t count(struct codec *c, size_t n, size_t elem)
{
	uint64_t v = n;

	FIELD(c, v);
	if (c->decoding && (c->bad || v > (uint64_t)(c->end - c->p) / MAX(elem, (size_t)1))) {
		c->bad |= v != 0;
		return 0;
	}
	return (size_t)v;
}

static void *array(struct codec *c, void *at, size_t n, size_t size)
{
	return c->decoding ? (n ? lem_calloc(n, size) : NULL) : at;
}

/* A field added to a struct must be added here; the sizes make that known (x86-64 and AArch64). */
_Static_assert(sizeof(struct model_shape) == 312, "visit the new field of struct model_shape");
_Static_assert(sizeof(struct gpu_ref) == 408, "visit the new field of struct gpu_ref");
_Static_assert(sizeof(struct request_record) == 168,
	       "visit the new field of struct request_record");
_Static_assert(sizeof(struct step_record) == 40, "visit the new field of struct step_record");
_Static_assert(sizeof(struct warmup_record) == 40, "visit the new field of struct warmup_record");
_Static_assert(sizeof(struct series) == 224, "visit the new field of struct series");
_Static_assert(sizeof(struct meter_status) == 409, "visit the new field of struct meter_status");
_Static_assert(sizeof(struct sample_set) == 72, "visit the new field of struct sample_set");
_Static_assert(sizeof(struct gpu_observed) == 128, "visit the new field of struct gpu_observed");
_Static_assert(sizeof(struct gpu_foreigner) == 232, "visit the new field of struct gpu_foreigner");
_Static_assert(sizeof(struct gpu_binding) == 448, "visit the new field of struct gpu_binding");
_Static_assert(sizeof(struct run_record) == 1752, "visit the new field of struct run_record");

static void shape(struct codec *c, struct model_shape *s)
{
	int64_t *numbers[] = {&s->n_layer,       &s->n_embd,      &s->n_ff,
			      &s->n_head,        &s->n_head_kv,   &s->head_dim,
			      &s->n_vocab,       &s->n_ctx_train, &s->n_expert,
			      &s->n_expert_used, &s->n_ff_expert, &s->n_ff_shared,
			      &s->n_layer_dense, &s->n_swa,       &s->n_layer_full,
			      &s->quant_block,   &s->n_params};

	chars(c, s->architecture, sizeof(s->architecture));
	chars(c, s->name, sizeof(s->name));
	for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
		FIELD(c, *numbers[i]);
	SMALL(c, s->gated_mlp);
	SMALL(c, s->tied_embeddings);
	FIELD(c, s->size_bytes);
	chars(c, s->quant, sizeof(s->quant));
	SMALL(c, s->has_tokenizer);
	CHOICE(c, s->weights, WEIGHTS_SYNTHETIC + 1);
}

static void observed(struct codec *c, struct gpu_binding *b)
{
	b->n_observed = count(c, b->n_observed, 16);
	b->observed = array(c, b->observed, b->n_observed, sizeof(*b->observed));
	for (size_t i = 0; i < b->n_observed; i++) {
		chars(c, b->observed[i].uuid, sizeof(b->observed[i].uuid));
		chars(c, b->observed[i].pci_bus_id, sizeof(b->observed[i].pci_bus_id));
	}
}

static void foreigners(struct codec *c, struct gpu_binding *b)
{
	b->n_foreigners = count(c, b->n_foreigners, 64);
	b->foreigners = array(c, b->foreigners, b->n_foreigners, sizeof(*b->foreigners));
	for (size_t i = 0; i < b->n_foreigners; i++) {
		struct gpu_foreigner *f = &b->foreigners[i];

		chars(c, f->card_uuid, sizeof(f->card_uuid));
		FIELD(c, f->pid);
		chars(c, f->name, sizeof(f->name));
		chars(c, f->user, sizeof(f->user));
		SMALL(c, f->graphics);
		FIELD(c, f->memory_bytes);
		FIELD(c, f->t_first_ns);
		FIELD(c, f->t_last_ns);
	}
}

/* What version 1 did not have. */
static void proof(struct codec *c, struct gpu_binding *b)
{
	for (size_t i = 0; i < b->n; i++) {
		chars(c, b->gpus[i].card_uuid, sizeof(b->gpus[i].card_uuid));
		FIELD(c, b->gpus[i].t_lost_ns);
	}
	chars(c, b->proof, sizeof(b->proof));
	observed(c, b);
	foreigners(c, b);
	CHOICE(c, b->guard_level, GPU_GUARD_STRAY + 1);
	chars(c, b->guard, sizeof(b->guard));
}

static void binding(struct codec *c, struct gpu_binding *b)
{
	b->n = count(c, b->n, 56);
	b->gpus = array(c, b->gpus, b->n, sizeof(*b->gpus));
	for (size_t i = 0; i < b->n; i++) {
		struct gpu_ref *g = &b->gpus[i];

		chars(c, g->requested, sizeof(g->requested));
		chars(c, g->uuid, sizeof(g->uuid));
		chars(c, g->pci_bus_id, sizeof(g->pci_bus_id));
		chars(c, g->name, sizeof(g->name));
		SMALL(c, g->index);
		SMALL(c, g->container_index);
		FIELD(c, g->memory_bytes);
	}
	chars(c, b->path, sizeof(b->path));
	SMALL(c, b->proved);
	if (c->version >= 2)
		proof(c, b);
}

static void phases(struct codec *c, struct run_record *r)
{
	r->n_phases = count(c, r->n_phases, 24);
	if (r->n_phases > ARRAY_LEN(r->phases)) {
		c->bad = true;
		r->n_phases = 0;
	}
	for (size_t i = 0; i < r->n_phases; i++) {
		CHOICE(c, r->phases[i].phase, PHASE_COUNT);
		FIELD(c, r->phases[i].t_start_ns);
		FIELD(c, r->phases[i].t_end_ns);
	}
}

static void warmup(struct codec *c, struct warmup_record *w)
{
	SMALL(c, w->enabled);
	SMALL(c, w->converged);
	w->n = count(c, w->n, 8);
	w->latency_ms = array(c, w->latency_ms, w->n, sizeof(*w->latency_ms));
	for (size_t i = 0; i < w->n; i++)
		FIELD(c, w->latency_ms[i]);
	FIELD(c, w->final_cv);
	FIELD(c, w->target_cv);
}

/* Column by column: neighbours are alike then, and compress to little. */
#define COLUMN(c, at, n, field)             \
	for (size_t i_ = 0; i_ < (n); i_++) \
	FIELD((c), (at)[i_].field)
#define SMALL_COLUMN(c, at, n, field)       \
	for (size_t i_ = 0; i_ < (n); i_++) \
	SMALL((c), (at)[i_].field)

static void stamps(struct codec *c, struct run_record *r)
{
	bool told = r->stamp_tokens;
	size_t n = r->n_token_stamps = count(c, r->n_token_stamps, 8);

	r->token_stamps_ns = array(c, r->token_stamps_ns, n, sizeof(*r->token_stamps_ns));
	for (size_t i = 0; i < n; i++)
		FIELD(c, r->token_stamps_ns[i]);
	if (c->version < 3)
		return;
	SMALL(c, told);
	if (!told || c->bad)
		return;
	r->stamp_tokens = array(c, r->stamp_tokens, n, sizeof(*r->stamp_tokens));
	for (size_t i = 0; i < n; i++)
		FIELD(c, r->stamp_tokens[i]);
}

/* What version 2 did not have. */
static void requests_over_http(struct codec *c, struct run_record *r)
{
	struct request_record *q = r->requests;
	size_t n = r->n_requests;

	COLUMN(c, q, n, n_stamps);
	COLUMN(c, q, n, cached_tokens);
	SMALL_COLUMN(c, q, n, uncounted);
	for (size_t i = 0; i < n; i++)
		chars(c, q[i].failure, sizeof(q[i].failure));
	if (c->version >= 4)
		COLUMN(c, q, n, input_tokens_asked);
}

/* Indices are used without further checks later on. */
static bool request_holds(const struct run_record *r, const struct request_record *q)
{
	return q->output_tokens >= 0 && q->n_stamps >= 0 && q->first_stamp <= r->n_token_stamps &&
	       (uint64_t)q->n_stamps <= r->n_token_stamps - q->first_stamp;
}

static void requests(struct codec *c, struct run_record *r)
{
	size_t n = r->n_requests = count(c, r->n_requests, 112);
	struct request_record *q = r->requests = array(c, r->requests, n, sizeof(*q));

	COLUMN(c, q, n, id);
	COLUMN(c, q, n, pass);
	COLUMN(c, q, n, prompt_index);
	COLUMN(c, q, n, t_scheduled_ns);
	COLUMN(c, q, n, t_sent_ns);
	COLUMN(c, q, n, t_first_ns);
	COLUMN(c, q, n, t_last_ns);
	COLUMN(c, q, n, input_tokens);
	COLUMN(c, q, n, output_tokens);
	COLUMN(c, q, n, output_tokens_asked);
	SMALL_COLUMN(c, q, n, first_stamp);
	SMALL_COLUMN(c, q, n, truncated);
	for (size_t i = 0; i < n; i++) {
		chars(c, q[i].finish, sizeof(q[i].finish));
		text(c, &q[i].text);
	}
	SMALL(c, r->n_requests_asked);
	stamps(c, r);
	if (c->version >= 3)
		requests_over_http(c, r);
	for (size_t i = 0; i < n && c->version < 3; i++) {
		q[i].n_stamps = q[i].output_tokens;
		q[i].cached_tokens = -1;
	}
	for (size_t i = 0; i < n && c->decoding; i++)
		c->bad |= !request_holds(r, &q[i]);
}

static void server(struct codec *c, struct server_record *s)
{
	SMALL(c, s->used);
	text(c, &s->url);
	text(c, &s->metrics_before);
	text(c, &s->metrics_after);
	SMALL(c, s->arrivals);
	SMALL(c, s->prefix_cache);
	FIELD(c, s->client_cpu_ns);
	if (c->version < 4)
		return;
	FIELD(c, s->roofline_requests_per_cpu_s);
	FIELD(c, s->roofline_chunks_per_cpu_s);
	chars(c, s->urgency, sizeof(s->urgency));
	FIELD(c, s->n_retried);
}

/* What version 3 did not have. */
static void load(struct codec *c, struct run_record *r)
{
	FIELD(c, r->slo.ttft_ms);
	FIELD(c, r->slo.tpot_ms);
	FIELD(c, r->slo.e2e_ms);
	text(c, &r->prompts_form);
	text(c, &r->level.launch_id);
	FIELD(c, r->level.index);
	FIELD(c, r->level.n);
	FIELD(c, r->level.rate_hz);
	FIELD(c, r->level.in_flight);
	text(c, &r->work.source);
	text(c, &r->work.file_sha256);
	FIELD(c, r->work.n_records);
	FIELD(c, r->work.n_skipped);
}

/* Format 5. */
static void replicas(struct codec *c, struct run_record *r)
{
	COLUMN(c, r->steps, r->n_steps, replica);
}

static void steps(struct codec *c, struct run_record *r)
{
	size_t n = r->n_steps = count(c, r->n_steps, 36);
	struct step_record *s = r->steps = array(c, r->steps, n, sizeof(*s));

	SMALL_COLUMN(c, s, n, prefill);
	COLUMN(c, s, n, t_start_ns);
	COLUMN(c, s, n, t_end_ns);
	COLUMN(c, s, n, n_seqs);
	COLUMN(c, s, n, n_tokens);
	COLUMN(c, s, n, n_prefill);
}

static void series(struct codec *c, struct series *s)
{
	CHOICE(c, s->signal, SIGNAL_COUNT);
	CHOICE(c, s->domain, DOMAIN_SELF + 1);
	chars(c, s->device, sizeof(s->device));
	chars(c, s->meter, sizeof(s->meter));
	chars(c, s->note, sizeof(s->note));
	s->n = s->cap = count(c, s->n, 25);
	s->t_begin_ns = array(c, s->t_begin_ns, s->n, 8);
	s->t_end_ns = array(c, s->t_end_ns, s->n, 8);
	s->value = array(c, s->value, s->n, 8);
	s->ok = array(c, s->ok, s->n, 1);
	raw(c, s->t_begin_ns, s->n * 8);
	raw(c, s->t_end_ns, s->n * 8);
	raw(c, s->value, s->n * 8);
	raw(c, s->ok, s->n);
	FIELD(c, s->dropped);
	FIELD(c, s->failed);
}

static void samples(struct codec *c, struct sample_set *s)
{
	s->n_series = count(c, s->n_series, 56);
	s->series = array(c, s->series, s->n_series, sizeof(*s->series));
	for (size_t i = 0; i < s->n_series && !c->bad; i++)
		series(c, &s->series[i]);
	s->n_status = count(c, s->n_status, 40);
	s->status = array(c, s->status, s->n_status, sizeof(*s->status));
	for (size_t i = 0; i < s->n_status; i++) {
		struct meter_status *m = &s->status[i];

		chars(c, m->meter, sizeof(m->meter));
		chars(c, m->device, sizeof(m->device));
		SMALL(c, m->usable);
		chars(c, m->reason, sizeof(m->reason));
		chars(c, m->fix, sizeof(m->fix));
	}
	s->n_late = count(c, s->n_late, 8);
	s->late_ns = array(c, s->late_ns, s->n_late, 8);
	raw(c, s->late_ns, s->n_late * 8);
	FIELD(c, s->cpu_ns);
	FIELD(c, s->t_start_ns);
	FIELD(c, s->t_stop_ns);
}

static void notes(struct codec *c, struct run_record *r)
{
	r->n_notes = count(c, r->n_notes, 8);
	r->notes = array(c, r->notes, r->n_notes, sizeof(*r->notes));
	for (size_t i = 0; i < r->n_notes; i++)
		text(c, &r->notes[i]);
}

static void record(struct codec *c, struct run_record *r)
{
	const char **texts[] = {&r->run_id,
				&r->config_name,
				&r->config_path,
				&r->config_hash,
				&r->config_json,
				&r->provenance_json,
				&r->cli_overrides_json,
				&r->environment_json,
				&r->error_json,
				&r->engine_name,
				&r->engine_version,
				&r->engine_mode,
				&r->engine_build_json,
				&r->image_digest,
				&r->model_name,
				&r->model_path,
				&r->model_sha256,
				&r->prompts_hash,
				&r->log_tail};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		text(c, texts[i]);
	CHOICE(c, r->status, RUN_INTERRUPTED + 1);
	FIELD(c, r->wall_start_ns);
	FIELD(c, r->t_start_ns);
	FIELD(c, r->t_end_ns);
	shape(c, &r->shape);
	binding(c, &r->binding);
	phases(c, r);
	FIELD(c, r->window_start_ns);
	FIELD(c, r->window_end_ns);
	warmup(c, &r->warmup);
	requests(c, r);
	steps(c, r);
	samples(c, &r->samples);
	notes(c, r);
	if (c->version >= 3)
		server(c, &r->server);
	if (c->version >= 4)
		load(c, r);
	if (c->version >= 5)
		replicas(c, r);
}

void record_encode(const struct run_record *r, struct str *out)
{
	struct codec c = {.out = out, .version = CODEC_VERSION};
	struct run_record copy = *r; /* visited, not changed */

	str_addn(out, magic, sizeof(magic));
	FIELD(&c, c.version);
	record(&c, &copy);
}

int record_decode(const void *bytes, size_t n, struct run_record *ret, struct lem_error *err)
{
	struct codec c = {
		.decoding = true, .p = bytes, .end = (const char *)bytes + n, .arena = &ret->arena};
	char head[sizeof(magic)] = "";

	FIELD(&c, head);
	FIELD(&c, c.version);
	if (c.bad || memcmp(head, magic, sizeof(magic)) != 0)
		return lem_fail(err, LEM_E_PARSE, "this is not a stored run");
	if (c.version < 1 || c.version > CODEC_VERSION)
		return lem_fail(err, LEM_E_UNSUPPORTED,
				"the run was stored in format %u, this lem reads up to %d",
				c.version, CODEC_VERSION);
	record(&c, ret);
	if (!c.bad && c.p == c.end)
		return 0;
	run_record_release(ret);
	return lem_fail(err, LEM_E_PARSE, "the stored run is damaged");
}
