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

/* The pieces in which bytes come must make no difference. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct seen whole, bytes;

	feed(&whole, (const char *)data, size, size + 1);
	feed(&bytes, (const char *)data, size, 1);
	if (whole.p.state != bytes.p.state || whole.body != bytes.body || whole.sum != bytes.sum ||
	    whole.used != bytes.used || whole.p.status != bytes.p.status ||
	    whole.p.keep != bytes.p.keep || (whole.p.state == HTTP1_BAD) != !!whole.p.bad)
		abort();
	if (http1_eof(&whole.p) != http1_eof(&bytes.p))
		abort();
	return 0;
}
