/* Two runs side by side: each way in which their work can differ, and their figures. */
#include "compare/compare.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#include "base/rand.h"

#define assert_near(a, b, tol) assert_true(fabs((double)(a) - (double)(b)) <= (tol))
#define S                      NS_PER_S
#define MS                     NS_PER_MS
#define T0                     (100 * S)

enum { PROMPTS = 20 };

struct side {
	struct run_record rec;
	struct summary sum;
};

struct fixture {
	struct side a, b;
	struct comparison c;
};

/* `passes` times 20 requests, half a second apart in a window of ten; 100 ms to the first token and
 * 10 ms for each of the four after it. */
static void build(struct side *s, size_t passes)
{
	struct run_record *r = &s->rec;

	run_record_init(r);
	s->sum = (struct summary){.window_ns = 10 * S};
	r->run_id = "run";
	r->status = RUN_COMPLETED;
	r->engine_name = "vllm";
	r->engine_mode = "offline/continuous";
	r->model_name = "m";
	r->prompts_hash = "3f9a0000000000000000";
	r->config_json = "{\"fp_precision\": \"float16\", \"prompts\": {\"type\": \"synthetic\"}}";
	r->environment_json = "{\"cpu\": {\"model\": \"Xeon\"}}";
	r->shape = (struct model_shape){.n_layer = 6, .n_embd = 288, .n_vocab = 32000};
	r->server.used = true;
	r->window_start_ns = T0;
	r->window_end_ns = T0 + 10 * S;
	r->n_requests = r->n_requests_asked = passes * PROMPTS;
	r->requests = lem_calloc(r->n_requests + 1, sizeof(*r->requests));
	for (size_t i = 0; i < r->n_requests; i++) {
		int64_t t = T0 + (int64_t)i * S / 2 / (int64_t)passes;

		r->requests[i] = (struct request_record){.id = (int64_t)i,
							 .pass = (int64_t)(i / PROMPTS),
							 .prompt_index = (int64_t)(i % PROMPTS),
							 .t_scheduled_ns = t,
							 .t_sent_ns = t,
							 .t_first_ns = t + 100 * MS,
							 .t_last_ns = t + 140 * MS,
							 .input_tokens = 32,
							 .output_tokens = 5,
							 .output_tokens_asked = 5,
							 .cached_tokens = -1,
							 .finish = "length"};
	}
	s->sum.output_tokens_per_s = quantity_of(10, 9.7, 10.3, "m");
	s->sum.itl = (struct latency_stats){.n = 80, .p50 = 10, .p99 = 12};
	s->sum.j_per_output_token = quantity_unknown("no meter");
}

static int set_up(void **state)
{
	static struct fixture f;

	build(&f.a, 1);
	build(&f.b, 1);
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	run_record_release(&f->a.rec);
	run_record_release(&f->b.rec);
	return 0;
}

static void compare(struct fixture *f)
{
	const struct compare_run a = {&f->a.rec, &f->a.sum}, b = {&f->b.rec, &f->b.sum};

	compare_runs(&a, &b, &f->c);
}

static const struct compare_finding *find(const struct fixture *f, const char *field,
					  const char *text)
{
	for (size_t i = 0; i < f->c.n_findings; i++)
		if (str_eq(f->c.findings[i].field, field) && strstr(f->c.findings[i].text, text))
			return &f->c.findings[i];
	for (size_t i = 0; i < f->c.n_findings; i++)
		print_message("# %s: %s\n", f->c.findings[i].field, f->c.findings[i].text);
	fail_msg("no finding on %s says '%s'", field, text);
	return NULL;
}

static void differs(struct fixture *f, const char *field, const char *text)
{
	compare(f);
	assert_true(find(f, field, text)->differs);
	assert_false(f->c.same_work);
}

static void only_a_note(struct fixture *f, const char *field, const char *text)
{
	compare(f);
	assert_false(find(f, field, text)->differs);
	assert_true(f->c.same_work);
}

static const struct compare_figure *figure(const struct fixture *f, const char *name)
{
	for (size_t i = 0; i < f->c.n_figures; i++)
		if (str_eq(f->c.figures[i].name, name))
			return &f->c.figures[i];
	fail_msg("no figure %s", name);
	return NULL;
}

/* ---- the same ---- */

static void test_the_same(void **state)
{
	struct fixture *f = *state;

	f->b.rec.engine_name = "sglang";
	compare(f);
	assert_true(f->c.same_work);
	assert_int_equal(f->c.n_findings, 0);
	assert_int_equal(f->c.a.answered, PROMPTS);
	assert_int_equal(f->c.a.input_tokens, 32 * PROMPTS);
	assert_int_equal(f->c.b.output_tokens, 5 * PROMPTS);
	assert_string_equal(f->c.a.dtype, "F16");
	assert_string_equal(f->c.a.place, "CPU Xeon");
}

static void test_a_worker_and_a_server(void **state)
{
	struct fixture *f = *state;

	f->a.rec.engine_name = "pytorch";
	f->a.rec.engine_mode = "offline/static";
	f->a.rec.server.used = false;
	lem_strlcpy(f->a.rec.shape.quant, "F16", sizeof(f->a.rec.shape.quant));
	compare(f);
	assert_true(f->c.same_work);
	assert_int_equal(f->c.n_findings, 0);
}

/* A faster engine goes through the same prompts more often. */
static void test_more_passes_are_the_same_work(void **state)
{
	struct fixture *f = *state;

	run_record_release(&f->b.rec);
	build(&f->b, 3);
	only_a_note(f, "requests", "passes through the prompts differs, 1 in A and 3 in B");
	assert_int_equal(f->c.b.requests, PROMPTS);
	assert_int_equal(f->c.b.output_tokens, 5 * PROMPTS);
	f->b.rec.n_requests = 2 * PROMPTS + 3; /* interrupted in the third */
	differs(f, "requests", "A had 20 requests to serve, B 43");
}

static void test_a_closed_loop_serves_what_it_can(void **state)
{
	struct fixture *f = *state;

	f->a.rec.engine_mode = f->b.rec.engine_mode = "server/closed";
	f->a.rec.server.arrivals = f->b.rec.server.arrivals = true;
	f->b.rec.n_requests = f->b.rec.n_requests_asked = 13;
	for (int i = 0; i < 4; i++) /* the ramp ended later in B */
		f->b.rec.requests[i].uncounted = true;
	f->a.rec.requests[0].uncounted = true;
	only_a_note(f, "requests", "as it can in its time, 20 in A and 13 in B");
	assert_int_equal(f->c.a.requests, 13);
	assert_int_equal(f->c.b.input_tokens, 13 * 32);
	f->b.rec.requests[2].output_tokens = 4;
	differs(f, "output_tokens", "1 fewer for request 2 (1 of 13 requests)");
	f->a.rec.engine_mode = "server/open"; /* of a schedule all is asked for */
	differs(f, "requests", "A had 19 requests to serve, B 9");
}

/* ---- what differs ---- */

static void test_other_prompts(void **state)
{
	struct fixture *f = *state;

	f->b.rec.prompts_hash = "77b10000000000000000";
	differs(f, "prompts", "the two runs sent different token ids");
	f->b.rec.config_json = "{\"prompts\": {\"type\": \"file\"}, \"fp_precision\": \"float16\"}";
	differs(f, "prompts", "the two runs sent different prompts (SHA-256 3f9a00000000 and 77b1");
	f->b.rec.prompts_hash = NULL;
	differs(f, "prompts", "what B sent is not known");
	f->a.rec.prompts_hash = NULL;
	differs(f, "prompts", "what the runs sent is not known");
}

/* Ids that were sent, and texts that an engine made ids of, have no hash in common. */
static void test_ids_and_texts_are_not_compared_by_hash(void **state)
{
	struct fixture *f = *state;

	f->a.rec.prompts_form = "token_ids";
	f->b.rec.prompts_form = "texts";
	f->b.rec.prompts_hash = "77b10000000000000000";
	differs(f, "prompts", "A sent token_ids and B texts");
	f->b.rec.prompts_form = "token_ids";
	differs(f, "prompts", "the two runs sent different token ids");
}

static void test_lengths_name_the_first_requests(void **state)
{
	struct fixture *f = *state;

	f->b.rec.requests[7].output_tokens = 3;
	differs(f, "output_tokens",
		"output tokens differ, B gave 2 fewer for request 7 (1 of 20 requests)");
	find(f, "output_tokens", "A gave 100 output tokens, B 98");
	for (int i = 8; i < 12; i++)
		f->b.rec.requests[i].output_tokens = 6;
	differs(f, "output_tokens",
		"B gave 2 fewer for request 7, 1 more for request 8, 1 more for request 9 (5 of "
		"20 requests)");
	f->b.rec.requests[3].input_tokens = 31;
	differs(f, "input_tokens", "B counted 1 fewer for request 3 (1 of 20 requests)");
	find(f, "input_tokens", "A read 640 input tokens, B 639");
}

/* The totals may agree where the requests do not. */
static void test_lengths_that_cancel_out(void **state)
{
	struct fixture *f = *state;

	f->b.rec.requests[0].output_tokens = 4;
	f->b.rec.requests[1].output_tokens = 6;
	differs(f, "output_tokens", "1 fewer for request 0, 1 more for request 1 (2 of 20");
}

static void test_counts_that_one_side_tells(void **state)
{
	struct fixture *f = *state;

	for (int i = 0; i < PROMPTS; i++)
		f->b.rec.requests[i].output_tokens = 0;
	differs(f, "output_tokens", "token counts of 20 requests were told in one run only");
}

static void test_failures(void **state)
{
	struct fixture *f = *state;

	lem_strlcpy(f->b.rec.requests[3].finish, "error", 16);
	lem_strlcpy(f->b.rec.requests[3].failure, "http_429", 24);
	f->b.rec.requests[5].finish[0] = '\0';
	differs(f, "failures",
		"request 3 (A: answered, B: http_429), request 5 (A: answered, B: not answered) "
		"(2 of 20 requests)");
	find(f, "failures", "0 requests of A were not answered, 2 of B");
}

static void test_asked_lengths_and_order(void **state)
{
	struct fixture *f = *state;

	f->b.rec.requests[2].output_tokens_asked = 6;
	f->b.rec.requests[4].prompt_index = 5;
	differs(f, "output_tokens_asked", "for request 2 5 tokens were asked of A and 6 of B");
	differs(f, "order", "request 4 (1 of 20");
}

static void test_models(void **state)
{
	struct fixture *f = *state;
	struct model_shape *s = &f->b.rec.shape;

	f->b.rec.model_name = "other";
	only_a_note(f, "model", "'m' and 'other', and the same shape");
	s->n_embd = 512;
	differs(f, "model", "A 'm' has 6 layers of 288 and 32000 token ids, B 'other' 6 of 512");
	*s = (struct model_shape){0};
	differs(f, "model", "other names, 'm' and 'other'");
	f->b.rec.model_name = "m";
	only_a_note(f, "model", "the same by its name only, 'm': its shape in B is not known");
	*s = f->a.rec.shape;
	s->weights = WEIGHTS_REAL;
	f->a.rec.shape.weights = WEIGHTS_SYNTHETIC;
	differs(f, "model", "real weights");
}

static void test_types(void **state)
{
	struct fixture *f = *state;

	f->b.rec.config_json = "{\"fp_precision\": \"bfloat16\"}";
	differs(f, "dtype", "A computed in F16, B in BF16");
	f->b.rec.config_json = "{\"fp_precision\": \"float16\", \"vllm\": {\"quantization\": "
			       "\"fp8\"}}";
	differs(f, "dtype", "B in F16, fp8");
	f->b.rec.config_json = "{\"fp_precision\": \"float16\", \"vllm\": {\"quantization\": "
			       "\"none\"}}";
	compare(f);
	assert_true(f->c.same_work);
	f->b.rec.engine_name = "openai"; /* its data type is its own affair */
	only_a_note(f, "dtype", "the data type of B is not known");
	f->b.rec.engine_name = "pytorch";
	f->b.rec.server.used = false;
	lem_strlcpy(f->b.rec.shape.quant, "F16", sizeof(f->b.rec.shape.quant));
	f->b.rec.config_json = "{\"pytorch\": {\"load_in_4bit\": true}}";
	differs(f, "dtype", "B in F16, 4 bit");
	f->b.rec.engine_name = "llamacpp"; /* as a server: the file has its type */
	f->b.rec.server.used = true;
	f->b.rec.config_json = "{\"llamacpp\": {\"server\": true}}";
	lem_strlcpy(f->b.rec.shape.quant, "Q8_0", sizeof(f->b.rec.shape.quant));
	differs(f, "dtype", "A computed in F16, B in Q8_0");
	f->b.rec.server.used = false;
	lem_strlcpy(f->b.rec.shape.quant, "F16", sizeof(f->b.rec.shape.quant));
	f->b.rec.config_json = "not JSON";
	compare(f);
	assert_true(f->c.same_work);
}

static void one_gpu(struct gpu_binding *b, const char *name, const char *uuid)
{
	free(b->gpus);
	b->n = 1;
	b->gpus = lem_calloc(1, sizeof(*b->gpus));
	lem_strlcpy(b->gpus[0].name, name, sizeof(b->gpus[0].name));
	lem_strlcpy(b->gpus[0].uuid, uuid, sizeof(b->gpus[0].uuid));
}

static void test_places(void **state)
{
	struct fixture *f = *state;

	f->b.rec.environment_json = "{\"cpu\": {\"model\": \"EPYC\"}}";
	differs(f, "gpus", "A ran on CPU Xeon, B on CPU EPYC");
	one_gpu(&f->a.rec.binding, "H100", "GPU-a");
	differs(f, "gpus", "A ran on 1 x H100, B on CPU EPYC");
	one_gpu(&f->b.rec.binding, "H100", "GPU-b");
	only_a_note(f, "gpus", "other cards of the same kind");
	one_gpu(&f->b.rec.binding, "H200", "GPU-b");
	differs(f, "gpus", "A ran on 1 x H100, B on 1 x H200");
	f->b.rec.binding.n = 0;
	lem_strlcpy(f->b.rec.binding.path, "external", sizeof(f->b.rec.binding.path));
	only_a_note(f, "gpus", "where B ran is not known");
}

static void test_loads(void **state)
{
	struct fixture *f = *state;
	struct run_record *a = &f->a.rec, *b = &f->b.rec;

	b->engine_mode = "server/open";
	b->server.arrivals = true;
	differs(f, "load", "the requests of A were sent all at once, those of B by a schedule");
	a->engine_mode = "server/open";
	a->server.arrivals = true;
	compare(f);
	assert_true(f->c.same_work);
	for (int i = 0; i < PROMPTS; i++)
		b->requests[i].t_scheduled_ns += S; /* only the start differs */
	compare(f);
	assert_true(f->c.same_work);
	b->requests[4].t_scheduled_ns += 5 * MS;
	differs(f, "schedule", "request 4 at 2.000 s and 2.005 s (1 of 20 requests)");
	a->level.rate_hz = 2;
	b->level.rate_hz = 4;
	differs(f, "load", "A was asked 2 requests/s, B 4");
	a->engine_mode = b->engine_mode = "server/closed";
	a->config_json = "{\"traffic\": {\"concurrency\": 4}}";
	b->config_json = "{\"traffic\": {\"concurrency\": 8}}";
	differs(f, "load", "4 requests were in flight in A, 8 in B");
	b->engine_mode = "offline/streaming";
	differs(f, "load", "one at a time");
}

static void test_a_cache(void **state)
{
	struct fixture *f = *state;

	f->b.rec.requests[0].cached_tokens = 31;
	differs(f, "cached_tokens",
		"A took 0 input tokens from a cache instead of computing them, "
		"B 31");
	f->b.rec.requests[0].cached_tokens = 0; /* told or not told: no token came from one */
	compare(f);
	assert_true(f->c.same_work);
}

static void test_runs_that_failed(void **state)
{
	struct fixture *f = *state;

	f->b.rec.status = RUN_INTERRUPTED;
	differs(f, "status", "B was interrupted before its window was complete");
	run_record_release(&f->b.rec); /* nothing is left of it */
	f->b.sum = (struct summary){0};
	f->b.rec.status = RUN_FAILED;
	differs(f, "status", "B failed before its window was complete");
	find(f, "prompts", "what B sent is not known");
	find(f, "requests", "A had 20 requests to serve, B 0");
	find(f, "model", "'m' and 'not known'");
	run_record_release(&f->a.rec);
	f->a.sum = f->b.sum;
	f->a.rec.status = RUN_FAILED;
	differs(f, "requests", "neither run measured a request");
	for (size_t i = 0; i < f->c.n_figures; i++)
		assert_false(f->c.figures[i].ratio.known);
}

static void test_an_invalid_verdict_is_told(void **state)
{
	struct fixture *f = *state;

	verdict_add(&f->b.sum.verdict, VERDICT_INVALID, "contaminated");
	only_a_note(f, "verdict", "the verdict of B is invalid: contaminated");
}

static void test_differences_come_first(void **state)
{
	struct fixture *f = *state;

	verdict_add(&f->a.sum.verdict, VERDICT_INVALID, "x");
	f->b.rec.model_name = "other";
	f->b.rec.requests[0].output_tokens = 4;
	compare(f);
	for (size_t i = 1; i < f->c.n_findings; i++)
		assert_true(f->c.findings[i - 1].differs >= f->c.findings[i].differs);
	assert_true(f->c.n_findings >= 4 && f->c.findings[0].differs);
}

/* ---- figures ---- */

static void test_figures(void **state)
{
	struct fixture *f = *state;
	const struct compare_figure *x;

	f->b.sum.output_tokens_per_s = quantity_of(20, 19.2, 20.8, "m");
	for (int i = 0; i < PROMPTS; i++)
		f->b.rec.requests[i].t_last_ns += (i % 5 - 2) * MS + 40 * MS;
	compare(f);
	x = figure(f, "output_tokens_per_s");
	assert_near(x->ratio.value, 2, 1e-12);
	assert_near((x->ratio.high - x->ratio.low) / 2, 2 * 0.05, 1e-3); /* 3 % and 4 % */
	x = figure(f, "itl_mean_ms"); /* the mean over all gaps */
	assert_near(x->a.value, 10, 1e-9);
	assert_near(x->b.value, 20, 1e-9);
	assert_true(x->a.low <= 10 && x->b.low < 20 && x->b.high > 20);
	assert_true(x->ratio.low < 2 && x->ratio.high > 2);
	x = figure(f, "ttft_mean_ms");
	assert_near(x->a.value, 100, 1e-9);
	assert_near(x->ratio.value, 1, 1e-9);
	x = figure(f, "itl_p50_ms"); /* a quantile of one run has no interval */
	assert_true(isnan(x->a.low) && x->ratio.known && isnan(x->ratio.low));
	x = figure(f, "j_per_output_token");
	assert_false(x->ratio.known);
	assert_string_equal(x->ratio.reason, "not measured");
}

static void test_energy_of_other_domains_is_no_ratio(void **state)
{
	struct fixture *f = *state;

	f->a.sum.j_per_output_token = quantity_of(2, 1.9, 2.1, "counter");
	compare(f);
	assert_string_equal(figure(f, "j_per_output_token")->ratio.reason, "not measured in B");
	f->b.sum.j_per_output_token = quantity_of(3, 2.9, 3.1, "counter");
	lem_strlcpy(f->a.sum.energy_scope, "gpu", 40);
	lem_strlcpy(f->b.sum.energy_scope, "gpu", 40);
	compare(f);
	assert_near(figure(f, "j_per_output_token")->ratio.value, 1.5, 1e-12);
	lem_strlcpy(f->b.sum.energy_scope, "gpu+cpu", 40);
	only_a_note(f, "energy_scope", "of gpu, of B of gpu+cpu");
	assert_false(figure(f, "j_per_output_token")->ratio.known);
}

/* An interval that reaches below nothing: a rate does not. */
static void test_wide_intervals(void **state)
{
	struct fixture *f = *state;
	const struct compare_figure *x;

	f->b.sum.output_tokens_per_s = quantity_of(20, -15, 55, "m");
	compare(f);
	x = figure(f, "output_tokens_per_s");
	assert_near(x->ratio.value, 2, 1e-12);
	assert_near(x->ratio.low, 0, 1e-12);
	assert_true(x->ratio.high > 5);
	f->a.sum.output_tokens_per_s = quantity_of(10, -5, 25, "m"); /* nothing to divide by */
	compare(f);
	x = figure(f, "output_tokens_per_s");
	assert_true(x->ratio.known && isnan(x->ratio.low));
	assert_non_null(strstr(x->ratio.method, "too wide"));
	f->a.sum.output_tokens_per_s = quantity_of(0, 0, 0, "m");
	compare(f);
	assert_false(figure(f, "output_tokens_per_s")->ratio.known);
}

/* A run against itself did the same work and is as fast; swapping turns the ratio around. */
static void test_properties(void **state)
{
	struct fixture *f = *state;
	struct rand rnd;

	rand_seed(&rnd, 5);
	for (int k = 0; k < 300; k++) {
		const struct compare_run a = {&f->a.rec, &f->a.sum}, b = {&f->b.rec, &f->b.sum};
		struct compare_figure there, back;
		bool same;

		for (int i = 0; i < PROMPTS; i++)
			f->b.rec.requests[i].t_first_ns = f->b.rec.requests[i].t_scheduled_ns +
							  (int64_t)(1 + rand_below(&rnd, 90)) * MS;
		f->b.rec.requests[rand_below(&rnd, PROMPTS)].output_tokens =
			(int64_t)rand_below(&rnd, 3) + 4;
		compare_runs(&b, &b, &f->c);
		assert_true(f->c.same_work && f->c.n_findings == 0);
		assert_near(figure(f, "ttft_mean_ms")->ratio.value, 1, 1e-12);
		compare_runs(&a, &b, &f->c);
		there = *figure(f, "ttft_mean_ms");
		same = f->c.same_work;
		compare_runs(&b, &a, &f->c);
		back = *figure(f, "ttft_mean_ms");
		assert_int_equal(same, f->c.same_work);
		assert_near(there.ratio.value * back.ratio.value, 1, 1e-9);
		assert_true(isnan(there.ratio.low) || (there.ratio.low <= there.ratio.value &&
						       there.ratio.value <= there.ratio.high));
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_same),
		TEST(test_a_worker_and_a_server),
		TEST(test_more_passes_are_the_same_work),
		TEST(test_a_closed_loop_serves_what_it_can),
		TEST(test_other_prompts),
		TEST(test_ids_and_texts_are_not_compared_by_hash),
		TEST(test_lengths_name_the_first_requests),
		TEST(test_lengths_that_cancel_out),
		TEST(test_counts_that_one_side_tells),
		TEST(test_failures),
		TEST(test_asked_lengths_and_order),
		TEST(test_models),
		TEST(test_types),
		TEST(test_places),
		TEST(test_loads),
		TEST(test_a_cache),
		TEST(test_runs_that_failed),
		TEST(test_an_invalid_verdict_is_told),
		TEST(test_differences_come_first),
		TEST(test_figures),
		TEST(test_energy_of_other_domains_is_no_ratio),
		TEST(test_wide_intervals),
		TEST(test_properties),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
