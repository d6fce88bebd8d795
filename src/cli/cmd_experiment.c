#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/dry_run.h"
#include "cli/progress.h"
#include "config/load.h"
#include "report/report.h"
#include "run/run.h"
#include "run/summarize.h"
#include "store/store.h"
#include "sys/fs.h"
#include "weights/weights.h"

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
	"  --json                  the result document on stdout\n"
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
	static const char *const cleared[] = {"dataset", "prompts.count", "prompts.input_tokens",
					      "prompts.dataset", "prompts.subset"};
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
						{"preset", required_argument, NULL, 'P'},
						{"results-dir", required_argument, NULL, 'o'},
						{"dry-run", no_argument, NULL, 'd'},
						{"json", no_argument, NULL, 'j'},
						{"quiet", no_argument, NULL, 'q'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "m:p:n:o:qh", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(usage, stdout);
			return -1;
		}
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

static int local_shape(const char *model_name, const char *base_dir, struct model_shape *ret)
{
	return weights_local_shape(model_name, base_dir, ret, NULL);
}

/* Findings for people on stderr, without the mere information that 'lem config validate' gives;
 * with --json a refusal is the one document on stdout. */
static void print_findings(const struct config *c, bool json)
{
	_cleanup_str_ struct str text = STR_INIT;
	const struct finding_list *all = config_findings(c);
	struct finding_list grave = {0};

	grave.at = lem_calloc(all->n, sizeof(*grave.at));
	for (size_t i = 0; i < all->n; i++)
		if (all->at[i].severity != SEVERITY_INFO)
			grave.at[grave.n++] = all->at[i];
	config_findings_text(&grave, &text);
	free(grave.at);
	fputs(str_c(&text), stderr);
	if (!json || config_ok(c))
		return;
	_cleanup_str_ struct str list = STR_INIT;

	config_findings_json(config_findings(c), &list);
	printf("{\"error\": {\"code\": \"refused\", \"what\": \"the configuration has errors\"}, "
	       "\"findings\": %s}\n",
	       str_c(&list));
}

/* SIGINT and SIGTERM arrive as a readable descriptor that stays readable; a second one ends lem at
 * once. */
static int signals_as_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int exit_code(const struct run_record *r, const struct summary *s, int rc,
		     const struct lem_error *err)
{
	if (rc < 0)
		return lem_code_exit(err->code);
	(void)r;
	return s->verdict.level == VERDICT_INVALID ? CLI_INVALID : CLI_OK;
}

struct texts {
	struct str config, provenance, overrides;
	char hash[17];
};

static void texts_of(const struct config *c, struct texts *t)
{
	*t = (struct texts){0};
	config_effective_json(c, &t->config);
	config_provenance_json(c, &t->provenance);
	config_overrides_json(c, &t->overrides);
	config_hash(c, t->hash);
}

static void texts_release(struct texts *t)
{
	str_release(&t->config);
	str_release(&t->provenance);
	str_release(&t->overrides);
}

/* Stores, reports, and gives the exit code. err holds what ended the run when rc < 0. */
static int conclude(const struct invocation *in, struct store *st, const struct run_record *r,
		    int rc, const struct lem_error *err)
{
	_cleanup_free_ struct summary *s = lem_calloc(1, sizeof(*s));
	struct report_style style = {cli_color(stdout), cli_ascii(), cli_width(stdout)};
	_cleanup_str_ struct str out = STR_INIT;
	struct lem_error store_err;
	int stored;

	summarize(r, s);
	stored = store_put(st, r, s, &store_err);
	if (in->json) {
		result_json(r, s, &out);
	} else if (!in->quiet) {
		report_run_text(r, s, &style, &out);
		if (stored >= 0)
			str_addf(&out,
				 "\n  stored in %s/%s.json; 'lem results show %s' shows this "
				 "again\n",
				 in->results_dir, r->run_id, r->run_id);
	}
	fputs(str_c(&out), stdout);
	fflush(stdout);
	if (rc < 0)
		cli_error(err);
	if (stored < 0)
		return cli_error(&store_err);
	return exit_code(r, s, rc, err);
}

static int run_it(struct invocation *in, const struct config *c)
{
	_cleanup_free_ char *program_dir = fs_program_dir();
	_cleanup_fd_ int cancel_fd = signals_as_fd();
	struct progress_line line = {.terminal = isatty(STDERR_FILENO), .quiet = in->quiet};
	struct run_request q = {
		.exp = config_experiment(c),
		.program_dir = program_dir,
		.progress = progress_show,
		.progress_arg = &line,
		.cancel_fd = cancel_fd,
	};
	struct store *st = NULL;
	struct run_record r;
	struct lem_error err = LEM_ERROR_INIT;
	struct texts t;
	char run_id[128];
	int rc;

	in->results_dir = cli_results_dir(in->results_dir ? in->results_dir : q.exp->results_dir);
	if (store_open(in->results_dir, &st, &err) < 0)
		return cli_error_as(&err, in->json);
	rc = store_new_run_id(st, q.exp->config_name, run_id, sizeof(run_id), &err);
	if (rc < 0) {
		store_close(st);
		return cli_error_as(&err, in->json);
	}
	texts_of(c, &t);
	q.run_id = run_id;
	q.config_hash = t.hash;
	q.config_json = str_c(&t.config);
	q.provenance_json = str_c(&t.provenance);
	q.cli_overrides_json = str_c(&t.overrides);
	run_record_init(&r);
	rc = run_experiment(&q, &r, &err);
	progress_clear(&line);
	rc = r.t_start_ns ? conclude(in, st, &r, rc, &err) : cli_error_as(&err, in->json);
	run_record_release(&r);
	texts_release(&t);
	store_close(st);
	return rc;
}

static int load_and_run(struct invocation *in)
{
	struct config_request q = {
		.path = in->path,
		.preset = in->preset,
		.overrides = in->overrides,
		.n_overrides = in->n_overrides,
		.shape = local_shape,
	};
	struct config *c = NULL;
	struct lem_error err;
	int rc;

	if (config_load(&q, &c, &err) < 0)
		return cli_error_as(&err, in->json);
	if (!in->quiet || !config_ok(c))
		print_findings(c, in->json);
	if (!config_ok(c)) {
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

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error to report, not an end */
	if (rc == CLI_OK)
		rc = load_and_run(in);
	for (size_t i = 0; i < in->n_split; i++)
		free(in->split[i]);
	return rc == -1 ? CLI_OK : rc;
}
