#include "run/summarize.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#define assert_near(a, b, tol) assert_true(fabs((double)(a) - (double)(b)) <= (tol))
#define S                      NS_PER_S

/*
 * A record with a timeline that can be computed by head: 10 s window, 10 rounds of 1 s. In each
 * round two requests are prefilled together (100 tokens in 0.2 s) and then decode 8 more tokens
 * each, a step every 0.1 s.
 */
enum { ROUNDS = 10, DECODES = 8, PROMPT = 50 };

static void build(struct run_record *r)
{
	run_record_init(r);
	r->run_id = "test";
	r->config_name = "test";
	r->engine_name = "llamacpp";
	r->status = RUN_COMPLETED;
	r->window_start_ns = 100 * S;
	r->window_end_ns = 110 * S;
	r->t_start_ns = 90 * S;
	r->t_end_ns = 111 * S;
	r->warmup = (struct warmup_record){
		.enabled = true, .converged = true, .final_cv = 0.01, .target_cv = 0.05, .n = 5};
	r->shape = (struct model_shape){.n_layer = 2,
					.n_embd = 64,
					.n_ff = 128,
					.n_head = 4,
					.n_head_kv = 4,
					.head_dim = 16,
					.n_vocab = 100,
					.gated_mlp = true};
	r->requests = lem_calloc(2 * ROUNDS, sizeof(*r->requests));
	r->token_stamps_ns = lem_calloc(2 * ROUNDS * (DECODES + 1), sizeof(int64_t));
	r->steps = lem_calloc(ROUNDS * (DECODES + 1), sizeof(*r->steps));
	for (int k = 0; k < ROUNDS; k++) {
		int64_t t0 = (100 + k) * S;

		r->steps[r->n_steps++] =
			(struct step_record){true, t0, t0 + S / 5, 2, 2 * PROMPT + 2, 2 * PROMPT};
		for (int d = 1; d <= DECODES; d++)
			r->steps[r->n_steps++] = (struct step_record){
				false, t0 + S / 5 + (d - 1) * S / 10, t0 + S / 5 + d * S / 10, 2, 2,
				0};
		for (int i = 0; i < 2; i++) {
			struct request_record *q = &r->requests[r->n_requests++];

			*q = (struct request_record){.id = 2 * k + i,
						     .t_scheduled_ns = 100 * S,
						     .t_sent_ns = t0,
						     .t_first_ns = t0 + S / 5,
						     .t_last_ns = t0 + S,
						     .input_tokens = PROMPT,
						     .output_tokens = DECODES + 1,
						     .first_stamp = r->n_token_stamps,
						     .n_stamps = DECODES + 1,
						     .finish = "length"};
			for (int d = 0; d <= DECODES; d++)
				r->token_stamps_ns[r->n_token_stamps++] = t0 + S / 5 + d * S / 10;
		}
	}
	r->n_requests_asked = 2 * ROUNDS;
}

static void test_figures(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	summarize(&r, &s);
	assert_int_equal(s.input_tokens, 1000);
	assert_int_equal(s.output_tokens, 180);
	assert_int_equal(s.requests_done, 20);
	assert_near(s.prefill_tokens_per_s.value, 500, 1e-9);
	assert_near(s.decode_tokens_per_s.value, 20, 1e-9);
	assert_near(s.output_tokens_per_s.value, 18, 1e-9);
	assert_near(s.total_tokens_per_s.value, 118, 1e-9);
	assert_near(s.requests_per_s.value, 2, 1e-9);
	assert_near(s.ttft.p50, 200, 1e-9);
	assert_near(s.itl.p50, 100, 1e-9);
	assert_int_equal(s.itl.n, 20 * DECODES);
	assert_near(s.tpot.p99, 100, 1e-9);
	assert_near(s.e2e.max, 1000, 1e-9);
	assert_near(s.e2e_sched.max, 10000, 1e-9);
	assert_near(s.ttft_sched.min, 200, 1e-9);
	assert_true(s.flops_total.known &&
		    s.flops_total.value == s.flops_prefill.value + s.flops_decode.value);
	assert_false(s.mfu.known);
	run_record_release(&r);
}

/* As a server that tells the tokens of each chunk, but for the first `untold` answers. */
static void as_server(struct run_record *r, size_t untold)
{
	r->server.used = true;
	r->stamp_tokens = lem_calloc(r->n_token_stamps, sizeof(*r->stamp_tokens));
	for (size_t i = 0; i < r->n_requests; i++) {
		struct request_record *q = &r->requests[i];

		q->first_stamp = i * (DECODES + 1);
		q->output_tokens = 2 * (DECODES + 1);
		for (int k = 0; k <= DECODES; k++)
			r->stamp_tokens[q->first_stamp + (size_t)k] = i < untold && k == 3 ? -1 : 2;
	}
}

/* A few answers that do not tell the tokens of their chunks are left out of the gaps by token. */
static void test_chunks_untold(void **state)
{
	enum { MANY = 200 };
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	as_server(&r, 1);
	summarize(&r, &s);
	assert_int_equal(s.chunks_untold, 1); /* of 20: too many */
	assert_int_equal(s.itl.n, 0);
	assert_int_equal(s.itl_chunk.n, 20 * DECODES);

	r.requests = lem_reallocarray(r.requests, MANY, sizeof(*r.requests));
	for (size_t i = r.n_requests; i < MANY; i++)
		r.requests[i] = r.requests[1 + i % 19];
	r.n_requests = MANY;
	summarize(&r, &s);
	assert_int_equal(s.chunks_untold, 1);
	assert_int_equal(s.itl.n, (MANY - 1) * DECODES * 2);
	assert_near(s.itl.p50, 50, 1e-9);
	assert_int_equal(s.itl_chunk.n, MANY * DECODES);
	run_record_release(&r);
}

/* What was sent before the window and answered in it is served by it; what was answered just
 * before it is not. */
static void test_requests_per_s_of_a_ramp(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.requests[0].uncounted = r.requests[1].uncounted = true;
	r.requests[1].t_last_ns = r.window_start_ns - S / 2;
	r.requests[19].t_last_ns = r.window_end_ns + 1;
	summarize(&r, &s);
	assert_int_equal(s.requests_done, 18);
	assert_near(s.requests_per_s.value, 1.8, 1e-9);
	run_record_release(&r);
}

static void test_no_energy_is_null_with_reason(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.samples.status = lem_calloc(1, sizeof(*r.samples.status));
	r.samples.n_status = 1;
	lem_strlcpy(r.samples.status[0].meter, "rapl_perf", sizeof(r.samples.status[0].meter));
	lem_strlcpy(r.samples.status[0].reason, "RAPL: no power PMU here",
		    sizeof(r.samples.status[0].reason));
	summarize(&r, &s);
	assert_false(s.cpu_j.known);
	assert_string_equal(s.cpu_j.reason, "RAPL: no power PMU here");
	assert_false(s.j_per_output_token.known);
	assert_non_null(strstr(s.j_per_output_token.reason, "no power PMU"));
	assert_string_equal(s.energy_scope, "");
	assert_int_equal(s.verdict.level, VERDICT_VALID);
	run_record_release(&r);
}

/* A counter that rises by 50 J every second, read every 100 ms: 500 J in the window, 500/180 J per
 * output token. */
static void add_counter(struct run_record *r, enum domain d, const char *device, double watts)
{
	struct series *c;
	size_t n = 200;

	r->samples.series =
		lem_reallocarray(r->samples.series, r->samples.n_series + 1, sizeof(*c));
	c = &r->samples.series[r->samples.n_series++];
	*c = (struct series){.signal = SIGNAL_ENERGY_COUNTER_UJ, .domain = d, .n = n, .cap = n};
	lem_strlcpy(c->device, device, sizeof(c->device));
	lem_strlcpy(c->meter, "test", sizeof(c->meter));
	c->t_begin_ns = lem_calloc(n, 8);
	c->t_end_ns = lem_calloc(n, 8);
	c->value = lem_calloc(n, 8);
	c->ok = lem_calloc(n, 1);
	for (size_t i = 0; i < n; i++) {
		c->t_begin_ns[i] = 95 * S + (int64_t)i * S / 10;
		c->t_end_ns[i] = c->t_begin_ns[i] + 1000;
		c->value[i] = (int64_t)(watts * 1e6 * (double)i / 10);
		c->ok[i] = 1;
	}
}

static void test_cpu_energy_per_token(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	add_counter(&r, DOMAIN_CPU_PACKAGE, "package-0", 50);
	summarize(&r, &s);
	assert_true(s.cpu_j.known);
	assert_near(s.cpu_j.value, 500, 5);
	assert_string_equal(s.energy_scope, "cpu");
	assert_near(s.j_per_output_token.value, 500.0 / 180, 0.05);
	assert_true(s.cpu_j.low <= 500 && 500 <= s.cpu_j.high);
	run_record_release(&r);
}

static void test_estimate_is_never_mixed(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	add_counter(&r, DOMAIN_CPU_PACKAGE, "package-0", 50);
	add_counter(&r, DOMAIN_CPU_ESTIMATE, "engine", 30);
	summarize(&r, &s);
	assert_string_equal(s.energy_scope, "cpu");
	assert_near(s.j_per_output_token.value, 500.0 / 180, 0.05);
	run_record_release(&r);
}

static bool has_reason(const struct summary *s, const char *part);

/* Where nothing was measured the estimate stands in for it, and everything says so. */
static void test_estimate_alone_is_labelled(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	add_counter(&r, DOMAIN_CPU_ESTIMATE, "engine", 30);
	summarize(&r, &s);
	assert_string_equal(s.energy_scope, "cpu, estimated");
	assert_near(s.j_per_output_token.value, 300.0 / 180, 0.05);
	assert_int_equal(s.verdict.level, VERDICT_SUSPECT);
	assert_true(has_reason(&s, "is an estimate"));
	run_record_release(&r);
}

static bool has_reason(const struct summary *s, const char *part)
{
	for (size_t i = 0; i < s->verdict.n_reasons; i++)
		if (strstr(s->verdict.reasons[i], part))
			return true;
	return false;
}

static void test_verdicts(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.warmup.converged = false;
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_SUSPECT);
	assert_true(has_reason(&s, "warm-up did not settle"));

	r.window_end_ns = 103 * S;
	r.n_requests_asked = 25;
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_INVALID);
	assert_true(has_reason(&s, "5 of 25 requests were not answered"));
	assert_non_null(strstr(s.verdict.reasons[0], "not answered")); /* the gravest first */
	assert_true(has_reason(&s, "shorter than 5 s"));

	run_record_note(&r, "worker_faults: %d", 3);
	summarize(&r, &s);
	assert_true(has_reason(&s, "3 faults"));

	r.status = RUN_INTERRUPTED;
	summarize(&r, &s);
	assert_true(has_reason(&s, "interrupted"));
	run_record_release(&r);
}

/* No figure is made of psys, nor of a CPU counter that never moves (virtual machines have such):
 * its joules are unknown, with the reason, and the run is as good as without it. */
static void test_dead_counters(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	add_counter(&r, DOMAIN_PSYS, "psys", 0);
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_VALID);
	add_counter(&r, DOMAIN_CPU_PACKAGE, "package-0", 0);
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_VALID);
	assert_false(s.cpu_j.known);
	assert_non_null(strstr(s.cpu_j.reason, "stands still"));
	run_record_release(&r);
}

/* A second replica that does the same at the same time doubles the rates; the time of its steps is
 * no time in which the first one did nothing. */
static void test_replicas_add_up(void **state)
{
	struct run_record r;
	struct summary one, two;
	size_t n;

	(void)state;
	build(&r);
	summarize(&r, &one);
	n = r.n_steps;
	r.steps = lem_reallocarray(r.steps, 2 * n, sizeof(*r.steps));
	for (size_t i = n; i-- > 0;) {
		struct step_record s = r.steps[i];

		r.steps[2 * i] = s;
		s.t_end_ns += 1; /* stamps of two replicas are never the same */
		s.n_seqs = s.n_prefill ? 0 : 2;
		s.replica = 1;
		r.steps[2 * i + 1] = s;
	}
	r.n_steps = 2 * n;
	summarize(&r, &two);
	assert_near(two.prefill_tokens_per_s.value, 2 * one.prefill_tokens_per_s.value, 1e-4);
	assert_near(two.decode_tokens_per_s.value, 2 * one.decode_tokens_per_s.value, 1e-4);
	assert_non_null(strstr(two.decode_tokens_per_s.method, "summed over replicas"));
	assert_null(strstr(one.decode_tokens_per_s.method, "summed"));
	run_record_release(&r);
}

static void test_replicas_of_a_stored_run_may_lie(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.steps[3].replica = INT32_MAX;
	r.steps[4].replica = INT32_MIN;
	summarize(&r, &s);
	assert_true(s.decode_tokens_per_s.known);
	run_record_release(&r);
}

/* Tokens of one step share its stamp: each has its part of the gap before. */
static void test_tokens_that_share_a_stamp(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	for (size_t i = 0; i < r.n_requests; i++) {
		int64_t *t = &r.token_stamps_ns[r.requests[i].first_stamp];

		for (int d = 1; d < DECODES; d += 2)
			t[d] = t[d + 1];
	}
	summarize(&r, &s);
	assert_int_equal(s.itl.n, 20 * DECODES);
	assert_near(s.itl.p50, 100, 1e-9);
	assert_near(s.itl.max, 100, 1e-9);
	for (size_t i = 0; i < r.n_token_stamps; i++) /* all at once, as of a beam search */
		r.token_stamps_ns[i] = r.requests[i / (DECODES + 1)].t_last_ns;
	for (size_t i = 0; i < r.n_requests; i++)
		r.requests[i].t_first_ns = r.requests[i].t_last_ns;
	summarize(&r, &s);
	assert_int_equal(s.itl.n, 0);
	assert_int_equal(s.tpot.n, 0);
	assert_near(s.ttft.p50, 1000, 1e-9);
	run_record_release(&r);
}

static void test_compiling_in_the_window_is_suspect(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	run_record_note(&r, NOTE_COMPILED " 2 graphs inside the window");
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_SUSPECT);
	run_record_release(&r);
}

static void test_mixed_steps_have_no_split(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	build(&r);
	r.steps[3].n_prefill = 10; /* a decode step that also computes a prompt */
	summarize(&r, &s);
	assert_false(s.decode_tokens_per_s.known);
	assert_non_null(strstr(s.decode_tokens_per_s.reason, "share steps"));
	assert_true(s.output_tokens_per_s.known);
	run_record_release(&r);
}

static void test_empty_record(void **state)
{
	struct run_record r;
	struct summary s;

	(void)state;
	run_record_init(&r);
	r.status = RUN_FAILED;
	summarize(&r, &s);
	assert_int_equal(s.verdict.level, VERDICT_INVALID);
	assert_int_equal(s.ttft.n, 0);
	assert_false(s.output_tokens_per_s.known);
	assert_false(s.flops_total.known && s.flops_total.value != 0);
	run_record_release(&r);
}

/* ---- the verdict on the routing ---- */

static void bind_gpu(struct run_record *r)
{
	r->binding.n = 1;
	r->binding.gpus = lem_calloc(1, sizeof(*r->binding.gpus));
	r->binding.gpus[0].index = 2;
	lem_strlcpy(r->binding.gpus[0].uuid, "GPU-two", sizeof(r->binding.gpus[0].uuid));
	r->binding.proved = true;
	lem_strlcpy(r->binding.proof, "lem-gpuprobe", sizeof(r->binding.proof));
	r->binding.guard_level = GPU_GUARD_SEEN;
}

static void expect_verdict(struct run_record *r, enum verdict_level level, const char *reason)
{
	struct summary s;

	summarize(r, &s);
	assert_int_equal(s.verdict.level, level);
	if (reason && !has_reason(&s, reason))
		fail_msg("no reason says '%s'", reason);
	if (!reason)
		assert_int_equal(s.verdict.n_reasons, 0);
	run_record_release(r);
}

static void build_bound(struct run_record *r)
{
	build(r);
	bind_gpu(r);
}

static void test_routing_proved(void **state)
{
	struct run_record r;

	(void)state;
	build_bound(&r);
	expect_verdict(&r, VERDICT_VALID, NULL);
}

static void test_routing_not_proved(void **state)
{
	struct run_record r;

	(void)state;
	build_bound(&r);
	r.binding.proved = false;
	expect_verdict(&r, VERDICT_INVALID, "not proved: lem-gpuprobe");
	/* a record of before the proof existed, and without joules: nothing was claimed */
	build_bound(&r);
	r.binding.proved = false;
	r.binding.proof[0] = '\0';
	expect_verdict(&r, VERDICT_VALID, NULL);
}

static void test_routing_guard(void **state)
{
	struct run_record r;

	(void)state;
	build_bound(&r);
	r.binding.guard_level = GPU_GUARD_STRAY;
	lem_strlcpy(r.binding.guard, "pid 3 was elsewhere", sizeof(r.binding.guard));
	expect_verdict(&r, VERDICT_INVALID, "pid 3 was elsewhere");
	build_bound(&r);
	r.binding.guard_level = GPU_GUARD_UNSEEN;
	lem_strlcpy(r.binding.guard, "never seen", sizeof(r.binding.guard));
	expect_verdict(&r, VERDICT_SUSPECT, "never seen");
	build_bound(&r);
	r.binding.guard_level = GPU_GUARD_NONE;
	lem_strlcpy(r.binding.guard, "not supported", sizeof(r.binding.guard));
	expect_verdict(&r, VERDICT_VALID, NULL);
}

static void foreigner(struct run_record *r, int64_t first_s, int64_t last_s, bool graphics)
{
	build_bound(r);
	r->binding.n_foreigners = 1;
	r->binding.foreigners = lem_calloc(1, sizeof(*r->binding.foreigners));
	r->binding.foreigners[0] = (struct gpu_foreigner){.card_uuid = "GPU-two",
							  .pid = 812,
							  .name = "python3",
							  .user = "x",
							  .graphics = graphics,
							  .t_first_ns = first_s * S,
							  .t_last_ns = last_s * S};
}

/* The window is from 100 s to 110 s. */
static void test_routing_foreigners(void **state)
{
	struct run_record r;

	(void)state;
	foreigner(&r, 101, 102, false);
	expect_verdict(&r, VERDICT_INVALID,
		       "contaminated: pid 812 (python3, user x) used GPU 2 during the window");
	foreigner(&r, 90, 120, false);
	expect_verdict(&r, VERDICT_INVALID, "contaminated: pid 812");
	foreigner(&r, 110, 110, false); /* by the look at its end */
	expect_verdict(&r, VERDICT_INVALID, "contaminated: pid 812");
	foreigner(&r, 90, 99, false);
	expect_verdict(&r, VERDICT_VALID, NULL);
	foreigner(&r, 111, 112, false);
	expect_verdict(&r, VERDICT_VALID, NULL);
	foreigner(&r, 90, 120, true);
	expect_verdict(&r, VERDICT_SUSPECT, "draws on GPU 2");
	foreigner(&r, 101, 102, false);
	r.binding.foreigners[0].name[0] = r.binding.foreigners[0].user[0] = '\0';
	expect_verdict(&r, VERDICT_INVALID, "pid 812 (its name is not known)");
}

static void test_routing_lost_and_mig(void **state)
{
	struct run_record r;

	(void)state;
	build_bound(&r);
	r.binding.gpus[0].t_lost_ns = 105 * S;
	expect_verdict(&r, VERDICT_INVALID, "R41: GPU 2 (GPU-two) was lost");
	build_bound(&r);
	lem_strlcpy(r.binding.gpus[0].uuid, "MIG-a", sizeof(r.binding.gpus[0].uuid));
	expect_verdict(&r, VERDICT_SUSPECT, "the whole GPU 2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_figures),
		cmocka_unit_test(test_requests_per_s_of_a_ramp),
		cmocka_unit_test(test_chunks_untold),
		cmocka_unit_test(test_no_energy_is_null_with_reason),
		cmocka_unit_test(test_cpu_energy_per_token),
		cmocka_unit_test(test_estimate_is_never_mixed),
		cmocka_unit_test(test_estimate_alone_is_labelled),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_dead_counters),
		cmocka_unit_test(test_replicas_add_up),
		cmocka_unit_test(test_replicas_of_a_stored_run_may_lie),
		cmocka_unit_test(test_tokens_that_share_a_stamp),
		cmocka_unit_test(test_compiling_in_the_window_is_suspect),
		cmocka_unit_test(test_mixed_steps_have_no_split),
		cmocka_unit_test(test_empty_record),
		cmocka_unit_test(test_routing_proved),
		cmocka_unit_test(test_routing_not_proved),
		cmocka_unit_test(test_routing_guard),
		cmocka_unit_test(test_routing_foreigners),
		cmocka_unit_test(test_routing_lost_and_mig),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
