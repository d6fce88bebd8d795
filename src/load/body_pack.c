#include "load/body_pack.h"

/* A piece of n bytes: `head` as in the one before, `middle` stored behind this, the rest as in the
 * end of the one before. */
struct record {
	uint32_t n, head, middle;
};

static uint64_t eight(const char *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return x;
}

static size_t same_head(const char *a, const char *b, size_t n)
{
	size_t k = 0;

	while (n - k >= 8 && eight(a + k) == eight(b + k))
		k += 8;
	while (k < n && a[k] == b[k])
		k++;
	return k;
}

/* a and b point behind the ends. */
static size_t same_tail(const char *a, const char *b, size_t n)
{
	size_t k = 0;

	while (n - k >= 8 && eight(a - k - 8) == eight(b - k - 8))
		k += 8;
	while (k < n && a[-(ptrdiff_t)k - 1] == b[-(ptrdiff_t)k - 1])
		k++;
	return k;
}

void body_pack_add(struct body_pack *p, const char *piece, size_t n)
{
	struct record r = {.n = (uint32_t)n, .middle = (uint32_t)n};
	size_t both = MIN(n, p->n_last);

	assert(n <= UINT32_MAX);
	if (p->last) {
		r.head = (uint32_t)same_head(piece, p->last, both);
		r.middle = r.n - r.head -
			   (uint32_t)same_tail(piece + n, p->last + p->n_last, both - r.head);
	}
	memcpy(p->out + p->len, &r, sizeof(r));
	memcpy(p->out + p->len + sizeof(r), piece + r.head, r.middle);
	p->len += sizeof(r) + r.middle;
	p->last = piece;
	p->n_last = n;
}

size_t body_unpack(const char *in, size_t n, char *to)
{
	size_t at = 0, len = 0, n_last = 0;

	while (at < n) {
		const char *last = to + len - n_last;
		char *piece = to + len;
		struct record r;
		size_t tail;

		memcpy(&r, in + at, sizeof(r));
		at += sizeof(r);
		tail = r.n - r.head - r.middle;
		memcpy(piece, last, r.head);
		memcpy(piece + r.head, in + at, r.middle);
		memcpy(piece + r.head + r.middle, last + n_last - tail, tail);
		at += r.middle;
		len += r.n;
		n_last = r.n;
	}
	return len;
}
