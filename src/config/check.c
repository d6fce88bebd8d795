#include "config/impl.h"

static void check_schema_version(struct config *c)
{
	const char *v = c->exp.schema_version;
	struct finding *f;

	if (!v || str_eq(v, "3.0.0"))
		return;
	f = finding_add(c, SEVERITY_WARNING, "C18", "schema_version",
			config_where(c, "schema_version"),
			"is %s, this program knows 3.0.0; options of other versions may mean "
			"something else",
			v);
	finding_hint(c, f,
		     "compare the file with `lem config reference`, then remove schema_version");
}

void config_check(struct config *c, const struct config_request *req)
{
	check_schema_version(c);
	check_values(c);
	check_prompts(c);
	check_env(c);
	check_sections(c);
	check_engine(c);
	check_docker(c);
	check_parallel(c, req);
}
