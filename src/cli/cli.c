#include "cli/cli.h"

#include <getopt.h>
#include <sys/ioctl.h>

#include "base/jsonw.h"

int cli_error(const struct lem_error *err)
{
	bool color = cli_color(stderr);

	fprintf(stderr, "%slem: %s%s", color ? "\x1b[31m" : "", err->what, color ? "\x1b[0m" : "");
	if (err->where[0])
		fprintf(stderr, " (%s)", err->where);
	fputc('\n', stderr);
	if (err->why[0])
		fprintf(stderr, "  why:  %s\n", err->why);
	if (err->fix[0])
		fprintf(stderr, "  hint: %s\n", err->fix);
	return lem_code_exit(err->code);
}

static void add_optional(struct jsonw *w, const char *key, const char *value)
{
	jsonw_str(w, key, value[0] ? value : NULL);
}

int cli_error_as(const struct lem_error *err, bool json)
{
	_cleanup_str_ struct str out = STR_INIT;
	struct jsonw w;

	if (!json)
		return cli_error(err);
	jsonw_init(&w, &out, 2);
	jsonw_object(&w, NULL);
	jsonw_object(&w, "error");
	jsonw_str(&w, "code", lem_code_name(err->code));
	add_optional(&w, "what", err->what);
	add_optional(&w, "where", err->where);
	add_optional(&w, "why", err->why);
	add_optional(&w, "fix", err->fix);
	jsonw_end_object(&w);
	jsonw_end_object(&w);
	puts(str_c(&out));
	return lem_code_exit(err->code);
}

int cli_usage(const char *command, const char *fmt, ...)
{
	va_list ap;

	fputs("lem: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nTry 'lem %s%s--help'.\n", command ? command : "", command ? " " : "");
	return CLI_REFUSED;
}

int cli_bad_option(const char *command, int c, char *const *argv)
{
	const char *word = argv[optind - 1];
	bool is_long = str_starts(word, "--");

	if (c == ':')
		return cli_usage(command, "a value is missing after '%s'", word);
	if (is_long && optopt)
		return cli_usage(command, "this option takes no value: '%s'", word);
	if (is_long)
		return cli_usage(command, "no such option: '%s'", word);
	return cli_usage(command, "no such option: '-%c'", optopt);
}

bool cli_color(FILE *f)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(fileno(f)) && !(no && *no) && !(term && str_eq(term, "dumb"));
}

int cli_width(FILE *f)
{
	struct winsize ws;

	if (isatty(fileno(f)) && ioctl(fileno(f), TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0)
		return ws.ws_col;
	return 100;
}

/* The first of these that is set decides, as setlocale would (POSIX, section 8.2). */
bool cli_ascii(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const char *v = getenv(names[i]);

		if (v && *v)
			return !strcasestr(v, "utf-8") && !strcasestr(v, "utf8");
	}
	return false; /* nothing said, as in most containers: terminals of today show UTF-8 */
}

const char *cli_results_dir(const char *option)
{
	const char *s;

	if (option)
		return option;
	if ((s = getenv("LEM_RESULTS_DIR")) && *s)
		return s;
	if ((s = getenv("LLM_ENERGY_RESULTS_DIR")) && *s) {
		fputs("lem: LLM_ENERGY_RESULTS_DIR is the old name of LEM_RESULTS_DIR; used as it "
		      "is\n",
		      stderr);
		return s;
	}
	return "results";
}
