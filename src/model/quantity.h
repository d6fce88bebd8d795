/*
 * quantity.h — a measured figure: value with its 95 % interval and the method, or nothing with the
 * reason. Missing is not zero: `known` decides, never the value.
 */
#ifndef LEM_MODEL_QUANTITY_H
#define LEM_MODEL_QUANTITY_H

#include "base/base.h"

struct quantity {
	bool known;
	double value, low, high; /* low <= value <= high; all equal for an exact count */
	char method[64];         /* e.g. "counter, interpolated" */
	char reason[160]; /* when !known: why, e.g. "RAPL: no power PMU in this virtual machine" */
};

struct jsonw;

/* The member `key`: {value, low, high, method}, or {value: null, reason}; what is known and no
 * number is null too. */
void quantity_json(struct jsonw *w, const char *key, const struct quantity *q);

static inline struct quantity quantity_unknown(const char *reason)
{
	struct quantity q = {0};

	lem_strlcpy(q.reason, reason, sizeof(q.reason));
	return q;
}

static inline struct quantity quantity_of(double value, double low, double high, const char *method)
{
	struct quantity q = {.known = true, .value = value, .low = low, .high = high};

	lem_strlcpy(q.method, method, sizeof(q.method));
	return q;
}

/* q divided by a positive exact count; unknown stays unknown. */
static inline struct quantity quantity_per(struct quantity q, double count, const char *none_reason)
{
	if (!q.known)
		return q;
	if (!(count > 0))
		return quantity_unknown(none_reason);
	q.value /= count;
	q.low /= count;
	q.high /= count;
	return q;
}

#endif
