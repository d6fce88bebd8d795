#include "flops/flops.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

#define assert_close(a, b) assert_true(fabs((a) - (b)) <= 1e-9 * fabs((double)(b)))

/* Llama-3-8B, one token at an empty context: 32 layers of q 4096, kv 1024, MLP 3 × 4096 × 14336;
 * head 128256. */
static void test_llama_8b(void **state)
{
	const struct model_shape s = {.n_layer = 32,
				      .n_embd = 4096,
				      .n_ff = 14336,
				      .n_head = 32,
				      .n_head_kv = 8,
				      .head_dim = 128,
				      .n_vocab = 128256,
				      .gated_mlp = true};
	const char *why;
	double layer = 2.0 * 4096 * (4096 + 2 * 1024) + 2.0 * 4096 * 4096 + 6.0 * 4096 * 14336;
	double head = 2.0 * 4096 * 128256;

	(void)state;
	assert_close(flops_of_span(&s, 0, 1, 1, &why), 32 * (layer + 4 * 4096) + head);
	assert_null(why);
	/* 6.98 G weights outside the embedding: 2 × that plus the head is 15.0 GFLOP a token */
	assert_true(fabs(flops_of_span(&s, 0, 1, 1, &why) / 15.0e9 - 1) < 0.01);
	/* a prefill of 1000 tokens samples once */
	assert_close(flops_of_span(&s, 0, 1000, 1, &why),
		     32 * (1000 * layer + 4.0 * 4096 * 500500) + head);
}

static void test_spans_add_up(void **state)
{
	const struct model_shape s = {.n_layer = 24,
				      .n_embd = 896,
				      .n_ff = 4864,
				      .n_head = 14,
				      .n_head_kv = 2,
				      .head_dim = 64,
				      .n_vocab = 151936,
				      .gated_mlp = true};
	const char *why;
	double whole = flops_of_span(&s, 0, 300, 10, &why);
	double parts = flops_of_span(&s, 0, 123, 4, &why) + flops_of_span(&s, 123, 300, 6, &why);

	(void)state;
	assert_close(whole, parts);
	assert_close(flops_of_span(&s, 7, 7, 0, &why), 0);
}

/* GPT-2: 85 M parameters outside the embeddings, two-matrix MLP. */
static void test_gpt2(void **state)
{
	const struct model_shape s = {.n_layer = 12,
				      .n_embd = 768,
				      .n_ff = 3072,
				      .n_head = 12,
				      .n_head_kv = 12,
				      .head_dim = 64,
				      .n_vocab = 50257};
	const char *why;

	(void)state;
	double without_attention = flops_of_span(&s, 0, 1, 0, &why) - 12 * 4.0 * 768;

	assert_close(without_attention, 2 * 84934656.0);
}

static void test_experts(void **state)
{
	struct model_shape s = {.n_layer = 1,
				.n_embd = 64,
				.n_ff = 256,
				.n_head = 4,
				.n_head_kv = 4,
				.head_dim = 16,
				.n_vocab = 100,
				.gated_mlp = true,
				.n_expert = 8,
				.n_expert_used = 2,
				.n_ff_expert = 128};
	const char *why;

	(void)state;
	assert_close(flops_of_span(&s, 0, 1, 0, &why),
		     2.0 * 64 * 192 + 2.0 * 64 * 64 + 6.0 * 64 * 128 * 2 + 4.0 * 64);
	s.n_expert_used = 0;
	assert_true(isnan(flops_of_span(&s, 0, 1, 0, &why)));
	assert_non_null(why);
}

static void test_unknown_shape(void **state)
{
	const struct model_shape s = {.n_layer = 12};
	const char *why;

	(void)state;
	assert_true(isnan(flops_of_span(&s, 0, 1, 1, &why)));
	assert_string_equal(why, "the model's shape is not known");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llama_8b),      cmocka_unit_test(test_spans_add_up),
		cmocka_unit_test(test_gpt2),          cmocka_unit_test(test_experts),
		cmocka_unit_test(test_unknown_shape),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
