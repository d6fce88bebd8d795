#include "power_law.h"

#include <math.h>

#include "base/num.h"
#include "base/rand.h"

enum { MAX_NUMBERS = 8, MAX_STEPS = 64 };

static bool take_number(const char *text, double *ret)
{
	int64_t ns;

	if (num_parse_f64(text, ret))
		return true;
	if (!num_parse_duration_ns(text, &ns))
		return false;
	*ret = (double)ns / 1e9;
	return true;
}

static size_t take_numbers(char *text, double *out)
{
	size_t n = 0;
	char *save = NULL;

	for (char *t = strtok_r(text, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		if (n == MAX_NUMBERS || !take_number(t, &out[n]))
			return 0;
		n++;
	}
	return n;
}

static bool parse_steps(char *text, struct power_law *l)
{
	char *save = NULL;

	l->kind = LAW_PIECES;
	l->pieces = lem_calloc(MAX_STEPS, sizeof(*l->pieces));
	for (char *t = strtok_r(text, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		char *at = strchr(t, '@');
		struct law_piece *p = &l->pieces[l->n];

		if (!at || l->n == MAX_STEPS)
			return false;
		*at = '\0';
		if (!take_number(t, &p->watts) || !take_number(at + 1, &p->t_s))
			return false;
		if (l->n)
			p->joules = p[-1].joules + p[-1].watts * (p->t_s - p[-1].t_s);
		else
			p->joules = p->watts * p->t_s;
		l->n++;
	}
	return l->n > 0;
}

static bool make_random(const double *v, struct power_law *l)
{
	struct rand r;
	double t = 0, joules = 0;

	if (!(v[3] > 0.001) || !(v[4] >= v[3]))
		return false;
	l->kind = LAW_PIECES;
	l->length_s = 2000;
	l->pieces = lem_calloc((size_t)(l->length_s / v[3]) + 2, sizeof(*l->pieces));
	rand_seed(&r, (uint64_t)v[0]);
	while (t < l->length_s) {
		double last_s = v[3] * pow(v[4] / v[3], rand_f64(&r));
		struct law_piece *p = &l->pieces[l->n++];

		*p = (struct law_piece){t, v[1] + (v[2] - v[1]) * rand_f64(&r), joules};
		joules += p->watts * fmin(last_s, l->length_s - t);
		t += last_s;
	}
	return true;
}

static bool parse_kind(const char *kind, char *rest, struct power_law *l)
{
	double v[MAX_NUMBERS] = {0};
	size_t n;

	if (str_eq(kind, "steps"))
		return parse_steps(rest, l);
	n = take_numbers(rest, v);
	if (str_eq(kind, "random"))
		return n == 5 && make_random(v, l);
	l->low_w = v[0];
	l->high_w = v[1];
	l->period_s = v[2];
	l->duty = n > 3 ? v[3] : 0.5;
	if (str_eq(kind, "const")) {
		l->kind = LAW_CONST;
		return n == 1;
	}
	l->kind = str_eq(kind, "square") ? LAW_SQUARE : LAW_SINE;
	return (l->kind == LAW_SQUARE || str_eq(kind, "sine")) && n >= 3 && l->period_s > 0;
}

bool power_law_parse(const char *text, struct power_law *ret)
{
	_cleanup_free_ char *copy = lem_strdup(text);
	char *colon = strchr(copy, ':');
	struct power_law l = {0};

	if (!colon)
		return false;
	*colon = '\0';
	if (!parse_kind(copy, colon + 1, &l)) {
		power_law_release(&l);
		return false;
	}
	*ret = l;
	return true;
}

void power_law_release(struct power_law *l)
{
	free(l->pieces);
	*l = (struct power_law){0};
}

static const struct law_piece *piece_at(const struct power_law *l, double t_s)
{
	size_t lo = 0, hi = l->n;

	while (hi - lo > 1) {
		size_t mid = lo + (hi - lo) / 2;

		*(l->pieces[mid].t_s <= t_s ? &lo : &hi) = mid;
	}
	return &l->pieces[lo];
}

static double pieces_joules(const struct power_law *l, double t_s)
{
	double rounds = l->length_s > 0 ? floor(t_s / l->length_s) : 0;
	double in_round = t_s - rounds * l->length_s;
	const struct law_piece *p = piece_at(l, in_round), *last = &l->pieces[l->n - 1];
	double joules = p->joules + p->watts * (in_round - p->t_s);

	if (rounds != 0)
		joules += rounds * (last->joules + last->watts * (l->length_s - last->t_s));
	return joules;
}

double power_law_watts(const struct power_law *l, double t_s)
{
	switch (l->kind) {
	case LAW_CONST: return l->low_w;
	case LAW_SQUARE:
		return t_s / l->period_s - floor(t_s / l->period_s) < l->duty ? l->high_w
									      : l->low_w;
	case LAW_SINE: return l->low_w + l->high_w * sin(2 * M_PI * t_s / l->period_s);
	case LAW_PIECES:
	default:
		if (l->length_s > 0)
			t_s -= floor(t_s / l->length_s) * l->length_s;
		return piece_at(l, t_s)->watts;
	}
}

double power_law_joules(const struct power_law *l, double t_s)
{
	double rounds, rest;

	switch (l->kind) {
	case LAW_CONST: return l->low_w * t_s;
	case LAW_SQUARE:
		rounds = floor(t_s / l->period_s);
		rest = t_s - rounds * l->period_s;
		return rounds * l->period_s * (l->duty * l->high_w + (1 - l->duty) * l->low_w) +
		       l->high_w * fmin(rest, l->duty * l->period_s) +
		       l->low_w * fmax(0, rest - l->duty * l->period_s);
	case LAW_SINE:
		return l->low_w * t_s + l->high_w * l->period_s / (2 * M_PI) *
						(1 - cos(2 * M_PI * t_s / l->period_s));
	case LAW_PIECES:
	default: return pieces_joules(l, t_s);
	}
}
