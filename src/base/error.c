#include "base/error.h"

static void put(char *dst, size_t size, const char *fmt, va_list ap) _printf_(3, 0);
static void put(char *dst, size_t size, const char *fmt, va_list ap)
{
	vsnprintf(dst, size, fmt, ap);
}

int lem_fail(struct lem_error *err, enum lem_code code, const char *fmt, ...)
{
	va_list ap;

	assert(code != LEM_E_NONE);
	if (!err)
		return -(int)code;
	*err = (struct lem_error){.code = code};
	va_start(ap, fmt);
	put(err->what, sizeof(err->what), fmt, ap);
	va_end(ap);
	return -(int)code;
}

int lem_fail_errno(struct lem_error *err, int errnum, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -LEM_E_IO;
	*err = (struct lem_error){.code = LEM_E_IO};
	va_start(ap, fmt);
	put(err->what, sizeof(err->what), fmt, ap);
	va_end(ap);
	lem_strlcpy(err->why, strerror(errnum), sizeof(err->why));
	return -LEM_E_IO;
}

#define SET_FIELD(field)                                      \
	do {                                                  \
		va_list ap;                                   \
		if (!err)                                     \
			return -LEM_E_INTERNAL;               \
		va_start(ap, fmt);                            \
		put(err->field, sizeof(err->field), fmt, ap); \
		va_end(ap);                                   \
		return -(int)err->code;                       \
	} while (0)

int lem_error_where(struct lem_error *err, const char *fmt, ...)
{
	SET_FIELD(where);
}

int lem_error_why(struct lem_error *err, const char *fmt, ...)
{
	SET_FIELD(why);
}

int lem_error_fix(struct lem_error *err, const char *fmt, ...)
{
	SET_FIELD(fix);
}

int lem_error_context(struct lem_error *err, const char *fmt, ...)
{
	char head[160], tail[sizeof(err->what)];
	va_list ap;

	if (!err)
		return -LEM_E_INTERNAL;
	va_start(ap, fmt);
	put(head, sizeof(head), fmt, ap);
	va_end(ap);
	lem_strlcpy(tail, err->what, sizeof(tail));
	size_t n = lem_strlcpy(err->what, head, sizeof(err->what));
	snprintf(err->what + n, sizeof(err->what) - n, ": %s", tail);
	return -(int)err->code;
}

const char *lem_code_name(enum lem_code code)
{
	static const char *const names[] = {
		[LEM_E_NONE] = "none",
		[LEM_E_USAGE] = "usage",
		[LEM_E_REFUSED] = "refused",
		[LEM_E_IO] = "io",
		[LEM_E_PARSE] = "parse",
		[LEM_E_NOT_FOUND] = "not_found",
		[LEM_E_UNSUPPORTED] = "unsupported",
		[LEM_E_ENGINE] = "engine",
		[LEM_E_TIMEOUT] = "timeout",
		[LEM_E_ROUTING] = "routing",
		[LEM_E_INTERRUPTED] = "interrupted",
		[LEM_E_INTERNAL] = "internal",
	};

	return (size_t)code < ARRAY_LEN(names) ? names[code] : "unknown";
}

int lem_code_exit(enum lem_code code)
{
	switch (code) {
	case LEM_E_NONE: return 0;
	case LEM_E_USAGE:
	case LEM_E_REFUSED: return 2;
	case LEM_E_ROUTING: return 3;
	case LEM_E_INTERRUPTED: return 130;
	default: return 1;
	}
}
