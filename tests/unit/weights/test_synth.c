/* Synthetic models: the file's structure, the distribution of its weights, and what goes wrong. */
#include "base/digest.h"
#include "sys/fs.h"
#include "tmp.h"
#include "weights/gguf_stream.h"
#include "weights/quant.h"
#include "weights/weights.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <utime.h>

#include <cmocka.h>

static struct lem_error err;

static void make(const struct model_shape *s, const char *quant, uint64_t seed, const char *path)
{
	if (gguf_synthesize(s, quant, seed, path, NULL, NULL, &err) < 0)
		fail_msg("%s %s", err.what, err.why);
}

/* ---- a second, independent way to the tensors: a walk over the whole file in memory ---- */

struct found {
	char name[64];
	uint64_t n, rows;
	uint32_t type;
	const uint8_t *data;
};

struct walk {
	struct str bytes;
	size_t at;
	struct found tensors[400];
	size_t n;
};

static uint64_t number(struct walk *w, size_t size)
{
	uint64_t v = 0;

	assert_true(w->at + size <= w->bytes.len);
	memcpy(&v, w->bytes.buf + w->at, size);
	w->at += size;
	return v;
}

static void walk_text(struct walk *w, char *buf, size_t size)
{
	uint64_t n = number(w, 8);

	assert_true(n < size && w->at + n <= w->bytes.len);
	memcpy(buf, w->bytes.buf + w->at, n);
	buf[n] = '\0';
	w->at += n;
}

static void walk_file(struct walk *w, const char *path)
{
	char text[200];

	*w = (struct walk){0};
	assert_int_equal(fs_read_file(path, 1 << 28, &w->bytes, NULL), 0);
	w->at = 8;
	w->n = number(w, 8);
	for (uint64_t keys = number(w, 8); keys; keys--) {
		walk_text(w, text, sizeof(text));
		if (number(w, 4) == GGUF_STRING)
			walk_text(w, text, sizeof(text));
		else
			number(w, 4);
	}
	assert_true(w->n <= ARRAY_LEN(w->tensors));
	for (size_t i = 0; i < w->n; i++) {
		struct found *t = &w->tensors[i];
		uint64_t dims;

		walk_text(w, t->name, sizeof(t->name));
		dims = number(w, 4);
		t->n = number(w, 8);
		t->rows = dims == 2 ? number(w, 8) : 1;
		t->type = (uint32_t)number(w, 4);
		t->data = (const uint8_t *)number(w, 8);
	}
	size_t begin = (w->at + 31) / 32 * 32;

	for (size_t i = 0; i < w->n; i++)
		w->tensors[i].data = (const uint8_t *)w->bytes.buf + begin +
				     (size_t)(uintptr_t)w->tensors[i].data;
}

static const struct found *tensor(const struct walk *w, const char *name)
{
	for (size_t i = 0; i < w->n; i++)
		if (str_eq(w->tensors[i].name, name))
			return &w->tensors[i];
	return NULL;
}

static float element(const struct found *t, uint64_t i)
{
	const uint8_t *b;
	uint16_t h;
	float f;

	switch (t->type) {
	case TENSOR_F32: memcpy(&f, t->data + 4 * i, 4); return f;
	case TENSOR_F16: memcpy(&h, t->data + 2 * i, 2); return quant_half_to_float(h);
	case TENSOR_Q8_0:
		b = t->data + i / 32 * 34;
		memcpy(&h, b, 2);
		return quant_half_to_float(h) * (float)(int8_t)b[2 + i % 32];
	default:
		b = t->data + i / 32 * 18;
		memcpy(&h, b, 2);
		return quant_half_to_float(h) *
		       (float)((i % 32 < 16 ? b[2 + i % 16] & 15 : b[2 + i % 16] >> 4) - 8);
	}
}

struct moments {
	double mean, sd, kurtosis, most;
};

static struct moments moments(const struct found *t)
{
	uint64_t n = t->n * t->rows;
	double sum = 0, m2 = 0, m4 = 0, most = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += (double)element(t, i);
	for (uint64_t i = 0; i < n; i++) {
		double d = (double)element(t, i) - sum / (double)n;

		m2 += d * d;
		m4 += d * d * d * d;
		most = fmax(most, fabs(d));
	}
	m2 /= (double)n;
	return (struct moments){sum / (double)n, sqrt(m2), m4 / (double)n / (m2 * m2), most};
}

/* ---- structure ---- */

static void test_reads_back(void **state)
{
	static const char *const quants[][2] = {
		{"f16", "F16"}, {"q8_0", "Q8_0"}, {"q4_0", "Q4_0"}, {"Q8_0", "Q8_0"}};
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape tiny = tmp_tiny(), s;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(quants); i++) {
		make(&tiny, quants[i][0], 1, path);
		assert_int_equal(gguf_read_shape(path, &s, &err), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_string_equal(s.quant, quants[i][1]);
		assert_int_equal(s.size_bytes, st.st_size);
		assert_int_equal(s.weights, WEIGHTS_SYNTHETIC);
		assert_false(s.has_tokenizer);
		assert_int_equal(s.n_layer, 2);
		assert_int_equal(s.n_embd, 64);
		assert_int_equal(s.n_ff, 96);
		assert_int_equal(s.n_head, 4);
		assert_int_equal(s.n_head_kv, 2);
		assert_int_equal(s.head_dim, 16);
		assert_int_equal(s.n_vocab, 100);
		assert_int_equal(s.n_ctx_train, 128);
		assert_true(s.gated_mlp && !s.tied_embeddings);
		/* the count derived from the sizes is the count of the tensors */
		assert_int_equal(s.n_params, model_shape_params(&tiny));
	}
}

/* ---- a made-up vocabulary ---- */

/* Where the texts of the vocabulary begin, after their key; their number. */
static const char *find_texts(const struct str *file, uint64_t *ret_n)
{
	static const char key[] = "tokenizer.ggml.tokens";
	const char *at = memmem(file->buf, file->len, key, strlen(key));
	uint32_t types[2];

	assert_non_null(at);
	at += strlen(key);
	memcpy(types, at, sizeof(types));
	assert_int_equal(types[0], GGUF_ARRAY);
	assert_int_equal(types[1], GGUF_STRING);
	memcpy(ret_n, at + sizeof(types), sizeof(*ret_n));
	return at + sizeof(types) + sizeof(*ret_n);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void test_every_id_has_a_text_of_its_own(void **state)
{
	enum { N = 1000, TEXT = 16 };
	_cleanup_free_ char *path = tmp_path("words.gguf"), (*texts)[TEXT] = calloc(N, TEXT);
	_cleanup_str_ struct str file = STR_INIT;
	struct model_shape tiny = tmp_tiny(), s;
	const char *at;
	uint64_t n, length;

	(void)state;
	tiny.n_vocab = N;
	tiny.has_tokenizer = true;
	make(&tiny, "q4_0", 1, path);
	assert_int_equal(gguf_read_shape(path, &s, &err), 0);
	assert_true(s.has_tokenizer);
	assert_int_equal(s.n_vocab, N);
	assert_int_equal(s.n_params, model_shape_params(&tiny));
	assert_int_equal(fs_read_file(path, 1 << 28, &file, NULL), 0);
	at = find_texts(&file, &n);
	assert_int_equal(n, N);
	for (size_t i = 0; i < N; i++) {
		memcpy(&length, at, sizeof(length));
		assert_true(length > 0 && length < TEXT);
		memcpy(texts[i], at + sizeof(length), length);
		at += sizeof(length) + length;
	}
	assert_string_equal(texts[10], "\\x0a"); /* llama.cpp asks for a line's end */
	assert_string_equal(texts[255], "\\xff");
	assert_string_equal(texts[256], " jw");
	qsort(texts, N, TEXT, by_text);
	for (size_t i = 1; i < N; i++)
		assert_string_not_equal(texts[i - 1], texts[i]);
}

/* The names and sizes that llama.cpp's loader asks of each architecture. */
static void test_tensors_of_each_architecture(void **state)
{
	static const struct {
		const char *architecture, *tensor;
		uint64_t n, rows;
	} cases[] = {
		{"llama", "token_embd.weight", 64, 100},
		{"llama", "output_norm.weight", 64, 1},
		{"llama", "output.weight", 64, 100},
		{"llama", "blk.1.attn_norm.weight", 64, 1},
		{"llama", "blk.1.attn_q.weight", 64, 128},
		{"llama", "blk.1.attn_k.weight", 64, 64},
		{"llama", "blk.1.attn_v.weight", 64, 64},
		{"llama", "blk.1.attn_output.weight", 128, 64},
		{"llama", "blk.1.ffn_norm.weight", 64, 1},
		{"llama", "blk.1.ffn_gate.weight", 64, 96},
		{"llama", "blk.1.ffn_up.weight", 64, 96},
		{"llama", "blk.1.ffn_down.weight", 96, 64},
		{"qwen2", "blk.0.attn_q.bias", 128, 1},
		{"qwen2", "blk.0.attn_k.bias", 64, 1},
		{"qwen2", "blk.0.attn_v.bias", 64, 1},
		{"gemma3", "blk.0.post_attention_norm.weight", 64, 1},
		{"gemma3", "blk.0.attn_q_norm.weight", 32, 1},
		{"gemma3", "blk.0.attn_k_norm.weight", 32, 1},
		{"gemma3", "blk.0.post_ffw_norm.weight", 64, 1},
	};
	_cleanup_free_ char *path = tmp_path("m.gguf");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct model_shape s = tmp_tiny();
		static struct walk w;
		const struct found *t;

		s.head_dim = 32; /* wider than width / heads */
		lem_strlcpy(s.architecture, cases[i].architecture, sizeof(s.architecture));
		make(&s, "f16", 1, path);
		walk_file(&w, path);
		t = tensor(&w, cases[i].tensor);
		assert_non_null(t);
		assert_int_equal(t->n, cases[i].n);
		assert_int_equal(t->rows, cases[i].rows);
		assert_int_equal(t->type, t->rows > 1 ? TENSOR_F16 : TENSOR_F32);
		str_release(&w.bytes);
	}
}

static void test_params_of_each_architecture(void **state)
{
	static const char *const architectures[] = {"llama", "mistral", "qwen2", "gemma3"};
	_cleanup_free_ char *path = tmp_path("m.gguf");

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(architectures); i++)
		for (int tied = 0; tied < 2; tied++) {
			struct model_shape s = tmp_tiny(), read;

			s.tied_embeddings = tied;
			s.n_swa = 16;
			lem_strlcpy(s.architecture, architectures[i], sizeof(s.architecture));
			make(&s, "f16", 1, path);
			assert_int_equal(gguf_read_shape(path, &read, &err), 0);
			assert_int_equal(read.n_params, model_shape_params(&s));
			assert_int_equal(read.tied_embeddings, tied);
			assert_int_equal(read.n_swa, 16);
			assert_string_equal(read.architecture, i == 1 ? "llama" : architectures[i]);
		}
}

/* ---- values ---- */

static void test_distribution(void **state)
{
	static const char *const quants[] = {"f16", "q8_0", "q4_0"};
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape s = tmp_tiny();

	(void)state;
	s.n_embd = 512;
	s.n_vocab = 1000;
	for (size_t q = 0; q < ARRAY_LEN(quants); q++) {
		static struct walk w;

		make(&s, quants[q], 1, path);
		walk_file(&w, path);
		for (size_t i = 0; i < w.n; i++) {
			const struct found *t = &w.tensors[i];
			struct moments m = moments(t);
			double ratio = m.sd * sqrt((double)t->n);

			if (t->rows == 1)
				continue;
			/* of Gemma 3 270M: 0.96 to 1.06, kurtosis 3.2 to 23 */
			assert_true(fabs(m.mean) < 0.05 * m.sd);
			assert_true(ratio > 0.93 && ratio < 1.07);
			assert_true(m.kurtosis > 3.2 && m.kurtosis < 9);
			assert_true(m.most > 6 * m.sd && m.most < 25 * m.sd);
		}
		str_release(&w.bytes);
	}
}

static void test_norms(void **state)
{
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape s = tmp_tiny();
	static struct walk w;
	int large = 0, ordinary = 0;

	(void)state;
	s.n_embd = 2048;
	make(&s, "q8_0", 1, path);
	walk_file(&w, path);
	const struct found *t = tensor(&w, "blk.0.attn_norm.weight");

	for (uint64_t i = 0; i < t->n; i++) {
		float x = element(t, i);

		large += x > 4;
		ordinary += x > 0.5f && x < 1.5f;
	}
	assert_int_equal(large, 4); /* one in 512 */
	assert_true(ordinary > 2000);
	str_release(&w.bytes);
}

/* No row is a copy of another one, and no block is zero. */
static void test_rows_differ(void **state)
{
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape s = tmp_tiny();
	static struct walk w;
	int same = 0;

	(void)state;
	s.n_vocab = 500;
	make(&s, "q4_0", 1, path);
	walk_file(&w, path);
	const struct found *t = tensor(&w, "token_embd.weight");

	for (uint64_t a = 0; a < 500; a++)
		for (uint64_t b = 0; b < a; b++)
			same += memcmp(t->data + a * 36, t->data + b * 36, 36) == 0;
	assert_int_equal(same, 0);
	for (uint64_t i = 0; i < 1000; i++)
		assert_true(memcmp(t->data + i * 18, "\0\0", 2) != 0);
	str_release(&w.bytes);
}

static void hash(const char *path, char hex[DIGEST_HEX_SIZE])
{
	_cleanup_str_ struct str s = STR_INIT;

	assert_int_equal(fs_read_file(path, 1 << 24, &s, NULL), 0);
	digest_bytes(s.buf, s.len, hex);
}

/* The same bytes on every machine: these hashes were written down once. A change of the writer that
 * changes them needs a new writer version in weights/resolve.c. */
static void test_same_bytes_everywhere(void **state)
{
	static const char *const expected[][2] = {
		{"f16", "fc91396c90b2fe5ebd42929fb84ce192995b7c78528b0915243600d017577a8a"},
		{"q8_0", "b93ae3afba4b6242c7638f2de0afaa38e90cd2d17c68b792279b950c98fc8f60"},
		{"q4_0", "7f34d37290421f692639ff16d5615c9f696acdd75e3bd4ffec782567d69c009a"},
	};
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape tiny = tmp_tiny();
	char hex[DIGEST_HEX_SIZE], other[DIGEST_HEX_SIZE];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		make(&tiny, expected[i][0], 42, path);
		hash(path, hex);
		assert_string_equal(hex, expected[i][1]);
	}
	make(&tiny, "q4_0", 43, path);
	hash(path, other);
	assert_string_not_equal(hex, other);
}

/* ---- what goes wrong ---- */

static void refused(const struct model_shape *s, const char *quant, const char *why)
{
	_cleanup_free_ char *folder = tmp_path("refused"), *path = fs_join(folder, "m.gguf");

	assert_int_equal(fs_mkdirs(folder, NULL), 0);
	assert_int_equal(gguf_synthesize(s, quant, 1, path, NULL, NULL, &err), -LEM_E_REFUSED);
	if (!strstr(err.what, why))
		fail_msg("'%s' does not say '%s'", err.what, why);
	assert_int_equal(tmp_entries(folder), 0);
}

static void test_shapes_that_cannot_be(void **state)
{
	static const struct {
		size_t offset;
		int64_t value;
	} bad[] = {
#define BAD(field, value) {offsetof(struct model_shape, field), value}
		BAD(n_layer, 0),
		BAD(n_layer, 1 << 20),
		BAD(n_embd, 0),
		BAD(n_embd, -64),
		BAD(n_embd, 65),
		BAD(n_embd, INT64_C(1) << 40),
		BAD(n_ff, 0),
		BAD(n_ff, 33),
		BAD(n_head, 0),
		BAD(n_head, 3),
		BAD(n_head_kv, 0),
		BAD(n_head_kv, 8),
		BAD(head_dim, 0),
		BAD(head_dim, 3),
		BAD(head_dim, INT64_MAX),
		BAD(n_vocab, 0),
		BAD(n_vocab, INT64_MAX),
		BAD(n_ctx_train, -1),
		BAD(n_ctx_train, INT64_MAX),
		BAD(n_swa, INT64_MAX),
	};
	struct model_shape s = tmp_tiny();

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		s = tmp_tiny();
		memcpy((char *)&s + bad[i].offset, &bad[i].value, sizeof(int64_t));
		refused(&s, "q8_0", "");
	}
	s = tmp_tiny();
	refused(&s, "q5_k", "cannot be written as 'q5_k'");
	s.n_expert = 8;
	refused(&s, "q8_0", "mixture-of-experts");
	s = tmp_tiny();
	lem_strlcpy(s.architecture, "mamba", sizeof(s.architecture));
	refused(&s, "q8_0", "mamba");
	assert_non_null(strstr(err.fix, "qwen2"));
}

static void test_more_than_the_disk_has(void **state)
{
	_cleanup_free_ char *path = tmp_path("huge.gguf");
	struct model_shape s = tmp_tiny();

	(void)state;
	s.n_embd = 1 << 20;
	s.n_ff = 1 << 22;
	s.n_layer = 4096;
	assert_int_equal(gguf_synthesize(&s, "f16", 1, path, NULL, NULL, &err), -LEM_E_IO);
	assert_non_null(strstr(err.what, "GB of disk"));
	assert_non_null(strstr(err.fix, "LEM_CACHE_DIR"));
	assert_false(fs_exists(path));
}

/* The disk fills up in the middle: nothing stays behind, and what was there before remains. */
static void test_write_fails_in_the_middle(void **state)
{
	_cleanup_free_ char *folder = tmp_path("full"), *path = fs_join(folder, "m.gguf");
	struct rlimit no_more = {.rlim_cur = 30000, .rlim_max = RLIM_INFINITY}, old;
	struct model_shape tiny = tmp_tiny();
	int r;

	(void)state;
	assert_int_equal(fs_mkdirs(folder, NULL), 0);
	assert_int_equal(fs_write_atomic(path, "before", 6, NULL), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	setrlimit(RLIMIT_FSIZE, &no_more);
	r = gguf_synthesize(&tiny, "f16", 1, path, NULL, NULL, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(r, -LEM_E_IO);
	assert_non_null(strstr(err.what, "cannot write the model"));
	assert_int_equal(tmp_entries(folder), 1);
	_cleanup_str_ struct str s = STR_INIT;

	assert_int_equal(fs_read_file(path, 100, &s, NULL), 0);
	assert_string_equal(str_c(&s), "before");
}

static void test_folder_that_is_not_there(void **state)
{
	struct model_shape tiny = tmp_tiny();

	(void)state;
	assert_int_equal(gguf_synthesize(&tiny, "f16", 1, "/nonexistent/x.gguf", NULL, NULL, &err),
			 -LEM_E_IO);
	assert_non_null(strstr(err.what, "/nonexistent/x.gguf"));
}

static bool first_then_no(void *arg, const char *what, uint64_t done, uint64_t total)
{
	assert_non_null(strstr(what, "synthetic"));
	assert_true(done <= total);
	++*(int *)arg;
	return false;
}

static void test_cancel(void **state)
{
	_cleanup_free_ char *folder = tmp_path("cancel"), *path = fs_join(folder, "m.gguf");
	struct model_shape s = tmp_tiny();
	int calls = 0;

	(void)state;
	s.n_vocab = 100000;
	assert_int_equal(fs_mkdirs(folder, NULL), 0);
	assert_int_equal(gguf_synthesize(&s, "f16", 1, path, first_then_no, &calls, &err),
			 -LEM_E_INTERRUPTED);
	assert_int_equal(calls, 1);
	assert_int_equal(tmp_entries(folder), 0);
}

static bool until_done(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)what;
	*(bool *)arg = done == total;
	return true;
}

static void test_progress_reaches_the_end(void **state)
{
	_cleanup_free_ char *path = tmp_path("m.gguf");
	struct model_shape tiny = tmp_tiny();
	bool whole = false;

	(void)state;
	assert_int_equal(gguf_synthesize(&tiny, "q8_0", 1, path, until_done, &whole, &err), 0);
	assert_true(whole);
}

/* Half files of killed writers go away after a while; those of living ones stay. */
static void test_leftovers(void **state)
{
	_cleanup_free_ char *stale = tmp_file("l.gguf.tmp-1", "x", 1);
	_cleanup_free_ char *young = tmp_file("l.gguf.tmp-2", "x", 1);
	_cleanup_free_ char *path = tmp_path("l.gguf");
	struct model_shape tiny = tmp_tiny();
	struct utimbuf long_ago = {.actime = 1000000000, .modtime = 1000000000};

	(void)state;
	assert_int_equal(utime(stale, &long_ago), 0);
	make(&tiny, "q8_0", 1, path);
	assert_false(fs_exists(stale));
	assert_true(fs_exists(young));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_back),
		cmocka_unit_test(test_every_id_has_a_text_of_its_own),
		cmocka_unit_test(test_tensors_of_each_architecture),
		cmocka_unit_test(test_params_of_each_architecture),
		cmocka_unit_test(test_distribution),
		cmocka_unit_test(test_norms),
		cmocka_unit_test(test_rows_differ),
		cmocka_unit_test(test_same_bytes_everywhere),
		cmocka_unit_test(test_shapes_that_cannot_be),
		cmocka_unit_test(test_more_than_the_disk_has),
		cmocka_unit_test(test_write_fails_in_the_middle),
		cmocka_unit_test(test_folder_that_is_not_there),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_progress_reaches_the_end),
		cmocka_unit_test(test_leftovers),
	};

	return cmocka_run_group_tests(tests, tmp_start, tmp_stop);
}
