#include <math.h>

#include "load/roofline.h"
#include "run/life.h"

/* Bounds of the three calls; together with starting servers and connections at most 0.3 s. On two
 * cores the requests below take a third of that. */
#define TOUCH_NS (30 * NS_PER_MS)
#define CASE_NS  (100 * NS_PER_MS)

enum {
	REQUESTS = 1500,
	REQUEST_TOKENS = 32,
	WIDE = 200,
	WIDE_TOKENS = 512,
	IN_FLIGHT = 64,
	WIDE_IN_FLIGHT = 16,
	ENOUGH = 20
};

/* What did not fit into its time is left out: a slow host has fewer, and a lower figure. */
static int run_case(int32_t tokens, size_t n, size_t in_flight, int64_t total_ns,
		    struct roofline_figures *ret, struct lem_error *err)
{
	const struct roofline_case c = {
		.tokens = tokens,
		.n = n,
		.plan = {.mode = HTTP_LOAD_CLOSED, .in_flight = in_flight},
		.preconnect = in_flight,
		.ordinary = true, /* as in `lem bench client` */
		.total_ns = total_ns,
	};
	int rc = roofline_run(&c, ret, err);

	if (rc >= 0 && ret->n_ok < ENOUGH && ret->first_failure.code) {
		*err = ret->first_failure;
		return -(int)err->code;
	}
	if (rc >= 0 && ret->n_ok < ENOUGH)
		return lem_fail(err, LEM_E_TIMEOUT, "%zu requests in %" PRId64 " ms are too few",
				ret->n_ok, total_ns / NS_PER_MS);
	return rc;
}

/* The first touches memory that the host has yet to give. */
static int measure(struct server_record *s, struct lem_error *err)
{
	struct roofline_figures touch, requests, chunks;
	int rc;

	(void)run_case(REQUEST_TOKENS, REQUESTS / 4, IN_FLIGHT, TOUCH_NS, &touch, err);
	*err = (struct lem_error)LEM_ERROR_INIT;
	rc = run_case(REQUEST_TOKENS, REQUESTS, IN_FLIGHT, CASE_NS, &requests, err);
	if (rc >= 0)
		rc = run_case(WIDE_TOKENS, WIDE, WIDE_IN_FLIGHT, CASE_NS, &chunks, err);
	if (rc < 0)
		return rc;
	s->roofline_requests_per_cpu_s = requests.requests_per_cpu_s;
	s->roofline_chunks_per_cpu_s = chunks.chunks_per_cpu_s;
	return 0;
}

void life_certify(struct life *l)
{
	struct lem_error err = LEM_ERROR_INIT;

	if (!l->engine->http)
		return;
	if (!l->e->client_roofline)
		run_record_note(l->rec,
				"the client's roofline was not measured: client_roofline is "
				"false");
	else if (measure(&l->rec->server, &err) < 0)
		run_record_note(l->rec,
				"the client's roofline could not be measured: %.200s%s%.200s",
				err.what, err.why[0] ? "; " : "", err.why);
}
