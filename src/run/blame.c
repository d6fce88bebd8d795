#include "doctor/explain.h"
#include "run/life.h"

/* What may have an engine or a daemon behind it; the rest explains itself. */
static bool has_a_log(enum lem_code code)
{
	return code == LEM_E_ENGINE || code == LEM_E_TIMEOUT || code == LEM_E_IO ||
	       code == LEM_E_ROUTING;
}

void life_blame(const struct life *l, struct lem_error *err)
{
	const struct str *log = &l->session.io.log;
	struct explanation x;
	struct lem_error old = *err;

	/* A message that names its rule needs no other. */
	if (!has_a_log(err->code) || (err->what[0] == 'R' && strchr(err->what, ':')))
		return;
	if (!doctor_explain(err->why, strlen(err->why), &x, 1) &&
	    !doctor_explain(str_c(log), log->len, &x, 1))
		return;
	(void)lem_error_why(err, "this is %s, %s: \"%.160s\"%s%s", x.id, x.title, x.line,
			    old.why[0] ? "; " : "", old.why);
	(void)lem_error_fix(err, "%s", x.fix);
}
