/* What is shown of several loads that were measured in one launch. */
#include <math.h>

#include "base/jsonw.h"
#include "cli/cli.h"
#include "cli/run_one.h"
#include "report/report.h"

static const char *outcome(const struct level_outcome *v)
{
	return v->status == RUN_COMPLETED ? verdict_name(v->summary->verdict.level)
					  : run_status_name(v->status);
}

/* The load that was asked for at this place. */
static struct level_record asked(const struct config *c, size_t i)
{
	const struct traffic_config *t = &config_experiment(c)->traffic;
	struct level_record v = {.index = (int64_t)i, .rate_hz = NAN};

	v.n = (int64_t)run_n_levels(config_experiment(c));
	if (t->rates.n)
		v.rate_hz = t->rates.at[i];
	else
		v.in_flight = (int64_t)t->concurrencies.at[i];
	return v;
}

/* Why loads are missing at the end; "": none is. */
static const char *why_missing(const struct run_outcome *o)
{
	if (o->n_levels >= o->n_asked)
		return "";
	if (o->err.code)
		return o->err.what;
	return "the server did not keep up with the one before (traffic.stop_when_overloaded)";
}

void cli_level_line(const struct level_outcome *v, struct str *out)
{
	const struct summary *s = v->summary;
	char load[48];

	str_addf(out, "load %" PRId64 " of %" PRId64 ", %s: %s", v->level.index + 1, v->level.n,
		 report_load(&v->level, load, sizeof(load)), outcome(v));
	if (s->requests_per_s.known)
		str_addf(out, ", %.3g requests/s", s->requests_per_s.value);
	if (s->output_tokens_per_s.known)
		str_addf(out, ", %.4g tokens/s", s->output_tokens_per_s.value);
	if (s->ttft.n)
		str_addf(out, ", first token p50 %.*f ms",
			 s->ttft.p50 < 9.995   ? 2
			 : s->ttft.p50 < 99.95 ? 1
					       : 0,
			 s->ttft.p50);
	str_addf(out, "  %s", v->run_id);
	if (s->verdict.n_reasons)
		str_addf(out, "\n  %s", s->verdict.reasons[0]);
}

void cli_levels_text(const struct config *c, const struct run_outcome *o, struct str *out)
{
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_free_ struct report_level *rows = lem_calloc(o->n_asked, sizeof(*rows));
	_cleanup_free_ struct level_record *loads = lem_calloc(o->n_asked, sizeof(*loads));

	for (size_t i = 0; i < o->n_asked; i++) {
		const struct level_outcome *v = i < o->n_levels ? &o->levels[i] : NULL;

		loads[i] = asked(c, i);
		rows[i] = (struct report_level){.level = &loads[i],
						.summary = v ? v->summary : NULL,
						.outcome = v ? outcome(v) : "not measured",
						.run_id = v ? v->run_id : ""};
	}
	report_levels_text(rows, o->n_asked, &style, out);
	if (*why_missing(o))
		str_addf(out, "\n  %zu of %zu loads were not measured: %s\n",
			 o->n_asked - o->n_levels, o->n_asked, why_missing(o));
}

void cli_levels_json(const struct config *c, const struct run_outcome *o, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.levels/1");
	jsonw_str(&w, "launch_id", o->launch_id);
	jsonw_i64(&w, "exit_code", o->exit_code);
	jsonw_array(&w, "levels");
	for (size_t i = 0; i < o->n_levels; i++)
		jsonw_raw(&w, NULL, o->levels[i].result);
	jsonw_end_array(&w);
	jsonw_array(&w, "not_measured");
	for (size_t i = o->n_levels; i < o->n_asked; i++) {
		struct level_record v = asked(c, i);

		jsonw_object(&w, NULL);
		jsonw_i64(&w, "index", v.index);
		jsonw_f64(&w, "rate_hz", v.rate_hz);
		if (v.in_flight)
			jsonw_i64(&w, "in_flight", v.in_flight);
		else
			jsonw_null(&w, "in_flight");
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
	jsonw_str(&w, "why", *why_missing(o) ? why_missing(o) : NULL);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}
