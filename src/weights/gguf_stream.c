#include "weights/gguf_stream.h"

enum { ARRAY_DEPTH = 4 };

int gguf_bad(struct gguf_stream *r, const char *fmt, ...)
{
	char buf[200];
	va_list ap;

	if (r->failed)
		return -LEM_E_PARSE;
	r->failed = true;
	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	lem_fail(r->err, LEM_E_PARSE, "not a usable GGUF file: %s", buf);
	lem_error_where(r->err, "%s", r->path);
	return lem_error_fix(
		r->err, "lem reads complete GGUF files of version 2 and 3; fetch or make it again");
}

bool gguf_take(struct gguf_stream *r, void *buf, size_t n)
{
	if (r->failed || n > r->left || fread(buf, 1, n, r->f) != n) {
		gguf_bad(r, "it ends in the middle of its header");
		return false;
	}
	r->left -= n;
	return true;
}

/* Seeking throws the stream's buffer away, so a vocabulary of short texts is read through it. */
static bool skip(struct gguf_stream *r, uint64_t n)
{
	char scratch[512];

	if (n <= sizeof(scratch))
		return gguf_take(r, scratch, (size_t)n);
	if (r->failed || n > r->left || fseeko(r->f, (off_t)n, SEEK_CUR) < 0) {
		gguf_bad(r, "it ends in the middle of its header");
		return false;
	}
	r->left -= n;
	return true;
}

/* Names are shown to people, so nothing in them may drive a terminal. */
static void make_printable(char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			s[i] = '?';
}

bool gguf_take_text(struct gguf_stream *r, char *buf, size_t size)
{
	uint64_t n;

	if (!GGUF_TAKE(r, n))
		return false;
	if (n > r->left) {
		gguf_bad(r, "a text of %" PRIu64 " bytes is longer than the file", n);
		return false;
	}
	size_t keep = (size_t)MIN(n, (uint64_t)size - 1);

	if (!gguf_take(r, buf, keep))
		return false;
	make_printable(buf, keep);
	buf[keep] = '\0';
	return skip(r, n - keep);
}

static size_t scalar_size(uint32_t type)
{
	static const uint8_t sizes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

	return type < GGUF_TYPE_COUNT ? sizes[type] : 0;
}

static bool take_number(struct gguf_stream *r, uint32_t type, struct gguf_value *v)
{
	uint8_t raw[8] = {0};
	size_t n = scalar_size(type);
	float f32;
	double f64;

	if (!gguf_take(r, raw, n))
		return false;
	v->is_number = true;
	switch (type) {
	case GGUF_I8: v->number = (int8_t)raw[0]; break;
	case GGUF_I16: v->number = (int16_t)(raw[0] | raw[1] << 8); break;
	case GGUF_I32: {
		int32_t i;
		memcpy(&i, raw, 4);
		v->number = i;
		break;
	}
	case GGUF_F32:
		memcpy(&f32, raw, 4);
		v->number = f32 > -1e15f && f32 < 1e15f ? (int64_t)f32 : 0;
		break;
	case GGUF_F64:
		memcpy(&f64, raw, 8);
		v->number = f64 > -1e15 && f64 < 1e15 ? (int64_t)f64 : 0;
		break;
	default: memcpy(&v->number, raw, 8); break;
	}
	return true;
}

static bool take_value(struct gguf_stream *r, uint32_t type, struct gguf_value *v, int depth);

static bool take_array(struct gguf_stream *r, struct gguf_value *v, int depth)
{
	uint32_t type;
	uint64_t n;
	struct gguf_value rest;

	if (!GGUF_TAKE(r, type) || !GGUF_TAKE(r, n))
		return false;
	if (n > r->left || depth > ARRAY_DEPTH) {
		gguf_bad(r, "a list of %" PRIu64 " entries cannot be in it", n);
		return false;
	}
	if (n && !take_value(r, type, v, depth + 1))
		return false;
	if (n && scalar_size(type))
		return skip(r, (n - 1) * scalar_size(type));
	for (uint64_t i = 1; i < n; i++)
		if (!take_value(r, type, &rest, depth + 1))
			return false;
	return true;
}

static bool take_value(struct gguf_stream *r, uint32_t type, struct gguf_value *v, int depth)
{
	*v = (struct gguf_value){0};
	if (type == GGUF_STRING) {
		v->is_text = true;
		return gguf_take_text(r, v->text, sizeof(v->text));
	}
	if (type == GGUF_ARRAY)
		return take_array(r, v, depth);
	if (scalar_size(type))
		return take_number(r, type, v);
	gguf_bad(r, "a value has the unknown type %u", type);
	return false;
}

bool gguf_take_value(struct gguf_stream *r, uint32_t type, struct gguf_value *v)
{
	return take_value(r, type, v, 0);
}
