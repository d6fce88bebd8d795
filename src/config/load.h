/*
 * load.h — from layers to a checked experiment, with every finding and where each value came from.
 *
 * Layers, low to high: option defaults, preset, file (after `_extends`), --set and flags.
 * Never probes hardware or the network; reads the named files and, when model_name is a local
 * directory or GGUF, its shape (through the callback, because config stands below weights).
 */
#ifndef LEM_CONFIG_LOAD_H
#define LEM_CONFIG_LOAD_H

#include "base/error.h"
#include "base/str.h"
#include "config/config.h"
#include "model/model_shape.h"

enum severity { SEVERITY_INFO, SEVERITY_WARNING, SEVERITY_ERROR };

/* Text form: "file:line:col: error CODE field: message" and "  hint: suggestion". */
struct finding {
	enum severity severity;
	const char *code;   /* stable: "C01" unknown key …, "R10" … of the routing catalogue */
	const char *field;  /* dotted path */
	const char *file;   /* NULL when it comes from the command line */
	int line, column;   /* 1-based; 0 unknown */
	const char *origin; /* without a file: "--set gpus=[0]", "preset benchmark"; may be NULL */
	int sequence;       /* order in which it was found */
	const char *message;
	const char *suggestion; /* may be NULL */
};

struct finding_list {
	struct finding *at;
	size_t n;
	size_t n_errors, n_warnings;
};

struct config_override {
	const char *path, *value; /* value is YAML: "4", "[0, 1]", "null", "greedy" */
	const char *flag;         /* what the user typed, for messages: "--set", "--seed", … */
};

/* Fills the shape of a local model; negative when there is none to be read (never an error here).
 */
typedef int (*config_shape_fn)(const char *model_name, const char *base_dir,
			       struct model_shape *ret);

struct config_cells; /* cells.h */

struct config_request {
	const char *path;                 /* NULL: preset and overrides only */
	const struct config_cells *cells; /* then `path` is not read: the experiment is this cell */
	size_t cell;
	const char *preset; /* NULL: none */
	const struct config_override *overrides;
	size_t n_overrides;
	config_shape_fn shape; /* NULL: no model-shape checks */
};

struct config; /* opaque: experiment, findings, provenance, arena */

/*
 * Always gives a config when it returns 0, also with error findings (then config_ok is false and
 * the experiment must not be run). Negative only when nothing could be said at all
 * (LEM_E_INTERNAL). An unreadable or malformed file is a finding, not a failure.
 */
int config_load(const struct config_request *req, struct config **ret, struct lem_error *err);
void config_free(struct config *c); /* NULL is fine */

/* Another config_name, for a second experiment of that name; `why` is its provenance. */
void config_rename(struct config *c, const char *name, const char *why);
bool config_ok(const struct config *c); /* no finding of severity error */
const struct experiment *config_experiment(const struct config *c);
const struct finding_list *config_findings(const struct config *c);

void config_findings_text(const struct finding_list *f, struct str *out);
void config_findings_json(const struct finding_list *f, struct str *out); /* a JSON array */
void config_effective_json(const struct config *c,
			   struct str *out); /* nested, every option of the engine in use */
void config_effective_yaml(const struct config *c, bool provenance, struct str *out);
void config_provenance_json(const struct config *c, struct str *out);
void config_overrides_json(const struct config *c, struct str *out); /* path -> {new, original} */
void config_hash(const struct config *c, char hex17[17]); /* 16 hex of SHA-256 over sorted JSON */

void config_schema_json(struct str *out);  /* JSON Schema 2020-12 of an experiment file */
void config_reference_md(struct str *out); /* docs/config-reference.md */
size_t config_preset_count(void);
const char *config_preset_name(size_t i);
const char *config_preset_description(size_t i);

#endif
