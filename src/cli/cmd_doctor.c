/* lem doctor: what stands in the way on this host, and what mends it. */
#include <getopt.h>
#include <strings.h>

#include "cli/cli.h"
#include "cli/commands.h"
#include "doctor/config_checks.h"
#include "doctor/report.h"
#include "engine/engine.h"
#include "weights/weights.h"

static const char usage[] =
	"usage: lem doctor [--json] [RULE…] [CONFIG.yaml]\n"
	"       lem doctor --list [--json | --markdown]\n"
	"\n"
	"Checks this host: driver, GPUs, container engine, limits, energy counters, programs. "
	"Each\n"
	"problem comes with the command that mends it. Nothing is changed and nothing started.\n"
	"\n"
	"  RULE         R17, R03, …: explain this rule and run its checks only\n"
	"  CONFIG.yaml  also check this experiment, its image, and only the GPUs it names\n"
	"  --list       every rule, also those that only a configuration or a run can break\n"
	"  --json       one JSON document (docs/doctor-schema.json)\n"
	"\n"
	"Exit status: 0 no errors (there may be warnings), 1 at least one error, 2 usage.\n";

enum { IDS_MAX = 64 };

struct invocation {
	bool json, list, markdown;
	const char *ids[IDS_MAX + 1];
	size_t n_ids;
	const char *config;
};

static bool is_check(const char *id)
{
	for (const struct doctor_check *const *c = doctor_checks; *c; c++)
		if (strcasecmp((*c)->id, id) == 0)
			return true;
	return false;
}

static bool looks_like_file(const char *s)
{
	return strchr(s, '/') || str_ends(s, ".yaml") || str_ends(s, ".yml") ||
	       str_ends(s, ".json");
}

static int take(struct invocation *in, const char *arg)
{
	if (doctor_rule(arg) || is_check(arg)) {
		if (in->n_ids == IDS_MAX)
			return cli_usage("doctor", "more than %d rules", IDS_MAX);
		in->ids[in->n_ids++] = arg;
		return CLI_OK;
	}
	if (!looks_like_file(arg))
		return cli_usage("doctor", "there is no rule '%s' (lem doctor --list)", arg);
	if (in->config)
		return cli_usage("doctor", "one configuration at a time: '%s' is a second one",
				 arg);
	in->config = arg;
	return CLI_OK;
}

/* CLI_OK, or the exit code after a message; -1: help was shown. */
static int parse(int argc, char **argv, struct invocation *in)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
						{"list", no_argument, NULL, 'l'},
						{"markdown", no_argument, NULL, 'm'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c, rc = CLI_OK;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case 'j': in->json = true; break;
		case 'l': in->list = true; break;
		case 'm': in->markdown = true; break;
		case 'h': fputs(usage, stdout); return -1;
		default: return cli_bad_option("doctor", c, argv);
		}
	}
	for (int i = optind; i < argc && rc == CLI_OK; i++)
		rc = take(in, argv[i]);
	if (rc == CLI_OK && in->markdown && !in->list)
		return cli_usage("doctor", "--markdown goes with --list");
	if (rc == CLI_OK && in->list && (in->config || in->n_ids))
		return cli_usage("doctor", "--list lists all rules and takes no argument");
	return rc;
}

static struct doctor_style style_of_terminal(void)
{
	return (struct doctor_style){.width = MIN(cli_width(stdout), 100),
				     .color = cli_color(stdout),
				     .ascii = cli_ascii()};
}

static int list(const struct invocation *in)
{
	static const char *const all[] = {"*", NULL};
	struct doctor_style style = style_of_terminal();
	struct doctor_report none = {0};
	_cleanup_str_ struct str out = STR_INIT;

	if (in->json)
		doctor_report_json(&none, all, &out);
	else if (in->markdown)
		doctor_rules_md(&out);
	else
		doctor_list_text(&style, &out);
	fputs(str_c(&out), stdout);
	if (in->json)
		fputc('\n', stdout);
	return CLI_OK;
}

/* ---- a configuration ---- */

static int local_shape(const char *model_name, const char *base_dir, struct model_shape *ret)
{
	return weights_local_shape(model_name, base_dir, ret, NULL);
}

/* The image the engine would be started from; NULL: it runs as a process, or refuses. The engine is
 * a pure function, so it can be asked before a model is there. */
static const char *image_of(const struct experiment *e, bool in_container, struct arena *a)
{
	const struct engine_ops *engine = engine_for(e);
	struct gpu_binding binding = {.n = 0, .path = "none"};
	struct model_shape shape = {0};
	struct launch_spec spec = {0};
	struct engine_request q = {.exp = e,
				   .shape = &shape,
				   .binding = &binding,
				   .model_path = "/model",
				   .program_dir = "/",
				   .in_container = true,
				   .threads_default = 1};

	if (!engine || e->backend == BACKEND_OPENAI ||
	    (e->runner != RUNNER_DOCKER &&
	     (e->runner != RUNNER_AUTO || !engine->needs_container || in_container)))
		return NULL; /* as src/run/bind.c chooses */
	if (engine->launch(&q, a, &spec, NULL) < 0)
		return NULL;
	return spec.image;
}

static void check_config(struct doctor_facts *f, const struct config *c, struct doctor_report *r)
{
	const char *image;

	doctor_check_findings(c, r);
	if (!config_ok(c))
		return;
	doctor_choose_gpus(f, config_experiment(c), r);
	image = image_of(config_experiment(c), f->place.in_container, &f->arena);
	if (image)
		doctor_check_image(f, image, r);
}

/* ---- all of it ---- */

static void print(const struct invocation *in, const struct doctor_report *r)
{
	struct doctor_style style = style_of_terminal();
	_cleanup_str_ struct str out = STR_INIT;

	if (in->json) {
		doctor_report_json(r, in->n_ids ? in->ids : NULL, &out);
		str_addc(&out, '\n');
	} else {
		for (size_t i = 0; i < in->n_ids; i++) {
			if (doctor_rule(in->ids[i]))
				doctor_rule_text(doctor_rule(in->ids[i]), &style, &out);
			str_add(&out, i + 1 < in->n_ids ? "\n" : "");
		}
		if (r->n)
			doctor_report_text(r, &style, &out);
	}
	fputs(str_c(&out), stdout);
}

static bool has_checks(const struct invocation *in)
{
	for (size_t i = 0; i < in->n_ids; i++)
		if (is_check(in->ids[i]))
			return true;
	return in->n_ids == 0 || in->config;
}

static int examine(const struct invocation *in)
{
	struct config_request q = {.path = in->config, .shape = local_shape};
	struct doctor_report report = {0};
	struct doctor_facts *facts = NULL;
	struct config *c = NULL;
	struct lem_error err;
	int rc = CLI_OK;

	if (in->config && config_load(&q, &c, &err) < 0)
		return cli_error_as(&err, in->json);
	if (has_checks(in)) {
		const char *dir = c && config_ok(c) ? config_experiment(c)->results_dir : NULL;

		doctor_gather(cli_results_dir(dir), &facts);
		if (c)
			check_config(facts, c, &report);
		doctor_report_run(&report, facts, in->ids);
	}
	print(in, &report);
	rc = report.count[DOCTOR_ERROR] ? CLI_FAILED : CLI_OK;
	doctor_report_release(&report);
	doctor_facts_free(facts);
	config_free(c);
	return rc;
}

int cmd_doctor(int argc, char **argv)
{
	struct invocation in = {0};
	int rc = parse(argc, argv, &in);

	if (rc == CLI_OK)
		rc = in.list ? list(&in) : examine(&in);
	return rc == -1 ? CLI_OK : rc;
}
