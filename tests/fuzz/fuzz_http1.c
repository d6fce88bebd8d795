#include "sys/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	struct http1 p;
	size_t used, body, sum;
};

static void feed(struct seen *s, const char *in, size_t n, size_t step)
{
	*s = (struct seen){0};
	http1_init(&s->p);
	while (s->used < n && !http1_ended(&s->p)) {
		size_t end = MIN(s->used + step, n);

		while (s->used < end && !http1_ended(&s->p)) {
			const char *body;
			size_t k, used = http1_next(&s->p, in + s->used, end - s->used, &body, &k);

			if (!used || used > end - s->used || k > used)
				abort();
			for (size_t i = 0; i < k; i++)
				s->sum = s->sum * 31 + (unsigned char)body[i];
			s->body += k;
			s->used += used;
		}
	}
}

static void piece(void *arg, const char *body, size_t n)
{
	struct seen *s = arg;

	if (!n)
		abort();
	for (size_t i = 0; i < n; i++)
		s->sum = s->sum * 31 + (unsigned char)body[i];
	s->body += n;
}

/* By http1_take, whose head is in the memo the second time. */
static void take(struct seen *s, struct http1_memo *m, const char *in, size_t n, size_t step)
{
	*s = (struct seen){0};
	http1_init(&s->p);
	while (s->used < n && !http1_ended(&s->p)) {
		size_t left = MIN(step, n - s->used), used = 0;

		if (!s->used)
			used = http1_head(&s->p, m, in, left);
		used += http1_take(&s->p, in + s->used + used, left - used, piece, s);
		if (!used || used > left)
			abort();
		s->used += used;
	}
}

static bool same(const struct seen *a, const struct seen *b)
{
	return a->p.state == b->p.state && a->body == b->body && a->sum == b->sum &&
	       a->used == b->used && a->p.status == b->p.status && a->p.keep == b->p.keep &&
	       a->p.event_stream == b->p.event_stream && a->p.encoded == b->p.encoded;
}

/* The pieces in which bytes come must make no difference. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = {4096, 4096, 100, 7, 4096};
	struct http1_memo memo = {0};
	struct seen whole, bytes, fast;

	feed(&whole, (const char *)data, size, size + 1);
	feed(&bytes, (const char *)data, size, 1);
	if (!same(&whole, &bytes) || (whole.p.state == HTTP1_BAD) != !!whole.p.bad)
		abort();
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		take(&fast, &memo, (const char *)data, size, steps[i]);
		if (!same(&whole, &fast))
			abort();
	}
	if (http1_eof(&whole.p) != http1_eof(&bytes.p))
		abort();
	return 0;
}
