#include "model/summary.h"

const char *verdict_name(enum verdict_level level)
{
	static const char *const names[] = {"valid", "suspect", "invalid"};

	return (size_t)level < ARRAY_LEN(names) ? names[level] : "unknown";
}

void verdict_add(struct verdict *v, enum verdict_level level, const char *fmt, ...)
{
	size_t at = level > v->level ? 0 : v->n_reasons;
	va_list ap;

	if (v->n_reasons == ARRAY_LEN(v->reasons))
		return;
	memmove(v->reasons[at + 1], v->reasons[at], (v->n_reasons - at) * sizeof(v->reasons[0]));
	va_start(ap, fmt);
	vsnprintf(v->reasons[at], sizeof(v->reasons[at]), fmt, ap);
	va_end(ap);
	v->n_reasons++;
	v->level = MAX(v->level, level);
}
