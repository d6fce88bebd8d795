#include "cli/compare_runs.h"

#include "base/jsonw.h"
#include "cli/cli.h"
#include "compare/compare.h"
#include "report/report.h"
#include "run/summarize.h"

static void put_run(struct jsonw *w, const char *key, const struct compare_run *run,
		    const struct compare_facts *f)
{
	const struct run_record *r = run->rec;

	jsonw_object(w, key);
	jsonw_str(w, "run_id", r->run_id);
	jsonw_str(w, "config_name", r->config_name);
	jsonw_str(w, "config_hash", r->config_hash);
	jsonw_str(w, "status", run_status_name(r->status));
	jsonw_str(w, "verdict", verdict_name(run->sum->verdict.level));
	jsonw_str(w, "engine", r->engine_name);
	jsonw_str(w, "engine_version", r->engine_version);
	jsonw_str(w, "mode", r->engine_mode);
	jsonw_str(w, "model", r->model_name);
	jsonw_str(w, "dtype", f->dtype[0] ? f->dtype : NULL);
	jsonw_str(w, "place", f->place[0] ? f->place : NULL);
	jsonw_str(w, "prompts_sha256", r->prompts_hash);
	jsonw_i64(w, "requests", f->requests);
	jsonw_i64(w, "answered", f->answered);
	jsonw_i64(w, "input_tokens", f->input_tokens);
	jsonw_i64(w, "output_tokens", f->output_tokens);
	jsonw_end_object(w);
}

static void put_findings(struct jsonw *w, const struct comparison *c)
{
	jsonw_array(w, "findings");
	for (size_t i = 0; i < c->n_findings; i++) {
		jsonw_object(w, NULL);
		jsonw_str(w, "field", c->findings[i].field);
		jsonw_str(w, "kind", c->findings[i].differs ? "difference" : "note");
		jsonw_str(w, "message", c->findings[i].text);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void document(const struct compare_run *a, const struct compare_run *b,
		     const struct comparison *c, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "schema", "lem.compare/1");
	jsonw_bool(&w, "same_work", c->same_work);
	put_findings(&w, c);
	put_run(&w, "a", a, &c->a);
	put_run(&w, "b", b, &c->b);
	jsonw_array(&w, "figures");
	for (size_t i = 0; i < c->n_figures; i++) {
		const struct compare_figure *f = &c->figures[i];

		jsonw_object(&w, NULL);
		jsonw_str(&w, "name", f->name);
		jsonw_str(&w, "unit", f->unit);
		quantity_json(&w, "a", &f->a);
		quantity_json(&w, "b", &f->b);
		quantity_json(&w, "ratio", &f->ratio);
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
	jsonw_str(&w, "scope",
		  "two single runs; the intervals of the ratios hold what varied within each run, "
		  "not from run to run");
	jsonw_end_object(&w);
	str_addc(out, '\n');
}

static void show(const struct run_record *a, const struct run_record *b, bool json,
		 bool *ret_same_work)
{
	_cleanup_free_ struct summary *sums = lem_calloc(2, sizeof(*sums));
	_cleanup_free_ struct comparison *c = lem_calloc(1, sizeof(*c));
	_cleanup_str_ struct str out = STR_INIT;
	const struct compare_run ra = {a, &sums[0]}, rb = {b, &sums[1]};
	const struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};

	summarize(a, &sums[0]);
	summarize(b, &sums[1]);
	compare_runs(&ra, &rb, c);
	if (json)
		document(&ra, &rb, c, &out);
	else
		report_compare_text(&ra, &rb, c, &style, &out);
	fputs(str_c(&out), stdout);
	*ret_same_work = c->same_work;
}

int compare_stored_runs(struct store *st, const char *a, const char *b, bool json)
{
	struct run_record ra, rb;
	struct lem_error err;
	bool same = false;
	int rc;

	run_record_init(&ra);
	run_record_init(&rb);
	rc = store_get(st, a, &ra, &err);
	if (rc >= 0)
		rc = store_get(st, b, &rb, &err);
	if (rc >= 0)
		show(&ra, &rb, json, &same);
	run_record_release(&ra);
	run_record_release(&rb);
	if (rc < 0)
		return cli_error_as(&err, json);
	return same ? CLI_OK : CLI_FAILED;
}
