#include "cli/slo_option.h"

#include <math.h>

#include "base/num.h"

enum { GOAL_MAX = 64 };
#define LIMIT_MAX_MS 1e9 /* as in the config */

static int fix(struct lem_error *err)
{
	return lem_error_fix(err, "write one or more of ttft, tpot and e2e, in ms: --slo "
				  "ttft=200,tpot=50,e2e=5000");
}

static int bad_number(const char *name, const char *value, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_USAGE, "--slo %s: '%.40s' is no time in ms above 0", name, value);
	if (str_ends(value, "s"))
		(void)lem_error_why(err, "the unit is always ms and is not written");
	return fix(err);
}

static int parse_goal(char *goal, struct slo_limits *l, struct lem_error *err)
{
	const struct {
		const char *name;
		double *at;
	} known[] = {{"ttft", &l->ttft_ms}, {"tpot", &l->tpot_ms}, {"e2e", &l->e2e_ms}};
	char *value = strchr(goal, '=');
	double v;

	if (!value) {
		(void)lem_fail(err, LEM_E_USAGE, "--slo: '%.40s' is not NAME=MS", goal);
		return fix(err);
	}
	*value++ = '\0';
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!str_eq(goal, known[i].name))
			continue;
		if (!isnan(*known[i].at)) {
			(void)lem_fail(err, LEM_E_USAGE, "--slo gives %s twice", goal);
			return fix(err);
		}
		if (!num_parse_f64(value, &v) || !(v > 0) || v > LIMIT_MAX_MS)
			return bad_number(goal, value, err);
		*known[i].at = v;
		return 0;
	}
	(void)lem_fail(err, LEM_E_USAGE, "--slo knows no '%.40s'", goal);
	return fix(err);
}

int slo_option_parse(const char *text, struct slo_limits *ret, struct lem_error *err)
{
	struct slo_limits l = {NAN, NAN, NAN};
	int rc = 0;

	do {
		size_t n = strcspn(text, ",");
		char goal[GOAL_MAX + 1];

		lem_strlcpy(goal, text, MIN(n + 1, sizeof(goal)));
		rc = parse_goal(goal, &l, err);
		text += n;
	} while (rc >= 0 && *text++);
	if (rc >= 0)
		*ret = l;
	return rc;
}
