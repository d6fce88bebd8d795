/*
 * catalogue.h — everything that is known to go wrong between `gpus: [2, 5]` and an engine on
 * exactly these GPUs, as data. R01 to R41 is the list of the project's fact sheet (routing); each
 * has one stable id, which findings, refusals, `lem doctor` and explanations of logs share. X01 and
 * up are what a log can say besides: not about routing, and so never checked, only explained.
 */
#ifndef LEM_DOCTOR_CATALOGUE_H
#define LEM_DOCTOR_CATALOGUE_H

#include "base/str.h"

enum doctor_severity {
	DOCTOR_BLOCKS, /* a run is refused, or it fails */
	DOCTOR_WARNS,
	DOCTOR_PREVENTED, /* cannot happen in a run that lem starts */
};

/* Who looks for it. A rule may have several. */
enum doctor_where {
	DOCTOR_IN_CONFIG = 1,        /* `lem config validate`, and before every run */
	DOCTOR_ON_HOST = 2,          /* `lem doctor`: driver, GPUs, this machine */
	DOCTOR_IN_ENGINE = 4,        /* `lem doctor`: the container engine */
	DOCTOR_IN_IMAGE = 8,         /* `lem doctor CONFIG.yaml`: the image that it would start */
	DOCTOR_AFTER_START = 16,     /* the proof, the engine's process on the GPU, its log */
	DOCTOR_DURING_RUN = 32,      /* the watch over the GPUs' process lists */
	DOCTOR_BY_CONSTRUCTION = 64, /* what lem asks for cannot have it */
	DOCTOR_BEFORE_RUN = 128      /* the GPUs as they are just before every run */
};

struct doctor_rule {
	const char *id;
	enum doctor_severity severity;
	unsigned where;    /* enum doctor_where, or-ed; 0: known from logs only */
	const char *title; /* what is wrong, in a few words */
	const char *means; /* how it shows and why it is so */
	const char *fix;   /* a command or a sentence; never empty */
};

extern const struct doctor_rule doctor_rules[];
extern const size_t doctor_n_rules;

/* "R17" in any case; NULL: there is none. */
const struct doctor_rule *doctor_rule(const char *id);

const char *doctor_severity_name(enum doctor_severity s); /* "error", "warning", "prevented" */
/* "per configuration; on this host", in a fixed order; never empty. */
void doctor_where_text(unsigned where, struct str *out);

/* docs/routing-rules.md: every rule with its fix. */
void doctor_rules_md(struct str *out);

#endif
