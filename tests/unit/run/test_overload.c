/* Simulated servers under an open loop: what cannot keep up is told, what can is not accused. */
#include "run/overload.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"
#include "load/arrival.h"

enum { SEEDS = 60, REQUESTS_MAX = 20000 };
#define T0 (1000 * NS_PER_S)

/* How a server works: slots at a time, each for service_s (exponential: of that mean). */
struct server_model {
	int slots;
	double service_s;
	bool exponential;
};

struct load_model {
	enum arrival_kind kind;
	double rate_hz, window_s, ramp_s;
	uint64_t seed;
};

static double by_free[256];

/* In order of arrival, at the slot that is free first. */
static double serve(const struct server_model *m, double at_s, struct rand *r)
{
	double service = m->exponential ? rand_exp(r) * m->service_s : m->service_s, start;
	int best = 0;

	for (int i = 1; i < m->slots; i++)
		if (by_free[i] < by_free[best])
			best = i;
	start = fmax(at_s, by_free[best]);
	by_free[best] = start + service;
	return by_free[best];
}

static void record(const struct server_model *m, const struct load_model *l, struct run_record *r)
{
	static double at_ns[REQUESTS_MAX];
	struct arrival_spec spec = {
		.kind = l->kind, .rate_hz = l->rate_hz, .burstiness = 1, .seed = l->seed};
	struct rand rnd;

	assert_int_equal(arrival_schedule(&spec, at_ns, REQUESTS_MAX, NULL), 0);
	rand_seed(&rnd, l->seed + 1);
	memset(by_free, 0, sizeof(by_free));
	run_record_init(r);
	r->server.used = r->server.arrivals = true;
	r->engine_mode = "server/open";
	r->window_start_ns = T0 + (int64_t)(l->ramp_s * 1e9);
	r->window_end_ns = T0 + (int64_t)(l->window_s * 1e9);
	r->requests = lem_calloc(REQUESTS_MAX, sizeof(*r->requests));
	for (size_t i = 0; i < REQUESTS_MAX && at_ns[i] < l->window_s * 1e9; i++) {
		struct request_record *q = &r->requests[r->n_requests++];
		double end = serve(m, at_ns[i] / 1e9, &rnd);

		q->t_scheduled_ns = q->t_sent_ns = T0 + (int64_t)at_ns[i];
		q->t_first_ns = q->t_last_ns = T0 + (int64_t)(end * 1e9);
		q->output_tokens = 1;
		q->uncounted = at_ns[i] < l->ramp_s * 1e9;
		lem_strlcpy(q->finish, "length", sizeof(q->finish));
	}
}

/* Of SEEDS windows, in how many overload is seen. */
static int seen(const struct server_model *m, struct load_model l)
{
	int n = 0;
	char why[160];

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct run_record r;

		l.seed = seed;
		record(m, &l, &r);
		n += overload_seen(&r, why, sizeof(why));
		run_record_release(&r);
	}
	print_message("# %d slots of %.2g s%s, %.3g requests/s: overload in %d of %d windows\n",
		      m->slots, m->service_s, m->exponential ? " on average" : "", l.rate_hz, n,
		      SEEDS);
	return n;
}

/* Eight slots of 0.4 s serve 20 requests/s. */
static const struct server_model steady = {8, 0.4, false}, wild = {8, 0.4, true};

static struct load_model at(double rate_hz)
{
	return (struct load_model){ARRIVAL_POISSON, rate_hz, 60, 5, 0};
}

static void test_who_keeps_up_is_not_accused(void **state)
{
	(void)state;
	for (double share = 0.1; share < 0.85; share += 0.1)
		assert_true(seen(&steady, at(20 * share)) <= SEEDS / 20);
	assert_true(seen(&wild, at(10)) <= SEEDS / 20);
	assert_true(seen(&wild, at(16)) <= SEEDS / 10);
}

static void test_who_does_not_is(void **state)
{
	(void)state;
	assert_true(seen(&steady, at(23)) >= SEEDS * 9 / 10);
	assert_true(seen(&steady, at(30)) == SEEDS);
	assert_true(seen(&steady, at(80)) == SEEDS);
	assert_true(seen(&wild, at(26)) >= SEEDS * 9 / 10);
	assert_true(seen(&(struct server_model){1, 0.5, false},
			 (struct load_model){ARRIVAL_CONSTANT, 3, 30, 0, 0}) == SEEDS);
}

/* A queue that fills is none that grows: latencies of a quarter of the window and more. */
static void test_slow_answers_are_no_overload(void **state)
{
	const struct server_model slow = {200, 6, false}, slower = {250, 25, false};
	const struct load_model l = {ARRIVAL_POISSON, 8, 30, 0, 0};

	(void)state;
	assert_int_equal(seen(&slow, l), 0);
	assert_int_equal(seen(&slower, l), 0);
}

static void test_few_requests_tell_nothing(void **state)
{
	const struct server_model one = {1, 4, false};

	(void)state;
	assert_int_equal(seen(&one, (struct load_model){ARRIVAL_CONSTANT, 0.5, 20, 0, 0}), 0);
}

static void test_words(void **state)
{
	struct load_model l = at(30);
	struct run_record r;
	char why[160] = "";

	(void)state;
	l.seed = 3;
	record(&steady, &l, &r);
	assert_true(overload_seen(&r, why, sizeof(why)));
	assert_non_null(strstr(why, "requests/s came, it finished"));
	r.status = RUN_INTERRUPTED;
	assert_false(overload_seen(&r, why, sizeof(why)));
	r.status = RUN_COMPLETED;
	r.engine_mode = "server/closed";
	assert_false(overload_seen(&r, why, sizeof(why)));
	r.engine_mode = NULL;
	assert_false(overload_seen(&r, why, sizeof(why)));
	run_record_release(&r);
}

/* A server that sheds load is overloaded, however quick it is with the rest. */
static void test_refusals(void **state)
{
	struct load_model l = at(10);
	struct run_record r;
	char why[160] = "";

	(void)state;
	l.seed = 4;
	record(&steady, &l, &r);
	assert_false(overload_seen(&r, why, sizeof(why)));
	for (size_t i = 0; i < r.n_requests; i += 10) {
		lem_strlcpy(r.requests[i].finish, "error", sizeof(r.requests[i].finish));
		lem_strlcpy(r.requests[i].failure, i % 20 ? "http_429" : "timeout",
			    sizeof(r.requests[i].failure));
		r.requests[i].t_first_ns = r.requests[i].t_last_ns = 0;
	}
	assert_true(overload_seen(&r, why, sizeof(why)));
	assert_non_null(strstr(why, "turned away or not served in time"));
	/* other failures are no overload: the run says that requests failed */
	for (size_t i = 0; i < r.n_requests; i += 10)
		lem_strlcpy(r.requests[i].failure, "http_5xx", sizeof(r.requests[i].failure));
	assert_false(overload_seen(&r, why, sizeof(why)));
	run_record_release(&r);
}

/* Requests that were due and found every connection taken until the end were not served in time
 * either; nothing of them is known but that. */
static void test_requests_that_were_never_sent(void **state)
{
	struct load_model l = at(10);
	struct run_record r;
	char why[160] = "";

	(void)state;
	l.seed = 4;
	record(&steady, &l, &r);
	for (size_t i = r.n_requests * 3 / 4; i < r.n_requests; i++) {
		struct request_record *q = &r.requests[i];

		lem_strlcpy(q->finish, "error", sizeof(q->finish));
		lem_strlcpy(q->failure, "not_sent", sizeof(q->failure));
		q->t_sent_ns = q->t_first_ns = q->t_last_ns = q->output_tokens = 0;
	}
	assert_true(overload_seen(&r, why, sizeof(why)));
	assert_non_null(strstr(why, "turned away or not served in time"));
	run_record_release(&r);
}

static void test_nothing_measured(void **state)
{
	struct run_record r;
	char why[160];

	(void)state;
	run_record_init(&r);
	r.server.used = r.server.arrivals = true;
	r.engine_mode = "server/open";
	assert_false(overload_seen(&r, why, sizeof(why)));
	r.window_start_ns = T0;
	r.window_end_ns = T0 + NS_PER_S;
	assert_false(overload_seen(&r, why, sizeof(why)));
	run_record_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_keeps_up_is_not_accused),
		cmocka_unit_test(test_who_does_not_is),
		cmocka_unit_test(test_slow_answers_are_no_overload),
		cmocka_unit_test(test_few_requests_tell_nothing),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_requests_that_were_never_sent),
		cmocka_unit_test(test_nothing_measured),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
