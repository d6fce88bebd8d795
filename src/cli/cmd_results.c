#include <getopt.h>
#include <math.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "report/report.h"
#include "run/summarize.h"
#include "store/store.h"

static const char usage[] =
	"usage: lem results list [--json] [-o DIR]\n"
	"       lem results show RUN|last [--json] [-o DIR]\n"
	"       lem results export RUN|last [--format csv|json] [-o DIR]\n"
	"\n"
	"RUN is a run's id or the beginning of one. export gives one row per request.\n";

struct options {
	const char *dir, *format;
	bool json;
};

static int list(struct store *st, const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	_cleanup_free_ struct store_row *rows = NULL;
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	struct lem_error err;
	struct jsonw w;
	size_t n = 0;

	if (store_list(st, &rows, &n, &err) < 0)
		return cli_error_as(&err, o->json);
	if (!o->json) {
		report_list_text(rows, n, &style, &out);
		fputs(str_c(&out), stdout);
		return CLI_OK;
	}
	jsonw_init(&w, &out, 2);
	jsonw_array(&w, NULL);
	for (size_t i = 0; i < n; i++) {
		char when[32];

		jsonw_object(&w, NULL);
		jsonw_str(&w, "run_id", rows[i].run_id);
		jsonw_str(&w, "config_name", rows[i].config_name);
		jsonw_str(&w, "engine", rows[i].engine);
		jsonw_str(&w, "model", rows[i].model);
		jsonw_str(&w, "weights", rows[i].weights);
		jsonw_str(&w, "status", rows[i].status);
		jsonw_str(&w, "verdict", rows[i].verdict);
		jsonw_str(&w, "started",
			  clock_format_utc(rows[i].wall_start_ns, when, sizeof(when)));
		jsonw_f64(&w, "output_tokens_per_s", rows[i].output_tokens_per_s);
		jsonw_f64(&w, "j_per_output_token", rows[i].j_per_output_token);
		jsonw_str(&w, "energy_scope", rows[i].energy_scope);
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
	puts(str_c(&out));
	return CLI_OK;
}

static int show(struct store *st, const char *run, const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	struct run_record r;
	struct lem_error err;
	int rc;

	if (o->json) {
		if (store_get_result_json(st, run, &out, &err) < 0)
			return cli_error_as(&err, true);
		fputs(str_c(&out), stdout);
		return CLI_OK;
	}
	run_record_init(&r);
	rc = store_get(st, run, &r, &err);
	if (rc < 0)
		return cli_error(&err);
	summarize(&r, s);
	report_run_text(&r, s, &style, &out);
	str_addf(&out, "\n  stored in %s/%s.json\n", o->dir, r.run_id);
	fputs(str_c(&out), stdout);
	run_record_release(&r);
	return CLI_OK;
}

static double ms(int64_t from_ns, int64_t to_ns)
{
	return from_ns && to_ns ? (double)(to_ns - from_ns) / 1e6 : NAN;
}

static void export_row(const struct request_record *q, bool json)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	if (!json) {
		printf("%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64
		       ",%" PRId64 ",%" PRId64 ",%" PRId64 ",%s,%.6g,%.6g\n",
		       q->id, q->pass, q->prompt_index, q->t_scheduled_ns, q->t_sent_ns,
		       q->t_first_ns, q->t_last_ns, q->input_tokens, q->output_tokens, q->finish,
		       ms(q->t_sent_ns, q->t_first_ns), ms(q->t_sent_ns, q->t_last_ns));
		return;
	}
	jsonw_init(&w, &out, 0);
	jsonw_object(&w, NULL);
	jsonw_i64(&w, "request", q->id);
	jsonw_i64(&w, "pass", q->pass);
	jsonw_i64(&w, "prompt", q->prompt_index);
	jsonw_i64(&w, "scheduled_ns", q->t_scheduled_ns);
	jsonw_i64(&w, "sent_ns", q->t_sent_ns);
	jsonw_i64(&w, "first_token_ns", q->t_first_ns);
	jsonw_i64(&w, "last_token_ns", q->t_last_ns);
	jsonw_i64(&w, "input_tokens", q->input_tokens);
	jsonw_i64(&w, "output_tokens", q->output_tokens);
	jsonw_str(&w, "finish", q->finish);
	jsonw_f64(&w, "ttft_ms", ms(q->t_sent_ns, q->t_first_ns));
	jsonw_f64(&w, "e2e_ms", ms(q->t_sent_ns, q->t_last_ns));
	if (q->text)
		jsonw_str(&w, "text", q->text);
	jsonw_end_object(&w);
	puts(str_c(&out));
}

/* JSON is written one object a line, CSV with a heading. */
static int export(struct store *st, const char *run, const struct options *o)
{
	bool json = str_eq(o->format, "json");
	struct run_record r;
	struct lem_error err;

	if (!json && !str_eq(o->format, "csv"))
		return cli_usage("results", "--format takes csv or json, not '%s'", o->format);
	run_record_init(&r);
	if (store_get(st, run, &r, &err) < 0)
		return cli_error(&err);
	if (!json)
		puts("request,pass,prompt,scheduled_ns,sent_ns,first_token_ns,last_token_ns,input_"
		     "tokens,output_tokens,finish,"
		     "ttft_ms,e2e_ms");
	for (size_t i = 0; i < r.n_requests; i++)
		export_row(&r.requests[i], json);
	run_record_release(&r);
	return CLI_OK;
}

static int dispatch(const char *what, const char *run, const struct options *o)
{
	struct store *st = NULL;
	struct lem_error err;
	int rc;

	if (store_open_readonly(o->dir, &st, &err) < 0)
		return cli_error_as(&err, o->json);
	rc = str_eq(what, "list")   ? list(st, o)
	     : str_eq(what, "show") ? show(st, run, o)
				    : export(st, run, o);
	store_close(st);
	return rc;
}

int cmd_results(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"results-dir", required_argument, NULL, 'o'},
						{"format", required_argument, NULL, 'f'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct options o = {.format = "csv"};
	int c;

	while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		switch (c) {
		case 'j': o.json = true; break;
		case 'o': o.dir = optarg; break;
		case 'f': o.format = optarg; break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return CLI_REFUSED;
		}
	}
	const char *what = optind < argc ? argv[optind] : "",
		   *run = optind + 1 < argc ? argv[optind + 1] : NULL;

	o.dir = cli_results_dir(o.dir);
	if (str_eq(what, "list") || ((str_eq(what, "show") || str_eq(what, "export")) && run))
		return dispatch(what, run, &o);
	fputs(usage, stderr);
	return CLI_REFUSED;
}
