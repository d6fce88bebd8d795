/*
 * Expected counts are worked out by hand from the published config.json of each model: the product
 * of every matrix, written out, not taken from the code under test.
 */
#include "flops/flops.h"

#include <math.h>
#include <setjmp.h>

#include <cmocka.h>

static const struct model_shape llama3_8b = {.architecture = "llama",
					     .n_layer = 32,
					     .n_embd = 4096,
					     .n_ff = 14336,
					     .n_head = 32,
					     .n_head_kv = 8,
					     .head_dim = 128,
					     .n_vocab = 128256,
					     .gated_mlp = true};

static void is(double got, double expected)
{
	if (got != expected)
		fail_msg("%.0f FLOPs, expected %.0f", got, expected);
}

/* q 4096·4096, k and v 4096·1024, o 4096·4096, three of 4096·14336: 218 103 808 a layer. */
static void test_llama3_8b(void **state)
{
	double layers = 32 * 218103808.0, head = 4096 * 128256.0;

	(void)state;
	is(flops_of_span(&llama3_8b, 0, 1, 0, NULL), 2 * layers + 4 * 32 * 4096.0);
	is(flops_of_span(&llama3_8b, 0, 1, 1, NULL), 2 * (layers + head) + 4 * 32 * 4096.0);
	/* a prompt of 512: token i sees i + 1 positions, 131 328 in all; the head once */
	is(flops_of_span(&llama3_8b, 0, 512, 1, NULL),
	   512 * 2 * layers + 2 * head + 4 * 32 * 4096.0 * 131328);
	/* the 1 000th token: sees 1 000 positions */
	is(flops_of_span(&llama3_8b, 999, 1000, 1, NULL),
	   2 * (layers + head) + 4 * 32 * 4096.0 * 1000);
}

/* Attention as 4·h² and an MLP of two matrices would give 15 % less (energy.md section 8). */
static void test_llama3_8b_against_the_known_error(void **state)
{
	double wrong = 2 * 32 * (4 * 4096.0 * 4096 + 2 * 4096.0 * 14336) + 2 * 4096 * 128256.0;
	double right = flops_of_span(&llama3_8b, 0, 1, 1, NULL);

	(void)state;
	assert_true(wrong / right - 1 < -0.14 && wrong / right - 1 > -0.20);
}

static void test_qwen25_05b(void **state)
{
	static const struct model_shape s = {.architecture = "qwen2",
					     .n_layer = 24,
					     .n_embd = 896,
					     .n_ff = 4864,
					     .n_head = 14,
					     .n_head_kv = 2,
					     .head_dim = 64,
					     .n_vocab = 151936,
					     .gated_mlp = true,
					     .tied_embeddings = true};
	/* 802 816 + 2·114 688 + 802 816 + 13 074 432 = 14 909 440; times 24 = 357 826 560 */
	double layers = 357826560, head = 136134656;

	(void)state;
	is(flops_of_span(&s, 0, 1, 0, NULL), 2 * layers + 4 * 24 * 896.0);
	is(flops_of_span(&s, 10, 12, 2, NULL), 4 * (layers + head) + 4 * 24 * 896.0 * (11 + 12));
}

/* 84.9 M multiply-adds a token outside the embeddings, where counting stored parameters says 124.4
 * M. */
static void test_gpt2(void **state)
{
	static const struct model_shape s = {.architecture = "gpt2",
					     .n_layer = 12,
					     .n_embd = 768,
					     .n_ff = 3072,
					     .n_head = 12,
					     .n_head_kv = 12,
					     .head_dim = 64,
					     .n_vocab = 50257,
					     .tied_embeddings = true};

	(void)state;
	is(flops_of_span(&s, 0, 1, 0, NULL), 2 * 84934656.0 + 4 * 12 * 768.0);
	is(flops_of_span(&s, 0, 1, 1, NULL), 2 * (84934656.0 + 38597376.0) + 4 * 12 * 768.0);
}

/* Mixtral 8x7B: 2 of 8 experts of 3·4096·14336 and a router of 4096·8. */
static void test_mixture(void **state)
{
	struct model_shape s = llama3_8b;
	/* 41 943 040 + 2·176 160 768 + 32 768 = 394 297 344 a layer */
	double layers = 32 * 394297344.0;

	(void)state;
	s.n_vocab = 32000;
	s.n_expert = 8;
	s.n_expert_used = 2;
	is(flops_of_span(&s, 0, 1, 0, NULL), 2 * layers + 4 * 32 * 4096.0);
	s.n_ff_expert = 14336;
	s.n_ff = 0;
	is(flops_of_span(&s, 0, 1, 0, NULL), 2 * layers + 4 * 32 * 4096.0);
}

/* One dense layer of 100, then one with 1 of 4 experts of 10 and shared ones of 20; width 8. */
static void test_mixture_with_shared_experts_and_a_dense_layer(void **state)
{
	static const struct model_shape s = {.n_layer = 2,
					     .n_embd = 8,
					     .n_ff = 100,
					     .n_head = 2,
					     .n_head_kv = 1,
					     .head_dim = 4,
					     .gated_mlp = true,
					     .n_expert = 4,
					     .n_expert_used = 1,
					     .n_ff_expert = 10,
					     .n_ff_shared = 20,
					     .n_layer_dense = 1};
	double attention = 8 * (8 + 4 + 4 + 8), dense = 3 * 8 * 100;
	double mixture = 8 * 4 + 3 * 8 * 10 + 3 * 8 * 20;

	(void)state;
	is(flops_of_span(&s, 0, 1, 0, NULL), 2 * (2 * attention + dense + mixture) + 4 * 2 * 8);
}

/* Heads wider than width / heads, and a window of 4 tokens on two of three layers. */
static void test_sliding_window(void **state)
{
	struct model_shape s = {.architecture = "gemma3",
				.n_layer = 3,
				.n_embd = 8,
				.n_ff = 16,
				.n_head = 2,
				.n_head_kv = 1,
				.head_dim = 16,
				.gated_mlp = true,
				.n_swa = 4,
				.n_layer_full = 1};
	double layers = 3 * (8 * (32 + 16 + 16 + 32) + 3 * 8 * 16);

	(void)state;
	/* tokens 0..9 see 1, 2, …, 10; with the window 1, 2, 3, 4, 4, 4, 4, 4, 4, 4 */
	is(flops_of_span(&s, 0, 10, 0, NULL), 20 * layers + 4 * 32 * (55 + 2 * 34));
	is(flops_of_span(&s, 8, 10, 0, NULL), 4 * layers + 4 * 32 * (9 + 10 + 2 * 8));
	is(flops_of_span(&s, 0, 3, 0, NULL), 6 * layers + 4 * 32 * (6 + 2 * 6));
	s.n_swa = 0;
	is(flops_of_span(&s, 0, 10, 0, NULL), 20 * layers + 4 * 32 * 55 * 3);
}

/* Where a span is cut does not matter: prefill and decode add up to the whole. */
static void test_spans_add_up(void **state)
{
	struct model_shape s = llama3_8b;

	(void)state;
	for (int swa = 0; swa < 2; swa++) {
		s.n_swa = swa ? 700 : 0;
		s.n_layer_full = swa ? 8 : 0;
		double whole = flops_of_span(&s, 0, 2000, 20, NULL);

		for (int64_t cut = 0; cut <= 2000; cut += 50)
			is(flops_of_span(&s, 0, cut, 7, NULL) +
				   flops_of_span(&s, cut, 2000, 13, NULL),
			   whole);
	}
	is(flops_of_span(&s, 5, 5, 0, NULL), 0);
}

static void refused(const struct model_shape *s, int64_t sampled, const char *word)
{
	const char *why = NULL;

	assert_true(isnan(flops_of_span(s, 0, 1, sampled, &why)));
	assert_non_null(why);
	if (!strstr(why, word))
		fail_msg("'%s' does not say '%s'", why, word);
	assert_true(isnan(flops_of_span(s, 0, 1, sampled, NULL)));
}

static void test_unknown_is_not_zero(void **state)
{
	static const struct {
		size_t offset;
		const char *word;
	} fields[] = {{offsetof(struct model_shape, n_layer), "layers"},
		      {offsetof(struct model_shape, n_embd), "hidden"},
		      {offsetof(struct model_shape, n_head), "heads"},
		      {offsetof(struct model_shape, n_head_kv), "heads"},
		      {offsetof(struct model_shape, head_dim), "heads"},
		      {offsetof(struct model_shape, n_ff), "MLP"},
		      {offsetof(struct model_shape, n_vocab), "vocabulary"}};
	const char *why = "not written";
	struct model_shape s;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		s = llama3_8b;
		memset((char *)&s + fields[i].offset, 0, sizeof(int64_t));
		refused(&s, 1, fields[i].word);
	}
	assert_false(isnan(flops_of_span(&s, 0, 1, 0, &why))); /* no head, no vocabulary needed */
	assert_null(why);
	s = llama3_8b;
	s.n_expert = 8;
	refused(&s, 0, "experts");
	s = llama3_8b;
	lem_strlcpy(s.architecture, "deepseek2", sizeof(s.architecture));
	refused(&s, 0, "latent");
	lem_strlcpy(s.architecture, "mamba2", sizeof(s.architecture));
	refused(&s, 0, "state-space");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_llama3_8b),
		cmocka_unit_test(test_llama3_8b_against_the_known_error),
		cmocka_unit_test(test_qwen25_05b),
		cmocka_unit_test(test_gpt2),
		cmocka_unit_test(test_mixture),
		cmocka_unit_test(test_mixture_with_shared_experts_and_a_dense_layer),
		cmocka_unit_test(test_sliding_window),
		cmocka_unit_test(test_spans_add_up),
		cmocka_unit_test(test_unknown_is_not_zero),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
