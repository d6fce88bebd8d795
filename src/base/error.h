/*
 * error.h — how a function of ours says that it failed.
 *
 *   int f(const in…, T **ret_x, struct lem_error *err);
 *
 * Negative on failure, outputs untouched on failure. The error lives on the caller's stack, holds
 * no heap memory and may be copied. Fields beyond `what` are optional and empty ("") when unset:
 * what happened, where (file:line:column, URL, path), why (the cause below), fix (what to do).
 * err may be NULL when the caller does not care.
 */
#ifndef LEM_BASE_ERROR_H
#define LEM_BASE_ERROR_H

#include "base/base.h"

enum lem_code {
	LEM_E_NONE = 0,
	LEM_E_USAGE,       /* the command line or the configuration is wrong: exit 2 */
	LEM_E_REFUSED,     /* preflight: it can be known not to work: exit 2 */
	LEM_E_IO,          /* the operating system said no */
	LEM_E_PARSE,       /* bytes from outside are not what they should be */
	LEM_E_NOT_FOUND,   /* the thing named does not exist */
	LEM_E_UNSUPPORTED, /* exists, but cannot do this here */
	LEM_E_ENGINE,      /* the engine or its worker failed or lied */
	LEM_E_TIMEOUT,     /* a bounded wait ran out */
	LEM_E_ROUTING,     /* GPU routing was not proved: exit 3 */
	LEM_E_INTERRUPTED, /* a signal asked us to stop: exit 130 */
	LEM_E_INTERNAL,    /* our own bug */
};

struct lem_error {
	enum lem_code code;
	char what[384];
	char where[256];
	char why[512];
	char fix[384];
};

#define LEM_ERROR_INIT             \
	{                          \
		.code = LEM_E_NONE \
	}

/* Sets code and what, clears the rest; returns -code, so that callers write `return lem_fail(…)`.
 */
int lem_fail(struct lem_error *err, enum lem_code code, const char *fmt, ...) _printf_(3, 4);
/* Like lem_fail with LEM_E_IO; why is strerror(errnum). */
int lem_fail_errno(struct lem_error *err, int errnum, const char *fmt, ...) _printf_(3, 4);

/* Add to an error already set. Each returns -err->code so that it can end a return statement. */
int lem_error_where(struct lem_error *err, const char *fmt, ...) _printf_(2, 3);
int lem_error_why(struct lem_error *err, const char *fmt, ...) _printf_(2, 3);
int lem_error_fix(struct lem_error *err, const char *fmt, ...) _printf_(2, 3);

/* Puts "fmt: " before what; used by an outer layer that knows the purpose. */
int lem_error_context(struct lem_error *err, const char *fmt, ...) _printf_(2, 3);

const char *lem_code_name(enum lem_code code); /* "usage", "io", … for JSON */
int lem_code_exit(enum lem_code code);         /* the process exit code of design: 1, 2, 3, 130 */

#endif
