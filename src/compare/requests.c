#include "base/str.h"
#include "compare/impl.h"

enum { NAMED = 3 };           /* requests that a finding names */
#define SCHEDULE_NS NS_PER_US /* what rounding may do to an arrival */

/* The requests that differ in one respect: how many, and the first few in words. */
struct differing {
	size_t n;
	char named[200];
};

static void add(struct differing *d, const char *fmt, ...) _printf_(2, 3);
static void add(struct differing *d, const char *fmt, ...)
{
	size_t used = strlen(d->named);
	va_list ap;

	if (d->n++ >= NAMED)
		return;
	used += (size_t)snprintf(d->named + used, sizeof(d->named) - used, "%s", used ? ", " : "");
	va_start(ap, fmt);
	(void)vsnprintf(d->named + used, sizeof(d->named) - used, fmt, ap);
	va_end(ap);
}

/* "B gave 12 fewer for request 7, 1 more for request 9 (44 of 224 requests)" */
static void tell(struct comparison *c, const char *field, const struct differing *d, size_t of,
		 const char *what)
{
	if (d->n)
		compare_add(c, field, true, "%s %s (%zu of %zu requests)", what, d->named, d->n,
			    of);
}

struct pairs {
	struct differing prompt, input, output, asked, failed, time;
	size_t untold;
};

static void add_count(struct differing *d, const struct request_record *a, int64_t na, int64_t nb)
{
	if (na != nb)
		add(d, "%" PRId64 " %s for request %" PRId64, nb > na ? nb - na : na - nb,
		    nb > na ? "more" : "fewer", a->id);
}

static const char *outcome(const struct request_record *q)
{
	return compare_answered(q) ? "answered" : q->failure[0] ? q->failure : "not answered";
}

static void look_at_pair(struct pairs *p, const struct request_record *a,
			 const struct request_record *b)
{
	if (a->prompt_index != b->prompt_index)
		add(&p->prompt, "request %" PRId64, a->id);
	if (a->output_tokens_asked != b->output_tokens_asked)
		add(&p->asked,
		    "for request %" PRId64 " %" PRId64 " tokens were asked of A and %" PRId64
		    " of B",
		    a->id, a->output_tokens_asked, b->output_tokens_asked);
	if (compare_answered(a) != compare_answered(b))
		add(&p->failed, "request %" PRId64 " (A: %s, B: %s)", a->id, outcome(a),
		    outcome(b));
	if (!compare_answered(a) || !compare_answered(b))
		return;
	if (!a->output_tokens != !b->output_tokens || !a->input_tokens != !b->input_tokens)
		p->untold++;
	else {
		add_count(&p->input, a, a->input_tokens, b->input_tokens);
		add_count(&p->output, a, a->output_tokens, b->output_tokens);
	}
}

static bool is_open(const struct run_record *r)
{
	return r->server.arrivals && str_eq(r->engine_mode, "server/open");
}

static void look_at_times(struct pairs *p, const struct run_record *a, const struct run_record *b,
			  size_t n)
{
	for (size_t i = 1; i < n; i++) {
		int64_t ta = a->requests[i].t_scheduled_ns - a->requests[0].t_scheduled_ns,
			tb = b->requests[i].t_scheduled_ns - b->requests[0].t_scheduled_ns;

		if (ta - tb > SCHEDULE_NS || tb - ta > SCHEDULE_NS)
			add(&p->time, "request %" PRId64 " at %.3f s and %.3f s", a->requests[i].id,
			    (double)ta / 1e9, (double)tb / 1e9);
	}
}

static void tell_pairs(struct comparison *c, const struct pairs *p, size_t n)
{
	tell(c, "order", &p->prompt, n, "the prompts came in another order:");
	tell(c, "output_tokens_asked", &p->asked, n, "other lengths were forced:");
	tell(c, "failures", &p->failed, n, "only one of the two was answered:");
	tell(c, "input_tokens", &p->input, n, "input tokens differ, B counted");
	tell(c, "output_tokens", &p->output, n, "output tokens differ, B gave");
	tell(c, "schedule", &p->time, n, "the requests were due at other times:");
	if (p->untold)
		compare_add(c, "output_tokens", true,
			    "token counts of %zu requests were told in one run only, so they "
			    "cannot be compared",
			    p->untold);
}

/* ---- how many there were ---- */

/* Requests in one pass through the prompts; 0: not in whole passes of the same length. */
static size_t pass_length(const struct run_record *r)
{
	size_t n = 0;

	while (n < r->n_requests && r->requests[n].pass == 0)
		n++;
	return n && r->n_requests % n == 0 ? n : 0;
}

static bool both_are(const struct run_record *a, const struct run_record *b, const char *mode)
{
	return str_eq(a->engine_mode, mode) && str_eq(b->engine_mode, mode);
}

/* The requests that have a partner. A window that lasts for a time holds as many passes, or turns
 * of a closed loop, as the engine can serve: such a surplus is no other work, and which requests
 * of a closed loop fall into its ramp is no difference either. */
static size_t match(const struct run_record *a, const struct run_record *b, struct comparison *c)
{
	size_t n = pass_length(a), less = MIN(a->n_requests, b->n_requests);
	bool offline = !a->server.arrivals && !b->server.arrivals,
	     closed = both_are(a, b, "server/closed");

	if (!less || (a->n_requests == b->n_requests && !closed))
		return less;
	if (!closed && (!offline || !n || n != pass_length(b)))
		return less;
	if (closed && a->n_requests != b->n_requests)
		compare_add(c, "requests", false,
			    "a closed loop serves as many requests as it can in its time, %zu in A "
			    "and %zu in B; tokens are compared over the first %zu of each",
			    a->n_requests, b->n_requests, less);
	else if (!closed)
		compare_add(c, "requests", false,
			    "the number of passes through the prompts differs, %zu in A and %zu in "
			    "B; tokens are compared over those that both made",
			    a->n_requests / n, b->n_requests / n);
	compare_facts_of(a, less, closed, &c->a);
	compare_facts_of(b, less, closed, &c->b);
	return less;
}

static void compare_totals(struct comparison *c)
{
	const struct compare_facts *a = &c->a, *b = &c->b;

	if (!a->requests && !b->requests)
		compare_add(c, "requests", true, "neither run measured a request");
	if (a->requests != b->requests)
		compare_add(c, "requests", true, "A had %" PRId64 " requests to serve, B %" PRId64,
			    a->requests, b->requests);
	if (a->requests - a->answered != b->requests - b->answered)
		compare_add(c, "failures", true,
			    "%" PRId64 " requests of A were not answered, %" PRId64 " of B",
			    a->requests - a->answered, b->requests - b->answered);
	if (a->input_tokens != b->input_tokens)
		compare_add(c, "input_tokens", true, "A read %" PRId64 " input tokens, B %" PRId64,
			    a->input_tokens, b->input_tokens);
	if (a->output_tokens != b->output_tokens)
		compare_add(c, "output_tokens", true,
			    "A gave %" PRId64 " output tokens, B %" PRId64, a->output_tokens,
			    b->output_tokens);
}

/* Tokens from a cache were not computed; -1: no request told. */
static int64_t cached(const struct run_record *r, size_t n)
{
	int64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += MAX(r->requests[i].cached_tokens, INT64_C(0));
	return sum;
}

void compare_requests(const struct compare_run *ra, const struct compare_run *rb,
		      struct comparison *c)
{
	const struct run_record *a = ra->rec, *b = rb->rec;
	struct pairs p = {0};
	size_t n;

	compare_facts_of(a, SIZE_MAX, false, &c->a);
	compare_facts_of(b, SIZE_MAX, false, &c->b);
	n = match(a, b, c);
	compare_totals(c);
	for (size_t i = 0; i < n; i++)
		look_at_pair(&p, &a->requests[i], &b->requests[i]);
	if (is_open(a) && is_open(b))
		look_at_times(&p, a, b, n);
	tell_pairs(c, &p, n);
	if (cached(a, n) != cached(b, n))
		compare_add(c, "cached_tokens", true,
			    "A took %" PRId64 " input tokens from a cache instead of computing "
			    "them, B %" PRId64,
			    cached(a, n), cached(b, n));
}
