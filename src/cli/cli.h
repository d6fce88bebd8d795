/*
 * cli.h — the command table and what commands share. Only src/cli prints to the user and exits.
 *
 * Conventions: results go to stdout, everything meant for people beside them to stderr; with --json
 * stdout carries exactly one JSON document. Colour only on a terminal, NO_COLOR respected.
 */
#ifndef LEM_CLI_CLI_H
#define LEM_CLI_CLI_H

#include "base/error.h"

struct command {
	const char *name;
	int (*run)(int argc,
		   char **argv); /* argv[0] is the command's name; returns the exit code */
	const char *help;        /* one line for `lem help` */
};

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_REFUSED = 2, /* configuration, preflight, usage */
	CLI_ROUTING = 3,
	CLI_INVALID = 4, /* measured, but the verdict is invalid */
	CLI_INTERRUPTED = 130,
};

/* Prints "lem: what (where)", "  why: …", "  hint: …" to stderr; returns the exit code. */
int cli_error(const struct lem_error *err);
/* The same as a JSON document {"error": {…}} on stdout when json, else like cli_error. */
int cli_error_as(const struct lem_error *err, bool json);
/* "lem: message", "Try 'lem COMMAND --help'."; returns CLI_REFUSED. */
int cli_usage(const char *command, const char *fmt, ...) _printf_(2, 3);
/* The same for what getopt_long returned and nobody knows: '?', or ':' (the list of options begins
 * with one, so that getopt says nothing itself). */
int cli_bad_option(const char *command, int c, char *const *argv);

bool cli_color(FILE *f); /* a terminal, and NO_COLOR is not set */
int cli_width(FILE *f);  /* columns of the terminal, 100 when it is none */
bool cli_ascii(void);    /* the locale cannot show UTF-8 */
/* -o/--results-dir, else LEM_RESULTS_DIR, else LLM_ENERGY_RESULTS_DIR (with a notice), else
 * "results". */
const char *cli_results_dir(const char *option);

#endif
