/* From the load client's result to a record (answers.c), and from that to figures (streams.c). */
#include "run/answers.h"

#include <setjmp.h>

#include <cmocka.h>

#include "run/streams.h"
#include "run/summarize.h"

#define MS 1000000
#define T0 (100 * NS_PER_S)

enum { JOBS = 4, CHUNKS = 3 };

struct fixture {
	struct run_record rec;
	struct http_load_result res;
	struct prompt prompts[2];
	struct prompt_set set;
	int32_t ids[8];
	size_t faults;
};

/* Four requests, 100 ms apart, each in three chunks of 2, 2 and 1 tokens: 20 ms to the first, then
 * 10 ms each. */
static int set_up(void **state)
{
	static struct fixture f;

	f = (struct fixture){.prompts = {{.tokens = f.ids, .n_tokens = 8}, {.text = "words"}}};
	f.set = (struct prompt_set){.at = f.prompts, .n = 2};
	run_record_init(&f.rec);
	f.rec.server.used = true;
	f.rec.status = RUN_COMPLETED;
	f.res.t_start_ns = T0;
	f.res.n_jobs = JOBS;
	f.res.jobs = lem_calloc(JOBS, sizeof(*f.res.jobs));
	f.res.chunks = lem_calloc(JOBS * CHUNKS, sizeof(*f.res.chunks));
	f.res.n_chunks = JOBS * CHUNKS;
	for (int i = 0; i < JOBS; i++) {
		struct http_load_job *j = &f.res.jobs[i];
		int64_t t = T0 + i * 100 * MS;

		*j = (struct http_load_job){.t_scheduled_ns = t,
					    .t_sent_ns = t + MS,
					    .t_first_ns = t + 21 * MS,
					    .t_last_ns = t + 41 * MS,
					    .t_end_ns = t + 42 * MS,
					    .status = 200,
					    .prompt_tokens = 8,
					    .completion_tokens = 5,
					    .cached_tokens = -1,
					    .first_chunk = (size_t)i * CHUNKS,
					    .n_chunks = CHUNKS,
					    .finish = "length"};
		for (int k = 0; k < CHUNKS; k++)
			f.res.chunks[i * CHUNKS + k] =
				(struct http_load_chunk){.t_ns = t + 21 * MS + k * 10 * MS,
							 .n_text = 4,
							 .tokens = k == 2 ? 5 : 2 * (k + 1)};
	}
	f.res.t_end_ns = T0 + 342 * MS;
	f.rec.window_start_ns = T0;
	f.rec.window_end_ns = f.res.t_end_ns;
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	free(f->res.jobs);
	free(f->res.chunks);
	run_record_release(&f->rec);
	return 0;
}

static void take(struct fixture *f, struct answers a)
{
	a.result = &f->res;
	a.prompts = &f->set;
	a.forced = 5;
	answers_take(&f->rec, &a, &f->faults);
}

static bool noted(const struct fixture *f, const char *text)
{
	for (size_t i = 0; i < f->rec.n_notes; i++)
		if (strstr(f->rec.notes[i], text))
			return true;
	return false;
}

static bool judged(const struct summary *s, const char *text)
{
	for (size_t i = 0; i < s->verdict.n_reasons; i++)
		if (strstr(s->verdict.reasons[i], text))
			return true;
	return false;
}

static void test_requests_and_stamps(void **state)
{
	struct fixture *f = *state;
	const struct request_record *q;

	take(f, (struct answers){.pass = 2});
	assert_int_equal(f->rec.n_requests, JOBS);
	assert_int_equal(f->rec.n_requests_asked, JOBS);
	assert_int_equal(f->rec.n_token_stamps, JOBS * CHUNKS);
	q = &f->rec.requests[3];
	assert_int_equal(q->id, 3);
	assert_int_equal(q->pass, 2);
	assert_int_equal(q->prompt_index, 1);
	assert_int_equal(q->output_tokens, 5);
	assert_int_equal(q->output_tokens_asked, 5);
	assert_int_equal(q->n_stamps, CHUNKS);
	assert_string_equal(q->finish, "length");
	assert_string_equal(q->failure, "");
	assert_int_equal(f->rec.stamp_tokens[q->first_stamp], 2);
	assert_int_equal(f->rec.stamp_tokens[q->first_stamp + 2], 1);
	assert_int_equal(f->rec.token_stamps_ns[q->first_stamp], T0 + 321 * MS);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->rec.n_notes, 0);
}

/* A second pass goes behind the first. */
static void test_passes_add_up(void **state)
{
	struct fixture *f = *state;

	take(f, (struct answers){0});
	take(f, (struct answers){.pass = 1});
	assert_int_equal(f->rec.n_requests, 2 * JOBS);
	assert_int_equal(f->rec.requests[4].id, 4);
	assert_int_equal(f->rec.requests[4].first_stamp, JOBS * CHUNKS);
}

static void test_chunks_are_not_tokens(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(s.output_tokens, JOBS * 5);
	assert_int_equal(s.input_tokens, JOBS * 8);
	assert_int_equal(s.chunks, JOBS * CHUNKS);
	/* gaps: 10 ms before a chunk of 2 tokens, 10 ms before one of 1 */
	assert_int_equal(s.itl_chunk.n, JOBS * 2);
	assert_float_equal(s.itl_chunk.p50, 10, 1e-9);
	assert_int_equal(s.itl.n, JOBS * 3);
	assert_float_equal(s.itl.min, 5, 1e-9);
	assert_float_equal(s.itl.max, 10, 1e-9);
	assert_float_equal(s.itl.mean, 20.0 / 3, 1e-9);
	assert_float_equal(s.tpot.p50, 5, 1e-9); /* 20 ms over 4 tokens */
	assert_float_equal(s.ttft.p50, 20, 1e-9);
	assert_float_equal(s.ttft_sched.p50, 21, 1e-9);
	assert_int_equal(s.lag.n, JOBS);
	assert_float_equal(s.lag.p99, 1, 1e-9);
	assert_false(s.prefill_tokens_per_s.known);
	assert_true(s.output_tokens_per_s.known);
	assert_float_equal(s.output_tokens_per_s.value, 20 / 0.342, 1e-6);
}

/* Without the server's word there is no gap between tokens, only one between chunks. */
static void test_tokens_of_chunks_untold(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	for (size_t i = 0; i < f->res.n_chunks; i++)
		f->res.chunks[i].tokens = -1;
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(s.output_tokens, JOBS * 5);
	assert_int_equal(s.itl.n, 0);
	assert_non_null(strstr(s.itl.reason, "how many tokens a chunk holds"));
	assert_int_equal(s.itl_chunk.n, JOBS * 2);
}

/* As many chunks as tokens: each is one, told or not. */
static void test_a_token_a_chunk(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	for (size_t i = 0; i < f->res.n_chunks; i++)
		f->res.chunks[i].tokens = -1;
	for (int i = 0; i < JOBS; i++)
		f->res.jobs[i].completion_tokens = CHUNKS;
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(s.itl.n, JOBS * 2);
	assert_int_equal(s.lengths_differ, JOBS); /* 5 were forced */
	assert_int_equal(s.verdict.level, VERDICT_INVALID);
	assert_true(judged(&s, "another number of tokens than was forced"));
}

/* Prompts may have lengths of their own; the others have that of the config. */
static void test_own_lengths(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	f->prompts[0].output_tokens = 4;
	f->res.jobs[0].prompt_tokens = 9; /* 8 were sent */
	take(f, (struct answers){0});
	assert_int_equal(f->rec.requests[0].output_tokens_asked, 4);
	assert_int_equal(f->rec.requests[0].input_tokens_asked, 8);
	assert_int_equal(f->rec.requests[1].output_tokens_asked, 5);
	assert_int_equal(f->rec.requests[1].input_tokens_asked, 0); /* text */
	summarize(&f->rec, &s);
	assert_int_equal(s.lengths_differ, 2);
	assert_int_equal(s.inputs_differ, 1);
	assert_true(judged(&s, "for 1 requests the engine counts other input tokens"));
	assert_int_equal(s.output_lengths.total, JOBS * 5);
}

/* Counts in the chunks that do not add up to the usage are worth nothing. */
static void test_counts_that_do_not_add_up(void **state)
{
	struct fixture *f = *state;

	f->res.chunks[2].tokens = 4;
	take(f, (struct answers){0});
	assert_int_equal(f->rec.stamp_tokens[0], -1);
	assert_int_equal(f->rec.stamp_tokens[3], 2);
}

/* Requests of the ramp fill the engine; their tokens count where they fall. */
static void test_ramp_and_edges(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	f->rec.server.arrivals = true;
	take(f, (struct answers){.uncounted_ns = 30 * MS, .counted_end_ns = 300 * MS});
	f->rec.window_start_ns = T0 + 30 * MS;
	f->rec.window_end_ns = T0 + 300 * MS;
	summarize(&f->rec, &s);
	assert_true(f->rec.requests[0].uncounted);
	assert_true(f->rec.requests[3].uncounted);
	assert_int_equal(f->rec.n_requests_asked, 2);
	assert_int_equal(s.requests_asked, 2);
	assert_int_equal(s.requests_done, 2);
	/* of the first request the chunks at 31 and 41 ms: 2 + 1 tokens; of the last none */
	assert_int_equal(s.output_tokens, 3 + 2 * 5);
	assert_int_equal(s.input_tokens, 2 * 8);
	assert_int_equal(s.ttft.n, 2);
}

static void test_failures_by_class(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	f->res.jobs[0].failure = HTTP_LOAD_429;
	f->res.jobs[0].n_chunks = 0;
	f->res.jobs[0].completion_tokens = -1;
	f->res.jobs[1].failure = HTTP_LOAD_RESET; /* after two chunks */
	f->res.jobs[1].n_chunks = 2;
	f->res.jobs[1].completion_tokens = -1;
	f->res.jobs[2].failure = HTTP_LOAD_NOT_SENT;
	f->res.jobs[2].t_scheduled_ns = 0; /* its time never came */
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(f->rec.n_requests, 3); /* what was never sent is left out */
	assert_string_equal(f->rec.requests[0].finish, "error");
	assert_string_equal(f->rec.requests[0].failure, http_load_failure_name(HTTP_LOAD_429));
	assert_int_equal(f->rec.requests[0].output_tokens, 0);
	assert_int_equal(f->rec.requests[1].output_tokens, 4); /* as the last chunk told */
	assert_int_equal(s.requests_done, 1);
	assert_int_equal(s.n_failures, 2);
	assert_int_equal(s.failures[0].n + s.failures[1].n, 2);
	assert_int_equal(s.verdict.level, VERDICT_INVALID);
	assert_true(judged(&s, "requests failed: 1 "));
}

static void never_sent(struct http_load_job *j)
{
	j->failure = HTTP_LOAD_NOT_SENT;
	j->t_sent_ns = j->t_first_ns = j->t_last_ns = 0;
	j->n_chunks = 0;
	j->prompt_tokens = j->completion_tokens = -1;
}

/* Due by the schedule, and no connection was free until the end: a request that nobody served. */
static void test_what_was_due_and_not_sent_counts(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	never_sent(&f->res.jobs[2]);
	take(f, (struct answers){0});
	f->rec.slo.ttft_ms = 1000;
	summarize(&f->rec, &s);
	assert_int_equal(f->rec.n_requests, JOBS);
	assert_int_equal(f->rec.n_requests_asked, JOBS);
	assert_string_equal(f->rec.requests[2].failure, "not_sent");
	assert_string_equal(f->rec.requests[2].finish, "error");
	assert_int_equal(f->rec.requests[2].t_sent_ns, 0);
	assert_int_equal(s.requests_done, JOBS - 1);
	assert_int_equal(s.lag.n, JOBS - 1);
	assert_int_equal(s.slo.judged, JOBS);
	assert_int_equal(s.slo.good, JOBS - 1);
	assert_int_equal(s.slo.failed, 1);
}

/* A closed loop has no schedule: its last turn may come too late for a request. */
static void test_a_turn_that_a_closed_loop_did_not_take(void **state)
{
	struct fixture *f = *state;

	never_sent(&f->res.jobs[3]);
	take(f, (struct answers){.closed = true});
	assert_int_equal(f->rec.n_requests, JOBS - 1);
	assert_int_equal(f->rec.n_requests_asked, JOBS - 1);
}

static void test_doubts(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	f->res.jobs[0].doubts = HTTP_LOAD_USAGE_FALSE;
	f->res.jobs[1].doubts = HTTP_LOAD_NO_DONE | HTTP_LOAD_AFTER_END;
	f->res.jobs[2].prompt_tokens = 9; /* 8 ids were sent */
	f->res.jobs[2].cached_tokens = 6;
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(f->faults, 1);
	assert_true(noted(f, "1 answers contradict"));
	assert_true(noted(f, "without [DONE]"));
	assert_true(noted(f, "went on after"));
	assert_true(noted(f, "other input tokens than were sent for 1 requests"));
	assert_int_equal(s.cached_tokens, 6);
	assert_true(judged(&s, "prefix cache"));
	f->rec.server.prefix_cache = true;
	summarize(&f->rec, &s);
	assert_false(judged(&s, "prefix cache"));
}

static void test_no_counts_at_all(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	for (int i = 0; i < JOBS; i++)
		f->res.jobs[i].completion_tokens = f->res.jobs[i].prompt_tokens = -1;
	for (size_t i = 0; i < f->res.n_chunks; i++)
		f->res.chunks[i].tokens = -1;
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_int_equal(s.output_tokens, 0);
	assert_int_equal(s.lengths_untold, JOBS);
	assert_int_equal(s.verdict.level, VERDICT_INVALID);
	assert_true(judged(&s, "told no token counts for 4 requests"));
}

static void test_client_limited(void **state)
{
	struct fixture *f = *state;
	struct summary s;

	for (int i = 0; i < JOBS; i++)
		f->res.jobs[i].t_sent_ns += 9 * MS; /* 10 ms late, and 11 ms to the first token */
	f->rec.server.client_cpu_ns = 330 * MS;
	take(f, (struct answers){0});
	summarize(&f->rec, &s);
	assert_true(judged(&s, "client-limited: lem's client computed"));
	assert_false(judged(&s, "left lem late")); /* nobody asked for a schedule */
	f->rec.server.arrivals = true;
	summarize(&f->rec, &s);
	assert_true(judged(&s, "client-limited: requests left lem late, p50 10.00 ms"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_requests_and_stamps),
		T(test_passes_add_up),
		T(test_chunks_are_not_tokens),
		T(test_tokens_of_chunks_untold),
		T(test_a_token_a_chunk),
		T(test_own_lengths),
		T(test_counts_that_do_not_add_up),
		T(test_ramp_and_edges),
		T(test_failures_by_class),
		T(test_what_was_due_and_not_sent_counts),
		T(test_a_turn_that_a_closed_loop_did_not_take),
		T(test_doubts),
		T(test_no_counts_at_all),
		T(test_client_limited),
	};

	return cmocka_run_group_tests_name("answers", tests, NULL, NULL);
}
