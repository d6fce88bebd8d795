#include <getopt.h>
#include <signal.h>

#include "base/jsonw.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "weights/weights.h"

static const char usage[] =
	"usage: lem model list [--json]\n"
	"       lem model show MODEL [--json]\n"
	"       lem model synth SHAPE [--quant f16|q8_0|q4_0] [--seed N] [-o FILE] [--json]\n"
	"\n"
	"MODEL is a GGUF file, a config.json or its folder, hf:ORG/REPO[:FILE] (downloaded when "
	"it\n"
	"is not here yet) or synthetic:SHAPE[:QUANT].\n"
	"SHAPE is one of 'lem model list', or the path of a config.json. Synthetic weights are\n"
	"random: they cost what real ones cost to compute, and say nothing.\n";

struct options {
	const char *quant, *output;
	uint64_t seed;
	bool json;
};

/* ---- while it takes time ---- */

static volatile sig_atomic_t stop_asked;

static void ask_to_stop(int signal_number)
{
	(void)signal_number;
	stop_asked = 1;
}

/* Ctrl+C ends the work between two steps, so that no half file stays behind. */
static void catch_signals(void)
{
	struct sigaction a = {.sa_handler = ask_to_stop};

	sigaction(SIGINT, &a, NULL);
	sigaction(SIGTERM, &a, NULL);
}

static bool show_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	char a[24], b[24];
	bool *shown = arg;

	if (stop_asked || !isatty(STDERR_FILENO))
		return !stop_asked;
	*shown = true;
	fprintf(stderr, "\r%s", what);
	if (done)
		fprintf(stderr, "  %s", num_format_bytes(done, a, sizeof(a)));
	if (done && total)
		fprintf(stderr, " of %s, %d %%", num_format_bytes(total, b, sizeof(b)),
			(int)(100 * (double)done / (double)total));
	fputs("\x1b[K", stderr);
	return true;
}

static void end_progress(bool shown)
{
	if (shown)
		fputs("\r\x1b[K", stderr);
}

/* ---- what a model is ---- */

/* 0 is unknown in a shape. */
static void number(struct jsonw *w, const char *key, int64_t value)
{
	if (value)
		jsonw_i64(w, key, value);
	else
		jsonw_null(w, key);
}

static const char *weights_word(const struct model_shape *s)
{
	return s->weights == WEIGHTS_SYNTHETIC ? "synthetic"
	       : s->weights == WEIGHTS_REAL    ? "real"
					       : NULL;
}

static void shape_json(struct jsonw *w, const struct model_shape *s)
{
	jsonw_str(w, "architecture", s->architecture[0] ? s->architecture : NULL);
	number(w, "n_params", model_shape_params(s));
	number(w, "n_layer", s->n_layer);
	number(w, "n_embd", s->n_embd);
	number(w, "n_ff", s->n_ff);
	number(w, "n_head", s->n_head);
	number(w, "n_head_kv", s->n_head_kv);
	number(w, "head_dim", s->head_dim);
	number(w, "n_vocab", s->n_vocab);
	number(w, "n_ctx_train", s->n_ctx_train);
	if (s->n_expert) {
		jsonw_i64(w, "n_expert", s->n_expert);
		number(w, "n_expert_used", s->n_expert_used);
		number(w, "n_ff_expert", s->n_ff_expert);
	}
	if (s->n_swa) {
		jsonw_i64(w, "sliding_window", s->n_swa);
		jsonw_i64(w, "full_attention_layers", s->n_layer_full);
	}
}

static void show_json(const struct model_shape *s, const char *path)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	jsonw_init(&w, &out, 2);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "path", path);
	jsonw_str(&w, "name", s->name[0] ? s->name : NULL);
	shape_json(&w, s);
	number(&w, "size_bytes", (int64_t)s->size_bytes);
	jsonw_str(&w, "quant", s->quant[0] ? s->quant : NULL);
	if (s->size_bytes)
		jsonw_bool(&w, "has_tokenizer", s->has_tokenizer);
	else
		jsonw_null(&w, "has_tokenizer"); /* a config.json does not say */
	jsonw_str(&w, "weights", weights_word(s));
	jsonw_end_object(&w);
	puts(str_c(&out));
}

static const char *params_text(const struct model_shape *s, char *buf, size_t size)
{
	double n = (double)model_shape_params(s);

	if (n >= 1e9)
		snprintf(buf, size, "%.2f G parameters", n / 1e9);
	else if (n > 0)
		snprintf(buf, size, "%.1f M parameters", n / 1e6);
	else
		snprintf(buf, size, "number of parameters unknown");
	return buf;
}

static const char *known(int64_t n, char *buf, size_t size)
{
	if (!n)
		return "unknown";
	snprintf(buf, size, "%" PRId64, n);
	return buf;
}

static void show_text(const struct model_shape *s, const char *path)
{
	char params[48], size[24], ff[24], vocab[24], context[24];

	printf("%s\n  %s, %s", s->name[0] ? s->name : path,
	       s->architecture[0] ? s->architecture : "unknown architecture",
	       params_text(s, params, sizeof(params)));
	if (s->quant[0])
		printf(", %s", s->quant);
	if (s->size_bytes)
		printf(", %s", num_format_bytes(s->size_bytes, size, sizeof(size)));
	if (weights_word(s))
		printf(", %s weights", weights_word(s));
	if (s->size_bytes)
		printf(", %s", s->has_tokenizer ? "with a tokenizer"
						: "no tokenizer (takes token ids only)");
	printf("\n  %" PRId64 " layers, width %" PRId64 ", MLP %s, %" PRId64 " heads of %" PRId64
	       " (%" PRId64 " for keys), vocabulary %s, context %s\n",
	       s->n_layer, s->n_embd, known(s->n_ff, ff, sizeof(ff)), s->n_head, s->head_dim,
	       s->n_head_kv, known(s->n_vocab, vocab, sizeof(vocab)),
	       known(s->n_ctx_train, context, sizeof(context)));
	if (s->n_expert)
		printf("  %" PRId64 " experts, %" PRId64 " of them for a token\n", s->n_expert,
		       s->n_expert_used);
	if (s->n_swa)
		printf("  attention over the last %" PRId64 " tokens, over all of them in %" PRId64
		       " layers\n",
		       s->n_swa, s->n_layer_full);
	printf("  %s\n", path);
}

static int finish(int r, const struct model_shape *s, const char *path, const struct options *o,
		  const struct lem_error *err)
{
	if (r < 0)
		return cli_error_as(err, o->json);
	if (o->json)
		show_json(s, path);
	else
		show_text(s, path);
	return CLI_OK;
}

/* ---- the three commands ---- */

static int list(const struct options *o)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;
	char params[48];

	jsonw_init(&w, &out, 2);
	jsonw_array(&w, NULL);
	for (size_t i = 0; i < weights_shape_count(); i++) {
		const char *name;
		const struct model_shape *s = weights_shape_at(i, &name);

		jsonw_object(&w, NULL);
		jsonw_str(&w, "name", name);
		shape_json(&w, s);
		jsonw_end_object(&w);
		if (o->json)
			continue;
		printf("%-14s %-7s %18s, %2" PRId64 " layers, width %4" PRId64 ", %2" PRId64
		       " heads (%2" PRId64 " for keys), vocabulary %" PRId64 "\n",
		       name, s->architecture, params_text(s, params, sizeof(params)), s->n_layer,
		       s->n_embd, s->n_head, s->n_head_kv, s->n_vocab);
	}
	jsonw_end_array(&w);
	if (o->json)
		puts(str_c(&out));
	return CLI_OK;
}

static int show(const char *name, const struct options *o)
{
	bool shown = false;
	struct weights_request q = {
		.model_name = name, .progress = show_progress, .progress_arg = &shown};
	_cleanup_free_ char *path = NULL;
	struct model_shape s;
	struct lem_error err;
	int r;

	if (str_starts(name, "hf:"))
		r = weights_resolve(&q, &path, &s, &err);
	else
		r = weights_local_shape(name, NULL, &s, &err);
	end_progress(shown);
	if (r < 0 && err.code == LEM_E_NOT_FOUND && !err.fix[0])
		lem_error_fix(&err, "MODEL is a file, hf:ORG/REPO:FILE.gguf or "
				    "synthetic:SHAPE; see 'lem model list'");
	return finish(r, &s, path ? path : name, o, &err);
}

static int synth(const char *shape, const struct options *o)
{
	_cleanup_free_ char *name = lem_asprintf("synthetic:%s", shape), *path = NULL;
	bool shown = false;
	struct weights_request q = {.model_name = name,
				    .quant = o->quant,
				    .seed = o->seed,
				    .progress = show_progress,
				    .progress_arg = &shown};
	struct model_shape s;
	struct lem_error err;
	int r;

	if (!o->output) {
		r = weights_resolve(&q, &path, &s, &err);
	} else {
		r = weights_local_shape(name, NULL, &s, &err);
		if (r >= 0)
			r = gguf_synthesize(&s, o->quant, o->seed, o->output, show_progress, &shown,
					    &err);
		if (r >= 0)
			r = gguf_read_shape(o->output, &s, &err);
	}
	end_progress(shown);
	return finish(r, &s, o->output ? o->output : path, o, &err);
}

static int run(int n, char **words, const struct options *o)
{
	if (n == 0) {
		fputs(usage, stderr);
		return CLI_REFUSED;
	}
	if (str_eq(words[0], "list") && n == 1)
		return list(o);
	if (str_eq(words[0], "show") && n == 2)
		return show(words[1], o);
	if (str_eq(words[0], "synth") && n == 2)
		return synth(words[1], o);
	if (str_eq(words[0], "list"))
		return cli_usage("model", "'lem model list' takes no name, not '%s'", words[1]);
	if (str_eq(words[0], "show") || str_eq(words[0], "synth"))
		return cli_usage("model", "'lem model %s' takes one name, not %d", words[0], n - 1);
	return cli_usage("model", "there is no 'lem model %s'", words[0]);
}

int cmd_model(int argc, char **argv)
{
	static const struct option options[] = {
		{"quant", required_argument, NULL, 'q'},  {"seed", required_argument, NULL, 's'},
		{"output", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'},
		{"help", no_argument, NULL, 'h'},         {0}};
	struct options o = {.quant = "q8_0"};
	int c;

	while ((c = getopt_long(argc, argv, ":o:h", options, NULL)) != -1) {
		switch (c) {
		case 'q': o.quant = optarg; break;
		case 'o': o.output = optarg; break;
		case 'j': o.json = true; break;
		case 's':
			if (!num_parse_u64(optarg, &o.seed))
				return cli_usage("model", "--seed takes a whole number, not '%s'",
						 optarg);
			break;
		case 'h': fputs(usage, stdout); return CLI_OK;
		default: return cli_bad_option("model", c, argv);
		}
	}
	catch_signals();
	return run(argc - optind, argv + optind, &o);
}
