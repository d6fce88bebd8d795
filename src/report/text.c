#include <math.h>

#include "base/clock.h"
#include "base/num.h"
#include "report/report.h"

enum { LABEL_WIDTH = 13 };

struct pen {
	const struct report_style *style;
	struct str *out;
	int width;
};

static const char *c(const struct pen *p, const char *code)
{
	return p->style->color ? code : "";
}

#define BOLD(p)  c(p, "\x1b[1m")
#define DIM(p)   c(p, "\x1b[2m")
#define PLAIN(p) c(p, "\x1b[0m")

static const char *verdict_color(const struct pen *p, const char *level)
{
	return c(p, str_eq(level, "valid")     ? "\x1b[32m"
		    : str_eq(level, "suspect") ? "\x1b[33m"
					       : "\x1b[31m");
}

static const char *dot(const struct pen *p)
{
	return p->style->ascii ? " | " : " \xc2\xb7 ";
}

static const char *plus_minus(const struct pen *p)
{
	return p->style->ascii ? "+-" : "\xc2\xb1";
}

/* Text under a label, broken at blanks so that it stays inside the width; later lines are indented.
 */
static void put_wrapped(struct pen *p, const char *label, const char *text)
{
	size_t room = (size_t)MAX(p->width - LABEL_WIDTH - 4, 30);
	bool first = true;

	do {
		size_t n = strlen(text), cut = n;

		if (n > room) {
			cut = room;
			while (cut > room / 2 && text[cut] != ' ')
				cut--;
			if (text[cut] != ' ')
				cut = room;
		}
		str_addf(p->out, "  %s%-*s%s %.*s\n", DIM(p), LABEL_WIDTH, first ? label : "",
			 PLAIN(p), (int)cut, text);
		text += cut;
		text += strspn(text, " ");
		first = false;
	} while (*text);
}

static void line(struct pen *p, const char *label, const char *fmt, ...) _printf_(3, 4);
static void line(struct pen *p, const char *label, const char *fmt, ...)
{
	_cleanup_str_ struct str s = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	put_wrapped(p, label, str_c(&s));
}

static void heading(struct pen *p, const char *text)
{
	str_addf(p->out, "\n%s%s%s\n", BOLD(p), text, PLAIN(p));
}

char *report_scaled(double v, const char *unit, bool ascii, char *buf, size_t size)
{
	static const struct {
		double factor;
		const char *prefix;
	} scales[] = {{1e15, "P"}, {1e12, "T"}, {1e9, "G"},  {1e6, "M"}, {1e3, "k"},
		      {1, ""},     {1e-3, "m"}, {1e-6, "u"}, {1e-9, "n"}};
	double a = fabs(v);
	size_t i = 0;

	if (isnan(v)) {
		snprintf(buf, size, "-");
		return buf;
	}
	if (a == 0) {
		snprintf(buf, size, "0 %s", unit);
		return buf;
	}
	while (i + 1 < ARRAY_LEN(scales) && a < scales[i].factor * 0.9995)
		i++;
	double x = v / scales[i].factor;
	int digits = fabs(x) >= 99.95 ? 0 : fabs(x) >= 9.995 ? 1 : 2;
	const char *prefix = !ascii && scales[i].prefix[0] == 'u' ? "\xc2\xb5" : scales[i].prefix;

	snprintf(buf, size, "%.*f %s%s", digits, x, prefix, unit);
	return buf;
}

/* "3.21 mJ ± 0.8 %"; the reason when unknown. */
static void put_quantity(struct pen *p, const char *label, const struct quantity *q,
			 const char *unit)
{
	char value[32];
	double half = (q->high - q->low) / 2;

	if (!q->known) {
		line(p, label, "not measured: %s", q->reason);
		return;
	}
	report_scaled(q->value, unit, p->style->ascii, value, sizeof(value));
	if (half > 0 && q->value != 0)
		line(p, label, "%s %s %.2g %%", value, plus_minus(p), half / fabs(q->value) * 100);
	else
		line(p, label, "%s", value);
}

static void put_title(struct pen *p, const struct run_record *r, const struct summary *s)
{
	const char *level = verdict_name(s->verdict.level);

	str_addf(p->out, "%s%s%s  %s%s%s\n", BOLD(p), r->run_id, PLAIN(p), verdict_color(p, level),
		 level, PLAIN(p));
	for (size_t i = 0; i < s->verdict.n_reasons; i++)
		line(p, i ? "" : "because", "%s", s->verdict.reasons[i]);
}

static void put_subject(struct pen *p, const struct run_record *r)
{
	const struct model_shape *m = &r->shape;
	const char *weights =
		m->weights == WEIGHTS_SYNTHETIC
			? "weights: synthetic (random; speed is real, the text is not)"
		: m->weights == WEIGHTS_REAL ? "weights: real"
					     : "weights: unknown";

	line(p, "model", "%s%s%s, %.4g M parameters, %s%s%s", r->model_name ? r->model_name : "?",
	     dot(p), m->architecture, (double)m->n_params / 1e6, m->quant, dot(p), weights);
	line(p, "engine", "%s %s%s%s", r->engine_name,
	     r->engine_version ? r->engine_version : "(never loaded)", dot(p), r->engine_mode);
	if (!r->binding.n)
		line(p, "device", "CPU only");
	for (size_t i = 0; i < r->binding.n; i++)
		line(p, i ? "" : "GPUs", "%d  %s%s%s%s", r->binding.gpus[i].index,
		     r->binding.gpus[i].name, dot(p), r->binding.gpus[i].uuid,
		     r->binding.proved ? "" : " (not proved)");
}

static void put_work(struct pen *p, const struct run_record *r, const struct summary *s)
{
	char seconds[24];

	line(p, "requests", "%" PRId64 " of %" PRId64 " answered in %s", s->requests_done,
	     s->requests_asked, num_format_duration(s->window_ns, seconds, sizeof(seconds)));
	line(p, "tokens", "%" PRId64 " in, %" PRId64 " out", s->input_tokens, s->output_tokens);
	if (s->prompts_cut)
		line(p, "", "%zu prompts were cut to max_input_tokens", s->prompts_cut);
	if (r->warmup.enabled && r->warmup.n)
		line(p, "warm-up", "%s after %zu iterations, variation %.1f %%",
		     r->warmup.converged ? "settled" : "not settled", r->warmup.n,
		     r->warmup.final_cv * 100);
}

static void put_rate(struct pen *p, const char *label, const struct quantity *q, const char *unit)
{
	double half = (q->high - q->low) / 2;

	if (!q->known)
		line(p, label, "not measured: %s", q->reason);
	else
		line(p, label, "%.*f %s %s %.2g %%", q->value < 100 ? 1 : 0, q->value, unit,
		     plus_minus(p), q->value > 0 ? half / q->value * 100 : 0);
}

static void put_latency(struct pen *p, const char *label, const struct latency_stats *s)
{
	if (!s->n)
		str_addf(p->out, "  %s%-*s%s %s\n", DIM(p), LABEL_WIDTH, label, PLAIN(p),
			 s->reason);
	else
		str_addf(p->out, "  %s%-*s%s %9.2f %9.2f %9.2f %9.2f %9.2f %8zu\n", DIM(p),
			 LABEL_WIDTH, label, PLAIN(p), s->p50, s->p90, s->p95, s->p99, s->max,
			 s->n);
}

static void put_speed(struct pen *p, const struct summary *s)
{
	heading(p, "Speed");
	put_rate(p, "prefill", &s->prefill_tokens_per_s, "tokens/s");
	put_rate(p, "decode", &s->decode_tokens_per_s, "tokens/s");
	put_rate(p, "output", &s->output_tokens_per_s, "tokens/s over the window");
	put_rate(p, "requests", &s->requests_per_s, "requests/s");
	heading(p, "Latency, ms");
	str_addf(p->out, "  %s%-*s %9s %9s %9s %9s %9s %8s%s\n", DIM(p), LABEL_WIDTH, "", "p50",
		 "p90", "p95", "p99", "max", "n", PLAIN(p));
	put_latency(p, "first token", &s->ttft);
	put_latency(p, "inter-token", &s->itl);
	put_latency(p, "per token", &s->tpot);
	put_latency(p, "end to end", &s->e2e);
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
		line(p, first ? "to measure" : "", "%s: %s", str_c(&names), m[i].fix);
		first = false;
	}
}

static void put_energy(struct pen *p, const struct run_record *r, const struct summary *s)
{
	bool any = s->j_per_output_token.known;

	heading(p, "Energy");
	if (r->binding.n || s->gpu_j.known)
		put_quantity(p, "GPU", &s->gpu_j, "J");
	if (s->gpu_above_idle_j.known)
		put_quantity(p, "above idle", &s->gpu_above_idle_j, "J");
	put_quantity(p, "CPU", &s->cpu_j, "J");
	if (s->dram_j.known)
		put_quantity(p, "memory", &s->dram_j, "J");
	if (s->cpu_estimated_j.known)
		put_quantity(p, "CPU estimate", &s->cpu_estimated_j, "J");
	if (any) {
		put_quantity(p, "output token", &s->j_per_output_token, "J");
		put_quantity(p, "any token", &s->j_per_total_token, "J");
		put_quantity(p, "request", &s->j_per_request, "J");
		line(p, "scope", "%s; the device's own gain error (%s5 %%) is not in the interval",
		     s->energy_scope, plus_minus(p));
	} else {
		line(p, "per token", "not measured");
		put_fixes(p, r);
	}
}

static void put_rest(struct pen *p, const struct run_record *r, const struct summary *s)
{
	char total[32], prefill[32];

	heading(p, "Work and method");
	if (s->flops_total.known)
		line(p, "operations", "%s in all, of which prefill %s",
		     report_scaled(s->flops_total.value, "FLOP", p->style->ascii, total,
				   sizeof(total)),
		     report_scaled(s->flops_prefill.value, "FLOP", p->style->ascii, prefill,
				   sizeof(prefill)));
	else
		line(p, "operations", "%s", s->flops_total.reason);
	if (s->self_cpu_share.known)
		line(p, "lem itself", "%.2f %% of a core in the window",
		     s->self_cpu_share.value * 100);
	if (!isnan(s->meter_late_p99_ms))
		line(p, "meter", "p99 %.2f ms late", s->meter_late_p99_ms);
	for (size_t i = 0; i < r->n_notes; i++)
		if (!str_starts(r->notes[i], "worker_faults: "))
			line(p, "note", "%s", r->notes[i]);
}

void report_run_text(const struct run_record *r, const struct summary *s,
		     const struct report_style *style, struct str *out)
{
	struct pen p = {.style = style, .out = out, .width = MIN(MAX(style->width, 60), 120)};

	put_title(&p, r, s);
	put_subject(&p, r);
	put_work(&p, r, s);
	if (s->window_ns > 0) {
		put_speed(&p, s);
		put_energy(&p, r, s);
	}
	put_rest(&p, r, s);
}

void report_list_text(const struct store_row *rows, size_t n, const struct report_style *style,
		      struct str *out)
{
	struct pen p = {.style = style, .out = out};
	int id_width = 6;

	for (size_t i = 0; i < n; i++)
		id_width = MAX(id_width, (int)strlen(rows[i].run_id));
	str_addf(out, "%s%-*s  %-8s %-9s %10s %12s  %s%s\n", DIM(&p), id_width, "run", "verdict",
		 "engine", "out tok/s", "J/out token", "model", PLAIN(&p));
	for (size_t i = 0; i < n; i++) {
		const struct store_row *r = &rows[i];
		char joules[32], rate[32];

		if (isnan(r->output_tokens_per_s))
			lem_strlcpy(rate, "-", sizeof(rate));
		else
			snprintf(rate, sizeof(rate), "%.1f", r->output_tokens_per_s);
		report_scaled(r->j_per_output_token, "J", true, joules, sizeof(joules));
		str_addf(out, "%-*s  %s%-8s%s %-9s %10s %12s  %s%s\n", id_width, r->run_id,
			 verdict_color(&p, r->verdict), r->verdict, PLAIN(&p), r->engine, rate,
			 joules, r->model,
			 str_eq(r->weights, "synthetic") ? "  [weights: synthetic]" : "");
	}
}
