#include "load/lengths.h"

#include <math.h>

#include "base/num.h"
#include "base/rand.h"
#include "base/str.h"

/* ---- a file ---- */

void length_list_release(struct length_list *l)
{
	free(l->input);
	free(l->output);
	*l = (struct length_list){0};
}

static bool one_length(const char *text, int32_t *ret)
{
	int64_t v;

	if (!num_parse_i64(text, &v) || v < 1 || v > LENGTH_TOKENS_MAX)
		return false;
	*ret = (int32_t)v;
	return true;
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	for (n = strlen(s); n && strchr(" \t\r", s[n - 1]); n--)
		s[n - 1] = '\0';
	return s;
}

/* 0: nothing; 1 or 2 lengths; -1: something else. */
static int parse_line(char *line, int32_t length[2])
{
	char *comma, *second = NULL;

	line[strcspn(line, "#")] = '\0';
	comma = strchr(line, ',');
	if (comma) {
		*comma = '\0';
		second = trim(comma + 1);
	}
	line = trim(line);
	if (!*line && !second)
		return 0;
	if (!one_length(line, &length[0]) || (second && !one_length(second, &length[1])))
		return -1;
	return second ? 2 : 1;
}

struct list_parser {
	const char *name;
	size_t line, cap;
	int columns; /* 0: not yet known */
	struct length_list list;
};

static int bad_line(const struct list_parser *p, const char *why, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED, "%s", why);
	(void)lem_error_where(err, "%.200s:%zu", p->name, p->line);
	return lem_error_fix(err, "write a number of tokens a line, or two: input,output");
}

static int take_line(struct list_parser *p, char *line, struct lem_error *err)
{
	struct length_list *l = &p->list;
	int32_t length[2];
	int columns = parse_line(line, length);

	if (columns == 0)
		return 0;
	if (columns < 0)
		return bad_line(p, "this is no number of tokens", err);
	if (p->columns && columns != p->columns)
		return bad_line(p, "some lines have two numbers, others one", err);
	if (l->n == LENGTHS_MAX)
		return bad_line(p, "there are more than 10 million lengths", err);
	p->columns = columns;
	if (l->n == p->cap) {
		p->cap = MAX(p->cap * 2, (size_t)256);
		l->input = lem_reallocarray(l->input, p->cap, sizeof(*l->input));
		if (columns == 2)
			l->output = lem_reallocarray(l->output, p->cap, sizeof(*l->output));
	}
	l->input[l->n] = length[0];
	if (columns == 2)
		l->output[l->n] = length[1];
	l->n++;
	return 0;
}

int length_list_parse(const char *bytes, size_t n, const char *name, struct length_list *ret,
		      struct lem_error *err)
{
	enum { LINE_MAX_BYTES = 256 };
	struct list_parser p = {.name = name};
	const char *at = bytes, *end = bytes + n;
	int rc = 0;

	if (n >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
		at += 3;
	while (at < end && rc >= 0) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t len = nl ? (size_t)(nl - at) : (size_t)(end - at);
		char line[LINE_MAX_BYTES];

		p.line++;
		if (len >= sizeof(line) || memchr(at, '\0', len)) {
			rc = bad_line(&p, "this is no number of tokens", err);
			break;
		}
		memcpy(line, at, len);
		line[len] = '\0';
		rc = take_line(&p, line, err);
		at += len + (nl != NULL);
	}
	if (rc >= 0 && !p.list.n)
		rc = bad_line(&p, "there is no length in this file", err);
	if (rc < 0)
		length_list_release(&p.list);
	else
		*ret = p.list;
	return rc;
}

/* ---- distributions ---- */

static int64_t low_of(const struct length_config *c)
{
	return c->min.set ? c->min.v : 1;
}

static int64_t high_of(const struct length_config *c, int64_t most)
{
	return c->max.set ? MIN(c->max.v, most) : most;
}

static double mu_of(const struct length_config *c)
{
	double sigma = c->sigma.set ? c->sigma.v : 0;

	return c->median.set ? log(c->median.v) : log(c->mean.v) - sigma * sigma / 2;
}

static int32_t clamp(double v, int64_t low, int64_t high)
{
	if (!(v > (double)low))
		return (int32_t)low;
	return v < (double)high ? (int32_t)lround(v) : (int32_t)high;
}

void lengths_draw(const struct length_config *c, uint64_t seed, int64_t most, const int32_t *file,
		  size_t n_file, int32_t *out, size_t n)
{
	int64_t high = MAX(high_of(c, most), INT64_C(1)), low = MIN(low_of(c), high);
	double mu = c->distribution == LENGTH_LOGNORMAL ? mu_of(c) : 0,
	       sigma = c->sigma.set ? c->sigma.v : 0;
	struct rand r;

	rand_seed(&r, seed);
	for (size_t i = 0; i < n; i++)
		switch (c->distribution) {
		case LENGTH_UNIFORM:
			out[i] = (int32_t)(low +
					   (int64_t)rand_below(&r, (uint64_t)(high - low + 1)));
			break;
		case LENGTH_LOGNORMAL:
			out[i] = clamp(exp(mu + sigma * rand_normal(&r)), low, high);
			break;
		case LENGTH_FILE: out[i] = file[i % n_file]; break;
		default: out[i] = (int32_t)MIN(MAX(c->tokens, INT64_C(1)), most); break;
		}
}

void length_describe(const struct length_config *c, int64_t most, char *buf, size_t size)
{
	switch (c->distribution) {
	case LENGTH_UNIFORM:
		(void)snprintf(buf, size, "uniform %" PRId64 " to %" PRId64, low_of(c),
			       high_of(c, most));
		break;
	case LENGTH_LOGNORMAL:
		(void)snprintf(buf, size, "lognormal, %s %g, sigma %g, %" PRId64 " to %" PRId64,
			       c->median.set ? "median" : "mean",
			       c->median.set ? c->median.v : c->mean.v,
			       c->sigma.set ? c->sigma.v : 0, low_of(c), high_of(c, most));
		break;
	case LENGTH_FILE: (void)snprintf(buf, size, "from %.60s", c->path ? c->path : "?"); break;
	default: (void)snprintf(buf, size, "%" PRId64, c->tokens); break;
	}
}
