#include "model/run_record.h"

#include <math.h>

void run_record_init(struct run_record *r)
{
	*r = (struct run_record){
		.server = {.roofline_requests_per_cpu_s = NAN,
			   .roofline_chunks_per_cpu_s = NAN,
			   .n_retried = -1},
		.slo = {NAN, NAN, NAN},
		.level = {.rate_hz = NAN},
	};
}

void run_record_release(struct run_record *r)
{
	free(r->warmup.latency_ms);
	free(r->requests);
	free(r->token_stamps_ns);
	free(r->stamp_tokens);
	free(r->steps);
	free(r->notes);
	free(r->binding.gpus);
	free(r->binding.observed);
	free(r->binding.foreigners);
	sample_set_release(&r->samples);
	arena_release(&r->arena);
	run_record_init(r);
}

void run_record_note(struct run_record *r, const char *fmt, ...)
{
	char buf[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	r->notes = lem_reallocarray(r->notes, r->n_notes + 1, sizeof(*r->notes));
	r->notes[r->n_notes++] = arena_strdup(&r->arena, buf);
}

const char *run_status_name(enum run_status s)
{
	switch (s) {
	case RUN_COMPLETED: return "completed";
	case RUN_FAILED: return "failed";
	case RUN_INTERRUPTED: return "interrupted";
	}
	return "unknown";
}

const char *run_phase_name(enum run_phase p)
{
	static const char *const names[PHASE_COUNT] = {
		[PHASE_PREFLIGHT] = "preflight",
		[PHASE_BASELINE] = "baseline",
		[PHASE_LOAD] = "load",
		[PHASE_WARMUP] = "warmup",
		[PHASE_BASELINE_RESIDENT] = "baseline_resident",
		[PHASE_MEASURE] = "measure",
		[PHASE_DRAIN] = "drain",
		[PHASE_STOP] = "stop",
	};

	return (unsigned)p < PHASE_COUNT ? names[p] : "unknown";
}

const struct phase_span *run_record_phase(const struct run_record *r, enum run_phase p)
{
	for (size_t i = r->n_phases; i-- > 0;)
		if (r->phases[i].phase == p)
			return &r->phases[i];
	return NULL;
}
