/* The certificate of a run: what lem's client did, what it could have done, and what is said when
 * the two come near to each other. */
#include "run/summarize.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

enum { REQUESTS = 100, CHUNKS = 20 };
#define S  NS_PER_S
#define MS NS_PER_MS

/* Ten requests a second for 10 s, 20 chunks each; the last answer ends 1 s after the window. */
static void build(struct run_record *r)
{
	run_record_init(r);
	r->run_id = "test";
	r->engine_mode = "server/open";
	r->server.used = r->server.arrivals = true;
	r->server.client_cpu_ns = S / 2;
	r->server.roofline_requests_per_cpu_s = 5000;
	r->server.roofline_chunks_per_cpu_s = 1e6;
	r->window_start_ns = 100 * S;
	r->window_end_ns = 110 * S;
	r->warmup = (struct warmup_record){.enabled = true, .converged = true};
	r->requests = lem_calloc(REQUESTS, sizeof(*r->requests));
	r->token_stamps_ns = lem_calloc(REQUESTS * CHUNKS, sizeof(int64_t));
	for (int64_t i = 0; i < REQUESTS; i++) {
		struct request_record *q = &r->requests[r->n_requests++];

		*q = (struct request_record){.id = i,
					     .t_scheduled_ns = 100 * S + i * S / 10,
					     .t_sent_ns = 100 * S + i * S / 10 + 10000,
					     .t_first_ns = 100 * S + i * S / 10 + 100 * MS,
					     .t_last_ns = 100 * S + i * S / 10 + 1100 * MS,
					     .input_tokens = 8,
					     .output_tokens = CHUNKS,
					     .first_stamp = r->n_token_stamps,
					     .n_stamps = CHUNKS,
					     .cached_tokens = -1,
					     .finish = "length"};
		for (int k = 0; k < CHUNKS; k++)
			r->token_stamps_ns[r->n_token_stamps++] =
				q->t_first_ns + k * S / (CHUNKS - 1);
	}
	r->n_requests_asked = REQUESTS;
}

static bool says(const struct summary *s, const char *text)
{
	for (size_t i = 0; i < s->verdict.n_reasons; i++)
		if (strstr(s->verdict.reasons[i], text))
			return true;
	return false;
}

static void test_headroom(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	summarize(&r, &s);
	/* 11 s of work: the window and what was in flight after it */
	assert_float_equal(s.client_busy.value, 0.5 / 11, 1e-9);
	assert_float_equal(s.roofline_requests.value, 5000, 1e-9);
	assert_float_equal(s.headroom_requests.value, 5000 / (100 / 9.9), 1e-3); /* sent in 9.9 s */
	assert_float_equal(s.headroom_chunks.value, 1e6 / (2000 / 11.0), 1e-3);
	assert_false(says(&s, "client-limited"));
	/* an answer that takes an hour asks for no more requests; all at once have no rate */
	r.requests[99].t_last_ns += 3600 * S;
	summarize(&r, &s);
	assert_float_equal(s.headroom_requests.value, 5000 / (100 / 9.9), 1e-3);
	r.requests[99].t_last_ns -= 3600 * S;
	r.server.arrivals = false;
	summarize(&r, &s);
	assert_float_equal(s.headroom_requests.value, 5000 / (100 / 11.0), 1e-3);
	run_record_release(&r);
}

static void test_what_was_not_measured_is_null(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.server.roofline_requests_per_cpu_s = r.server.roofline_chunks_per_cpu_s = NAN;
	r.server.client_cpu_ns = -1;
	summarize(&r, &s);
	assert_false(s.roofline_requests.known || s.headroom_chunks.known || s.client_busy.known);
	assert_non_null(strstr(s.headroom_requests.reason, "not measured"));
	assert_false(says(&s, "client-limited"));
	r.server.used = false;
	summarize(&r, &s);
	assert_non_null(strstr(s.roofline_chunks.reason, "not driven over HTTP"));
	run_record_release(&r);
}

static void test_near_the_roofline(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.server.roofline_chunks_per_cpu_s = 200; /* 182 a second were needed */
	summarize(&r, &s);
	assert_true(says(&s, "client-limited: the run asked of lem's client"));
	assert_true(says(&s, "1.1 times"));
	r.server.client_cpu_ns = 11 * S; /* said once, by what was seen in the run itself */
	summarize(&r, &s);
	assert_true(says(&s, "computed 100 %"));
	assert_false(says(&s, "asked of lem's client"));
	run_record_release(&r);
}

/* Late although far from what the client can do: the processor was somebody else's. */
static void test_why_requests_left_late(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	for (size_t i = 0; i < r.n_requests; i++)
		r.requests[i].t_sent_ns += 90 * MS;
	summarize(&r, &s);
	assert_true(says(&s, "left lem late") && says(&s, "something else took the processor"));
	r.server.roofline_requests_per_cpu_s = r.server.roofline_chunks_per_cpu_s = NAN;
	summarize(&r, &s);
	assert_true(says(&s, "left lem late") && !says(&s, "something else"));
	run_record_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_headroom),
		cmocka_unit_test(test_what_was_not_measured_is_null),
		cmocka_unit_test(test_near_the_roofline),
		cmocka_unit_test(test_why_requests_left_late),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
