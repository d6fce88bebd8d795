#include "run/assemble.h"

#include <setjmp.h>

#include <cmocka.h>

#include "base/str.h"

/* Two requests, one prefill step of 6 prompt tokens that gives both their first token, two decode
 * steps. */
#define STEP1                                                                            \
	"{\"event\":\"tokens\",\"run\":3,\"start_ns\":100,\"end_ns\":200,\"prefill\":6," \
	"\"started\":[10,11],\"ids\":[10,11],\"out\":2}\n"
#define STEP2                                                                                     \
	"{\"event\":\"tokens\",\"run\":3,\"start_ns\":200,\"end_ns\":250,\"prefill\":0,\"ids\":[" \
	"10,11],\"out\":4}\n"
#define STEP3                                                                                     \
	"{\"event\":\"tokens\",\"run\":3,\"start_ns\":250,\"end_ns\":300,\"prefill\":0,\"ids\":[" \
	"11],\"out\":5}\n"

static struct worker_result good_results[] = {
	{.id = 10, .input_tokens = 2, .output_tokens = 2, .finish = "eos"},
	{.id = 11, .input_tokens = 4, .output_tokens = 3, .finish = "length", .text = "text"},
};

struct fixture {
	struct run_record rec;
	struct worker_done done;
	struct worker_result results[2];
	struct pass pass;
	size_t faults;
};

static int setup(void **state)
{
	struct fixture *f = lem_calloc(1, sizeof(*f));

	run_record_init(&f->rec);
	memcpy(f->results, good_results, sizeof(good_results));
	f->done = (struct worker_done){
		.run = 3, .t_start_ns = 90, .t_ns = 310, .results = f->results, .n_results = 2};
	f->pass = (struct pass){.run = 3,
				.first_id = 10,
				.n = 2,
				.n_prompts = 2,
				.t_asked_ns = 80,
				.done = &f->done};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	run_record_release(&f->rec);
	free(f);
	return 0;
}

static void assemble(struct fixture *f, const char *tokens, int64_t forced)
{
	f->pass.tokens = tokens;
	f->pass.tokens_len = strlen(tokens);
	assemble_pass(&f->rec, &f->pass, forced, &f->faults);
}

static bool told(const struct fixture *f, const char *part)
{
	for (size_t i = 0; i < f->rec.n_notes; i++)
		if (strstr(f->rec.notes[i], part))
			return true;
	return false;
}

static void test_good(void **state)
{
	struct fixture *f = *state;
	const struct request_record *q;

	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->rec.n_requests, 2);
	assert_int_equal(f->rec.n_token_stamps, 5);
	assert_int_equal(f->rec.n_steps, 3);
	q = &f->rec.requests[1];
	assert_int_equal(q->t_scheduled_ns, 80);
	assert_int_equal(q->t_sent_ns, 100);
	assert_int_equal(q->t_first_ns, 200);
	assert_int_equal(q->t_last_ns, 300);
	assert_int_equal(q->output_tokens, 3);
	assert_int_equal(f->rec.token_stamps_ns[q->first_stamp + 1], 250);
	assert_string_equal(q->finish, "length");
	assert_string_equal(q->text, "text");
	assert_true(f->rec.steps[0].prefill && f->rec.steps[0].n_prefill == 6 &&
		    f->rec.steps[0].n_seqs == 2);
	assert_false(f->rec.steps[2].prefill);
}

static void test_two_passes_append(void **state)
{
	struct fixture *f = *state;

	assemble(f, STEP1 STEP2 STEP3, 0);
	f->pass.pass = 1;
	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_int_equal(f->rec.n_requests, 4);
	assert_int_equal(f->rec.requests[3].pass, 1);
	assert_int_equal(f->rec.requests[3].first_stamp, 7);
	assert_int_equal(f->faults, 0);
}

static void test_interrupted_keeps_what_came(void **state)
{
	struct fixture *f = *state;

	f->pass.done = NULL;
	assemble(f, STEP1 STEP2, 0);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->rec.requests[0].output_tokens, 2);
	assert_string_equal(f->rec.requests[0].finish, "");
}

static void test_wrong_count(void **state)
{
	struct fixture *f = *state;

	f->results[1].output_tokens = 4;
	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_int_equal(f->faults, 1);
	assert_true(told(f, "request 11: the worker claims 4 output tokens, its stamps show 3"));
}

static void test_missing_and_double_answer(void **state)
{
	struct fixture *f = *state;

	f->results[1].id = 10;
	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_true(told(f, "answered request 10 twice"));
	assert_true(told(f, "never answered request 11"));
}

static void test_forced_length(void **state)
{
	struct fixture *f = *state;

	assemble(f, STEP1 STEP2 STEP3, 3);
	assert_int_equal(f->faults, 1);
	assert_true(told(f, "request 10: 3 output tokens were forced, 2 came"));
}

/* Two replicas at the same time: lines come as each of them flushes, steps overlap. */
#define OF_REPLICA(replica, start, end, prefill, lists)                            \
	"{\"event\":\"tokens\",\"run\":3,\"start_ns\":" #start ",\"end_ns\":" #end \
	",\"prefill\":" #prefill "," lists ",\"out\":1,\"replica\":" #replica "}\n"
#define TWO_REPLICAS                                                \
	OF_REPLICA(1, 95, 205, 4, "\"started\":[11],\"ids\":[11]")  \
	OF_REPLICA(1, 205, 260, 0, "\"ids\":[11]")                  \
	OF_REPLICA(0, 100, 200, 2, "\"started\":[10],\"ids\":[10]") \
	OF_REPLICA(0, 200, 250, 0, "\"ids\":[10]")                  \
	OF_REPLICA(1, 260, 300, 0, "\"ids\":[11]")

static void test_steps_of_replicas_overlap(void **state)
{
	struct fixture *f = *state;
	static const int replicas[] = {0, 1, 0, 1, 1};

	assemble(f, TWO_REPLICAS, 0);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->rec.n_steps, 5);
	for (size_t i = 0; i < 5; i++) {
		assert_int_equal(f->rec.steps[i].replica, replicas[i]);
		assert_true(!i || f->rec.steps[i - 1].t_end_ns <= f->rec.steps[i].t_end_ns);
	}
	assert_int_equal(f->rec.requests[1].t_sent_ns, 95);
	assert_int_equal(f->rec.requests[0].t_last_ns, 250);
}

static void test_steps_of_one_replica_do_not(void **state)
{
	struct fixture *f = *state;

	assemble(f, TWO_REPLICAS OF_REPLICA(1, 299, 305, 0, "\"ids\":[]"), 0);
	assert_int_equal(f->faults, 1);
	assert_true(told(f, "stamps are not in order: a step from 299 to 305 ns after one that "
			    "ended at 300"));
}

static void test_a_replica_beyond_all_bounds(void **state)
{
	struct fixture *f = *state;

	assemble(f, STEP1 STEP2 STEP3 OF_REPLICA(5000, 300, 301, 0, "\"ids\":[]"), 0);
	assert_int_equal(f->faults, 1);
	assert_true(told(f, "replica 5000"));
	assert_int_equal(f->rec.n_steps, 3);
}

/* Drafts that were accepted: a request is in `ids` once for each of its tokens. */
static void test_several_tokens_of_one_request_in_a_step(void **state)
{
	struct fixture *f = *state;
	const struct request_record *q = NULL;

	assemble(f,
		 OF_REPLICA(0, 100, 200, 6, "\"started\":[10,11],\"ids\":[10,11]")
			 OF_REPLICA(0, 200, 250, 0, "\"ids\":[10,11,11]"),
		 0);
	assert_int_equal(f->faults, 0);
	q = &f->rec.requests[1];
	assert_int_equal(q->output_tokens, 3);
	assert_int_equal(f->rec.token_stamps_ns[q->first_stamp + 1], 250);
	assert_int_equal(f->rec.token_stamps_ns[q->first_stamp + 2], 250);
	assert_int_equal(f->rec.steps[1].n_seqs, 3);
}

static void test_stamps_backwards(void **state)
{
	struct fixture *f = *state;

	assemble(f, STEP1 STEP3 STEP2, 0);
	assert_true(f->faults >= 1);
	assert_true(told(f, "stamps are not in order"));
}

static void test_stamps_outside(void **state)
{
	struct fixture *f = *state;

	f->done.t_ns = 260;
	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_true(told(f, "ends after its run"));
}

static void test_prefill_sum(void **state)
{
	struct fixture *f = *state;

	f->results[0].input_tokens = 3;
	assemble(f, STEP1 STEP2 STEP3, 0);
	assert_int_equal(f->faults, 1);
	assert_true(told(f, "computed 6 prompt tokens, its requests hold 7"));
}

static void test_foreign_ids_and_garbage(void **state)
{
	struct fixture *f = *state;

	f->pass.done = NULL;
	assemble(f,
		 "{\"event\":\"tokens\",\"run\":3,\"start_ns\":100,\"end_ns\":200,\"prefill\":0,"
		 "\"ids\":[99]}\n"
		 "{\"event\":\"tokens\"}\n"
		 "{\"event\":\"tokens\",\"run\":4,\"start_ns\":100,\"end_ns\":200,\"prefill\":0,"
		 "\"ids\":[10]}\n",
		 0);
	assert_int_equal(f->faults, 3);
	assert_true(told(f, "request 99, which was not asked for"));
	assert_true(told(f, "a step of run 4 during run 3"));
	assert_int_equal(f->rec.requests[0].output_tokens, 0);
}

/* A thousand lies are told as five, and counted all. */
static void test_many_faults_are_bounded(void **state)
{
	struct fixture *f = *state;
	_cleanup_str_ struct str s = STR_INIT;

	f->pass.done = NULL;
	for (int i = 0; i < 1000; i++)
		str_add(&s, "{\"event\":\"tokens\",\"run\":9}\n");
	assemble(f, str_c(&s), 0);
	assert_int_equal(f->faults, 1000);
	assert_int_equal(f->rec.n_notes, 5);
}

/* Prompts may have lengths of their own, which win over that of the config. */
static void test_own_lengths(void **state)
{
	static const int32_t ids[] = {1, 2, 3, 4};
	struct prompt prompts[] = {{.tokens = ids, .n_tokens = 2, .output_tokens = 2},
				   {.tokens = ids, .n_tokens = 4}};
	const struct prompt_set set = {.at = prompts, .n = 2};
	struct fixture *f = *state;

	f->pass.prompts = &set;
	assemble(f, STEP1 STEP2 STEP3, 3);
	assert_int_equal(f->faults, 0);
	assert_int_equal(f->rec.requests[0].output_tokens_asked, 2);
	assert_int_equal(f->rec.requests[1].output_tokens_asked, 3);
	assert_int_equal(f->rec.requests[1].input_tokens_asked, 4);
	prompts[0].output_tokens = 5;
	prompts[1].n_tokens = 3;
	assemble(f, STEP1 STEP2 STEP3, 3);
	assert_int_equal(f->faults, 2);
	assert_true(told(f, "request 10: 5 output tokens were forced, 2 came"));
	assert_true(told(f, "request 11: 3 token ids were sent, the worker counts 4"));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_good),
		T(test_two_passes_append),
		T(test_interrupted_keeps_what_came),
		T(test_wrong_count),
		T(test_missing_and_double_answer),
		T(test_forced_length),
		T(test_own_lengths),
		T(test_steps_of_replicas_overlap),
		T(test_steps_of_one_replica_do_not),
		T(test_a_replica_beyond_all_bounds),
		T(test_several_tokens_of_one_request_in_a_step),
		T(test_stamps_backwards),
		T(test_stamps_outside),
		T(test_prefill_sum),
		T(test_foreign_ids_and_garbage),
		T(test_many_faults_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
