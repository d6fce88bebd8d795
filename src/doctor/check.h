/*
 * check.h — one question about this host each: pure functions of the facts. A check says ok only
 * when it knows; what cannot be found out is "unknown" with the reason, what has no meaning here is
 * "not applicable" with why.
 */
#ifndef LEM_DOCTOR_CHECK_H
#define LEM_DOCTOR_CHECK_H

#include "doctor/facts.h"

enum doctor_status {
	DOCTOR_OK,
	DOCTOR_WARNING,
	DOCTOR_ERROR,
	DOCTOR_UNKNOWN,
	DOCTOR_NOT_APPLICABLE,
};

struct doctor_result {
	const char *id, *group, *title; /* static, or as long-lived as the configuration */
	enum doctor_status status;
	char value[192];   /* what was seen, in a few words; "" nothing */
	char message[512]; /* one sentence of what is wrong, or why it is not known; "" when ok */
	char fix[448];     /* a command or a sentence; "" when there is nothing to do */
};

struct doctor_check {
	const char *id;    /* of a rule ("R17"), or a word */
	const char *group; /* "Driver", "GPUs", … in the order of the table */
	const char *title; /* at most 26 characters */
	/* Any thread, no I/O. ret has id, group, title and status OK when it is called. */
	void (*run)(const struct doctor_facts *f, struct doctor_result *ret);
};

extern const struct doctor_check *const doctor_checks[]; /* NULL-terminated, in order of output */

/* Runs one check; a problem without a fix of its own gets the rule's. */
void doctor_run(const struct doctor_check *c, const struct doctor_facts *f,
		struct doctor_result *ret);

const char *doctor_status_name(enum doctor_status s); /* "ok", "warning", … "not_applicable" */

/* For checks. Each sets its text; say also sets the status. */
void doctor_value(struct doctor_result *r, const char *fmt, ...) _printf_(2, 3);
void doctor_say(struct doctor_result *r, enum doctor_status s, const char *fmt, ...) _printf_(3, 4);
void doctor_fix(struct doctor_result *r, const char *fmt, ...) _printf_(2, 3);

/* What every check on GPUs begins with: false, with r filled, when there are none to look at. */
bool doctor_has_gpus(const struct doctor_facts *f, struct doctor_result *r);
/* The same for questions to the container engine. */
bool doctor_has_engine(const struct doctor_facts *f, struct doctor_result *r);

/* "GPU 0", "GPUs 0, 2, 4 to 7": those of set that count; s may be NULL to count only. */
size_t doctor_list_gpus(const struct doctor_facts *f, bool (*is_in)(const struct doctor_gpu *g),
			struct str *s);

#endif
