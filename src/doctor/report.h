/*
 * report.h — the answers of all checks together, and how they are shown: for people, grouped, with
 * the command that mends each problem; or as one JSON document (docs/doctor-schema.json).
 */
#ifndef LEM_DOCTOR_REPORT_H
#define LEM_DOCTOR_REPORT_H

#include "base/str.h"
#include "doctor/catalogue.h"
#include "doctor/check.h"

enum { DOCTOR_STATUSES = 5 };

struct doctor_report {
	struct doctor_result *at; /* malloc'ed */
	size_t n, cap;
	size_t count[DOCTOR_STATUSES]; /* by enum doctor_status */
	bool partial;                  /* only some checks were asked for */
	char about[320];               /* the machine in one line; "" nothing asked */
};

void doctor_report_release(struct doctor_report *r);
void doctor_report_add(struct doctor_report *r, const struct doctor_result *one);
/* Every check whose id is in ids (NULL-terminated); NULL or empty: all. */
void doctor_report_run(struct doctor_report *r, const struct doctor_facts *f,
		       const char *const *ids);

struct doctor_style {
	int width; /* columns */
	bool color, ascii;
};

void doctor_report_text(const struct doctor_report *r, const struct doctor_style *s,
			struct str *out);
/* rules: NULL-terminated ids to explain in it; NULL: none. "*" alone: all. */
void doctor_report_json(const struct doctor_report *r, const char *const *rules, struct str *out);
/* One rule, for a terminal. */
void doctor_rule_text(const struct doctor_rule *rule, const struct doctor_style *s,
		      struct str *out);
/* All of them, a line each. */
void doctor_list_text(const struct doctor_style *s, struct str *out);

#endif
