/*
 * option.h — the option tables: each key of a configuration file stands here once, with its type,
 * where it is stored, default, range, which engines honour it, and what it means. Binding,
 * effective values, JSON Schema, the reference page and "did you mean" all read these tables.
 *
 * Old keys are rows too: RENAME moves the value to another path, REJECT refuses it and says what to
 * write instead, DROP accepts it because its meaning is implied now.
 */
#ifndef LEM_CONFIG_OPTION_H
#define LEM_CONFIG_OPTION_H

#include "config/config.h"

enum option_type {
	OPT_BOOL,
	OPT_I64,
	OPT_MAYBE_I64, /* null without a default of its own */
	OPT_F64,
	OPT_MAYBE_F64,
	OPT_STR,
	OPT_CHOICE,   /* one of `choices`, kept as text */
	OPT_ENUM,     /* one of `choices`, kept as its index in a C enum */
	OPT_STR_LIST, /* a list of texts, each one of `choices` when there are any */
	OPT_F64_LIST,
	OPT_KV, /* a free map */
	OPT_GPUS,
	OPT_COMPILE,     /* false, true (the first of `choices`) or one of `choices` */
	OPT_I64_OR_AUTO, /* struct maybe_i64, unset for "auto" */
	OPT_BYTES,       /* struct maybe_i64: an integer, or a text with a unit such as 16g */
	OPT_LENGTHS,     /* struct length_config: an integer, or a map of the options of `sub` */
	OPT_MAP,
};

enum verdict { KEEP, RENAME, REJECT, DROP };

struct choice_alias {
	const char *old, *now;
};

struct section;

struct option {
	const char *name;
	enum option_type type;
	size_t offset;   /* in the section's struct */
	const char *def; /* as plain YAML text; NULL: null, or empty for lists and maps */
	double min, max; /* of numbers, and of list items; no range when both are 0 */
	bool above;      /* min itself is not allowed */
	bool required;
	bool outside_hash; /* cannot change the measurement */
	unsigned engines;  /* mask of ENGINE(x) that honour it; 0: all */
	const char *unit;
	const char *const *choices;                /* NULL-terminated */
	const struct choice_alias *choice_aliases; /* ends with a NULL `old` */
	const struct section
		*sub;     /* OPT_MAP, OPT_LENGTHS; of a RENAME row: the old keys below it */
	const char *help; /* one sentence; of REJECT and DROP rows: why */
	enum verdict verdict;
	bool silent;      /* RENAME: an alias, not worth a notice */
	const char *to;   /* RENAME: dotted path ("@engine." is the section of the backend);
			     REJECT: what to write instead, a sentence */
	const char *code; /* REJECT: of the finding; NULL: C11 */
};

struct section {
	const char *path;      /* dotted, "" for the top level */
	const char *help;      /* what it is about, for the reference */
	const char *shorthand; /* `section: text` means `section: {shorthand: text}`; NULL: no */
	size_t present;        /* offset of the bool that says it was written, plus one; 0: none */
	bool is_engine;
	enum backend backend; /* is_engine: whose section */
	const struct option *options;
	size_t n;
};

#define ENGINE(x) (1u << BACKEND_##x)
#define CHOICES(...)                     \
	.choices = (const char *const[]) \
	{                                \
		__VA_ARGS__, NULL        \
	}
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define AT_LEAST(lo)  .min = (lo), .max = OPTION_INT_MAX
#define ABOVE(lo, hi) .min = (lo), .max = (hi), .above = true
#define UNIT_RANGE    .min = 0, .max = 1
#define PRESENT(s, f) .present = offsetof(s, f) + 1
#define TABLE(t)      .options = (t), .n = ARRAY_LEN(t)

/* Largest count that is plausible and keeps every product of two within int64. */
#define OPTION_INT_MAX  2147483647.0
#define OPTION_SEED_MAX 9007199254740991.0 /* 2^53 - 1: exact in JSON readers */

extern const struct section section_experiment; /* the root of all tables */
extern const struct section section_decoder, section_dataset, section_prompts, section_traffic,
	section_input_lengths, section_output_lengths, section_slo, section_warmup,
	section_baseline, section_timeseries, section_window, section_energy, section_io,
	section_docker;
extern const struct section section_pytorch, section_vllm, section_tensorrt, section_sglang,
	section_llamacpp, section_openai;
extern const struct section section_old_batching, section_old_quantization, section_old_traffic,
	section_later_task, section_later_measurement, section_later_server;

static inline bool option_is_key(const struct option *o)
{
	return o->verdict == KEEP;
}

static inline bool option_has_range(const struct option *o)
{
	return o->min != 0 || o->max != 0;
}

static inline bool option_honoured(const struct option *o, enum backend b)
{
	return !o->engines || (o->engines & (1u << b));
}

const struct option *section_find(const struct section *s, const char *name);
/* The option at a dotted path from the root; the section it stands in when ret_section is given. */
const struct option *option_at(const char *path, const struct section **ret_section);
/* "vllm" + "max_num_seqs" -> "vllm.max_num_seqs" */
char *option_path(struct arena *a, const struct section *s, const char *name);
/* Nearest of a list of names; NULL when none is near enough to be meant. */
const char *name_nearest(const char *name, const char *const *names);
/* Dotted path of the key that was probably meant by `name` in section s; NULL: no idea. */
const char *option_did_you_mean(struct arena *a, const struct section *s, const char *name);

#endif
