/*
 * report_text.c — the report for a terminal:
 *
 *   GPUs
 *     ✓ R28  compute mode               default
 *     ! R27  foreign processes          1
 *            what it draws would be counted as yours: pid 812 (python3, anna) on GPU 2
 *            fix: stop it, or choose another GPU (lem gpus lists all)
 *
 * Texts may come from outside (names of processes, answers of daemons): bytes that a terminal would
 * obey are shown as '?'.
 */
#include "doctor/report.h"

enum {
	ID_WIDTH = 5,
	TITLE_WIDTH = 27,
	INDENT = 9,
	VALUE_COLUMN = 4 + ID_WIDTH + TITLE_WIDTH,
	ALIKE_MIN = 3
};

struct look {
	const char *mark, *ascii, *color;
};

static const struct look looks[DOCTOR_STATUSES] = {
	[DOCTOR_OK] = {"✓", "+", "\x1b[32m"},
	[DOCTOR_WARNING] = {"!", "!", "\x1b[33m"},
	[DOCTOR_ERROR] = {"✗", "x", "\x1b[31m"},
	[DOCTOR_UNKNOWN] = {"?", "?", "\x1b[36m"},
	[DOCTOR_NOT_APPLICABLE] = {"·", "-", "\x1b[2m"},
};

static const char *on(const struct doctor_style *s, const char *sequence)
{
	return s->color ? sequence : "";
}

static const char *off(const struct doctor_style *s)
{
	return s->color ? "\x1b[0m" : "";
}

/* ---- characters ---- */

static size_t char_bytes(const char *p)
{
	unsigned char c = (unsigned char)*p;
	size_t n = c < 0x80                ? 1
		   : c >= 0xf0 && c < 0xf5 ? 4
		   : c >= 0xe0 && c < 0xf0 ? 3
		   : c >= 0xc2 && c < 0xe0 ? 2
					   : 0;

	for (size_t i = 1; i < n; i++)
		if (((unsigned char)p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static const char *in_ascii(const char *p, size_t n)
{
	static const char *const pairs[][2] = {{"×", "x"},   {"°", ""},  {"–", "-"},
					       {"…", "..."}, {"·", "-"}, {"—", "-"}};

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++)
		if (strlen(pairs[i][0]) == n && memcmp(pairs[i][0], p, n) == 0)
			return pairs[i][1];
	return "?";
}

/* What a terminal obeys: control characters of ASCII and of Latin-1 (U+0080 to U+009F). */
static bool is_control(const char *p, size_t bytes)
{
	unsigned char c = (unsigned char)p[0];

	return bytes == 1 ? c < 0x20 || c == 0x7f
			  : bytes == 2 && c == 0xc2 && (unsigned char)p[1] < 0xa0;
}

/* Returns the columns it takes, one per character. */
static size_t add_clean(const struct doctor_style *s, const char *text, size_t n, struct str *out)
{
	size_t columns = 0;

	for (size_t i = 0; i < n;) {
		size_t k = char_bytes(text + i);
		bool bad = k == 0 || i + k > n || is_control(text + i, k);
		const char *instead = bad ? "?" : k > 1 && s->ascii ? in_ascii(text + i, k) : NULL;

		if (instead) {
			str_add(out, instead);
			columns += strlen(instead);
		} else {
			str_addn(out, text + i, k);
			columns++;
		}
		i += MIN(MAX(k, (size_t)1), n - i);
	}
	return columns;
}

static void spaces(struct str *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		str_addc(out, ' ');
}

/* ---- wrapping ---- */

/* A command is broken only where a shell reads on: after &&, ||, | and ; */
static bool is_command(const char *text)
{
	static const char *const starts[] = {"sudo ",   "docker ", "nvidia-",    "unset ",
					     "ulimit ", "export ", "getsebool ", "systemctl "};

	for (size_t i = 0; i < ARRAY_LEN(starts); i++)
		if (str_starts(text, starts[i]))
			return true;
	return false;
}

static bool may_break(const char *text, size_t at, bool command)
{
	if (text[at] != ' ')
		return false;
	return !command || (at > 0 && strchr("&|;,", text[at - 1]) && text[at - 1]);
}

/* Where the piece that begins at `from` ends: the next place to break at. */
static size_t piece_end(const char *text, size_t from, bool command)
{
	size_t i = from;

	while (text[i] && !may_break(text, i, command))
		i++;
	return i;
}

static size_t columns_of(const struct doctor_style *s, const char *text, size_t n)
{
	_cleanup_str_ struct str scratch = STR_INIT;

	return add_clean(s, text, n, &scratch);
}

/* Goes on at column `at`; further lines begin at `indent`. Ends the line. */
static void wrap(const struct doctor_style *s, const char *text, size_t at, size_t indent,
		 struct str *out)
{
	bool command = is_command(text), fresh = true;
	size_t width = (size_t)MAX(s->width, 40);

	for (size_t i = 0; text[i];) {
		size_t end = piece_end(text, i, command);
		size_t columns = columns_of(s, text + i, end - i);

		if (!fresh && at + 1 + columns > width) {
			str_addc(out, '\n');
			spaces(out, indent);
			at = indent;
			fresh = true;
		}
		if (!fresh) {
			str_addc(out, ' ');
			at++;
		}
		at += add_clean(s, text + i, end - i, out);
		fresh = false;
		for (i = end; text[i] == ' '; i++)
			;
	}
	str_addc(out, '\n');
}

/* ---- one result ---- */

static void pad_to(struct str *out, size_t have, size_t want)
{
	spaces(out, have < want ? want - have : 1);
}

static bool is_problem(const struct doctor_result *r)
{
	return r->status == DOCTOR_WARNING || r->status == DOCTOR_ERROR;
}

/* "R17", "C01": what `lem doctor` and findings are known by; words are for --json. */
static bool is_code(const char *id)
{
	return strlen(id) == 3 && id[0] >= 'A' && id[0] <= 'Z';
}

static void add_head(const struct doctor_result *r, const struct doctor_style *s, struct str *out)
{
	const struct look *look = &looks[r->status];

	str_addf(out, "  %s%s%s ", on(s, look->color), s->ascii ? look->ascii : look->mark, off(s));
	str_addf(out, "%s%-*s%s", on(s, "\x1b[2m"), ID_WIDTH, is_code(r->id) ? r->id : "", off(s));
	pad_to(out, add_clean(s, r->title, strlen(r->title), out), TITLE_WIDTH);
}

static void add_problem(const struct doctor_result *r, const struct doctor_style *s,
			struct str *out)
{
	if (!r->value[0]) {
		wrap(s, r->message, VALUE_COLUMN, VALUE_COLUMN, out);
		return;
	}
	wrap(s, r->value, VALUE_COLUMN, VALUE_COLUMN, out);
	spaces(out, INDENT);
	wrap(s, r->message, INDENT, INDENT, out);
}

static void add_dim(const struct doctor_result *r, const struct doctor_style *s, struct str *out)
{
	const char *prefix = r->status == DOCTOR_UNKNOWN ? "unknown: " : "";

	str_addf(out, "%s%s", on(s, "\x1b[2m"), prefix);
	wrap(s, r->message, VALUE_COLUMN + strlen(prefix), VALUE_COLUMN, out);
	str_add(out, off(s));
}

static void add_result(const struct doctor_result *r, const struct doctor_style *s, struct str *out)
{
	add_head(r, s, out);
	if (is_problem(r))
		add_problem(r, s, out);
	else if (r->status == DOCTOR_OK)
		wrap(s, r->value[0] ? r->value : r->message, VALUE_COLUMN, VALUE_COLUMN, out);
	else
		add_dim(r, s, out);
	if (r->fix[0] && r->status != DOCTOR_NOT_APPLICABLE) {
		spaces(out, INDENT);
		str_addf(out, "%sfix:%s ", on(s, "\x1b[1m"), off(s));
		wrap(s, r->fix, INDENT + 5, INDENT + 5, out);
	}
}

/* How many results of one group from i on say nothing, all for the same reason. */
static size_t count_alike(const struct doctor_report *r, size_t i)
{
	const struct doctor_result *first = &r->at[i];
	size_t n = 0;

	if (first->status != DOCTOR_NOT_APPLICABLE && first->status != DOCTOR_UNKNOWN)
		return 0;
	while (i + n < r->n && r->at[i + n].status == first->status &&
	       str_eq(r->at[i + n].group, first->group) &&
	       str_eq(r->at[i + n].message, first->message))
		n++;
	return n;
}

/* One line for all of them. */
static void add_alike(const struct doctor_report *r, size_t i, size_t n,
		      const struct doctor_style *s, struct str *out)
{
	struct doctor_result all = r->at[i];
	char title[32];

	(void)snprintf(title, sizeof(title), "%zu checks", n);
	all.id = "";
	all.title = title;
	add_result(&all, s, out);
}

/* ---- the whole ---- */

static void add_count(struct str *out, size_t n, const char *one, const char *many)
{
	if (n)
		str_addf(out, "%s%zu %s", out->len ? ", " : "", n, n == 1 ? one : many);
}

static void add_summary(const struct doctor_report *r, const struct doctor_style *s,
			struct str *out)
{
	_cleanup_str_ struct str line = STR_INIT;
	enum doctor_status worst = r->count[DOCTOR_ERROR]     ? DOCTOR_ERROR
				   : r->count[DOCTOR_WARNING] ? DOCTOR_WARNING
							      : DOCTOR_OK;

	add_count(&line, r->count[DOCTOR_ERROR], "error", "errors");
	add_count(&line, r->count[DOCTOR_WARNING], "warning", "warnings");
	if (!line.len)
		str_add(&line, "no problem found");
	add_count(&line, r->count[DOCTOR_UNKNOWN], "unknown", "unknown");
	add_count(&line, r->count[DOCTOR_OK], "ok", "ok");
	add_count(&line, r->count[DOCTOR_NOT_APPLICABLE], "not applicable", "not applicable");
	str_addf(out, "\n%s%s%s\n", on(s, looks[worst].color), str_c(&line), off(s));
}

/* The rules that no check of this host looks for, as "R01 R02 R04 R09-R16". */
static void add_elsewhere(const struct doctor_style *s, struct str *out)
{
	_cleanup_str_ struct str line = STR_INIT;

	for (size_t i = 0; i < doctor_n_rules && doctor_rules[i].id[0] == 'R'; i++) {
		size_t k = i;

		if (doctor_rules[i].where & (DOCTOR_ON_HOST | DOCTOR_IN_ENGINE))
			continue;
		while (doctor_rules[k + 1].id[0] == 'R' &&
		       !(doctor_rules[k + 1].where & (DOCTOR_ON_HOST | DOCTOR_IN_ENGINE)))
			k++;
		str_addf(&line, "%s%s", line.len ? " " : "", doctor_rules[i].id);
		if (k > i)
			str_addf(&line, "%s%s", k > i + 1 ? "–" : " ", doctor_rules[k].id);
		i = k;
	}
	str_add(&line,
		" are checked with a configuration (lem doctor CONFIG.yaml) and in every run, "
		"or cannot happen. lem doctor R17 explains a rule, lem doctor --list lists them.");
	str_add(out, on(s, "\x1b[2m"));
	wrap(s, str_c(&line), 0, 0, out);
	str_add(out, off(s));
}

void doctor_report_text(const struct doctor_report *r, const struct doctor_style *s,
			struct str *out)
{
	const char *group = "";

	if (r->about[0] && !r->partial) {
		str_add(out, "lem " LEM_VERSION " on ");
		wrap(s, r->about, strlen("lem " LEM_VERSION " on "), 2, out);
	}
	for (size_t i = 0; i < r->n; i++) {
		if (!str_eq(r->at[i].group, group)) {
			group = r->at[i].group;
			str_addf(out, "%s%s%s%s\n", out->len ? "\n" : "", on(s, "\x1b[1m"), group,
				 off(s));
		}
		size_t alike = r->partial ? 1 : count_alike(r, i);

		if (alike >= ALIKE_MIN) {
			add_alike(r, i, alike, s, out);
			i += alike - 1;
		} else {
			add_result(&r->at[i], s, out);
		}
	}
	add_summary(r, s, out);
	if (!r->partial)
		add_elsewhere(s, out);
}

static void add_part(const struct doctor_style *s, const char *label, const char *text,
		     struct str *out)
{
	str_addf(out, "  %s%-9s%s", on(s, "\x1b[2m"), label, off(s));
	wrap(s, text, 11, 11, out);
}

void doctor_rule_text(const struct doctor_rule *rule, const struct doctor_style *s, struct str *out)
{
	_cleanup_str_ struct str where = STR_INIT;

	doctor_where_text(rule->where, &where);
	str_addf(out, "%s%s%s  ", on(s, "\x1b[1m"), rule->id, off(s));
	wrap(s, rule->title, 5, 5, out);
	add_part(s, "means", rule->means, out);
	add_part(s, "weight", doctor_severity_name(rule->severity), out);
	add_part(s, "checked", str_c(&where), out);
	add_part(s, "fix", rule->fix, out);
}

void doctor_list_text(const struct doctor_style *s, struct str *out)
{
	for (size_t i = 0; i < doctor_n_rules; i++) {
		const struct doctor_rule *r = &doctor_rules[i];

		if (i && r->id[0] != doctor_rules[i - 1].id[0])
			str_add(out, "\nknown from logs\n");
		str_addf(out, "  %-5s%s%-10s%s", r->id,
			 on(s, r->severity == DOCTOR_BLOCKS  ? "\x1b[31m"
			       : r->severity == DOCTOR_WARNS ? "\x1b[33m"
							     : "\x1b[2m"),
			 doctor_severity_name(r->severity), off(s));
		wrap(s, r->title, 17, 17, out);
	}
}
