/* Requests judged against goals: by head on a small record, by properties on random ones. */
#include "run/goodput.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"
#include "run/summarize.h"

#define assert_near(a, b, tol) assert_true(fabs((double)(a) - (double)(b)) <= (tol))
#define S                      NS_PER_S
#define MS                     NS_PER_MS
#define T0                     (100 * S)

static const struct slo_limits none = {(double)NAN, (double)NAN, (double)NAN};

/* Scheduled 10 ms before its send; first token 30 ms after that, the last of five 80 ms later. */
static struct request_record answered(void)
{
	return (struct request_record){.t_scheduled_ns = T0,
				       .t_sent_ns = T0 + 10 * MS,
				       .t_first_ns = T0 + 40 * MS,
				       .t_last_ns = T0 + 120 * MS,
				       .input_tokens = 8,
				       .output_tokens = 5,
				       .finish = "length"};
}

static void test_times_count_from_the_schedule(void **state)
{
	const struct request_record q = answered();
	struct goodput_times t = goodput_times(&q);

	(void)state;
	assert_near(t.ttft_ms, 40, 1e-9);
	assert_near(t.tpot_ms, 20, 1e-9);
	assert_near(t.e2e_ms, 120, 1e-9);
}

static void expect(const struct request_record *q, double ttft, double tpot, double e2e,
		   unsigned misses)
{
	const struct slo_limits l = {ttft, tpot, e2e};

	assert_int_equal(goodput_misses(q, &l), misses);
}

static void test_limits_hold_jointly(void **state)
{
	struct request_record q = answered();
	const double nan = (double)NAN;

	(void)state;
	expect(&q, nan, nan, nan, 0);
	expect(&q, 40, 20, 120, 0); /* met exactly is met */
	expect(&q, 39.9, 20, 120, GOODPUT_TTFT);
	expect(&q, 40, 19.9, 120, GOODPUT_TPOT);
	expect(&q, 40, 20, 119.9, GOODPUT_E2E);
	expect(&q, 1, 1, 1, GOODPUT_TTFT | GOODPUT_TPOT | GOODPUT_E2E);
	expect(&q, 0, 0, 0, 0); /* nobody wrote a limit of nothing */
}

static void test_what_has_no_time(void **state)
{
	struct request_record q = answered();
	const double nan = (double)NAN;

	(void)state;
	q.output_tokens = 1;
	expect(&q, nan, 0.001, nan, 0);
	q.output_tokens = 0; /* a server that tells no counts */
	expect(&q, nan, 1000, nan, GOODPUT_UNTOLD);
	expect(&q, 1000, nan, 1000, 0);
	q.t_first_ns = 0;
	expect(&q, 1000, nan, nan, GOODPUT_TTFT);
}

static void test_a_failed_request_is_not_good(void **state)
{
	struct request_record q = answered();

	(void)state;
	lem_strlcpy(q.finish, "error", sizeof(q.finish));
	expect(&q, 1, 1, 1, GOODPUT_FAILED);
	expect(&q, 1e9, 1e9, 1e9, GOODPUT_FAILED);
	q.finish[0] = '\0'; /* of a worker that died */
	expect(&q, (double)NAN, (double)NAN, (double)NAN, GOODPUT_FAILED);
}

/* ---- whole runs ---- */

/* 100 requests in 10 s of an open loop, one in 100 ms. Request i takes 100 + i ms to its first
 * token and 10 ms for each of the ten after it; every tenth fails. */
static void build(struct run_record *r)
{
	run_record_init(r);
	r->status = RUN_COMPLETED;
	r->server.used = r->server.arrivals = true;
	r->window_start_ns = T0;
	r->window_end_ns = T0 + 10 * S;
	r->requests = lem_calloc(100, sizeof(*r->requests));
	r->n_requests = r->n_requests_asked = 100;
	for (int64_t i = 0; i < 100; i++) {
		struct request_record *q = &r->requests[i];

		*q = (struct request_record){.id = i,
					     .t_scheduled_ns = T0 + i * 100 * MS,
					     .t_sent_ns = T0 + i * 100 * MS + MS,
					     .t_first_ns = T0 + i * 100 * MS + (100 + i) * MS,
					     .t_last_ns = T0 + i * 100 * MS + (200 + i) * MS,
					     .input_tokens = 8,
					     .output_tokens = 11,
					     .cached_tokens = -1,
					     .finish = "length"};
		if (i % 10 == 9) {
			lem_strlcpy(q->finish, "error", sizeof(q->finish));
			lem_strlcpy(q->failure, "timeout", sizeof(q->failure));
		}
	}
}

static void test_a_run(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.slo = (struct slo_limits){149, 10, 280};
	summarize(&r, &s);
	/* up to 49 for the first token, of which 5 failed */
	assert_int_equal(s.slo.judged, 100);
	assert_int_equal(s.slo.good, 45);
	assert_int_equal(s.slo.failed, 10);
	assert_int_equal(s.slo.missed_ttft, 45);
	assert_int_equal(s.slo.missed_tpot, 0);
	assert_int_equal(s.slo.missed_e2e, 18 - 1); /* 81 … 98, without 89 */
	assert_int_equal(s.slo.good_output_tokens, 45 * 11);
	assert_near(s.slo.share.value, 0.45, 1e-12);
	/* Wilson's interval of 45 of 100 */
	assert_near(s.slo.share.low, 0.356145, 1e-6);
	assert_near(s.slo.share.high, 0.547554, 1e-6);
	assert_near(s.slo.requests_per_s.value, 4.5, 1e-9);
	assert_near(s.slo.output_tokens_per_s.value, 49.5, 1e-9);
	assert_true(s.slo.requests_per_s.low < 4.5 && s.slo.requests_per_s.high > 4.5);
	assert_false(s.slo.j_per_request.known);
	assert_non_null(strstr(s.slo.j_per_request.reason, "no energy"));
	run_record_release(&r);
}

static void test_energy_of_the_good(void **state)
{
	struct summary s = {.window_ns = 10 * S, .scope_j = quantity_of(900, 890, 910, "counter")};
	struct run_record r;

	(void)state;
	build(&r);
	goodput(&r, &(struct slo_limits){149, (double)NAN, (double)NAN}, &s);
	assert_near(s.slo.j_per_request.value, 20, 1e-9);
	assert_near(s.slo.j_per_output_token.high, 910.0 / 45 / 11, 1e-9);
	goodput(&r, &(struct slo_limits){1, (double)NAN, (double)NAN}, &s);
	assert_int_equal(s.slo.good, 0);
	assert_false(s.slo.j_per_request.known);
	assert_string_equal(s.slo.j_per_request.reason, "no request was good");
	assert_true(s.slo.share.known && s.slo.share.low == 0 && s.slo.share.high > 0);
	assert_true(s.slo.requests_per_s.known && s.slo.requests_per_s.value == 0);
	run_record_release(&r);
}

static void test_what_was_never_sent_is_not_good(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.n_requests_asked = 130;
	summarize(&r, &s);
	assert_int_equal(s.slo.judged, 130);
	assert_int_equal(s.slo.good, 90);
	assert_int_equal(s.slo.failed, 40);
	run_record_release(&r);
}

static void test_requests_that_only_fill_do_not_count(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	for (int i = 0; i < 20; i++)
		r.requests[i].uncounted = true;
	r.n_requests_asked = 80;
	summarize(&r, &s);
	assert_int_equal(s.slo.judged, 80);
	assert_int_equal(s.slo.good, 72);
	assert_near(s.slo.requests_per_s.value, 7.2, 1e-9);
	run_record_release(&r);
}

static void test_no_window(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	run_record_init(&r);
	r.status = RUN_FAILED;
	r.slo.ttft_ms = 100;
	summarize(&r, &s);
	assert_int_equal(s.slo.judged, 0);
	assert_false(s.slo.share.known);
	assert_false(s.slo.requests_per_s.known);
	assert_false(s.slo.j_per_request.known);
	assert_true(isnan(s.slo.met_by_99.ttft_ms));
	run_record_release(&r);
}

static void test_what_99_percent_met(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	summarize(&r, &s);
	assert_true(isnan(s.slo.met_by_99.ttft_ms)); /* a tenth has no answer at all */
	for (int i = 0; i < 100; i++)
		lem_strlcpy(r.requests[i].finish, "length", sizeof(r.requests[i].finish));
	summarize(&r, &s);
	assert_near(s.slo.met_by_99.ttft_ms, 198, 1e-9);
	assert_near(s.slo.met_by_99.tpot_ms, 10, 1e-9);
	assert_near(s.slo.met_by_99.e2e_ms, 298, 1e-9);
	/* and these limits are met by 99 of 100 */
	r.slo = s.slo.met_by_99;
	summarize(&r, &s);
	assert_int_equal(s.slo.good, 99);
	lem_strlcpy(r.requests[0].finish, "error", sizeof(r.requests[0].finish));
	summarize(&r, &s);
	assert_near(s.slo.met_by_99.ttft_ms, 199, 1e-9); /* the failed one is the hundredth */
	run_record_release(&r);
}

/* ---- properties ---- */

static void random_requests(struct run_record *r, struct rand *rnd)
{
	static const char *const ends[] = {"length", "eos", "error", "", "unknown"};
	size_t n = rand_below(rnd, 40);

	run_record_init(r);
	r->server.used = rand_below(rnd, 2);
	r->server.arrivals = r->server.used && rand_below(rnd, 2);
	r->window_start_ns = T0;
	r->window_end_ns = T0 + (int64_t)rand_below(rnd, 5) * S;
	r->requests = lem_calloc(n + 1, sizeof(*r->requests));
	r->n_requests = n;
	r->n_requests_asked = rand_below(rnd, 60);
	for (size_t i = 0; i < n; i++) {
		int64_t t = T0 + (int64_t)rand_below(rnd, 6000) * MS;
		struct request_record *q = &r->requests[i];

		*q = (struct request_record){.id = (int64_t)i,
					     .t_scheduled_ns = t,
					     .output_tokens = (int64_t)rand_below(rnd, 5),
					     .uncounted = rand_below(rnd, 8) == 0};
		q->t_first_ns = rand_below(rnd, 8) ? t + (int64_t)rand_below(rnd, 300) * MS : 0;
		q->t_last_ns =
			q->t_first_ns ? q->t_first_ns + (int64_t)rand_below(rnd, 300) * MS : 0;
		lem_strlcpy(q->finish, ends[rand_below(rnd, ARRAY_LEN(ends))], sizeof(q->finish));
	}
}

static double some_limit(struct rand *rnd)
{
	return rand_below(rnd, 4) ? 1 + (double)rand_below(rnd, 400) : (double)NAN;
}

/* Wider, or gone. */
static double loosened(double limit, struct rand *rnd)
{
	if (isnan(limit) || rand_below(rnd, 4) == 0)
		return (double)NAN;
	return limit + (double)rand_below(rnd, 100);
}

static int64_t count_answered(const struct run_record *r)
{
	int64_t n = 0;

	for (size_t i = 0; i < r->n_requests; i++)
		n += !r->requests[i].uncounted && r->requests[i].finish[0] &&
		     strcmp(r->requests[i].finish, "error") != 0;
	return n;
}

static bool ordered(const struct quantity *q)
{
	return !q->known || (q->low <= q->value && q->value <= q->high && q->low >= 0);
}

static void holds_together(const struct slo_summary *s)
{
	assert_true(s->good >= 0 && s->good <= s->judged);
	assert_true(s->good + s->failed <= s->judged);
	assert_true(s->good + s->failed + s->untold + s->missed_ttft + s->missed_tpot +
			    s->missed_e2e >=
		    s->judged);
	assert_true(ordered(&s->share) && ordered(&s->requests_per_s) &&
		    ordered(&s->output_tokens_per_s));
	assert_int_equal(s->share.known, s->judged > 0);
}

static void test_properties(void **state)
{
	struct rand rnd;

	(void)state;
	rand_seed(&rnd, 20261129);
	for (int k = 0; k < 2000; k++) {
		struct slo_limits l = {some_limit(&rnd), some_limit(&rnd), some_limit(&rnd)};
		struct slo_limits m = {loosened(l.ttft_ms, &rnd), loosened(l.tpot_ms, &rnd),
				       loosened(l.e2e_ms, &rnd)};
		struct summary tight, loose, free_of;
		struct run_record r;

		random_requests(&r, &rnd);
		summarize(&r, &tight);
		loose = free_of = tight;
		goodput(&r, &l, &tight);
		goodput(&r, &m, &loose);
		goodput(&r, &none, &free_of);
		holds_together(&tight.slo);
		holds_together(&loose.slo);
		assert_int_equal(tight.slo.judged, loose.slo.judged);
		assert_true(loose.slo.good >= tight.slo.good);
		assert_true(loose.slo.good_output_tokens >= tight.slo.good_output_tokens);
		assert_int_equal(free_of.slo.good, count_answered(&r));
		assert_true(free_of.slo.good >= loose.slo.good);
		run_record_release(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_times_count_from_the_schedule),
		cmocka_unit_test(test_limits_hold_jointly),
		cmocka_unit_test(test_what_has_no_time),
		cmocka_unit_test(test_a_failed_request_is_not_good),
		cmocka_unit_test(test_a_run),
		cmocka_unit_test(test_energy_of_the_good),
		cmocka_unit_test(test_what_was_never_sent_is_not_good),
		cmocka_unit_test(test_requests_that_only_fill_do_not_count),
		cmocka_unit_test(test_no_window),
		cmocka_unit_test(test_what_99_percent_met),
		cmocka_unit_test(test_properties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
