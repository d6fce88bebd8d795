#include "sys/http1.h"

#include <strings.h>

/* Larger sizes are nonsense, and adding to them must not wrap. */
#define SIZE_LIMIT (UINT64_C(1) << 60)

void http1_init(struct http1 *p)
{
	memset(p, 0, offsetof(struct http1, line));
	p->state = HTTP1_STATUS;
}

static void bad(struct http1 *p, const char *why)
{
	p->state = HTTP1_BAD;
	p->bad = why;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void status_line(struct http1 *p, const char *s, size_t n)
{
	if (n < 12 || memcmp(s, "HTTP/1.", 7) != 0 || !is_digit(s[7]) || s[8] != ' ' ||
	    !is_digit(s[9]) || !is_digit(s[10]) || !is_digit(s[11]) || (n > 12 && s[12] != ' '))
		return bad(p, "the answer does not begin with an HTTP/1 status line");
	p->status = (s[9] - '0') * 100 + (s[10] - '0') * 10 + (s[11] - '0');
	if (p->status < 100)
		return bad(p, "the status is below 100");
	p->keep = s[7] >= '1';
	p->state = HTTP1_HEADER;
}

/* RFC 9110, 5.6.2 */
static bool is_token(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static void content_length(struct http1 *p, const char *v, size_t n)
{
	uint64_t x = 0;

	if (!n)
		return bad(p, "an empty Content-Length");
	for (size_t i = 0; i < n; i++) {
		if (!is_digit(v[i]) || x > SIZE_LIMIT / 10)
			return bad(p, "a Content-Length that is no length");
		x = x * 10 + (uint64_t)(v[i] - '0');
	}
	if (p->has_length && p->length != x)
		return bad(p, "two lengths that differ");
	p->has_length = true;
	p->length = x;
}

static bool value_is(const char *v, size_t n, const char *what)
{
	return n == strlen(what) && strncasecmp(v, what, n) == 0;
}

static void known_header(struct http1 *p, const char *s, size_t name, const char *v, size_t n,
			 bool cut)
{
	if (value_is(s, name, "content-length")) {
		content_length(p, v, cut ? 0 : n);
	} else if (value_is(s, name, "transfer-encoding")) {
		if (cut || p->chunked || !value_is(v, n, "chunked"))
			return bad(p, "a transfer coding other than chunked");
		p->chunked = true;
	} else if (value_is(s, name, "connection")) {
		if (value_is(v, n, "close"))
			p->keep = false;
	} else if (value_is(s, name, "content-type")) {
		p->event_stream = n >= 17 && strncasecmp(v, "text/event-stream", 17) == 0;
	} else if (value_is(s, name, "content-encoding")) {
		p->encoded = !value_is(v, n, "identity");
	}
}

static void header_line(struct http1 *p, const char *s, size_t n, bool cut)
{
	size_t name = 0, from;

	while (name < n && is_token(s[name]))
		name++;
	if (cut && name == n)
		return bad(p, "a header name that does not end");
	if (!name || name == n || s[name] != ':')
		return bad(p, "a header line without a name and a colon");
	for (from = name + 1; from < n && (s[from] == ' ' || s[from] == '\t');)
		from++;
	while (!cut && n > from && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	known_header(p, s, name, s + from, n - from, cut);
}

static void head_end(struct http1 *p)
{
	if (p->chunked && p->has_length)
		return bad(p, "both a length and chunks");
	if (p->status < 200) {
		if (p->status == 101)
			return bad(p, "the server changed the protocol unasked");
		p->status = 0;
		p->chunked = p->has_length = p->event_stream = p->encoded = false;
		p->state = HTTP1_STATUS;
	} else if (p->status == 204 || p->status == 304) {
		p->state = HTTP1_DONE;
	} else if (p->chunked) {
		p->state = HTTP1_CHUNK_SIZE;
	} else if (p->has_length) {
		p->left = p->length;
		p->state = p->left ? HTTP1_BODY_LENGTH : HTTP1_DONE;
	} else {
		p->keep = false;
		p->state = HTTP1_BODY_CLOSE;
	}
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void chunk_size(struct http1 *p, const char *s, size_t n)
{
	uint64_t x = 0;
	size_t i;

	for (i = 0; i < n && hex_digit(s[i]) >= 0; i++) {
		if (x > SIZE_LIMIT / 16)
			return bad(p, "a chunk size beyond all bounds");
		x = x * 16 + (uint64_t)hex_digit(s[i]);
	}
	if (!i || (i < n && s[i] != ';' && s[i] != ' ' && s[i] != '\t'))
		return bad(p, "a chunk size that is no number");
	p->left = x;
	p->state = x ? HTTP1_CHUNK_DATA : HTTP1_TRAILER;
}

static void full_line(struct http1 *p)
{
	size_t n = MIN((size_t)p->line_len, sizeof(p->line));
	bool cut = n < p->line_len;

	p->line_len = 0;
	switch (p->state) {
	case HTTP1_STATUS: return status_line(p, p->line, n);
	case HTTP1_HEADER: return n ? header_line(p, p->line, n, cut) : head_end(p);
	case HTTP1_CHUNK_SIZE: return chunk_size(p, p->line, n);
	case HTTP1_CHUNK_END:
		if (n)
			return bad(p, "a chunk longer than its size");
		p->state = HTTP1_CHUNK_SIZE;
		return;
	default: /* HTTP1_TRAILER: its fields mean nothing here */
		if (!n)
			p->state = HTTP1_DONE;
		return;
	}
}

/* One byte of a line, its end included. */
static void line_byte(struct http1 *p, char c)
{
	if (++p->head_len > HTTP1_HEAD_MAX)
		return bad(p, "a head of more than 64 KiB");
	if (p->cr) {
		p->cr = false;
		return c == '\n' ? full_line(p) : bad(p, "a CR without its LF");
	}
	if (c == '\r') {
		p->cr = true;
		return;
	}
	if (c == '\n' || c == 0)
		return bad(p, c ? "a line that ends without a CR" : "a NUL byte in a line");
	if (p->line_len < sizeof(p->line))
		p->line[p->line_len] = c;
	p->line_len++;
	if (p->state == HTTP1_CHUNK_END)
		bad(p, "a chunk longer than its size");
}

/* A line that is whole in the input, which is nearly always so: taken at once; 0: the slow way. */
static size_t quick_line(struct http1 *p, const char *in, size_t n)
{
	const char *lf = p->line_len || p->cr ? NULL : memchr(in, '\n', n);
	size_t k = lf ? (size_t)(lf - in) + 1 : 0;

	if (k < 2 || memchr(in, '\r', k) != lf - 1 || memchr(in, 0, k) ||
	    p->head_len + k > HTTP1_HEAD_MAX)
		return 0;
	p->head_len += (uint32_t)k;
	p->line_len = (uint16_t)(k - 2);
	memcpy(p->line, in, MIN(k - 2, sizeof(p->line)));
	full_line(p);
	return k;
}

/* "1f4\r\n" whole in the input, which is nearly always so: the size, or false for the slow way. */
static bool quick_size(struct http1 *p, const char *in, size_t n, size_t *used)
{
	size_t i = 0, most = MIN(n, (size_t)8);
	uint64_t x = 0;

	if (p->line_len || p->cr)
		return false;
	for (int d; i < most && (d = hex_digit(in[i])) >= 0; i++)
		x = x * 16 + (uint64_t)d;
	if (!i || i + 1 >= n || in[i] != '\r' || in[i + 1] != '\n')
		return false;
	p->left = x;
	p->state = x ? HTTP1_CHUNK_DATA : HTTP1_TRAILER;
	*used += i + 2;
	return true;
}

static size_t body_piece(struct http1 *p, const char *in, size_t n, const char **ret_body,
			 size_t *ret_n)
{
	size_t k = p->state == HTTP1_BODY_CLOSE ? n : (size_t)MIN((uint64_t)n, p->left);

	*ret_body = in;
	*ret_n = k;
	if (p->state == HTTP1_BODY_CLOSE)
		return k;
	p->left -= k;
	if (!p->left) {
		p->state = p->state == HTTP1_CHUNK_DATA ? HTTP1_CHUNK_END : HTTP1_DONE;
		p->head_len = 0; /* the bound is for one run of lines */
	}
	return k;
}

size_t http1_next(struct http1 *p, const char *in, size_t n, const char **ret_body, size_t *ret_n)
{
	size_t used = 0, k;

	*ret_body = NULL;
	*ret_n = 0;
	while (used < n && !http1_ended(p)) {
		switch (p->state) {
		case HTTP1_BODY_LENGTH:
		case HTTP1_BODY_CLOSE:
		case HTTP1_CHUNK_DATA:
			return used + body_piece(p, in + used, n - used, ret_body, ret_n);
		case HTTP1_CHUNK_END:
			if (n - used >= 2 && !p->cr && in[used] == '\r' && in[used + 1] == '\n') {
				used += 2;
				p->state = HTTP1_CHUNK_SIZE;
				break;
			}
			line_byte(p, in[used++]);
			break;
		case HTTP1_CHUNK_SIZE:
			if (quick_size(p, in + used, n - used, &used))
				break;
			__attribute__((fallthrough));
		default:
			k = quick_line(p, in + used, n - used);
			used += k;
			if (!k)
				line_byte(p, in[used++]);
		}
	}
	return used;
}

/* "1f4\r\n", that many bytes and "\r\n", whole in the input, after what may be left of the chunk
 * before: the bytes of it all, or 0. */
static size_t quick_chunk(const struct http1 *p, const char *in, size_t n, const char **ret_body,
			  size_t *ret_n)
{
	bool ended = p->state == HTTP1_CHUNK_END && n >= 2 && memcmp(in, "\r\n", 2) == 0;
	size_t from = ended ? 2 : 0, i = from, most = MIN(n, from + 8), x = 0;

	if ((p->state != HTTP1_CHUNK_SIZE && !ended) || p->line_len || p->cr)
		return 0;
	for (int d; i < most && (d = hex_digit(in[i])) >= 0; i++)
		x = x * 16 + (size_t)d;
	if (!x || n - i < 4 || x > n - i - 4 || memcmp(in + i, "\r\n", 2) != 0 ||
	    memcmp(in + i + 2 + x, "\r\n", 2) != 0)
		return 0;
	*ret_body = in + i + 2;
	*ret_n = x;
	return i + x + 4;
}

size_t http1_take(struct http1 *p, const char *in, size_t n,
		  void (*on_body)(void *arg, const char *piece, size_t n), void *arg)
{
	size_t used = 0;

	while (used < n && !http1_ended(p)) {
		const char *body;
		size_t k, step = quick_chunk(p, in + used, n - used, &body, &k);

		if (step) {
			p->head_len = 0;
			p->state = HTTP1_CHUNK_SIZE;
		} else {
			step = http1_next(p, in + used, n - used, &body, &k);
		}
		if (k)
			on_body(arg, body, k);
		used += step;
	}
	return used;
}

size_t http1_head(struct http1 *p, struct http1_memo *m, const char *in, size_t n)
{
	const char *end, *body;
	struct http1 q;
	size_t k, none;

	if (m->n && n >= m->n && memcmp(in, m->head, m->n) == 0) {
		memcpy(p, &m->after, offsetof(struct http1, line));
		return m->n;
	}
	end = memmem(in, MIN(n, sizeof(m->head)), "\r\n\r\n", 4);
	if (!end)
		return 0;
	k = (size_t)(end - in) + 4;
	http1_init(&q);
	for (size_t used = 0; used < k; used += http1_next(&q, in + used, k - used, &body, &none))
		if (http1_ended(&q))
			return 0;
	if (q.state == HTTP1_BAD)
		return 0;
	m->n = k;
	memcpy(m->head, in, k);
	memcpy(&m->after, &q, offsetof(struct http1, line));
	memcpy(p, &q, offsetof(struct http1, line));
	return k;
}

bool http1_eof(struct http1 *p)
{
	if (p->state == HTTP1_BODY_CLOSE)
		p->state = HTTP1_DONE;
	return p->state == HTTP1_DONE;
}
