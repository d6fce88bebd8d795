#include <ctype.h>

#include "doctor/explain.h"
#include "run/life.h"

/* What may have an engine or a daemon behind it; the rest explains itself. */
static bool has_a_log(enum lem_code code)
{
	return code == LEM_E_ENGINE || code == LEM_E_TIMEOUT || code == LEM_E_IO ||
	       code == LEM_E_ROUTING;
}

/* "R20: …" anywhere: "the GPUs could not be proved: R20: …". */
static bool names_a_rule(const char *text)
{
	for (const char *p = text; (p = strchr(p, 'R')); p++)
		if (isdigit((unsigned char)p[1]) && isdigit((unsigned char)p[2]) &&
		    (p[3] == ':' || p[3] == ','))
			return true;
	return false;
}

void life_recall(const struct life *l, struct lem_error *err)
{
	if (err->code == LEM_E_INTERRUPTED || l->rec->engine_version)
		return; /* once it has loaded, the way in was no trouble */
	for (const char *const *w = l->rec->binding.warnings; w && *w; w++) {
		struct lem_error old = *err;

		if (str_starts(*w, "R21:"))
			(void)lem_error_why(err, "warned before: %.250s%s%s", *w,
					    old.why[0] ? "; " : "", old.why);
	}
}

bool life_port_was_taken(const struct life *l)
{
	enum { CAUSES = 8 };
	const struct str *log = &l->session.io.log;
	struct explanation x[CAUSES];
	size_t n = doctor_explain(str_c(log), log->len, x, CAUSES);

	for (size_t i = 0; i < n; i++)
		if (str_eq(x[i].id, "X07"))
			return true;
	return false;
}

void life_blame(const struct life *l, struct lem_error *err)
{
	const struct str *log = &l->session.io.log;
	struct explanation x;
	struct lem_error old = *err;

	/* A message that names its rule needs no other; nor one that was explained on its way here.
	 */
	if (!has_a_log(err->code) || names_a_rule(err->what) || str_starts(err->why, "this is R"))
		return;
	if (!(strstr(err->what, "because memory ran out") &&
	      doctor_explain(err->what, strlen(err->what), &x, 1)) &&
	    !doctor_explain(err->why, strlen(err->why), &x, 1) &&
	    !doctor_explain(str_c(log), log->len, &x, 1))
		return;
	(void)lem_error_why(err, "this is %s, %s: \"%.160s\"%s%s", x.id, x.title, x.line,
			    old.why[0] ? "; " : "", old.why);
	(void)lem_error_fix(err, "%s", x.fix);
}
