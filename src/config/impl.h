/*
 * impl.h — what the files of config share among themselves: the state of one load.
 */
#ifndef LEM_CONFIG_IMPL_H
#define LEM_CONFIG_IMPL_H

#include "base/jsonw.h"
#include "base/vec.h"
#include "config/cells.h"
#include "config/load.h"
#include "config/node.h"
#include "config/option.h"

enum {
	CONFIG_MAX_BYTES = 1 << 20, /* of a file */
	CONFIG_MAX_NODES = 50000,   /* of a file, aliases expanded */
	CONFIG_MAX_DEPTH = 64,
	CONFIG_MAX_EXTENDS = 16,
	CONFIG_MAX_FINDINGS = 200,
};

/* Where the value of one option came from. */
struct value {
	const struct section *section;
	const struct option *option;
	void *field;              /* in c->exp */
	const struct node *node;  /* NULL: default */
	const struct node *reset; /* the explicit null that asked for the default; may be NULL */
	const char *detail;       /* overrides what the node says; may be NULL */
	enum source source;
	bool invalid; /* was written, but not as it must be: the default stands in its place */
};

struct override_record {
	const char *path;
	const char *new_json, *original_json;
};

struct finding_link {
	struct finding f;
	int order; /* of its layer */
	struct finding_link *next;
};

struct config {
	struct arena arena;
	struct experiment exp;
	const struct node *root; /* all layers merged */
	struct value *values;
	size_t n_values, cap_values;
	struct finding_link *first, *last;
	struct finding_list findings; /* sorted, made when the load is complete */
	size_t n_left_out;
	bool syntax_failed; /* a layer could not be read: its values are unknown */
	struct override_record *overrides;
	size_t n_overrides;
};

/* finding.c. `at` gives file, line and column; NULL: the file as a whole, or nothing. */
struct finding *finding_add(struct config *c, enum severity severity, const char *code,
			    const char *field, const struct node *at, const char *fmt, ...)
	_printf_(6, 7);
struct finding *finding_in(struct config *c, enum severity severity, const char *code,
			   const char *field, const struct layer *layer, int line, int column,
			   const char *fmt, ...) _printf_(8, 9);
void finding_hint(struct config *c, struct finding *f, const char *fmt, ...) _printf_(3, 4);
void findings_finish(struct config *c);

/* parse.c: the bytes of a file or of a --set value. NULL after a finding. */
struct node *config_parse(struct config *c, const struct layer *layer, const char *bytes, size_t n,
			  bool json);

/* file.c: the file at path and what it extends, merged; NULL after a finding. */
const struct node *config_read_files(struct config *c, const char *path);
/* The same from a tree of the file at path, as config_read_raw gave it. */
const struct node *config_read_tree(struct config *c, const char *path, const struct node *tree);
/* The file as it is written, a map; NULL after a finding. */
const struct node *config_read_raw(struct config *c, const char *path);
/* `name`, relative to the folder of the file at path. */
char *config_beside(struct arena *a, const char *path, const char *name);

/* cells.c: the merged tree of one cell; NULL after a finding. */
const struct node *config_cell_tree(struct config *c, const struct config_cells *cells, size_t i);

/* normalise.c: old keys moved or refused, unknown keys refused; always gives a map. */
struct node *config_normalise(struct config *c, const struct node *tree);

/* layers.c */
const struct node *config_preset_layer(struct config *c, const char *name,
				       const struct node *above);
enum backend config_backend_of(const struct node *root, enum backend fallback);
const struct node *config_override_layer(struct config *c, const struct config_override *o,
					 size_t n);
/* {a: {b: value}} for "a.b"; config_path_valid says whether "a.b" is such a path. */
struct node *config_nest(struct config *c, const struct layer *layer, const char *path,
			 struct node *value);
bool config_path_valid(const char *path);

/* bind.c: the merged tree into c->exp and c->values, with defaults. */
void config_bind(struct config *c, const struct node *root);
const struct value *config_value(const struct config *c, const char *path);
/* The node to point at for a path: its own, else that of the nearest section written. */
const struct node *config_where(const struct config *c, const char *path);
bool config_written(const struct config *c, const char *path); /* by a file, a preset or --set */
bool config_invalid(const struct config *c, const char *path);
/* bind_value.c: one value into its field; false after a finding, the field is then untouched. */
bool bind_value(struct config *c, const struct section *s, const struct option *o,
		const struct node *n, void *field);
bool bind_gpus(struct config *c, const struct node *n, struct str_list *ret);
bool bind_lengths(struct config *c, const struct section *s, const struct option *o,
		  const struct node *n, struct length_config *ret);

/* check.c and friends */
void config_check(struct config *c, const struct config_request *req);
void check_values(struct config *c);
/* check_loads.c: several loads in one launch, and rates that change. */
void check_loads(struct config *c);
bool check_loads_are_listed(const struct config *c); /* or a list of them is wrong already */
void check_prompts(struct config *c);
/* A file of prompts, a trace or lengths; what: as a hint names it. */
void check_readable(struct config *c, const char *option, const char *path, const char *what);
void check_env(struct config *c);
void check_sections(struct config *c);
void check_engine(struct config *c);
/* extra_args: no option twice, nothing that chooses GPUs. */
void check_extra(struct config *c, const struct section *s, const char *path,
		 const struct kv_list *extra);
void check_llama_server(struct config *c);
/* "--tensor-parallel-size" and "tensor_parallel_size" are the same option. */
void config_fold_name(const char *key, char *buf, size_t size);
void check_docker(struct config *c);
void check_parallel(struct config *c, const struct config_request *req);
void check_shape(struct config *c, const struct config_request *req);

/* presets.c */
struct preset {
	const char *name, *description, *yaml;
	const char *refused; /* why it cannot be used; NULL: it can */
};
const struct preset *preset_find(const char *name);
const struct preset *preset_at(size_t i);

struct decoder_preset {
	const char *name;
	const char *temperature, *do_sample, *top_p, *repetition_penalty; /* NULL: the default */
};
extern const struct decoder_preset decoder_presets[];
extern const size_t n_decoder_presets;

/* show.c */
void option_json(struct jsonw *w, const char *key, const struct option *o, const void *field);

#endif
