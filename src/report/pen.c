#include "report/pen.h"

#include <math.h>

void pen_init(struct pen *p, const struct report_style *style, struct str *out)
{
	*p = (struct pen){.style = style, .out = out, .width = MIN(MAX(style->width, 60), 120)};
}

static const char *code(const struct pen *p, const char *escape)
{
	return p->style->color ? escape : "";
}

const char *pen_bold(const struct pen *p)
{
	return code(p, "\x1b[1m");
}

const char *pen_dim(const struct pen *p)
{
	return code(p, "\x1b[2m");
}

const char *pen_plain(const struct pen *p)
{
	return code(p, "\x1b[0m");
}

const char *pen_verdict(const struct pen *p, const char *level)
{
	return code(p, str_eq(level, "valid")     ? "\x1b[32m"
		       : str_eq(level, "suspect") ? "\x1b[33m"
						  : "\x1b[31m");
}

const char *pen_dot(const struct pen *p)
{
	return p->style->ascii ? " | " : " \xc2\xb7 ";
}

const char *pen_plus_minus(const struct pen *p)
{
	return p->style->ascii ? "+-" : "\xc2\xb1";
}

static bool is_continuation(char c)
{
	return ((unsigned char)c & 0xc0) == 0x80;
}

/* Bytes of the printable character at s (not empty), 0 when it is not one. U+0080 to U+009F are
 * controls too; some terminals obey them. */
static size_t printable(const char *s)
{
	unsigned char c = (unsigned char)s[0];
	size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;

	if (c < 0x20 || c == 0x7f || (c == 0xc2 && (unsigned char)s[1] < 0xa0))
		return 0;
	for (size_t i = 1; i < n; i++)
		if (!is_continuation(s[i]))
			return 0;
	return n;
}

size_t pen_clean(const struct pen *p, const char *text, struct str *out)
{
	size_t columns = 0;

	while (*text) {
		size_t n = printable(text);

		if (n == 0 && strchr("\n\r\t", *text))
			str_addc(out, ' ');
		else if (n == 0 || (n > 1 && p->style->ascii))
			str_addc(out, '?');
		else
			str_addn(out, text, n);
		text += MAX(n, (size_t)1);
		columns++;
	}
	return columns;
}

/* Words of one or two characters ("%", "ms") stay with the number before them. */
static bool may_break(const char *blank)
{
	return *blank == ' ' && strcspn(blank + 1, " ") > 2;
}

/* Bytes of text that go on a line of `room` columns: all, or up to a blank, or cut hard. A line is
 * left less than half full only before a word that a line can hold: names of options stay whole. */
static size_t fit(const char *text, size_t room)
{
	size_t end = 0, columns = 0, last_break = 0;

	while (text[end] && columns <= room) {
		if (may_break(text + end) &&
		    (columns > room / 2 || strcspn(text + end + 1, " ") <= room))
			last_break = end;
		if (columns++ == room)
			break;
		do
			end++;
		while (is_continuation(text[end]));
	}
	if (!text[end])
		return end;
	return last_break ? last_break : end;
}

static void put_wrapped(struct pen *p, const char *label, const char *text)
{
	size_t room = (size_t)(p->width - PEN_LABEL_WIDTH - 4);

	do {
		size_t n = fit(text, room);

		str_addf(p->out, "  %s%-*s%s %.*s\n", pen_dim(p), PEN_LABEL_WIDTH, label,
			 pen_plain(p), (int)n, text);
		text += n;
		text += strspn(text, " ");
		label = "";
	} while (*text);
}

void pen_heading(struct pen *p, const char *text)
{
	str_addf(p->out, "\n%s%s%s\n", pen_bold(p), text, pen_plain(p));
}

/* The dot and the plus-minus are ours, in the right alphabet already: pen_clean keeps them. */
void pen_line(struct pen *p, const char *label, const char *fmt, ...)
{
	_cleanup_str_ struct str s = STR_INIT, clean = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&s, fmt, ap);
	va_end(ap);
	pen_clean(p, str_c(&s), &clean);
	put_wrapped(p, label, str_c(&clean));
}

char *pen_spread(const struct pen *p, const struct quantity *q, char *buf, size_t size)
{
	double half = (q->high - q->low) / 2, percent = half / fabs(q->value) * 100;

	buf[0] = '\0';
	if (!(half > 0) || q->value == 0)
		return buf;
	if (percent < 0.01)
		snprintf(buf, size, " %s <0.01 %%", pen_plus_minus(p));
	else if (percent > 999)
		snprintf(buf, size, " %s >999 %%", pen_plus_minus(p));
	else
		snprintf(buf, size, " %s %.*f %%", pen_plus_minus(p),
			 percent >= 9.95    ? 0
			 : percent >= 0.995 ? 1
					    : 2,
			 percent);
	return buf;
}

void pen_quantity(struct pen *p, const char *label, const struct quantity *q, const char *unit)
{
	char value[32], spread[24];

	if (!q->known)
		pen_line(p, label, "not measured: %s", q->reason[0] ? q->reason : "no reason kept");
	else
		pen_line(p, label, "%s%s",
			 report_scaled(q->value, unit, p->style->ascii, value, sizeof(value)),
			 pen_spread(p, q, spread, sizeof(spread)));
}

char *report_scaled(double v, const char *unit, bool ascii, char *buf, size_t size)
{
	static const struct {
		double factor;
		const char *prefix;
	} scales[] = {{1e15, "P"}, {1e12, "T"}, {1e9, "G"},  {1e6, "M"}, {1e3, "k"},
		      {1, ""},     {1e-3, "m"}, {1e-6, "u"}, {1e-9, "n"}};
	double a = fabs(v);
	size_t i = 0;

	if (!isfinite(v)) {
		snprintf(buf, size, "-");
		return buf;
	}
	if (a == 0) {
		snprintf(buf, size, "0 %s", unit);
		return buf;
	}
	/* 0.9995: what would be shown as 1000 of one unit is 1.00 of the next */
	while (i + 1 < ARRAY_LEN(scales) && a < scales[i].factor * 0.9995)
		i++;
	double x = v / scales[i].factor;
	int digits = fabs(x) >= 99.95 ? 0 : fabs(x) >= 9.995 ? 1 : 2;
	const char *prefix = !ascii && scales[i].prefix[0] == 'u' ? "\xc2\xb5" : scales[i].prefix;

	snprintf(buf, size, "%.*f %s%s", digits, x, prefix, unit);
	return buf;
}
