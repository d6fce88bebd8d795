/* Exactly one source of prompts, with what that source needs. */
#include "config/impl.h"
#include "sys/fs.h"

#include <sys/stat.h>

static void check_one_source(struct config *c)
{
	const struct experiment *e = &c->exp;
	struct finding *f;

	if (e->dataset.present && e->prompts.present) {
		f = finding_add(
			c, SEVERITY_ERROR, "C14", "prompts", config_where(c, "prompts"),
			"and dataset are both given; only one can be the source of the prompts");
		finding_hint(c, f, "remove one of the two");
	} else if (!e->dataset.present && !e->prompts.present) {
		f = finding_add(c, SEVERITY_ERROR, "C05", "dataset", c->root,
				"is missing, and so is prompts: there is nothing to ask the model");
		finding_hint(c, f, "write dataset: {name: ai-energy-score, sample_size: 100}");
	}
}

static void missing(struct config *c, const char *path, const char *why, const char *hint)
{
	if (!config_invalid(c, path))
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C05", path, config_where(c, path),
					 "is missing: %s", why),
			     "%s", hint);
}

void check_readable(struct config *c, const char *option, const char *path, const char *what)
{
	_cleanup_free_ char *full = fs_join(c->exp.root_dir, path);
	struct finding *f;

	if (fs_is_dir(full)) {
		f = finding_add(c, SEVERITY_ERROR, "C19", option, config_where(c, option),
				"is a folder: %s", full);
		finding_hint(c, f, "name a %s", what);
	} else if (access(full, R_OK) < 0) {
		f = finding_add(c, SEVERITY_ERROR, "C19", option, config_where(c, option),
				"cannot be read: %s (%s)", full, strerror(errno));
		if (path[0] != '/') /* those typed on the command line were made absolute */
			finding_hint(c, f, "the path is relative to the configuration file");
	}
}

static void check_file(struct config *c)
{
	const char *path = c->exp.prompts.path;
	struct finding *f;

	if (!path) {
		missing(c, "prompts.path", "prompts come from a file",
			"name a text file with one prompt a line");
		return;
	}
	check_readable(c, "prompts.path", path, "text file with one prompt a line");
	if (str_ends(path, ".csv")) {
		f = finding_add(c, SEVERITY_ERROR, "C14", "prompts.path",
				config_where(c, "prompts.path"),
				"is a .csv, whose lines would be sent as text");
		finding_hint(c, f, "write prompts.type: trace for a trace of requests");
	}
}

static void check_trace(struct config *c)
{
	const char *path = c->exp.prompts.path;

	if (path)
		check_readable(c, "prompts.path", path, ".csv of requests");
	else
		missing(c, "prompts.path", "requests come from a trace",
			"name a .csv with the columns TIMESTAMP, ContextTokens, GeneratedTokens");
}

/* Keys of another prompts.type that were written all the same. */
static void check_unused(struct config *c)
{
	enum {
		FILE_ = 1u << PROMPTS_FILE,
		HUB = 1u << PROMPTS_HUGGINGFACE,
		SYNTHETIC = 1u << PROMPTS_SYNTHETIC,
		TRACE = 1u << PROMPTS_TRACE
	};
	static const struct {
		const char *path;
		unsigned types;
	} keys[] = {
		{"prompts.path", FILE_ | TRACE},
		{"prompts.dataset", HUB},
		{"prompts.split", HUB},
		{"prompts.subset", HUB},
		{"prompts.column", FILE_ | HUB},
		{"prompts.shuffle", HUB},
		{"prompts.sample_size", FILE_ | HUB | TRACE},
		{"prompts.seed", FILE_ | HUB | SYNTHETIC | TRACE},
		{"prompts.count", SYNTHETIC},
		{"prompts.input_tokens", SYNTHETIC},
		{"prompts.output_tokens", FILE_ | SYNTHETIC},
		{"prompts.shared_prefix_tokens", SYNTHETIC | TRACE},
		{"prompts.prefix_groups", SYNTHETIC | TRACE},
		{"prompts.start_sec", TRACE},
		{"prompts.duration_sec", TRACE},
		{"prompts.reply_chars_per_token", FILE_},
	};
	static const char *const names[] = {"file", "huggingface", "synthetic", "trace"};
	enum prompts_type type = c->exp.prompts.type;
	struct finding *f;

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (keys[i].types & (1u << type) || !config_written(c, keys[i].path))
			continue;
		f = finding_add(c, SEVERITY_ERROR, "C13", keys[i].path,
				config_where(c, keys[i].path), "is not used with prompts.type: %s",
				names[type]);
		finding_hint(c, f, "remove it, or change prompts.type");
	}
}

/* The longest that is asked for; 0: only the file knows. */
static int64_t longest(const struct length_config *l)
{
	switch (l->distribution) {
	case LENGTH_FIXED: return l->tokens;
	case LENGTH_UNIFORM:
	case LENGTH_LOGNORMAL: return l->max.set ? l->max.v : l->min.set ? l->min.v : 0;
	default: return 0;
	}
}

static int64_t shortest(const struct length_config *l)
{
	switch (l->distribution) {
	case LENGTH_FIXED: return l->tokens;
	case LENGTH_UNIFORM:
	case LENGTH_LOGNORMAL: return l->min.set ? l->min.v : 1;
	default: return 0;
	}
}

static void check_lengths(struct config *c, const char *path, const struct length_config *l,
			  const char *limit_path, int64_t limit)
{
	int64_t most = longest(l);
	struct finding *f;

	if (!l->set || config_invalid(c, path))
		return;
	if (l->distribution == LENGTH_FILE)
		check_readable(c, path, l->path, "text file with a number of tokens a line");
	if (most <= limit)
		return;
	f = finding_add(c, SEVERITY_ERROR, "C14", path, config_where(c, path),
			str_eq(limit_path, "max_input_tokens")
				? "is %" PRId64 ", but %s would cut the prompts to %" PRId64
				: "is %" PRId64 ", but %s ends answers at %" PRId64,
			most, limit_path, limit);
	finding_hint(c, f, "write %s: %" PRId64, limit_path, most);
}

/* Prompts that have only what they share would be the same. */
static void check_prefix(struct config *c)
{
	const struct prompts_config *p = &c->exp.prompts;
	int64_t least = p->type == PROMPTS_SYNTHETIC ? shortest(&p->input_tokens) : 0;
	struct finding *f;

	if (!p->shared_prefix_tokens) {
		if (p->prefix_groups != 1)
			finding_hint(c,
				     finding_add(c, SEVERITY_ERROR, "C13", "prompts.prefix_groups",
						 config_where(c, "prompts.prefix_groups"),
						 "is only used with shared_prefix_tokens"),
				     "write shared_prefix_tokens too, or remove it");
		return;
	}
	if (p->shared_prefix_tokens < (least ? least : c->exp.max_input_tokens))
		return;
	f = finding_add(c, SEVERITY_ERROR, "C14", "prompts.shared_prefix_tokens",
			config_where(c, "prompts.shared_prefix_tokens"),
			"is %" PRId64 ", but %s %" PRId64
			" tokens: nothing of their own would be left",
			p->shared_prefix_tokens,
			least ? "the shortest prompts have" : "prompts have at most",
			least ? least : c->exp.max_input_tokens);
	finding_hint(c, f, "the prefix is part of the length; make prompts longer, or it shorter");
}

static void check_synthetic(struct config *c)
{
	const struct experiment *e = &c->exp;

	check_lengths(c, "prompts.input_tokens", &e->prompts.input_tokens, "max_input_tokens",
		      e->max_input_tokens);
	if (!e->prompts.count && e->prompts.input_tokens.distribution != LENGTH_FILE)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", "prompts.count",
					 config_where(c, "prompts.count"),
					 "is 0: there is nothing to ask the model"),
			     "only a file of lengths says by itself how many prompts there are");
}

static void check_source(struct config *c)
{
	const struct experiment *e = &c->exp;
	const struct prompts_config *p = &e->prompts;

	if (!p->present || config_invalid(c, "prompts.type"))
		return;
	check_unused(c);
	if (p->type == PROMPTS_FILE)
		check_file(c);
	else if (p->type == PROMPTS_TRACE)
		check_trace(c);
	else if (p->type == PROMPTS_HUGGINGFACE && !p->dataset)
		missing(c, "prompts.dataset", "prompts come from Hugging Face",
			"name the data set, such as tatsu-lab/alpaca");
	else if (p->type == PROMPTS_SYNTHETIC)
		check_synthetic(c);
	if (p->type == PROMPTS_SYNTHETIC || p->type == PROMPTS_FILE)
		check_lengths(c, "prompts.output_tokens", &p->output_tokens, "max_output_tokens",
			      e->max_output_tokens);
	if (p->type == PROMPTS_SYNTHETIC || p->type == PROMPTS_TRACE)
		check_prefix(c);
}

static void check_limits(struct config *c)
{
	const struct experiment *e = &c->exp;
	const char *path = e->dataset.present ? "dataset.sample_size" : "prompts.sample_size";
	struct maybe_i64 size =
		e->dataset.present ? e->dataset.sample_size : e->prompts.sample_size;
	struct finding *f;

	if (!e->num_input_prompts.set || !size.set || size.v == e->num_input_prompts.v)
		return;
	f = finding_add(c, SEVERITY_ERROR, "C14", "num_input_prompts",
			config_where(c, "num_input_prompts"), "is %" PRId64 ", but %s is %" PRId64,
			e->num_input_prompts.v, path, size.v);
	finding_hint(c, f, "keep %s alone", path);
}

/* Percentiles of few requests say little; only when the number is known here. */
static void check_sample(struct config *c)
{
	enum { ENOUGH = 30 };
	const struct experiment *e = &c->exp;
	struct maybe_i64 n = e->num_input_prompts;
	const char *path = "num_input_prompts";
	struct finding *f;

	if (!n.set && e->dataset.present) {
		n = e->dataset.sample_size;
		path = "dataset.sample_size";
	} else if (!n.set && e->prompts.present && e->prompts.type == PROMPTS_SYNTHETIC) {
		n = (struct maybe_i64){e->prompts.count > 0, e->prompts.count};
		path = "prompts.count";
	} else if (!n.set) {
		n = e->prompts.sample_size;
		path = "prompts.sample_size";
	}
	if (!n.set || n.v >= ENOUGH ||
	    (e->traffic.present ? e->traffic.duration_sec.set : e->window.min_duration_sec > 0))
		return;
	f = finding_add(c, SEVERITY_INFO, "C22", path, config_where(c, path),
			"gives %" PRId64 " requests; percentiles need about %d", n.v, ENOUGH);
	finding_hint(c, f, "take more prompts, or write %s to repeat them",
		     e->traffic.present ? "traffic.duration_sec: 60"
					: "window: {min_duration_sec: 60}");
}

void check_prompts(struct config *c)
{
	check_one_source(c);
	check_source(c);
	check_limits(c);
	check_sample(c);
}
