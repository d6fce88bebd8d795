#include <jansson.h>
#include <math.h>

#include "base/num.h"
#include "report/goals.h"
#include "report/pen.h"

static void free_json(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(free_json)

static json_t *parse(const char *text)
{
	return text ? json_loads(text, 0, NULL) : NULL;
}

/* NULL in, and anything that is not there or no text: NULL out. */
static const char *text_at(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int int_at(const json_t *object, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(object, key));

	return v > 0 && v < INT32_MAX ? (int)v : 0;
}

static void put_error(struct pen *p, const struct run_record *r)
{
	_cleanup_json_ json_t *e = parse(r->error_json);
	const char *what = text_at(e, "what"), *where = text_at(e, "where"),
		   *why = text_at(e, "why"), *fix = text_at(e, "fix");

	if (what && where)
		pen_line(p, "ended by", "%s (%s)", what, where);
	else if (what)
		pen_line(p, "ended by", "%s", what);
	if (why)
		pen_line(p, "", "%s", why);
	if (fix)
		pen_line(p, "hint", "%s", fix);
}

static void put_title(struct pen *p, const struct run_record *r, const struct summary *s)
{
	const char *level = verdict_name(s->verdict.level);
	_cleanup_str_ struct str id = STR_INIT;

	pen_clean(p, r->run_id ? r->run_id : "?", &id);
	str_addf(p->out, "%s%s%s  %s%s%s%s%s\n", pen_bold(p), str_c(&id), pen_plain(p),
		 pen_verdict(p, level), level, pen_plain(p), r->status == RUN_COMPLETED ? "" : ", ",
		 r->status == RUN_COMPLETED ? "" : run_status_name(r->status));
	for (size_t i = 0; i < s->verdict.n_reasons; i++)
		pen_line(p, i ? "" : "because", "%s", s->verdict.reasons[i]);
	put_error(p, r);
}

static int card_index(const struct run_record *r, const char *card_uuid)
{
	for (size_t i = 0; i < r->binding.n; i++)
		if (str_eq(gpu_ref_card(&r->binding.gpus[i]), card_uuid))
			return r->binding.gpus[i].index;
	return -1;
}

static const char *weights_text(enum weights_kind k)
{
	switch (k) {
	case WEIGHTS_SYNTHETIC:
		return "weights: synthetic (random; speed is real, the text is not)";
	case WEIGHTS_REAL: return "weights: real";
	case WEIGHTS_UNKNOWN: break;
	}
	return "weights: unknown";
}

static void put_model(struct pen *p, const struct run_record *r)
{
	const struct model_shape *m = &r->shape;
	double n = (double)model_shape_params(m);
	_cleanup_str_ struct str s = STR_INIT;

	str_add(&s, r->model_name ? r->model_name : "?");
	if (m->architecture[0])
		str_addf(&s, "%s%s", pen_dot(p), m->architecture);
	if (n > 0)
		str_addf(&s, ", %.3g %s parameters", n < 999.5e6 ? n / 1e6 : n / 1e9,
			 n < 999.5e6 ? "M" : "B");
	if (m->quant[0])
		str_addf(&s, ", %s", m->quant);
	pen_line(p, "model", "%s%s%s", str_c(&s), pen_dot(p), weights_text(m->weights));
}

/* "CPU only: Intel Xeon, 2 threads of 2", as far as the host and the engine said. */
static void put_cpu(struct pen *p, const struct run_record *r)
{
	_cleanup_json_ json_t *host = parse(r->environment_json);
	_cleanup_json_ json_t *engine = parse(r->engine_build_json);
	_cleanup_str_ struct str s = STR_INIT;
	const json_t *cpu = json_object_get(host, "cpu");
	const char *model = text_at(cpu, "model");
	int threads = int_at(json_object_get(engine, "options"), "threads"),
	    allowed = int_at(cpu, "logical_allowed");

	if (model)
		str_addf(&s, ": %s", model);
	if (threads > 0)
		str_addf(&s, ", %d thread%s", threads, threads == 1 ? "" : "s");
	if (threads > 0 && allowed > 0)
		str_addf(&s, " of %d", allowed);
	if (str_eq(r->binding.path, "external"))
		pen_line(p, "device", "the server's own; no GPU of this host is metered");
	else
		pen_line(p, "device", "CPU only%s", str_c(&s));
}

static void put_foreigners(struct pen *p, const struct run_record *r)
{
	for (size_t i = 0; i < r->binding.n_foreigners; i++) {
		const struct gpu_foreigner *f = &r->binding.foreigners[i];
		bool in = f->t_last_ns >= r->window_start_ns && f->t_first_ns <= r->window_end_ns;

		pen_line(p, i ? "" : "others", "pid %" PRId64 " %s%s%s on GPU %d%s%s", f->pid,
			 f->name[0] ? f->name : "(name not known)", f->user[0] ? " of " : "",
			 f->user, card_index(r, f->card_uuid), f->graphics ? ", graphics" : "",
			 r->window_end_ns && in ? ", during the window" : ", outside the window");
	}
}

/* How it is known that the engine had these GPUs, and who else was on them. */
static void put_gpus(struct pen *p, const struct run_record *r)
{
	const struct gpu_binding *b = &r->binding;

	for (size_t i = 0; i < b->n; i++)
		pen_line(p, i ? "" : "GPUs", "%d  %s%s%s%s", b->gpus[i].index, b->gpus[i].name,
			 pen_dot(p), b->gpus[i].uuid,
			 b->proved || b->proof[0] ? "" : " (not proved)");
	if (b->n && b->proof[0])
		pen_line(p, "", "(%s %s)", b->proved ? "proved by" : "not proved:", b->proof);
	if (b->n && b->path[0])
		pen_line(p, "routing", "%s%s%s", b->path, b->guard[0] ? pen_dot(p) : "", b->guard);
	put_foreigners(p, r);
}

static void put_subject(struct pen *p, const struct run_record *r)
{
	put_model(p, r);
	pen_line(p, "engine", "%s %s%s%s", r->engine_name ? r->engine_name : "?",
		 r->engine_version ? r->engine_version : "(never loaded)", pen_dot(p),
		 r->engine_mode ? r->engine_mode : "?");
	if (r->image_digest)
		pen_line(p, "image", "%s", r->image_digest);
	if (!r->binding.n)
		put_cpu(p, r);
	put_gpus(p, r);
}

/* "32", or "16 to 512, median 126". */
static const char *lengths_text(const struct length_stats *s, char *buf, size_t size)
{
	if (!s->n)
		(void)snprintf(buf, size, "not told");
	else if (s->min == s->max)
		(void)snprintf(buf, size, "%" PRId64, s->min);
	else
		(void)snprintf(buf, size, "%" PRId64 " to %" PRId64 ", median %.0f", s->min, s->max,
			       s->p50);
	return buf;
}

static void put_source(struct pen *p, const struct run_record *r, const struct summary *s)
{
	const struct work_record *w = &r->work;
	char in[64], out[64], skipped[64] = "";

	if (!w->source)
		return;
	if (w->n_skipped)
		(void)snprintf(skipped, sizeof(skipped),
			       "; %" PRId64 " of %" PRId64 " records skipped", w->n_skipped,
			       w->n_records);
	pen_line(p, "work", "%s%s", w->source, skipped);
	if (s->input_lengths.n)
		pen_line(p, "lengths", "in %s%sout %s",
			 lengths_text(&s->input_lengths, in, sizeof(in)), pen_dot(p),
			 lengths_text(&s->output_lengths, out, sizeof(out)));
}

static void put_work(struct pen *p, const struct run_record *r, const struct summary *s)
{
	char seconds[24];

	if (r->level.n) {
		char load[48];

		pen_line(p, "load", "%s: %" PRId64 " of %" PRId64 " in the launch %s",
			 report_load(&r->level, load, sizeof(load)), r->level.index + 1, r->level.n,
			 r->level.launch_id ? r->level.launch_id : "?");
	}
	put_source(p, r, s);
	pen_line(p, "requests", "%" PRId64 " of %" PRId64 " answered in %s", s->requests_done,
		 s->requests_asked, num_format_duration(s->window_ns, seconds, sizeof(seconds)));
	pen_line(p, "tokens", "%" PRId64 " in, %" PRId64 " out", s->input_tokens, s->output_tokens);
	if (s->prompts_cut)
		pen_line(p, "", "%zu prompt%s cut to max_input_tokens", s->prompts_cut,
			 s->prompts_cut == 1 ? " was" : "s were");
	if (r->warmup.enabled && r->warmup.n)
		pen_line(p, "warm-up", "%s after %zu iterations, variation %.1f %%",
			 r->warmup.converged ? "settled" : "not settled", r->warmup.n,
			 r->warmup.final_cv * 100);
}

static void put_rate(struct pen *p, const char *label, const struct quantity *q, const char *unit)
{
	char spread[24];

	if (!q->known)
		pen_line(p, label, "not measured: %s", q->reason);
	else
		pen_line(p, label, "%.*f %s%s", q->value < 100 ? 1 : 0, q->value, unit,
			 pen_spread(p, q, spread, sizeof(spread)));
}

enum { LATENCY_COLUMNS = 5, ALL_COLUMNS_WIDTH = 76 };

/* On a narrow terminal p90 and the maximum give way. */
static void put_latency_row(struct pen *p, const char *label, const double *v, size_t n)
{
	str_addf(p->out, "  %s%-*s%s", pen_dim(p), PEN_LABEL_WIDTH, label, pen_plain(p));
	for (int i = 0; i < LATENCY_COLUMNS; i++)
		if (p->width >= ALL_COLUMNS_WIDTH || (i != 1 && i != 4))
			str_addf(p->out, " %9.2f", v[i]);
	str_addf(p->out, " %8zu\n", n);
}

static void put_latency(struct pen *p, const char *label, const struct latency_stats *s)
{
	if (s->n)
		put_latency_row(p, label, (double[]){s->p50, s->p90, s->p95, s->p99, s->max}, s->n);
	else
		pen_line(p, label, "not measured: %s", s->reason);
}

static void put_latencies(struct pen *p, const struct summary *s)
{
	static const char *const names[LATENCY_COLUMNS] = {"p50", "p90", "p95", "p99", "max"};

	pen_heading(p, "Latency, ms");
	str_addf(p->out, "  %s%-*s", pen_dim(p), PEN_LABEL_WIDTH, "");
	for (int i = 0; i < LATENCY_COLUMNS; i++)
		if (p->width >= ALL_COLUMNS_WIDTH || (i != 1 && i != 4))
			str_addf(p->out, " %9s", names[i]);
	str_addf(p->out, " %8s%s\n", "n", pen_plain(p));
	put_latency(p, "first token", &s->ttft);
	put_latency(p, "inter-token", &s->itl);
	if (s->itl_chunk.n)
		put_latency(p, "inter-chunk", &s->itl_chunk);
	put_latency(p, "per token", &s->tpot);
	put_latency(p, "end to end", &s->e2e);
	if (s->itl.n && s->chunks_untold)
		pen_line(p, "",
			 "inter-token is without %" PRId64 " of %" PRId64
			 " answers, whose chunks do not all tell "
			 "their tokens",
			 s->chunks_untold, s->requests_done);
}

static void put_speed(struct pen *p, const struct summary *s)
{
	pen_heading(p, "Speed");
	put_rate(p, "prefill", &s->prefill_tokens_per_s, "tokens/s");
	put_rate(p, "decode", &s->decode_tokens_per_s, "tokens/s");
	put_rate(p, "output", &s->output_tokens_per_s, "tokens/s over the window");
	put_rate(p, "requests", &s->requests_per_s, "requests/s");
	put_latencies(p, s);
}

/* What would make a meter readable; meters with the same way out are named together. */
static void put_fixes(struct pen *p, const struct run_record *r)
{
	const struct meter_status *m = r->samples.status;
	bool first = true;

	for (size_t i = 0; i < r->samples.n_status; i++) {
		_cleanup_str_ struct str names = STR_INIT;
		bool told = false;

		for (size_t k = 0; k < r->samples.n_status; k++) {
			if (m[k].usable || !m[k].fix[0] || !str_eq(m[k].fix, m[i].fix))
				continue;
			told |= k < i;
			str_addf(&names, "%s%s", names.len ? ", " : "", m[k].meter);
		}
		if (!names.len || told)
			continue;
		pen_line(p, first ? "to measure" : "", "%s: %s", str_c(&names), m[i].fix);
		first = false;
	}
}

static int index_of(const struct run_record *r, const char *uuid)
{
	for (size_t i = 0; i < r->binding.n; i++)
		if (str_eq(r->binding.gpus[i].uuid, uuid))
			return r->binding.gpus[i].index;
	return -1;
}

/* "GPU 2: 3.00 kJ ± 0.2 %, at most 61 °C" when there are several. */
static void put_each_gpu(struct pen *p, const struct run_record *r, const struct summary *s)
{
	for (size_t i = 0; i < s->n_per_gpu && s->n_per_gpu > 1; i++) {
		const struct gpu_energy *g = &s->per_gpu[i];
		char value[32], spread[24], heat[32] = "";

		if (!isnan(g->temperature_max_c))
			snprintf(heat, sizeof(heat), ", at most %.0f %sC", g->temperature_max_c,
				 p->style->ascii ? "" : "\xc2\xb0");
		if (g->total_j.known)
			pen_line(p, "", "GPU %d: %s%s%s", index_of(r, g->uuid),
				 report_scaled(g->total_j.value, "J", p->style->ascii, value,
					       sizeof(value)),
				 pen_spread(p, &g->total_j, spread, sizeof(spread)), heat);
		else
			pen_line(p, "", "GPU %d: not measured: %s", index_of(r, g->uuid),
				 g->total_j.reason);
	}
}

static void put_if_known(struct pen *p, const char *label, const struct quantity *q,
			 const char *unit)
{
	if (q->known)
		pen_quantity(p, label, q, unit);
}

static void put_domains(struct pen *p, const struct run_record *r, const struct summary *s)
{
	if (r->binding.n || s->gpu_j.known)
		pen_quantity(p, "GPU", &s->gpu_j, "J");
	put_each_gpu(p, r, s);
	put_if_known(p, "above idle", &s->gpu_above_idle_j, "J");
	put_if_known(p, "in prefill", &s->prefill_j, "J");
	put_if_known(p, "in decode", &s->decode_j, "J");
	put_if_known(p, "idle", &s->idle_w, "W");
	put_if_known(p, "idle, loaded", &s->resident_idle_w, "W");
	pen_quantity(p, "CPU", &s->cpu_j, "J");
	put_if_known(p, "memory", &s->dram_j, "J");
	put_if_known(p, "CPU estimate", &s->cpu_estimated_j, "J");
}

static void put_energy(struct pen *p, const struct run_record *r, const struct summary *s)
{
	pen_heading(p, "Energy");
	put_domains(p, r, s);
	if (!s->j_per_output_token.known) {
		pen_line(p, "per token", "not measured");
		put_fixes(p, r);
		return;
	}
	pen_quantity(p, "output token", &s->j_per_output_token, "J");
	pen_quantity(p, "any token", &s->j_per_total_token, "J");
	pen_quantity(p, "request", &s->j_per_request, "J");
	pen_line(p, "scope", "%s; the device's own gain error (%s5 %%) is not in the interval",
		 s->energy_scope, pen_plus_minus(p));
}

static void put_operations(struct pen *p, const struct summary *s)
{
	char total[32], prefill[32];
	bool ascii = p->style->ascii;

	if (s->flops_total.known)
		pen_line(p, "operations", "%s in all, of which prefill %s",
			 report_scaled(s->flops_total.value, "FLOP", ascii, total, sizeof(total)),
			 report_scaled(s->flops_prefill.value, "FLOP", ascii, prefill,
				       sizeof(prefill)));
	else
		pen_line(p, "operations", "not known: %s", s->flops_total.reason);
	if (s->mfu.known)
		pen_line(p, "MFU", "%.1f %% of the device's peak", s->mfu.value * 100);
}

static void put_headroom(struct pen *p, const struct run_record *r, const struct summary *s)
{
	double requests = s->headroom_requests.value, chunks = s->headroom_chunks.value;

	if (s->headroom_requests.known && s->headroom_chunks.known)
		pen_line(p, "",
			 "it can do %.*f times the requests and %.*f times the chunks here%s%s%s",
			 requests < 10 ? 1 : 0, requests, chunks < 10 ? 1 : 0, chunks,
			 r->server.urgency[0] ? " (" : "", r->server.urgency,
			 r->server.urgency[0] ? " thread)" : "");
}

static void put_method(struct pen *p, const struct run_record *r, const struct summary *s)
{
	pen_heading(p, "Work and method");
	put_operations(p, s);
	if (s->self_cpu_share.known)
		pen_line(p, "lem itself", "%.2f %% of a core in the window",
			 s->self_cpu_share.value * 100);
	if (s->lag.n)
		pen_line(p, "client",
			 "requests left p50 %.3f ms, p99 %.3f ms late; it computed "
			 "%.1f %% of the time",
			 s->lag.p50, s->lag.p99,
			 s->client_busy.known ? s->client_busy.value * 100 : NAN);
	put_headroom(p, r, s);
	if (!isnan(s->meter_late_p99_ms))
		pen_line(p, "meter", "p99 %.2f ms late", s->meter_late_p99_ms);
	for (size_t i = 0; i < r->n_notes; i++)
		if (r->notes[i] && !str_starts(r->notes[i], "worker_faults: "))
			pen_line(p, "note", "%s", r->notes[i]);
}

void report_run_text(const struct run_record *r, const struct summary *s,
		     const struct report_style *style, struct str *out)
{
	struct pen p;

	pen_init(&p, style, out);
	put_title(&p, r, s);
	put_subject(&p, r);
	if (s->window_ns > 0) {
		put_work(&p, r, s);
		put_speed(&p, s);
		report_goals(&p, s);
		put_energy(&p, r, s);
	} else {
		pen_line(&p, "window", "never measured");
	}
	put_method(&p, r, s);
}
