#include "worker.h"

int trouble_set(struct trouble *t, const char *code, const char *fmt, ...)
{
	va_list ap;

	t->code = code;
	va_start(ap, fmt);
	vsnprintf(t->message, sizeof(t->message), fmt, ap);
	va_end(ap);
	return -1;
}

/* NULL when the field is absent or null: its default holds. */
static const json_t *field(const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	return json_is_null(v) ? NULL : v;
}

int field_int(const json_t *j, const char *key, struct int_range range, int64_t *ret,
	      struct trouble *t)
{
	const json_t *v = field(j, key);
	int64_t n = json_integer_value(v);

	if (!v)
		return 0;
	if (!json_is_integer(v))
		return trouble_set(t, "bad_request", "%s must be an integer", key);
	if (n < range.low || n > range.high)
		return trouble_set(t, "bad_request",
				   "%s is %" PRId64 ", it must be between %" PRId64 " and %" PRId64,
				   key, n, range.low, range.high);
	*ret = n;
	return 0;
}

int field_int32(const json_t *j, const char *key, struct int_range range, int32_t *ret,
		struct trouble *t)
{
	int64_t v = *ret;
	int r = field_int(j, key, range, &v, t);

	*ret = (int32_t)v;
	return r;
}

int field_float(const json_t *j, const char *key, double low, double high, float *ret,
		struct trouble *t)
{
	const json_t *v = field(j, key);
	double x = json_number_value(v);

	if (!v)
		return 0;
	if (!json_is_number(v) || !(x >= low && x <= high))
		return trouble_set(t, "bad_request", "%s must be a number between %g and %g", key,
				   low, high);
	*ret = (float)x;
	return 0;
}

int field_bool(const json_t *j, const char *key, bool *ret, struct trouble *t)
{
	const json_t *v = field(j, key);

	if (!v)
		return 0;
	if (!json_is_boolean(v))
		return trouble_set(t, "bad_request", "%s must be true or false", key);
	*ret = json_is_true(v);
	return 0;
}

int field_word(const json_t *j, const char *key, const struct word *words, size_t n, int *ret,
	       struct trouble *t)
{
	const json_t *v = field(j, key);
	const char *s = json_string_value(v);

	if (!v)
		return 0;
	for (size_t i = 0; i < n && s; i++)
		if (str_eq(s, words[i].name)) {
			*ret = words[i].value;
			return 0;
		}
	return trouble_set(t, "unsupported", "%s '%s' is not known to this worker", key,
			   s ? s : "(not a text)");
}
