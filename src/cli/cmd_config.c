/* lem config validate | show | schema | reference | presets */
#include <getopt.h>

#include "base/jsonw.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "config/load.h"
#include "weights/weights.h"

static const char usage[] =
	"usage: lem config validate FILE… [--json] [--preset NAME] [--set PATH=VALUE…]\n"
	"       lem config show [FILE] [--json] [--provenance] [--preset NAME] [--set "
	"PATH=VALUE…]\n"
	"       lem config schema       JSON Schema 2020-12 of an experiment file, for editors\n"
	"       lem config reference    every option, as Markdown\n"
	"       lem config presets [--json]\n"
	"\n"
	"validate checks files without touching hardware and reports every finding at once.\n"
	"show prints every value in force for the chosen engine; --provenance adds where each came "
	"from.\n"
	"\n"
	"Exit status: 0 no errors, 2 at least one error.\n";

enum { OVERRIDES_MAX = 256 };

struct invocation {
	bool json, provenance;
	const char *preset;
	struct config_override overrides[OVERRIDES_MAX];
	char *split[OVERRIDES_MAX]; /* copies of --set arguments, cut at '=' */
	size_t n_overrides;
	char **files;
	int n_files;
};

static int local_shape(const char *model_name, const char *base_dir, struct model_shape *ret)
{
	return weights_local_shape(model_name, base_dir, ret, NULL);
}

static int add_set(struct invocation *in, const char *arg)
{
	char *copy, *eq;

	if (in->n_overrides == OVERRIDES_MAX)
		return cli_usage("config", "more than %d overrides", OVERRIDES_MAX);
	copy = in->split[in->n_overrides] = lem_strdup(arg);
	eq = strchr(copy, '=');
	if (eq)
		*eq = '\0';
	in->overrides[in->n_overrides++] =
		(struct config_override){.path = copy, .value = eq ? eq + 1 : "", .flag = "--set"};
	if (!eq || eq == copy)
		return cli_usage("config", "--set takes PATH=VALUE, not '%s'", arg);
	return CLI_OK;
}

/* CLI_OK, or the exit code after a message; -1: help was shown. */
static int parse(int argc, char **argv, struct invocation *in)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'},         {"provenance", no_argument, NULL, 'v'},
		{"preset", required_argument, NULL, 'P'}, {"set", required_argument, NULL, 'S'},
		{"help", no_argument, NULL, 'h'},         {0}};
	int c, rc;

	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		switch (c) {
		case 'j': in->json = true; break;
		case 'v': in->provenance = true; break;
		case 'P': in->preset = optarg; break;
		case 'S':
			rc = add_set(in, optarg);
			if (rc != CLI_OK)
				return rc;
			break;
		case 'h': fputs(usage, stdout); return -1;
		default: return cli_bad_option("config", c, argv);
		}
	}
	in->files = argv + optind;
	in->n_files = argc - optind;
	return CLI_OK;
}

static int load(const struct invocation *in, const char *path, struct config **ret)
{
	struct config_request q = {
		.path = path,
		.preset = in->preset,
		.overrides = in->overrides,
		.n_overrides = in->n_overrides,
		.shape = local_shape,
	};
	struct lem_error err;

	return config_load(&q, ret, &err) < 0 ? cli_error(&err) : CLI_OK;
}

static void print_findings(const struct config *c)
{
	_cleanup_str_ struct str text = STR_INIT;

	config_findings_text(config_findings(c), &text);
	fputs(str_c(&text), stderr);
}

static void raw(struct jsonw *w, const char *key, const struct config *c,
		void (*print)(const struct config *, struct str *))
{
	_cleanup_str_ struct str json = STR_INIT;

	print(c, &json);
	jsonw_raw(w, key, str_c(&json));
}

/* What validate and show have in common: file, ok, config_hash, errors, warnings, findings. */
static void summary_json(struct jsonw *w, const struct config *c, const char *path)
{
	const struct finding_list *f = config_findings(c);
	_cleanup_str_ struct str list = STR_INIT;
	char hash[17];

	config_hash(c, hash);
	config_findings_json(f, &list);
	jsonw_str(w, "file", path);
	jsonw_bool(w, "ok", config_ok(c));
	jsonw_str(w, "config_hash", config_ok(c) ? hash : NULL);
	jsonw_u64(w, "errors", f->n_errors);
	jsonw_u64(w, "warnings", f->n_warnings);
	jsonw_raw(w, "findings", str_c(&list));
}

static int validate_one(const struct invocation *in, const char *path, struct jsonw *w)
{
	struct config *c = NULL;
	int rc = load(in, path, &c);

	if (rc != CLI_OK)
		return rc;
	if (in->json) {
		jsonw_object(w, NULL);
		summary_json(w, c, path);
		jsonw_end_object(w);
	} else {
		print_findings(c);
		if (config_ok(c))
			printf("%s: ok\n", path);
	}
	rc = config_ok(c) ? CLI_OK : CLI_REFUSED;
	config_free(c);
	return rc;
}

static int validate(const struct invocation *in)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;
	int rc = CLI_OK;

	if (in->n_files == 0)
		return cli_usage("config", "name the files to validate");
	jsonw_init(&w, &out, 0);
	jsonw_object(&w, NULL);
	jsonw_array(&w, "files");
	for (int i = 0; i < in->n_files; i++)
		rc = MAX(rc, validate_one(in, in->files[i], &w));
	jsonw_end_array(&w);
	jsonw_bool(&w, "ok", rc == CLI_OK);
	jsonw_end_object(&w);
	if (in->json)
		puts(str_c(&out));
	return rc;
}

static void show_json(const struct config *c, const char *path)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &out, 0);
	jsonw_object(&w, NULL);
	summary_json(&w, c, path);
	if (config_ok(c)) {
		raw(&w, "effective_config", c, config_effective_json);
		raw(&w, "provenance", c, config_provenance_json);
		raw(&w, "cli_overrides", c, config_overrides_json);
	} else {
		jsonw_null(&w, "effective_config");
		jsonw_null(&w, "provenance");
		jsonw_null(&w, "cli_overrides");
	}
	jsonw_end_object(&w);
	puts(str_c(&out));
}

static int show(const struct invocation *in)
{
	_cleanup_str_ struct str yaml = STR_INIT;
	struct config *c = NULL;
	const char *path = in->n_files ? in->files[0] : NULL;
	int rc;

	if (in->n_files > 1)
		return cli_usage("config", "one file at a time: '%s' is a second one",
				 in->files[1]);
	if (!path && !in->preset && !in->n_overrides)
		return cli_usage("config", "name a file, a --preset or a --set");
	rc = load(in, path, &c);
	if (rc != CLI_OK)
		return rc;
	if (in->json) {
		show_json(c, path);
	} else {
		print_findings(c);
		if (config_ok(c))
			config_effective_yaml(c, in->provenance, &yaml);
		fputs(str_c(&yaml), stdout);
	}
	rc = config_ok(c) ? CLI_OK : CLI_REFUSED;
	config_free(c);
	return rc;
}

static int presets(const struct invocation *in)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &out, 0);
	jsonw_array(&w, NULL);
	for (size_t i = 0; i < config_preset_count(); i++) {
		if (!in->json)
			printf("%-22s %s\n", config_preset_name(i), config_preset_description(i));
		jsonw_object(&w, NULL);
		jsonw_str(&w, "name", config_preset_name(i));
		jsonw_str(&w, "description", config_preset_description(i));
		jsonw_end_object(&w);
	}
	jsonw_end_array(&w);
	if (in->json)
		puts(str_c(&out));
	return CLI_OK;
}

static int print_text(const struct invocation *in, void (*print)(struct str *))
{
	_cleanup_str_ struct str out = STR_INIT;

	if (in->n_files)
		return cli_usage("config", "unexpected '%s'", in->files[0]);
	print(&out);
	fputs(str_c(&out), stdout);
	return CLI_OK;
}

static int dispatch(const char *what, const struct invocation *in)
{
	if (str_eq(what, "validate"))
		return validate(in);
	if (str_eq(what, "show"))
		return show(in);
	if (str_eq(what, "schema"))
		return print_text(in, config_schema_json);
	if (str_eq(what, "reference"))
		return print_text(in, config_reference_md);
	if (str_eq(what, "presets"))
		return presets(in);
	return cli_usage("config", "there is no 'lem config %s'", what);
}

int cmd_config(int argc, char **argv)
{
	_cleanup_free_ struct invocation *in = lem_calloc(1, sizeof(*in));
	int rc;

	if (argc < 2)
		return cli_usage("config",
				 "say what: validate, show, schema, reference or presets");
	if (str_eq(argv[1], "--help") || str_eq(argv[1], "-h")) {
		fputs(usage, stdout);
		return CLI_OK;
	}
	rc = parse(argc - 1, argv + 1, in);
	if (rc == CLI_OK)
		rc = dispatch(argv[1], in);
	for (size_t i = 0; i < in->n_overrides; i++)
		free(in->split[i]);
	return rc == -1 ? CLI_OK : rc;
}
