#include <getopt.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/dry_run.h"
#include "cli/run_one.h"
#include "report/report.h"
#include "store/store.h"
#include "sys/fs.h"

static const char usage[] =
	"usage: lem experiment CONFIG.yaml [OPTION…]\n"
	"       lem experiment --preset NAME --model MODEL [OPTION…]\n"
	"\n"
	"Runs one experiment and stores its result.\n"
	"\n"
	"  --set PATH=VALUE        override one field, e.g. --set llamacpp.batch_size=8 "
	"(repeatable)\n"
	"  -m, --model MODEL       model_name\n"
	"  --backend NAME          llamacpp, pytorch, vllm, tensorrt, sglang, openai\n"
	"  --preset NAME           defaults below the file's own values ('lem config presets')\n"
	"  -p, --prompts FILE      read prompts from a file\n"
	"  -n, --sample-size N     at most N prompts\n"
	"  --max-tokens N          max_output_tokens\n"
	"  --seed N                random_seed\n"
	"  --streaming, --no-streaming\n"
	"  -o, --results-dir DIR   where results are stored\n"
	"  --dry-run               show what would be started and on which GPUs; start nothing\n"
	"  --no-client-roofline    do not measure lem's own load client first (0.2 s)\n"
	"  --json                  the result document on stdout; of several loads one with all of "
	"them\n"
	"  -q, --quiet             no progress, no report\n"
	"\n"
	"Exit status: 0 done and valid or suspect, 1 the run failed, 2 refused before launch, 3 "
	"GPU routing not proved,\n"
	"4 measured but invalid, 130 interrupted.\n";

enum { OVERRIDES_MAX = 256 };

struct invocation {
	const char *path, *preset, *results_dir;
	struct config_override overrides[OVERRIDES_MAX];
	size_t n_overrides;
	char *split[OVERRIDES_MAX]; /* copies of --set arguments, cut at '=' */
	size_t n_split;
	bool json, quiet, dry_run;
};

static int add_override(struct invocation *in, const char *flag, const char *path,
			const char *value)
{
	if (in->n_overrides == OVERRIDES_MAX)
		return cli_usage("experiment", "more than %d overrides", OVERRIDES_MAX);
	in->overrides[in->n_overrides++] =
		(struct config_override){.path = path, .value = value, .flag = flag};
	return CLI_OK;
}

static int add_set(struct invocation *in, const char *arg)
{
	char *copy, *eq;

	if (in->n_split == OVERRIDES_MAX)
		return cli_usage("experiment", "more than %d overrides", OVERRIDES_MAX);
	copy = in->split[in->n_split++] = lem_strdup(arg);
	eq = strchr(copy, '=');
	if (!eq || eq == copy)
		return cli_usage("experiment", "--set takes PATH=VALUE, not '%s'", arg);
	*eq = '\0';
	return add_override(in, "--set", copy, eq + 1);
}

/* The file named on the command line replaces whatever source of prompts the configuration has;
 * like every file named there it is looked for from the current folder. */
static int add_prompts(struct invocation *in, const char *path)
{
	static const char *const cleared[] = {"dataset",
					      "prompts.count",
					      "prompts.input_tokens",
					      "prompts.dataset",
					      "prompts.subset",
					      "prompts.shared_prefix_tokens",
					      "prompts.prefix_groups",
					      "prompts.start_sec",
					      "prompts.duration_sec"};
	_cleanup_free_ char *cwd = getcwd(NULL, 0);
	_cleanup_free_ char *absolute = fs_join(cwd, path);
	char *value;

	for (size_t i = 0; i < ARRAY_LEN(cleared); i++)
		if (add_override(in, "--prompts", cleared[i], "null") != CLI_OK)
			return CLI_REFUSED;
	if (in->n_split == OVERRIDES_MAX ||
	    add_override(in, "--prompts", "prompts.type", "file") != CLI_OK)
		return CLI_REFUSED;
	value = in->split[in->n_split++] = lem_asprintf("\"%s\"", absolute);
	return add_override(in, "--prompts", "prompts.path", value);
}

static int parse_option(struct invocation *in, int c)
{
	switch (c) {
	case 'S': return add_set(in, optarg);
	case 'm': return add_override(in, "--model", "model_name", optarg);
	case 'b': return add_override(in, "--backend", "backend", optarg);
	case 'p': return add_prompts(in, optarg);
	case 'n': return add_override(in, "--sample-size", "num_input_prompts", optarg);
	case 't': return add_override(in, "--max-tokens", "max_output_tokens", optarg);
	case 's': return add_override(in, "--seed", "random_seed", optarg);
	case 'y': return add_override(in, "--streaming", "streaming", "true");
	case 'Y': return add_override(in, "--no-streaming", "streaming", "false");
	case 'R': return add_override(in, "--no-client-roofline", "client_roofline", "false");
	case 'P': in->preset = optarg; return CLI_OK;
	case 'o': in->results_dir = optarg; return CLI_OK;
	case 'd': in->dry_run = true; return CLI_OK;
	case 'j': in->json = true; return CLI_OK;
	case 'q': in->quiet = true; return CLI_OK;
	default: return CLI_REFUSED;
	}
}

/* CLI_OK, or the exit code after a message; -1: help was shown. */
static int parse(int argc, char **argv, struct invocation *in)
{
	static const struct option options[] = {{"set", required_argument, NULL, 'S'},
						{"model", required_argument, NULL, 'm'},
						{"backend", required_argument, NULL, 'b'},
						{"prompts", required_argument, NULL, 'p'},
						{"sample-size", required_argument, NULL, 'n'},
						{"max-tokens", required_argument, NULL, 't'},
						{"seed", required_argument, NULL, 's'},
						{"streaming", no_argument, NULL, 'y'},
						{"no-streaming", no_argument, NULL, 'Y'},
						{"no-client-roofline", no_argument, NULL, 'R'},
						{"preset", required_argument, NULL, 'P'},
						{"results-dir", required_argument, NULL, 'o'},
						{"dry-run", no_argument, NULL, 'd'},
						{"json", no_argument, NULL, 'j'},
						{"quiet", no_argument, NULL, 'q'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, ":m:p:n:o:qh", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return -1;
		}
		if (c == '?' || c == ':')
			return cli_bad_option("experiment", c, argv);
		int rc = parse_option(in, c);

		if (rc != CLI_OK)
			return rc;
	}
	if (optind + 1 < argc)
		return cli_usage("experiment", "one experiment at a time: '%s' is a second file",
				 argv[optind + 1]);
	in->path = optind < argc ? argv[optind] : NULL;
	if (!in->path && !in->preset)
		return cli_usage("experiment",
				 "name a configuration file, or --preset and --model");
	return CLI_OK;
}

/* A refusal is the one document on stdout with --json. */
static void print_refusal(const struct config *c)
{
	_cleanup_str_ struct str list = STR_INIT;

	config_findings_json(config_findings(c), &list);
	printf("{\"error\": {\"code\": \"refused\", \"what\": \"the configuration has errors\"}, "
	       "\"findings\": %s}\n",
	       str_c(&list));
}

/* Where to look for the run: 'lem results show' needs -o unless it looks there by itself. */
static void add_stored(const struct invocation *in, const struct run_outcome *o, struct str *out)
{
	bool looked = str_eq(cli_results_dir(NULL), in->results_dir);
	const char *option = looked ? "" : " -o ", *dir = looked ? "" : in->results_dir;

	if (o->n_asked)
		str_addf(out, "\n  stored in %s; 'lem results show RUN%s%s' shows each\n",
			 in->results_dir, option, dir);
	else
		str_addf(out,
			 "\n  stored in %s/%s.json; 'lem results show %s%s%s' shows this again\n",
			 in->results_dir, o->run_id, o->run_id, option, dir);
}

static void print_result(const struct invocation *in, const struct config *c,
			 const struct run_outcome *o)
{
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_str_ struct str out = STR_INIT;

	if (o->n_asked && in->json) {
		cli_levels_json(c, o, &out);
	} else if (o->n_asked && !in->quiet) {
		cli_levels_text(c, o, &out);
		if (!o->store_err.code)
			add_stored(in, o, &out);
	} else if (o->n_asked) {
		;
	} else if (in->json) {
		result_json(&o->record, o->summary, &out);
	} else if (!in->quiet) {
		report_run_text(&o->record, o->summary, &style, &out);
		if (!o->store_err.code)
			add_stored(in, o, &out);
	}
	fputs(str_c(&out), stdout);
	fflush(stdout);
	if (o->err.code)
		cli_error(&o->err);
	if (o->store_err.code)
		cli_error(&o->store_err);
}

static int run_it(struct invocation *in, const struct config *c)
{
	const char *configured = config_experiment(c)->results_dir;
	_cleanup_fd_ int cancel_fd = cli_signals_fd();
	struct run_one_request q = {.config = c, .cancel_fd = cancel_fd, .quiet = in->quiet};
	struct run_outcome o;
	int rc;

	in->results_dir = cli_results_dir(in->results_dir ? in->results_dir : configured);
	q.results_dir = in->results_dir;
	rc = run_one(&q, &o);
	if (o.summary || o.n_levels)
		print_result(in, c, &o);
	else
		cli_error_as(&o.err, in->json);
	run_outcome_release(&o);
	return rc;
}

static int load_and_run(struct invocation *in)
{
	struct config_request q = {
		.path = in->path,
		.preset = in->preset,
		.overrides = in->overrides,
		.n_overrides = in->n_overrides,
		.shape = cli_local_shape,
	};
	struct config *c = NULL;
	struct lem_error err;
	int rc;

	if (config_load(&q, &c, &err) < 0)
		return cli_error_as(&err, in->json);
	if (!in->quiet || !config_ok(c))
		cli_print_findings(config_findings(c));
	if (!config_ok(c)) {
		if (in->json)
			print_refusal(c);
		rc = CLI_REFUSED;
	} else if (in->dry_run) {
		rc = dry_run(config_experiment(c), in->json);
	} else {
		rc = run_it(in, c);
	}
	config_free(c);
	return rc;
}

int cmd_experiment(int argc, char **argv)
{
	_cleanup_free_ struct invocation *in = lem_calloc(1, sizeof(*in));
	int rc = parse(argc, argv, in);

	cli_ignore_signals();
	if (rc == CLI_OK)
		rc = load_and_run(in);
	for (size_t i = 0; i < in->n_split; i++)
		free(in->split[i]);
	return rc == -1 ? CLI_OK : rc;
}
