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

static void check_file(struct config *c)
{
	const char *path = c->exp.prompts.path;
	_cleanup_free_ char *full = NULL;
	struct finding *f;

	if (!path) {
		missing(c, "prompts.path", "prompts come from a file",
			"name a text file with one prompt a line");
		return;
	}
	full = fs_join(c->exp.root_dir, path);
	if (fs_is_dir(full)) {
		f = finding_add(c, SEVERITY_ERROR, "C19", "prompts.path",
				config_where(c, "prompts.path"), "is a folder: %s", full);
		finding_hint(c, f, "name a text file with one prompt a line");
	} else if (access(full, R_OK) < 0) {
		f = finding_add(c, SEVERITY_ERROR, "C19", "prompts.path",
				config_where(c, "prompts.path"), "cannot be read: %s (%s)", full,
				strerror(errno));
		finding_hint(c, f, "the path is relative to the configuration file");
	}
}

/* Keys of another prompts.type that were written all the same. */
static void check_unused(struct config *c)
{
	static const struct {
		const char *path;
		unsigned types;
	} keys[] = {
		{"prompts.path", 1u << PROMPTS_FILE},
		{"prompts.dataset", 1u << PROMPTS_HUGGINGFACE},
		{"prompts.split", 1u << PROMPTS_HUGGINGFACE},
		{"prompts.subset", 1u << PROMPTS_HUGGINGFACE},
		{"prompts.column", 1u << PROMPTS_HUGGINGFACE},
		{"prompts.shuffle", 1u << PROMPTS_HUGGINGFACE},
		{"prompts.sample_size", 1u << PROMPTS_FILE | 1u << PROMPTS_HUGGINGFACE},
		{"prompts.seed", 1u << PROMPTS_HUGGINGFACE | 1u << PROMPTS_SYNTHETIC},
		{"prompts.count", 1u << PROMPTS_SYNTHETIC},
		{"prompts.input_tokens", 1u << PROMPTS_SYNTHETIC},
	};
	static const char *const names[] = {"file", "huggingface", "synthetic"};
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

static void check_synthetic(struct config *c)
{
	const struct experiment *e = &c->exp;
	struct finding *f;

	if (e->prompts.input_tokens <= e->max_input_tokens)
		return;
	f = finding_add(c, SEVERITY_ERROR, "C14", "prompts.input_tokens",
			config_where(c, "prompts.input_tokens"),
			"is %" PRId64 ", but max_input_tokens would cut the prompts to %" PRId64,
			e->prompts.input_tokens, e->max_input_tokens);
	finding_hint(c, f, "write max_input_tokens: %" PRId64, e->prompts.input_tokens);
}

static void check_source(struct config *c)
{
	const struct prompts_config *p = &c->exp.prompts;

	if (!p->present || config_invalid(c, "prompts.type"))
		return;
	check_unused(c);
	if (p->type == PROMPTS_FILE)
		check_file(c);
	else if (p->type == PROMPTS_HUGGINGFACE && !p->dataset)
		missing(c, "prompts.dataset", "prompts come from Hugging Face",
			"name the data set, such as tatsu-lab/alpaca");
	else if (p->type == PROMPTS_SYNTHETIC)
		check_synthetic(c);
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
		n = (struct maybe_i64){true, e->prompts.count};
		path = "prompts.count";
	} else if (!n.set) {
		n = e->prompts.sample_size;
		path = "prompts.sample_size";
	}
	if (!n.set || n.v >= ENOUGH || e->window.min_duration_sec > 0 ||
	    e->traffic.duration_sec.set)
		return;
	f = finding_add(c, SEVERITY_INFO, "C22", path, config_where(c, path),
			"gives %" PRId64 " requests; percentiles need about %d", n.v, ENOUGH);
	finding_hint(c, f,
		     "take more prompts, or write window: {min_duration_sec: 60} to repeat them");
}

void check_prompts(struct config *c)
{
	check_one_source(c);
	check_source(c);
	check_limits(c);
	check_sample(c);
}
