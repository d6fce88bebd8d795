/* Lengths of what was asked and what came (work.c). */
#include "run/work.h"

#include <setjmp.h>

#include <cmocka.h>

static struct request_record *add(struct run_record *r, int64_t input, int64_t output)
{
	struct request_record *q = &r->requests[r->n_requests++];

	*q = (struct request_record){
		.input_tokens = input, .output_tokens = output, .finish = "length"};
	return q;
}

static int64_t in_bins(const struct length_stats *s)
{
	int64_t n = 0;

	for (int k = 0; k < LENGTH_BINS; k++)
		n += s->bins[k];
	return n;
}

static void test_lengths(void **state)
{
	struct run_record r;
	struct summary s = {0};

	(void)state;
	run_record_init(&r);
	r.requests = lem_calloc(16, sizeof(*r.requests));
	add(&r, 1, 256);
	add(&r, 3, 255);
	add(&r, 2, 1);
	add(&r, 100, 1);
	add(&r, 0, 7); /* its server told no input */
	lem_strlcpy(add(&r, 9999, 9999)->finish, "error", 16);
	add(&r, 9999, 9999)->finish[0] = '\0'; /* never answered */
	add(&r, 9999, 9999)->uncounted = true;
	work_count(&r, &s);
	assert_int_equal(s.input_lengths.n, 4);
	assert_int_equal(s.input_lengths.total, 106);
	assert_int_equal(s.input_lengths.min, 1);
	assert_int_equal(s.input_lengths.max, 100);
	assert_float_equal(s.input_lengths.mean, 26.5, 1e-9);
	assert_float_equal(s.input_lengths.p50, 2.5, 1e-9);
	assert_int_equal(s.input_lengths.bins[0], 1); /* 1 */
	assert_int_equal(s.input_lengths.bins[1], 2); /* 2 and 3 */
	assert_int_equal(s.input_lengths.bins[6], 1); /* 64 to 127 */
	assert_int_equal(in_bins(&s.input_lengths), 4);
	assert_int_equal(s.output_lengths.n, 5);
	assert_int_equal(s.output_lengths.bins[7], 1); /* 255 */
	assert_int_equal(s.output_lengths.bins[8], 1); /* 256 */
	assert_int_equal(s.inputs_differ, 0);
	run_record_release(&r);
}

static void test_inputs_differ(void **state)
{
	struct run_record r;
	struct summary s = {0};

	(void)state;
	run_record_init(&r);
	r.requests = lem_calloc(8, sizeof(*r.requests));
	add(&r, 8, 1)->input_tokens_asked = 8;
	add(&r, 9, 1)->input_tokens_asked = 8; /* a token was put before them */
	add(&r, 0, 1)->input_tokens_asked = 8; /* not told */
	add(&r, 7, 1);                         /* text */
	work_count(&r, &s);
	assert_int_equal(s.inputs_differ, 1);
	run_record_release(&r);
}

/* Lengths that no stored record should have do not write beyond the bins. */
static void test_extremes(void **state)
{
	struct run_record r;
	struct summary s = {0};

	(void)state;
	run_record_init(&r);
	work_count(&r, &s);
	assert_int_equal(s.input_lengths.n, 0);
	r.requests = lem_calloc(2, sizeof(*r.requests));
	add(&r, INT64_C(1) << 50, -3);
	work_count(&r, &s);
	assert_int_equal(s.input_lengths.bins[LENGTH_BINS - 1], 1);
	assert_int_equal(s.output_lengths.n, 0);
	run_record_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_inputs_differ),
		cmocka_unit_test(test_extremes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
