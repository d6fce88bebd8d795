/* lem campaign: several experiments, each in its own place, one after the other. */
#include <getopt.h>

#include "campaign/campaign.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/run_one.h"
#include "report/report.h"
#include "sys/fs.h"

static const char usage[] =
	"usage: lem campaign FILE… [OPTION…]\n"
	"\n"
	"Runs several experiments, one after the other, and stores each result. A file is an "
	"experiment,\n"
	"or a list of them: `experiments:` with one map of differences an item, merged over the "
	"rest "
	"of the\n"
	"file; or `configs:` with the paths of experiment files. All are checked before the first "
	"starts;\n"
	"one that fails does not stop the rest.\n"
	"\n"
	"  --set PATH=VALUE        override one field of every experiment (repeatable)\n"
	"  -o, --results-dir DIR   where results are stored\n"
	"  --dry-run               check everything, show where each would run, start nothing\n"
	"  --json                  one document (lem.campaign/1) on stdout\n"
	"  -q, --quiet             no progress, no table\n"
	"\n"
	"Exit status, by the worst experiment: 0 all done, 4 measured but one is invalid, 1 one "
	"failed, 3 GPU\n"
	"routing of one not proved, 130 interrupted; 2 nothing was started.\n";

enum { OVERRIDES_MAX = 256, LOAD_BYTES = 48 };

struct invocation {
	struct config_override overrides[OVERRIDES_MAX];
	char *split[OVERRIDES_MAX]; /* copies of --set arguments, cut at '=' */
	size_t n_overrides;
	const char *results_dir;
	bool json, quiet, dry_run;
	const char *const *files;
	size_t n_files;
	int cancel_fd;
	size_t n_cells; /* for "2 of 4" */
};

static int add_set(struct invocation *in, const char *arg)
{
	char *copy, *eq;

	if (in->n_overrides == OVERRIDES_MAX)
		return cli_usage("campaign", "more than %d overrides", OVERRIDES_MAX);
	copy = in->split[in->n_overrides] = lem_strdup(arg);
	eq = strchr(copy, '=');
	if (eq)
		*eq = '\0';
	in->overrides[in->n_overrides++] =
		(struct config_override){.path = copy, .value = eq ? eq + 1 : "", .flag = "--set"};
	if (!eq || eq == copy)
		return cli_usage("campaign", "--set takes PATH=VALUE, not '%s'", arg);
	return CLI_OK;
}

/* CLI_OK, or the exit code after a message; -1: help was shown. */
static int parse(int argc, char **argv, struct invocation *in)
{
	static const struct option options[] = {{"set", required_argument, NULL, 'S'},
						{"results-dir", required_argument, NULL, 'o'},
						{"dry-run", no_argument, NULL, 'd'},
						{"json", no_argument, NULL, 'j'},
						{"quiet", no_argument, NULL, 'q'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, ":o:qh", options, NULL)) != -1) {
		switch (c) {
		case 'S':
			if (add_set(in, optarg) != CLI_OK)
				return CLI_REFUSED;
			break;
		case 'o': in->results_dir = optarg; break;
		case 'd': in->dry_run = true; break;
		case 'j': in->json = true; break;
		case 'q': in->quiet = true; break;
		case 'h': fputs(usage, stdout); return -1;
		default: return cli_bad_option("campaign", c, argv);
		}
	}
	in->files = (const char *const *)argv + optind;
	in->n_files = (size_t)(argc - optind);
	if (!in->n_files)
		return cli_usage("campaign", "name at least one configuration file");
	return CLI_OK;
}

/* "2,5" in the order of the config. */
static char *list_gpus(const struct campaign_cell *cell)
{
	struct str s = STR_INIT;

	for (size_t i = 0; i < cell->n_gpus; i++)
		str_addf(&s, "%s%d", i ? "," : "", cell->gpus[i].index);
	return str_detach(&s);
}

static const char *outcome(const struct campaign_cell *cell)
{
	if (cell->status == CELL_COMPLETED)
		return verdict_name(cell->verdict.level);
	if (cell->status == CELL_NOT_STARTED)
		return "not started";
	return cell_status_name(cell->status);
}

/* The loads of a cell stand below it, by what was asked for. */
static size_t add_loads(const struct campaign_cell *cell, struct report_cell *rows,
			char (*names)[LOAD_BYTES])
{
	for (size_t i = 0; i < cell->n_levels; i++) {
		const struct campaign_level *v = &cell->levels[i];
		char load[LOAD_BYTES];

		(void)snprintf(names[i], LOAD_BYTES, "  %.40s",
			       report_load(&v->level, load, sizeof(load)));
		rows[i] = (struct report_cell){
			.name = names[i],
			.engine = "",
			.where = "",
			.gpus = " ",
			.outcome = verdict_name(v->verdict.level),
			.run_id = v->run_id,
			.error = "",
			.output_tokens_per_s = v->output_tokens_per_s,
			.j_per_output_token = v->j_per_output_token,
		};
	}
	return cell->n_levels;
}

static void print_table(const struct campaign *c)
{
	size_t n = c->n, k = 0;

	for (size_t i = 0; i < c->n; i++)
		n += c->cells[i].n_levels;

	_cleanup_free_ struct report_cell *rows = lem_calloc(n, sizeof(*rows));
	_cleanup_free_ char(*names)[LOAD_BYTES] = lem_calloc(n, sizeof(*names));
	_cleanup_free_ char **gpus = lem_calloc(c->n, sizeof(*gpus));
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_str_ struct str out = STR_INIT;

	for (size_t i = 0; i < c->n; i++) {
		const struct campaign_cell *cell = &c->cells[i];

		gpus[i] = cell->where ? list_gpus(cell) : NULL;
		rows[k++] = (struct report_cell){
			.name = cell->name,
			.engine = backend_name(config_experiment(cell->config)->backend),
			.where = cell->where,
			.gpus = gpus[i],
			.outcome = outcome(cell),
			.run_id = cell->run_id,
			.error = cell->err.what,
			.output_tokens_per_s = cell->output_tokens_per_s,
			.j_per_output_token = cell->j_per_output_token,
		};
		k += add_loads(cell, rows + k, names + k);
	}
	report_cells_text(rows, k, &style, &out);
	fputs(str_c(&out), stdout);
	for (size_t i = 0; i < c->n; i++)
		free(gpus[i]);
}

static void print_end(const struct invocation *in, const struct campaign *c)
{
	_cleanup_str_ struct str out = STR_INIT;

	if (in->json) {
		campaign_json(c, &out);
		fputs(str_c(&out), stdout);
	} else if (!in->quiet) {
		print_table(c);
	}
}

static void announce(const struct invocation *in, const struct campaign_cell *cell, size_t position)
{
	_cleanup_free_ char *gpus = list_gpus(cell);

	if (in->quiet)
		return;
	fprintf(stderr, "lem: %zu of %zu: %s, %s by %s, %s%s\n", position + 1, in->n_cells,
		cell->name, backend_name(config_experiment(cell->config)->backend), cell->where,
		cell->n_gpus ? "GPUs " : "CPU", gpus);
}

static enum cell_status status_of(const struct run_outcome *o)
{
	if (o->err.code == LEM_E_INTERRUPTED)
		return CELL_INTERRUPTED;
	if (!o->summary)
		return CELL_REFUSED;
	return o->err.code || o->store_err.code ? CELL_FAILED : CELL_COMPLETED;
}

/* Figures of several loads are no figure of the cell; its verdict is the worst. */
static void keep_levels(const struct run_outcome *o, struct campaign_cell *cell)
{
	static const char several[] = "several loads were measured; see levels";

	cell->levels = lem_calloc(o->n_levels, sizeof(*cell->levels));
	cell->n_levels = o->n_levels;
	cell->verdict.level = VERDICT_VALID;
	for (size_t i = 0; i < o->n_levels; i++) {
		const struct level_outcome *v = &o->levels[i];
		struct campaign_level *to = &cell->levels[i];

		lem_strlcpy(to->run_id, v->run_id, sizeof(to->run_id));
		to->level = v->level;
		to->exit_code = v->exit_code;
		to->verdict = v->summary->verdict;
		to->output_tokens_per_s = v->summary->output_tokens_per_s;
		to->j_per_output_token = v->summary->j_per_output_token;
		if (!i || to->verdict.level > cell->verdict.level)
			cell->verdict = to->verdict;
	}
	lem_strlcpy(cell->run_id, o->launch_id, sizeof(cell->run_id));
	cell->output_tokens_per_s = cell->j_per_output_token = quantity_unknown(several);
}

static void keep_outcome(const struct run_outcome *o, struct campaign_cell *cell)
{
	const struct summary *s = o->summary;

	cell->status = status_of(o);
	cell->exit_code = o->exit_code;
	cell->err = o->err.code ? o->err : o->store_err;
	if (!s)
		return;
	lem_strlcpy(cell->run_id, o->run_id, sizeof(cell->run_id));
	cell->verdict = s->verdict;
	cell->output_tokens_per_s = s->output_tokens_per_s;
	cell->j_per_output_token = s->j_per_output_token;
	lem_strlcpy(cell->energy_scope, s->energy_scope, sizeof(cell->energy_scope));
	if (o->n_levels)
		keep_levels(o, cell);
}

static void run_cell(void *arg, struct campaign_cell *cell, size_t position)
{
	struct invocation *in = arg;
	const char *configured = config_experiment(cell->config)->results_dir;
	struct run_one_request q = {
		.config = cell->config,
		.results_dir = cli_results_dir(in->results_dir ? in->results_dir : configured),
		.cancel_fd = in->cancel_fd,
		.quiet = in->quiet,
		.told = cell->warnings,
	};
	struct run_outcome o;

	announce(in, cell, position);
	cell->results_dir = q.results_dir;
	run_one(&q, &o);
	keep_outcome(&o, cell);
	if (o.err.code)
		cli_error(&o.err);
	if (o.store_err.code)
		cli_error(&o.store_err);
	run_outcome_release(&o);
}

/* What cannot run here, of all cells at once. */
static void print_refused(const struct campaign *c)
{
	for (size_t i = 0; i < c->n; i++) {
		struct lem_error err = c->cells[i].err;

		if (c->cells[i].status != CELL_REFUSED)
			continue;
		(void)lem_error_context(&err, "%s", c->cells[i].name);
		cli_error(&err);
	}
}

static void print_warnings(const struct campaign *c)
{
	for (size_t i = 0; i < c->n; i++)
		for (const char *const *p = c->cells[i].warnings; p && *p; p++)
			fprintf(stderr, "lem: warning: %s: %s\n", c->cells[i].name, *p);
}

static int run_campaign(struct invocation *in, struct campaign *c)
{
	_cleanup_free_ char *program_dir = fs_program_dir();
	_cleanup_fd_ int cancel_fd = -1;
	size_t refused = campaign_plan(c, program_dir);

	if (!in->quiet)
		print_warnings(c);
	print_refused(c);
	if (refused) {
		fprintf(stderr,
			"lem: %zu of %zu experiments cannot run here; nothing was started\n",
			refused, c->n);
	} else if (in->dry_run) {
		fprintf(stderr, "lem: the campaign is good; nothing was started\n");
	} else {
		in->n_cells = c->n;
		in->cancel_fd = cancel_fd = cli_signals_fd();
		campaign_run(c, run_cell, in, cancel_fd);
	}
	print_end(in, c);
	return campaign_exit_code(c);
}

static int load_and_run(struct invocation *in)
{
	struct campaign_request q = {
		.files = in->files,
		.n_files = in->n_files,
		.overrides = in->overrides,
		.n_overrides = in->n_overrides,
		.shape = cli_local_shape,
	};
	struct campaign c;
	struct lem_error err;
	int rc;

	if (campaign_load(&q, &c, &err) < 0) {
		rc = cli_error_as(&err, in->json);
	} else {
		if (!in->quiet || !campaign_ok(&c))
			cli_print_findings(&c.findings);
		if (campaign_ok(&c)) {
			rc = run_campaign(in, &c);
		} else {
			rc = CLI_REFUSED;
			if (in->json)
				print_end(in, &c);
		}
	}
	campaign_release(&c);
	return rc;
}

int cmd_campaign(int argc, char **argv)
{
	_cleanup_free_ struct invocation *in = lem_calloc(1, sizeof(*in));
	int rc = parse(argc, argv, in);

	cli_ignore_signals();
	if (rc == CLI_OK)
		rc = load_and_run(in);
	for (size_t i = 0; i < in->n_overrides; i++)
		free(in->split[i]);
	return rc == -1 ? CLI_OK : rc;
}
