/*
 * power_law.h — power over time whose integral is known exactly: what the fake GPU draws. Pure.
 *
 *   const:W                         300 W for ever
 *   square:LOW,HIGH,PERIOD[,DUTY]   HIGH for DUTY (0.5) of every PERIOD, then LOW
 *   sine:MEAN,AMPLITUDE,PERIOD
 *   steps:W@T,W@T,…                 W from T on; before the first T its W
 *   random:SEED,LOW,HIGH,MIN,MAX    levels drawn from [LOW, HIGH], each lasting MIN to MAX
 *                                   (log-uniform), for 2000 s, then again from the start
 *
 * Times like 0.5s, 20ms. Time is counted from the law's own zero and may be negative.
 */
#ifndef LEM_TESTS_POWER_LAW_H
#define LEM_TESTS_POWER_LAW_H

#include "base/base.h"

enum law_kind { LAW_CONST, LAW_SQUARE, LAW_SINE, LAW_PIECES };

struct law_piece {
	double t_s, watts, joules; /* from t_s on; joules up to t_s */
};

struct power_law {
	enum law_kind kind;
	double low_w, high_w, period_s, duty;
	struct law_piece *pieces; /* malloc'ed */
	size_t n;
	double length_s; /* of the pieces before they repeat; 0: the last one goes on */
};

bool power_law_parse(const char *text, struct power_law *ret);
void power_law_release(struct power_law *l);
double power_law_watts(const struct power_law *l, double t_s);
double power_law_joules(const struct power_law *l, double t_s); /* from 0 to t */

#endif
