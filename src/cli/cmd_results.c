#include <getopt.h>
#include <math.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/compare_runs.h"
#include "cli/export.h"
#include "cli/slo_option.h"
#include "report/report.h"
#include "run/summarize.h"
#include "store/store.h"

static const char usage[] =
	"usage: lem results list [--json] [-o DIR]\n"
	"       lem results show RUN|last [--slo GOALS] [--json] [-o DIR]\n"
	"       lem results compare RUN RUN [--json] [-o DIR]\n"
	"       lem results export RUN|last [--format csv|json|jsonl] [--slo GOALS] [-o DIR]\n"
	"       lem results rebuild RUN|last|all [-o DIR]\n"
	"       lem results import DIR [-o DIR]\n"
	"\n"
	"RUN is a run's id or the beginning of one. export gives one row per request.\n"
	"--slo judges the stored requests by other goals than the run had, and changes nothing:\n"
	"any of ttft=MS,tpot=MS,e2e=MS, to be met together.\n"
	"compare tells whether two runs did the same work (exit 0) or not (exit 1), with every\n"
	"difference, and puts their figures side by side. It compares two single runs: whether "
	"one\n"
	"engine is faster than another takes repeated runs and a statistical test, which this is\n"
	"not.\n"
	"rebuild computes stored figures anew from the raw records, with the methods of this lem.\n"
	"import copies the runs of another results folder that are not here yet.\n"
	"\n"
	"  -o, --results-dir DIR   the folder; else LEM_RESULTS_DIR, else results\n"
	"\n"
	"Exit status: 0 done, 1 not found, not readable, or not the same work, 2 usage.\n";

struct options {
	const char *dir, *format;
	const struct slo_limits *slo; /* NULL: the run's own goals */
	bool json;
};

static void put_level(struct jsonw *w, const struct store_row *row)
{
	if (!row->launch_id[0]) {
		jsonw_null(w, "level");
		return;
	}
	jsonw_object(w, "level");
	jsonw_str(w, "launch_id", row->launch_id);
	jsonw_i64(w, "index", row->level_index);
	jsonw_i64(w, "n", row->level_n);
	jsonw_f64(w, "rate_hz", row->rate_hz);
	if (row->in_flight)
		jsonw_i64(w, "in_flight", row->in_flight);
	else
		jsonw_null(w, "in_flight");
	jsonw_end_object(w);
}

static void put_row(struct jsonw *w, const struct store_row *row)
{
	char when[32];

	jsonw_object(w, NULL);
	jsonw_str(w, "run_id", row->run_id);
	jsonw_str(w, "config_name", row->config_name);
	jsonw_str(w, "engine", row->engine);
	jsonw_str(w, "model", row->model);
	jsonw_str(w, "weights", row->weights);
	jsonw_str(w, "status", row->status);
	jsonw_str(w, "verdict", row->verdict);
	jsonw_str(w, "started", clock_format_utc(row->wall_start_ns, when, sizeof(when)));
	jsonw_f64(w, "output_tokens_per_s", row->output_tokens_per_s);
	jsonw_f64(w, "j_per_output_token", row->j_per_output_token);
	jsonw_str(w, "energy_scope", row->energy_scope);
	put_level(w, row);
	jsonw_end_object(w);
}

static int list(struct store *st, char *const *args, const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	_cleanup_free_ struct store_row *rows = NULL;
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	struct lem_error err;
	struct jsonw w;
	size_t n = 0;

	(void)args;
	if (store_list(st, &rows, &n, &err) < 0)
		return cli_error_as(&err, o->json);
	if (o->json) {
		jsonw_init(&w, &out, 2);
		jsonw_array(&w, NULL);
		for (size_t i = 0; i < n; i++)
			put_row(&w, &rows[i]);
		jsonw_end_array(&w);
		str_addc(&out, '\n');
	} else {
		report_list_text(rows, n, &style, &out);
	}
	fputs(str_c(&out), stdout);
	return CLI_OK;
}

/* Both forms of show compute from the raw record, so that they agree; the stored document may be
 * of an older lem. */
static void warn_if_older(struct store *st, const char *run_id, const struct str *now)
{
	_cleanup_str_ struct str stored = STR_INIT;

	if (store_get_result_json(st, run_id, &stored, NULL) < 0 ||
	    str_eq(str_c(&stored), str_c(now)))
		return;
	fprintf(stderr,
		"lem: these figures were computed anew and differ from the stored document; "
		"'lem results rebuild %s' renews it\n",
		run_id);
}

/* Figures by the goals of --slo stand in no stored document. */
static void show_record(struct store *st, struct run_record *r, const struct options *o,
			struct str *out)
{
	_cleanup_str_ struct str json = STR_INIT;
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));

	if (o->slo)
		r->slo = *o->slo;
	summarize(r, s);
	s->slo.later = o->slo;
	result_json(r, s, &json);
	if (!o->slo)
		warn_if_older(st, r->run_id, &json);
	if (o->json) {
		str_add(out, str_c(&json));
		return;
	}
	report_run_text(r, s, &style, out);
	str_addf(out, "\n  stored in %s/%s.json\n", o->dir, r->run_id);
}

static int show(struct store *st, char *const *args, const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct run_record r;
	struct lem_error err;

	run_record_init(&r);
	if (store_get(st, args[0], &r, &err) < 0)
		return cli_error_as(&err, o->json);
	show_record(st, &r, o, &out);
	fputs(str_c(&out), stdout);
	run_record_release(&r);
	return CLI_OK;
}

static int compare(struct store *st, char *const *args, const struct options *o)
{
	return compare_stored_runs(st, args[0], args[1], o->json);
}

static int export(struct store *st, char *const *args, const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct run_record r;
	struct lem_error err;
	int rc;

	run_record_init(&r);
	rc = store_get(st, args[0], &r, &err);
	if (rc >= 0)
		rc = export_requests(&r, o->slo ? o->slo : &r.slo, o->format, &out, &err);
	run_record_release(&r);
	if (rc < 0)
		return cli_error_as(&err, o->json);
	fputs(str_c(&out), stdout);
	return CLI_OK;
}

static int rebuild_one(struct store *st, const char *run, struct lem_error *err)
{
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	struct run_record r;
	int rc;

	run_record_init(&r);
	rc = store_get(st, run, &r, err);
	if (rc >= 0) {
		summarize(&r, s);
		rc = store_put_summary(st, &r, s, err);
	}
	run_record_release(&r);
	return rc;
}

/* One damaged record does not keep the others from being renewed. */
static int rebuild(struct store *st, char *const *args, const struct options *o)
{
	const char *run = args[0];
	_cleanup_free_ struct store_row *rows = NULL;
	struct lem_error err;
	size_t n = 0;
	int code = CLI_OK;

	if (!str_eq(run, "all"))
		return rebuild_one(st, run, &err) < 0 ? cli_error_as(&err, o->json) : CLI_OK;
	if (store_list(st, &rows, &n, &err) < 0)
		return cli_error_as(&err, o->json);
	for (size_t i = 0; i < n; i++)
		if (rebuild_one(st, rows[i].run_id, &err) < 0)
			code = cli_error(&err);
	return code;
}

static int import(struct store *st, char *const *args, const struct options *o)
{
	const char *dir = args[0];
	struct lem_error err;
	size_t n = 0;

	if (store_import(st, dir, &n, &err) < 0)
		return cli_error_as(&err, o->json);
	fprintf(stderr, "lem: %zu run%s imported into %s\n", n, n == 1 ? "" : "s", o->dir);
	return CLI_OK;
}

static const struct action {
	const char *name, *argument; /* NULL: it takes none */
	int n_arguments;
	bool writes, judges;
	int (*run)(struct store *st, char *const *args, const struct options *o);
} actions[] = {
	{"list", NULL, 0, .run = list},
	{"show", "a run, or 'last'", 1, .judges = true, .run = show},
	{"compare", "two runs", 2, .run = compare},
	{"export", "a run, or 'last'", 1, .judges = true, .run = export},
	{"rebuild", "a run, 'last' or 'all'", 1, .writes = true, .run = rebuild},
	{"import", "a results folder", 1, .writes = true, .run = import},
};

static int perform(const struct action *a, char *const *args, const struct options *o)
{
	struct store *st = NULL;
	struct lem_error err;
	int rc;

	rc = a->writes ? store_open(o->dir, &st, &err) : store_open_readonly(o->dir, &st, &err);
	if (rc < 0)
		return cli_error_as(&err, o->json);
	rc = a->run(st, args, o);
	store_close(st);
	return rc;
}

static int dispatch(int n, char **words, const struct options *o)
{
	if (n == 0)
		return cli_usage("results", "what of the results? (list, show, compare, export, "
					    "rebuild, import)");
	for (size_t i = 0; i < ARRAY_LEN(actions); i++) {
		const struct action *a = &actions[i];

		if (!str_eq(words[0], a->name))
			continue;
		if (n <= a->n_arguments)
			return cli_usage("results", "'results %s' needs %s", a->name, a->argument);
		if (n > a->n_arguments + 1)
			return cli_usage("results", "'%s' is one word too many", words[n - 1]);
		if (o->slo && !a->judges)
			return cli_usage("results",
					 "'results %s' judges no requests, so it takes no --slo",
					 a->name);
		return perform(a, words + 1, o);
	}
	return cli_usage("results", "there is no 'results %s'", words[0]);
}

int cmd_results(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"results-dir", required_argument, NULL, 'o'},
						{"format", required_argument, NULL, 'f'},
						{"slo", required_argument, NULL, 's'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	struct options o = {.format = "csv"};
	const char *slo_text = NULL;
	struct slo_limits slo;
	struct lem_error err;
	int c;

	while ((c = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
		switch (c) {
		case 'j': o.json = true; break;
		case 'o': o.dir = optarg; break;
		case 'f': o.format = optarg; break;
		case 's': slo_text = optarg; break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return cli_bad_option("results", c, argv);
		}
	}
	if (slo_text && slo_option_parse(slo_text, &slo, &err) < 0)
		return cli_error_as(&err, o.json);
	o.slo = slo_text ? &slo : NULL;
	o.dir = cli_results_dir(o.dir);
	return dispatch(argc - optind, argv + optind, &o);
}
