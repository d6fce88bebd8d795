#include "base/num.h"

#include <ctype.h>
#include <math.h>
#include <strings.h>

bool num_parse_i64(const char *s, int64_t *ret)
{
	char *end;
	long long v;

	if (!isdigit((unsigned char)s[s[0] == '-' || s[0] == '+']))
		return false;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno || *end)
		return false;
	*ret = v;
	return true;
}

bool num_parse_u64(const char *s, uint64_t *ret)
{
	char *end;
	unsigned long long v;

	if (!isdigit((unsigned char)s[0]))
		return false;
	errno = 0;
	v = strtoull(s, &end, 10);
	if (errno || *end)
		return false;
	*ret = v;
	return true;
}

/* The number syntax of YAML 1.2 and JSON in decimal; hex floats, "inf" and "nan" are refused. */
static bool is_decimal(const char *s)
{
	size_t digits = 0;

	s += *s == '-' || *s == '+';
	for (; isdigit((unsigned char)*s); s++)
		digits++;
	if (*s == '.')
		for (s++; isdigit((unsigned char)*s); s++)
			digits++;
	if (!digits)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		s += *s == '-' || *s == '+';
		if (!isdigit((unsigned char)*s))
			return false;
		while (isdigit((unsigned char)*s))
			s++;
	}
	return *s == '\0';
}

bool num_parse_f64(const char *s, double *ret)
{
	double v;

	if (!is_decimal(s))
		return false;
	v = strtod(s, NULL); /* the program never calls setlocale, so the point is a point */
	if (!isfinite(v))
		return false;
	*ret = v;
	return true;
}

struct unit {
	const char *name;
	double factor;
};

/* Splits "12.5ms" into number and unit; the unit must be in the table. */
static bool parse_with_unit(const char *s, const struct unit *units, size_t n, double *ret)
{
	char head[48];
	size_t k = strspn(s, "0123456789.");
	double v;

	if (k == 0 || k >= sizeof(head))
		return false;
	memcpy(head, s, k);
	head[k] = '\0';
	if (!num_parse_f64(head, &v))
		return false;
	while (s[k] == ' ')
		k++;
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(s + k, units[i].name) == 0) {
			*ret = v * units[i].factor;
			return true;
		}
	return false;
}

bool num_parse_duration_ns(const char *s, int64_t *ret)
{
	static const struct unit units[] = {
		{"ns", 1},     {"us", 1e3},        {"ms", 1e6},
		{"s", 1e9},    {"m", 60e9},        {"min", 60e9},
		{"h", 3600e9}, {"d", 24 * 3600e9}, {"w", 7 * 24 * 3600e9},
	};
	double v;

	if (!parse_with_unit(s, units, ARRAY_LEN(units), &v) || v > 9e18)
		return false;
	*ret = (int64_t)llround(v);
	return true;
}

bool num_parse_bytes(const char *s, uint64_t *ret)
{
	static const struct unit units[] = {
		{"", 1},
		{"b", 1},
		{"k", 1024},
		{"kib", 1024},
		{"kb", 1e3},
		{"m", 1 << 20},
		{"mib", 1 << 20},
		{"mb", 1e6},
		{"g", 1 << 30},
		{"gib", 1 << 30},
		{"gb", 1e9},
		{"t", 1ULL << 40},
		{"tib", 1ULL << 40},
		{"tb", 1e12},
	};
	double v;

	if (!parse_with_unit(s, units, ARRAY_LEN(units), &v) || v > 9e18)
		return false;
	*ret = (uint64_t)v;
	return true;
}

char *num_format_bytes(uint64_t bytes, char *buf, size_t size)
{
	static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)bytes;
	size_t i = 0;

	while (v >= 1024 && i + 1 < ARRAY_LEN(names)) {
		v /= 1024;
		i++;
	}
	snprintf(buf, size, i && v < 100 ? "%.2f %s" : "%.0f %s", v, names[i]);
	return buf;
}

char *num_format_duration(int64_t ns, char *buf, size_t size)
{
	int64_t s = ns / NS_PER_S;

	if (s >= 3600)
		snprintf(buf, size, "%" PRId64 " h %02" PRId64 " min", s / 3600, s % 3600 / 60);
	else if (s >= 100)
		snprintf(buf, size, "%" PRId64 " min %02" PRId64 " s", s / 60, s % 60);
	else if (ns >= NS_PER_S)
		snprintf(buf, size, "%.1f s", (double)ns / 1e9);
	else
		snprintf(buf, size, "%.3g ms", (double)ns / 1e6);
	return buf;
}
