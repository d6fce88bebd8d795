#include "runner/runner.h"

static const struct runner_ops *const runners[] = {
	&runner_process,
	&runner_docker,
	&runner_external,
};

const struct runner_ops *runner_find(enum runner_kind kind)
{
	if (kind == RUNNER_AUTO)
		kind = RUNNER_PROCESS;
	for (size_t i = 0; i < ARRAY_LEN(runners); i++)
		if (runners[i]->kind == kind)
			return runners[i];
	return NULL;
}
