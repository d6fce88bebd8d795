/* explain.c — the lines of a text against the table of known messages. */
#include "doctor/explain.h"

#include "doctor/catalogue.h"
#include "doctor/known.h"

enum {
	WINDOW = 2048,                /* of a long line at a time */
	OVERLAP = 2 * KNOWN_PART_MAX, /* so that no part is missed at a seam */
};

static char lower(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + ('a' - 'A'));
	return c == '\0' ? ' ' : c;
}

/* Where the first part stands in the text; NULL: no match. */
static const char *match(const struct known_message *k, const char *lowered)
{
	const char *at = strstr(lowered, k->parts[0]);

	for (size_t i = 1; at && i < KNOWN_PARTS && k->parts[i]; i++)
		if (!strstr(lowered, k->parts[i]))
			return NULL;
	return at;
}

/* Past an escape sequence of a terminal (ECMA-48: ESC [ parameters final), or past one byte. */
static size_t skip_control(const char *s, size_t i, size_t n)
{
	if (s[i] != '\x1b' || i + 1 >= n || s[i + 1] != '[')
		return i + 1;
	for (i += 2; i < n && (s[i] < '@' || s[i] > '~'); i++)
		;
	return MIN(i + 1, n);
}

/* Bytes of a well-formed UTF-8 character at s[i], 0 when it is none. */
static size_t utf8_length(const char *s, size_t i, size_t n)
{
	unsigned char c = (unsigned char)s[i];
	size_t k = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf5 ? 4 : c >= 0xe0 ? 3 : c >= 0xc2 ? 2 : 0;

	if (k == 0 || c >= 0xf5 || i + k > n)
		return 0;
	for (size_t j = 1; j < k; j++)
		if (((unsigned char)s[i + j] & 0xc0) != 0x80)
			return 0;
	return k;
}

/* The line from `from` on as it may be shown: no control characters, whole characters, cut with an
 * ellipsis. */
static void show(const char *s, size_t from, size_t n, char *out, size_t size)
{
	static const char more[] = "…";
	size_t len = 0, i = from;

	if (from > 0)
		len = lem_strlcpy(out, more, size);
	while (i < n) {
		size_t k = utf8_length(s, i, n);

		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f) {
			size_t next = skip_control(s, i, n);

			if (s[i] == '\t' && len + sizeof(more) < size)
				out[len++] = ' ';
			i = next;
			continue;
		}
		if (len + MAX(k, (size_t)1) + sizeof(more) > size) {
			lem_strlcpy(out + len, more, size - len);
			return;
		}
		if (k == 0) {
			out[len++] = '?';
			i++;
			continue;
		}
		memcpy(out + len, s + i, k);
		len += k;
		i += k;
	}
	out[len] = '\0';
}

/* From where a long line is shown, so that the match is in it: not inside a word or a character. */
static size_t show_from(const char *s, size_t at, size_t n, size_t size)
{
	size_t from;

	while (n > 0 && (s[n - 1] == '\r' || s[n - 1] == ' '))
		n--;
	if (n <= size - 8 || at < size / 2)
		return 0;
	from = at - size / 4;
	while (from < at && s[from] != ' ')
		from++;
	return from < at ? from + 1 : at;
}

static void fill(const struct known_message *k, const char *line, size_t at, size_t n,
		 struct explanation *ret)
{
	const struct doctor_rule *rule = doctor_rule(k->id);

	*ret = (struct explanation){
		.id = rule->id,
		.title = k->title ? k->title : rule->title,
		.fix = k->fix ? k->fix : rule->fix,
	};
	while (n > 0 && (line[n - 1] == '\r' || line[n - 1] == ' '))
		n--;
	show(line, show_from(line, at, n, sizeof(ret->line)), n, ret->line, sizeof(ret->line));
}

/* The first entry that some window of the line matches; *ret_at: where in the line. */
static const struct known_message *explain_line(const char *line, size_t n, size_t *ret_at)
{
	char lowered[WINDOW + 1];

	for (size_t start = 0;; start += WINDOW - OVERLAP) {
		size_t k = MIN(n - start, (size_t)WINDOW);

		for (size_t i = 0; i < k; i++)
			lowered[i] = lower(line[start + i]);
		lowered[k] = '\0';
		for (size_t i = 0; i < n_known_messages; i++) {
			const char *at = match(&known_messages[i], lowered);

			if (at) {
				*ret_at = start + (size_t)(at - lowered);
				return &known_messages[i];
			}
		}
		if (start + k >= n)
			return NULL;
	}
}

static bool is_told(const struct explanation *ret, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(ret[i].id, id))
			return true;
	return false;
}

size_t doctor_explain(const char *text, size_t n, struct explanation *ret, size_t cap)
{
	size_t found = 0;

	for (size_t i = 0; i < n && found < cap;) {
		const char *line = text + i;
		const char *end = memchr(line, '\n', n - i);
		size_t len = end ? (size_t)(end - line) : n - i, at = 0;
		const struct known_message *k = explain_line(line, len, &at);

		if (k && !is_told(ret, found, k->id))
			fill(k, line, at, len, &ret[found++]);
		i += len + 1;
	}
	return found;
}
