/* The GGUF reader on files that are right, and on every way they can be wrong. */
#include "base/rand.h"
#include "base/str.h"
#include "sys/fs.h"
#include "tmp.h"
#include "weights/gguf.h"
#include "weights/weights.h"

#include <setjmp.h>
#include <sys/stat.h>

#include <cmocka.h>

static struct lem_error err;

/* ---- a writer of headers, right or wrong ---- */

static void u32(struct str *o, uint32_t v)
{
	str_addn(o, (const char *)&v, 4);
}

static void u64(struct str *o, uint64_t v)
{
	str_addn(o, (const char *)&v, 8);
}

static void text(struct str *o, const char *s)
{
	u64(o, strlen(s));
	str_add(o, s);
}

static void begin(struct str *o, uint64_t tensors, uint64_t keys)
{
	str_set(o, "GGUF");
	u32(o, 3);
	u64(o, tensors);
	u64(o, keys);
}

static void key_u32(struct str *o, const char *key, uint32_t v)
{
	text(o, key);
	u32(o, GGUF_U32);
	u32(o, v);
}

static void key_text(struct str *o, const char *key, const char *v)
{
	text(o, key);
	u32(o, GGUF_STRING);
	text(o, v);
}

static void tensor(struct str *o, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
		   uint64_t offset)
{
	text(o, name);
	u32(o, 2);
	u64(o, ne0);
	u64(o, ne1);
	u32(o, type);
	u64(o, offset);
}

static void fill(struct str *o, size_t to)
{
	while (o->len < to)
		str_addc(o, '\0');
}

/* A model of 4 keys, to which a test adds `more` keys and `tensors` tensors. */
static void begin_model(struct str *o, uint64_t tensors, uint64_t more)
{
	begin(o, tensors, 4 + more);
	key_text(o, "general.architecture", "llama");
	key_u32(o, "llama.block_count", 2);
	key_u32(o, "llama.embedding_length", 64);
	key_u32(o, "llama.attention.head_count", 4);
}

static int read_bytes(const struct str *s, struct model_shape *ret)
{
	_cleanup_free_ char *path = tmp_file("x.gguf", str_c(s), s->len);

	return gguf_read_shape(path, ret, &err);
}

static void accepted(const struct str *s, struct model_shape *ret)
{
	if (read_bytes(s, ret) < 0)
		fail_msg("refused: %s", err.what);
}

static void refused(const struct str *s, const char *why)
{
	struct model_shape shape;

	memset(&shape, 0x5a, sizeof(shape));
	struct model_shape before = shape;

	assert_int_equal(read_bytes(s, &shape), -LEM_E_PARSE);
	assert_memory_equal(&shape, &before, sizeof(shape));
	if (!strstr(err.what, why))
		fail_msg("'%s' does not say '%s'", err.what, why);
	assert_true(str_ends(err.where, "/x.gguf"));
}

/* ---- right files ---- */

static void test_all_fields(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin(&s, 3, 17);
	key_text(&s, "general.architecture", "gemma3");
	key_text(&s, "general.name", "A name");
	key_u32(&s, "general.file_type", 15);
	key_u32(&s, "gemma3.block_count", 26);
	key_u32(&s, "gemma3.embedding_length", 1152);
	key_u32(&s, "gemma3.feed_forward_length", 6912);
	key_u32(&s, "gemma3.attention.head_count", 4);
	key_u32(&s, "gemma3.attention.head_count_kv", 1);
	key_u32(&s, "gemma3.attention.key_length", 256);
	key_u32(&s, "gemma3.attention.sliding_window", 512);
	key_u32(&s, "gemma3.context_length", 32768);
	key_u32(&s, "gemma3.expert_count", 8);
	key_u32(&s, "gemma3.expert_used_count", 2);
	key_u32(&s, "gemma3.expert_feed_forward_length", 512);
	key_u32(&s, "gemma3.expert_shared_count", 2);
	key_u32(&s, "gemma3.leading_dense_block_count", 1);
	key_text(&s, "tokenizer.ggml.model", "llama");
	tensor(&s, "token_embd.weight", TENSOR_Q8_0, 1152, 100, 0);
	tensor(&s, "blk.0.ffn_gate.weight", TENSOR_F32, 8, 8, 122400);
	tensor(&s, "output.weight", TENSOR_Q6_K, 256, 2, 122656);
	fill(&s, (s.len + 31) / 32 * 32 + 122656 + 420);
	accepted(&s, &m);
	assert_string_equal(m.architecture, "gemma3");
	assert_string_equal(m.name, "A name");
	assert_string_equal(m.quant, "Q4_K_M");
	assert_int_equal(m.n_layer, 26);
	assert_int_equal(m.n_embd, 1152);
	assert_int_equal(m.n_ff, 6912);
	assert_int_equal(m.n_head, 4);
	assert_int_equal(m.n_head_kv, 1);
	assert_int_equal(m.head_dim, 256);
	assert_int_equal(m.n_swa, 512);
	assert_int_equal(m.n_layer_full, 4); /* of 26, every sixth */
	assert_int_equal(m.n_vocab, 100);    /* of the embedding: no key says it */
	assert_int_equal(m.n_ctx_train, 32768);
	assert_int_equal(m.n_expert, 8);
	assert_int_equal(m.n_expert_used, 2);
	assert_int_equal(m.n_ff_expert, 512);
	assert_int_equal(m.n_ff_shared, 1024);
	assert_int_equal(m.n_layer_dense, 1);
	assert_int_equal(m.n_params, 115200 + 64 + 512);
	assert_int_equal(m.size_bytes, s.len);
	assert_true(m.gated_mlp && m.has_tokenizer && !m.tied_embeddings);
	assert_int_equal(m.weights, WEIGHTS_REAL);
}

static void test_what_follows_from_the_rest(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 2, 0);
	tensor(&s, "token_embd.weight", TENSOR_Q4_0, 64, 100, 0);
	tensor(&s, "blk.0.attn_q.weight", TENSOR_F32, 4, 4, 3616);
	fill(&s, (s.len + 31) / 32 * 32 + 3616 + 64);
	accepted(&s, &m);
	assert_int_equal(m.n_head_kv, 4);
	assert_int_equal(m.head_dim, 16);
	assert_string_equal(m.quant, "Q4_0"); /* the type of most elements */
	assert_true(m.tied_embeddings && !m.gated_mlp && !m.has_tokenizer);
	assert_int_equal(m.n_swa, 0);
}

/* Vocabularies are skipped; numbers come in every width; per-layer lists count by their first. */
static void test_every_type(void **state)
{
	static const uint32_t widths[] = {GGUF_U8,  GGUF_I8,  GGUF_U16, GGUF_I16,
					  GGUF_U32, GGUF_I32, GGUF_U64, GGUF_I64};
	static const size_t bytes[] = {1, 1, 2, 2, 4, 4, 8, 8};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(widths); i++) {
		_cleanup_str_ struct str s = STR_INIT;
		struct model_shape m;
		uint64_t seven = 7;

		begin_model(&s, 0, 4);
		text(&s, "llama.feed_forward_length");
		u32(&s, GGUF_ARRAY);
		u32(&s, widths[i]);
		u64(&s, 3);
		for (int k = 0; k < 3; k++)
			str_addn(&s, (const char *)&seven, bytes[i]);
		text(&s, "llama.context_length");
		u32(&s, widths[i]);
		str_addn(&s, (const char *)&seven, bytes[i]);
		text(&s, "tokenizer.ggml.tokens");
		u32(&s, GGUF_ARRAY);
		u32(&s, GGUF_STRING);
		u64(&s, 1000);
		for (int k = 0; k < 1000; k++)
			text(&s, k == 500 ? "a text that is longer than all others" : "ab");
		text(&s, "llama.rope.freq_base");
		u32(&s, GGUF_F64);
		u64(&s, UINT64_C(0x7ff8000000000000)); /* NaN */
		accepted(&s, &m);
		assert_int_equal(m.n_ff, 7);
		assert_int_equal(m.n_ctx_train, 7);
	}
}

static void test_other_prefixes_are_not_the_model(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 0, 3);
	key_u32(&s, "clip.vision.block_count", 99);
	key_u32(&s, "llama2.block_count", 99);
	key_u32(&s, "llama.vision.block_count", 99);
	accepted(&s, &m);
	assert_int_equal(m.n_layer, 2);
}

static void test_version_2_and_alignment(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 1, 1);
	s.buf[4] = 2;
	key_u32(&s, "general.alignment", 8);
	tensor(&s, "a", TENSOR_F32, 3, 1, 0);
	fill(&s, (s.len + 7) / 8 * 8 + 12);
	accepted(&s, &m);
	s.len--;
	refused(&s, "");
}

static void test_split_file_does_not_know_the_sum(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 1, 1);
	text(&s, "split.count");
	u32(&s, GGUF_U16);
	str_addn(&s, "\3\0", 2);
	tensor(&s, "a", TENSOR_F32, 3, 1, 0);
	fill(&s, (s.len + 31) / 32 * 32 + 12);
	accepted(&s, &m);
	assert_int_equal(m.n_params, 0);
}

static void test_names_cannot_drive_a_terminal(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 0, 1);
	key_text(&s, "general.name", "\x1b[2Jred\n\x7f");
	accepted(&s, &m);
	assert_string_equal(m.name, "?[2Jred??");
}

static void test_synthetic_mark(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape m;

	(void)state;
	begin_model(&s, 0, 2);
	key_text(&s, "lem.weights", "synthetic");
	key_text(&s, "tokenizer.ggml.model", "no_vocab");
	accepted(&s, &m);
	assert_int_equal(m.weights, WEIGHTS_SYNTHETIC);
	assert_false(m.has_tokenizer);
}

/* ---- wrong files ---- */

static void test_not_gguf(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	refused(&s, "ends in the middle");
	str_set(&s, "GGU");
	refused(&s, "ends in the middle");
	str_set(&s, "\x7f"
		    "ELF and more bytes");
	refused(&s, "does not begin with 'GGUF'");
	str_set(&s, "GGUF");
	refused(&s, "ends in the middle");
	begin_model(&s, 0, 0);
	s.buf[4] = 1;
	refused(&s, "version 1 is not supported");
	s.buf[4] = 0;
	s.buf[7] = 3;
	refused(&s, "big endian");
}

static void test_counts_that_lie(void **state)
{
	static const uint64_t counts[] = {UINT64_C(1) << 63, UINT64_MAX, (1 << 20) + 1};
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		begin(&s, 0, counts[i]);
		refused(&s, "it claims");
		begin(&s, counts[i], 0);
		refused(&s, "it claims");
	}
	begin(&s, 0, 1000);
	refused(&s, "ends in the middle");
}

static void test_lengths_that_lie(void **state)
{
	static const uint64_t lengths[] = {1000, UINT64_C(1) << 40, UINT64_C(1) << 63, UINT64_MAX};
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		begin(&s, 0, 1);
		u64(&s, lengths[i]); /* of the key */
		str_add(&s, "abc");
		refused(&s, "longer than the file");
		begin(&s, 0, 1);
		text(&s, "k");
		u32(&s, GGUF_ARRAY);
		u32(&s, GGUF_U64);
		u64(&s, lengths[i]);
		fill(&s, s.len + 900); /* entries of 8 bytes each would not fit 900 */
		refused(&s, lengths[i] > 1000 ? "cannot be in it" : "");
		begin(&s, 0, 1);
		text(&s, "k");
		u32(&s, GGUF_ARRAY);
		u32(&s, GGUF_STRING);
		u64(&s, lengths[i]);
		fill(&s, s.len + 1100);
		refused(&s, "");
	}
}

static void test_unknown_types_and_deep_lists(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	begin(&s, 0, 1);
	text(&s, "k");
	u32(&s, 13);
	fill(&s, s.len + 100);
	refused(&s, "unknown type 13");
	begin(&s, 0, 1);
	text(&s, "k");
	u32(&s, GGUF_ARRAY);
	for (int i = 0; i < 100; i++) {
		u32(&s, GGUF_ARRAY);
		u64(&s, 1);
	}
	refused(&s, "cannot be in it");
}

static void test_tensors_that_lie(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	begin_model(&s, 1, 0);
	text(&s, "t");
	u32(&s, 5);
	fill(&s, s.len + 1000);
	refused(&s, "5 dimensions");
	begin_model(&s, 1, 0);
	tensor(&s, "t", TENSOR_F32, UINT64_C(1) << 40, UINT64_C(1) << 40, 0);
	fill(&s, s.len + 1000);
	refused(&s, "impossibly large");
	begin_model(&s, 1, 0);
	tensor(&s, "t", TENSOR_F32, 64, 64, 0);
	fill(&s, s.len + 1000);
	refused(&s, "before the data of tensor t");
	begin_model(&s, 1, 0);
	tensor(&s, "t", TENSOR_F32, 1, 1, UINT64_MAX - 2);
	fill(&s, s.len + 1000);
	refused(&s, "before the data of tensor t");
	begin_model(&s, 1, 0);
	tensor(&s, "t", 12345, 1, 1, 5000); /* a type of the future still has a place */
	fill(&s, s.len + 1000);
	refused(&s, "before the data of tensor t");
}

static void test_sizes_that_no_model_has(void **state)
{
	static const char *const keys[] = {
		"llama.feed_forward_length", "llama.vocab_size",     "llama.attention.key_length",
		"llama.expert_count",        "llama.context_length", "llama.expert_shared_count"};
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		begin_model(&s, 0, 1);
		text(&s, keys[i]);
		u32(&s, GGUF_U64);
		u64(&s, UINT64_C(1) << 62);
		refused(&s, "impossible size");
		begin_model(&s, 0, 1);
		text(&s, keys[i]);
		u32(&s, GGUF_I32);
		u32(&s, UINT32_MAX); /* -1 */
		refused(&s, "impossible size");
	}
	begin_model(&s, 0, 1);
	key_u32(&s, "general.alignment", 0);
	refused(&s, "alignment");
}

static void test_not_a_language_model(void **state)
{
	_cleanup_str_ struct str s = STR_INIT;

	(void)state;
	begin(&s, 0, 0);
	refused(&s, "does not describe a language model");
	begin(&s, 0, 1);
	key_text(&s, "general.architecture", "clip");
	refused(&s, "does not describe a language model");
}

static void test_not_a_file(void **state)
{
	_cleanup_free_ char *missing = tmp_path("missing.gguf"), *pipe = tmp_path("pipe.gguf");
	struct model_shape m;

	(void)state;
	assert_int_equal(gguf_read_shape(missing, &m, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, missing));
	assert_int_equal(gguf_read_shape(missing, &m, NULL), -LEM_E_IO);
	assert_int_equal(gguf_read_shape(tmp_dir, &m, &err), -LEM_E_PARSE);
	assert_non_null(strstr(err.what, "is not a file"));
	assert_int_equal(mkfifo(pipe, 0600), 0); /* must not wait for a writer */
	assert_int_equal(gguf_read_shape(pipe, &m, &err), -LEM_E_PARSE);
	assert_int_equal(gguf_read_shape("/dev/zero", &m, &err), -LEM_E_PARSE);
}

/* Every cut of a real file is refused, wherever it falls but in the padding at its end. */
static void test_every_truncation(void **state)
{
	_cleanup_free_ char *path = tmp_path("whole.gguf");
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape tiny = tmp_tiny(), m;

	(void)state;
	assert_int_equal(gguf_synthesize(&tiny, "q4_0", 1, path, NULL, NULL, &err), 0);
	assert_int_equal(fs_read_file(path, 1 << 24, &s, &err), 0);
	accepted(&s, &m);
	for (size_t n = s.len - GGUF_ALIGNMENT, step; n; n -= MIN(n, step)) {
		step = n > 4000 ? 997 : 1;
		s.len = n;
		refused(&s, "");
	}
}

/* Any damage is survived: what the reader makes of it does not matter, that it returns does. */
static void test_random_damage(void **state)
{
	_cleanup_free_ char *path = tmp_path("whole.gguf");
	_cleanup_str_ struct str s = STR_INIT;
	struct model_shape tiny = tmp_tiny(), m;
	struct rand r;
	int refusals = 0;

	(void)state;
	assert_int_equal(gguf_synthesize(&tiny, "q4_0", 1, path, NULL, NULL, &err), 0);
	assert_int_equal(fs_read_file(path, 1 << 24, &s, &err), 0);
	rand_seed(&r, 7);
	for (int i = 0; i < 2000; i++) {
		size_t at = rand_below(&r, 2500);
		char was = s.buf[at];

		s.buf[at] = (char)rand_u64(&r);
		refusals += read_bytes(&s, &m) < 0;
		s.buf[at] = was;
	}
	assert_true(refusals > 500 && refusals < 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_fields),
		cmocka_unit_test(test_what_follows_from_the_rest),
		cmocka_unit_test(test_every_type),
		cmocka_unit_test(test_other_prefixes_are_not_the_model),
		cmocka_unit_test(test_version_2_and_alignment),
		cmocka_unit_test(test_split_file_does_not_know_the_sum),
		cmocka_unit_test(test_names_cannot_drive_a_terminal),
		cmocka_unit_test(test_synthetic_mark),
		cmocka_unit_test(test_not_gguf),
		cmocka_unit_test(test_counts_that_lie),
		cmocka_unit_test(test_lengths_that_lie),
		cmocka_unit_test(test_unknown_types_and_deep_lists),
		cmocka_unit_test(test_tensors_that_lie),
		cmocka_unit_test(test_sizes_that_no_model_has),
		cmocka_unit_test(test_not_a_language_model),
		cmocka_unit_test(test_not_a_file),
		cmocka_unit_test(test_every_truncation),
		cmocka_unit_test(test_random_damage),
	};

	return cmocka_run_group_tests(tests, tmp_start, tmp_stop);
}
