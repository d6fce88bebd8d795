#include <getopt.h>

#include "base/jsonw.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "weights/weights.h"

static const char usage[] =
	"usage: lem model list\n"
	"       lem model show MODEL [--json]\n"
	"       lem model synth SHAPE [--quant f16|q8_0|q4_0] [--seed N] [-o FILE]\n"
	"\n"
	"MODEL is a GGUF file, a config.json or its folder, hf:ORG/REPO[:FILE] or "
	"synthetic:SHAPE[:QUANT].\n"
	"SHAPE is one of 'lem model list' or the path of a config.json. Synthetic weights are "
	"random: they cost what real\n"
	"ones cost to compute, and say nothing.\n";

static bool show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	char a[24], b[24];

	(void)arg;
	if (isatty(STDERR_FILENO) && total)
		fprintf(stderr, "\r%s  %s of %s\x1b[K%s", what,
			num_format_bytes(done, a, sizeof(a)), num_format_bytes(total, b, sizeof(b)),
			done >= total ? "\n" : "");
	return true;
}

static int list(void)
{
	for (size_t i = 0; i < weights_shape_count(); i++) {
		const char *name;
		const struct model_shape *s = weights_shape_at(i, &name);

		printf("%-14s %-7s %3" PRId64 " layers, width %5" PRId64 ", %2" PRId64
		       " heads (%" PRId64 " for keys), vocabulary %" PRId64 "\n",
		       name, s->architecture, s->n_layer, s->n_embd, s->n_head, s->n_head_kv,
		       s->n_vocab);
	}
	return CLI_OK;
}

static void print_shape(const struct model_shape *s, const char *path, bool json)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;
	const char *weights = s->weights == WEIGHTS_SYNTHETIC ? "synthetic"
			      : s->weights == WEIGHTS_REAL    ? "real"
							      : NULL;

	jsonw_init(&w, &out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "path", path);
	jsonw_str(&w, "architecture", s->architecture);
	jsonw_str(&w, "name", s->name);
	jsonw_i64(&w, "n_layer", s->n_layer);
	jsonw_i64(&w, "n_embd", s->n_embd);
	jsonw_i64(&w, "n_ff", s->n_ff);
	jsonw_i64(&w, "n_head", s->n_head);
	jsonw_i64(&w, "n_head_kv", s->n_head_kv);
	jsonw_i64(&w, "head_dim", s->head_dim);
	jsonw_i64(&w, "n_vocab", s->n_vocab);
	jsonw_i64(&w, "n_ctx_train", s->n_ctx_train);
	jsonw_i64(&w, "n_params", s->n_params);
	jsonw_u64(&w, "size_bytes", s->size_bytes);
	jsonw_str(&w, "quant", s->quant);
	jsonw_bool(&w, "has_tokenizer", s->has_tokenizer);
	jsonw_str(&w, "weights", weights);
	jsonw_end_object(&w);
	if (json) {
		puts(str_c(&out));
		return;
	}
	printf("%s\n  %s, %s, %.1f M parameters, %s weights, %s\n", s->name[0] ? s->name : path,
	       s->architecture, s->quant[0] ? s->quant : "unquantised", (double)s->n_params / 1e6,
	       weights ? weights : "unknown",
	       s->has_tokenizer ? "with a tokenizer" : "no tokenizer: token ids only");
	printf("  %" PRId64 " layers, width %" PRId64 ", MLP %" PRId64 ", %" PRId64
	       " heads of %" PRId64 " (%" PRId64 " for keys), vocabulary %" PRId64
	       ", context %" PRId64 "\n",
	       s->n_layer, s->n_embd, s->n_ff, s->n_head, s->head_dim, s->n_head_kv, s->n_vocab,
	       s->n_ctx_train);
	if (path)
		printf("  %s\n", path);
}

static int show(const char *name, bool json)
{
	struct weights_request q = {.model_name = name, .progress = show_progress};
	_cleanup_free_ char *path = NULL;
	struct model_shape s;
	struct lem_error err;
	bool fetch = str_starts(name, "hf:");
	int r = fetch ? weights_resolve(&q, &path, &s, &err)
		      : weights_local_shape(name, NULL, &s, &err);

	if (r < 0)
		return cli_error_as(&err, json);
	print_shape(&s, path ? path : name, json);
	return CLI_OK;
}

static int synth(const char *shape, const char *quant, uint64_t seed, const char *out, bool json)
{
	_cleanup_free_ char *name = lem_asprintf("synthetic:%s", shape), *path = NULL;
	struct weights_request q = {
		.model_name = name, .quant = quant, .seed = seed, .progress = show_progress};
	struct model_shape s;
	struct lem_error err;
	int r;

	if (!out) {
		r = weights_resolve(&q, &path, &s, &err);
	} else {
		r = weights_local_shape(name, NULL, &s, &err);
		if (r >= 0)
			r = gguf_synthesize(&s, quant, seed, out, show_progress, NULL, &err);
		if (r >= 0)
			r = gguf_read_shape(out, &s, &err);
	}
	if (r < 0)
		return cli_error_as(&err, json);
	print_shape(&s, out ? out : path, json);
	return CLI_OK;
}

int cmd_model(int argc, char **argv)
{
	static const struct option options[] = {
		{"quant", required_argument, NULL, 'q'},  {"seed", required_argument, NULL, 's'},
		{"output", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},         {0}};
	const char *quant = "q8_0", *out = NULL;
	uint64_t seed = 0;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		switch (c) {
		case 'q': quant = optarg; break;
		case 'o': out = optarg; break;
		case 'j': json = true; break;
		case 's':
			if (!num_parse_u64(optarg, &seed))
				return cli_usage("model", "--seed takes a whole number, not '%s'",
						 optarg);
			break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return CLI_REFUSED;
		}
	}
	const char *what = optind < argc ? argv[optind] : "",
		   *name = optind + 1 < argc ? argv[optind + 1] : NULL;

	if (str_eq(what, "list"))
		return list();
	if (str_eq(what, "show") && name)
		return show(name, json);
	if (str_eq(what, "synth") && name)
		return synth(name, quant, seed, out, json);
	fputs(usage, stderr);
	return CLI_REFUSED;
}
