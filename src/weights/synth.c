#include <errno.h>
#include <glob.h>
#include <math.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/rand.h"
#include "base/vec.h"
#include "sys/fs.h"
#include "weights/quant.h"
#include "weights/weights.h"

/*
 * Random weights that are distributed like trained ones. Measured in Gemma 3 270M: every matrix,
 * embedding included, has a mean of 0 and a standard deviation of 0.96 to 1.06 / sqrt(row length),
 * with tails heavier than a normal's (kurtosis 3.2 to 23, half of them above 5.5). So 1 value in
 * 256 is drawn 4 times as wide, which gives a kurtosis of 5.4. Norms lie around 1, and one channel
 * in 512 of them is 8 times larger, because trained models have outlier features (about 0.1 % of
 * the channels, up to 20 times as large: LLM.int8(), arXiv 2208.07339).
 *
 * Normals are drawn once into a pool; each row takes a run of the pool at an offset and sign of its
 * own, so that an 8-billion-parameter file costs the disk's time and not the generator's.
 *
 * The same shape, quantisation and seed give the same bytes on every machine: the pool is rounded
 * to a grid far coarser than the last bits in which mathematical libraries differ, and the build
 * does not let the compiler fuse multiply and add.
 */
enum { POOL = 1 << 16, NAME_BYTES = 64, NORM_OUTLIER_EVERY = 512, NORM_OUTLIER_FACTOR = 8 };
enum { WIDE_EVERY = 256, WIDE_FACTOR = 4 };
#define MATRIX_SD(fan_in) (1.0f / sqrtf((float)(fan_in)))
#define NORM_SD           0.1f
#define POOL_GRID         16384.0

struct tensor {
	char name[NAME_BYTES];
	uint64_t ne0, ne1; /* row length, rows; ne1 0: one dimension */
	enum ggml_tensor_type type;
	float mean, sd;
	uint64_t offset;
};

struct plan {
	const struct model_shape *s;
	const char *arch; /* GGUF's name */
	enum ggml_tensor_type type;
	int file_type;
	VEC(struct tensor) tensors;
	uint64_t data_bytes;
};

static void add(struct plan *p, uint64_t ne0, uint64_t ne1, enum ggml_tensor_type type, float mean,
		float sd, const char *fmt, ...) _printf_(7, 8);
static void add(struct plan *p, uint64_t ne0, uint64_t ne1, enum ggml_tensor_type type, float mean,
		float sd, const char *fmt, ...)
{
	struct tensor *t = vec_push(&p->tensors);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(t->name, sizeof(t->name), fmt, ap);
	va_end(ap);
	t->ne0 = ne0;
	t->ne1 = ne1;
	t->type = type;
	t->mean = mean;
	t->sd = sd;
	t->offset = p->data_bytes;
	uint64_t bytes = quant_bytes(type, ne0) * MAX(ne1, UINT64_C(1));

	p->data_bytes += (bytes + GGUF_ALIGNMENT - 1) / GGUF_ALIGNMENT * GGUF_ALIGNMENT;
}

static void add_norm(struct plan *p, int64_t n, const char *name, int64_t layer)
{
	if (layer < 0)
		add(p, (uint64_t)n, 0, TENSOR_F32, 1, NORM_SD, "%s.weight", name);
	else
		add(p, (uint64_t)n, 0, TENSOR_F32, 1, NORM_SD, "blk.%" PRId64 ".%s.weight", layer,
		    name);
}

static void add_matrix(struct plan *p, int64_t in, int64_t out, const char *name, int64_t layer)
{
	if (layer < 0)
		add(p, (uint64_t)in, (uint64_t)out, p->type, 0, MATRIX_SD(in), "%s.weight", name);
	else
		add(p, (uint64_t)in, (uint64_t)out, p->type, 0, MATRIX_SD(in),
		    "blk.%" PRId64 ".%s.weight", layer, name);
}

static void add_bias(struct plan *p, int64_t n, const char *name, int64_t layer)
{
	add(p, (uint64_t)n, 0, TENSOR_F32, 0, 0.02f, "blk.%" PRId64 ".%s.bias", layer, name);
}

static void plan_layer(struct plan *p, int64_t i)
{
	const struct model_shape *s = p->s;
	int64_t q = s->n_head * s->head_dim, kv = s->n_head_kv * s->head_dim;
	bool gemma = str_eq(p->arch, "gemma3");

	add_norm(p, s->n_embd, "attn_norm", i);
	add_matrix(p, s->n_embd, q, "attn_q", i);
	add_matrix(p, s->n_embd, kv, "attn_k", i);
	add_matrix(p, s->n_embd, kv, "attn_v", i);
	add_matrix(p, q, s->n_embd, "attn_output", i);
	if (str_eq(p->arch, "qwen2")) {
		add_bias(p, q, "attn_q", i);
		add_bias(p, kv, "attn_k", i);
		add_bias(p, kv, "attn_v", i);
	}
	if (gemma) {
		add_norm(p, s->n_embd, "post_attention_norm", i);
		add_norm(p, s->head_dim, "attn_q_norm", i);
		add_norm(p, s->head_dim, "attn_k_norm", i);
		add_norm(p, s->n_embd, "post_ffw_norm", i);
	}
	add_norm(p, s->n_embd, "ffn_norm", i);
	add_matrix(p, s->n_embd, s->n_ff, "ffn_gate", i);
	add_matrix(p, s->n_embd, s->n_ff, "ffn_up", i);
	add_matrix(p, s->n_ff, s->n_embd, "ffn_down", i);
}

static void plan_tensors(struct plan *p)
{
	const struct model_shape *s = p->s;

	add_matrix(p, s->n_embd, s->n_vocab, "token_embd", -1);
	for (int64_t i = 0; i < s->n_layer; i++)
		plan_layer(p, i);
	add_norm(p, s->n_embd, "output_norm", -1);
	if (!s->tied_embeddings)
		add_matrix(p, s->n_embd, s->n_vocab, "output", -1);
}

static int choose_type(const char *quant, struct plan *p, struct lem_error *err)
{
	static const struct {
		const char *name;
		enum ggml_tensor_type type;
		int file_type;
	} types[] = {{"f16", TENSOR_F16, 1}, {"q8_0", TENSOR_Q8_0, 7}, {"q4_0", TENSOR_Q4_0, 2}};

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcasecmp(types[i].name, quant) == 0) {
			p->type = types[i].type;
			p->file_type = types[i].file_type;
			return 0;
		}
	lem_fail(err, LEM_E_REFUSED, "synthetic weights cannot be written as '%s'", quant);
	return lem_error_fix(err, "use f16, q8_0 or q4_0");
}

/* GGUF's name of the architecture: families that are Llamas under another name are written as such.
 */
static const char *gguf_arch(const char *arch)
{
	static const char *const names[][2] = {
		{"llama", "llama"}, {"mistral", "llama"}, {"qwen2", "qwen2"}, {"gemma3", "gemma3"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(arch, names[i][0]))
			return names[i][1];
	return NULL;
}

static int check_shape(struct plan *p, struct lem_error *err)
{
	const struct model_shape *s = p->s;
	int64_t most = INT64_C(1) << 24;

	p->arch = gguf_arch(s->architecture);
	if (!p->arch || s->n_expert) {
		lem_fail(err, LEM_E_REFUSED, "a synthetic %s%s model cannot be made",
			 s->n_expert ? "mixture-of-experts " : "", s->architecture);
		return lem_error_fix(
			err, "architectures that can: llama, mistral, qwen2, gemma3 (dense)");
	}
	if (s->n_layer < 1 || s->n_layer > 4096 || s->n_embd < 1 || s->n_embd > most ||
	    s->n_ff < 1 || s->n_ff > most || s->n_head < 1 || s->n_head_kv < 1 || s->n_vocab < 2 ||
	    s->n_vocab > most || s->head_dim < 1 || s->head_dim > 4096 || s->n_head > 65536 ||
	    s->n_head_kv > s->n_head || s->n_head % s->n_head_kv || s->n_ctx_train < 0 ||
	    s->n_ctx_train > INT32_MAX || s->n_swa < 0 || s->n_swa > INT32_MAX)
		return lem_fail(
			err, LEM_E_REFUSED,
			"the shape has an impossible size (heads, widths, layers or vocabulary)");
	if (s->n_embd % QUANT_BLOCK || s->n_ff % QUANT_BLOCK ||
	    s->n_head * s->head_dim % QUANT_BLOCK)
		return lem_fail(err, LEM_E_REFUSED,
				"widths must be multiples of %d to be stored in blocks",
				QUANT_BLOCK);
	return 0;
}

/* ---- the file ---- */

static void put_u32(struct str *o, uint32_t v)
{
	str_addn(o, (const char *)&v, 4);
}

static void put_u64(struct str *o, uint64_t v)
{
	str_addn(o, (const char *)&v, 8);
}

static void put_text(struct str *o, const char *s)
{
	put_u64(o, strlen(s));
	str_add(o, s);
}

struct header {
	struct str keys;
	uint64_t n_keys;
	const char *arch;
};

static void key_text(struct header *h, const char *key, const char *value)
{
	put_text(&h->keys, key);
	put_u32(&h->keys, GGUF_STRING);
	put_text(&h->keys, value);
	h->n_keys++;
}

static void key_u32(struct header *h, const char *suffix, int64_t value)
{
	char key[96];

	snprintf(key, sizeof(key), "%s.%s", suffix[0] == '!' ? "general" : h->arch,
		 suffix + (suffix[0] == '!'));
	put_text(&h->keys, key);
	put_u32(&h->keys, GGUF_U32);
	put_u32(&h->keys, (uint32_t)value);
	h->n_keys++;
}

static void key_f32(struct header *h, const char *suffix, float value)
{
	char key[96];

	snprintf(key, sizeof(key), "%s.%s", h->arch, suffix);
	put_text(&h->keys, key);
	put_u32(&h->keys, GGUF_F32);
	str_addn(&h->keys, (const char *)&value, 4);
	h->n_keys++;
}

/* Every id has a text of its own: one byte each below 256, then " ab" and so on. No text ends a
 * sequence, and none is special: of llama.cpp's vocabularies "rwkv" is the one without such ids.
 * Its texts are escaped. */
static void key_vocabulary(struct header *h, int64_t n_vocab)
{
	enum { BYTES = 256, LETTERS = 26 };

	key_text(h, "tokenizer.ggml.model", "rwkv");
	put_text(&h->keys, "tokenizer.ggml.tokens");
	put_u32(&h->keys, GGUF_ARRAY);
	put_u32(&h->keys, GGUF_STRING);
	put_u64(&h->keys, (uint64_t)n_vocab);
	for (int64_t i = 0; i < n_vocab; i++) {
		char text[16];
		size_t at = sizeof(text) - 1;

		text[at] = '\0';
		if (i < BYTES) {
			snprintf(text, sizeof(text), "\\x%02x", (unsigned)i);
			put_text(&h->keys, text);
			continue;
		}
		for (int64_t k = i; k > 0; k /= LETTERS)
			text[--at] = (char)('a' + k % LETTERS);
		text[--at] = ' ';
		put_text(&h->keys, text + at);
	}
	h->n_keys++;
}

static void make_keys(struct header *h, const struct plan *p, uint64_t seed)
{
	const struct model_shape *s = p->s;
	char text[32];

	key_text(h, "general.architecture", p->arch);
	key_text(h, "general.name", s->name[0] ? s->name : "synthetic");
	key_u32(h, "!file_type", p->file_type);
	key_u32(h, "!quantization_version", 2);
	key_u32(h, "block_count", s->n_layer);
	key_u32(h, "context_length", s->n_ctx_train ? s->n_ctx_train : 2048);
	key_u32(h, "embedding_length", s->n_embd);
	key_u32(h, "feed_forward_length", s->n_ff);
	key_u32(h, "attention.head_count", s->n_head);
	key_u32(h, "attention.head_count_kv", s->n_head_kv);
	key_u32(h, "attention.key_length", s->head_dim);
	key_u32(h, "attention.value_length", s->head_dim);
	key_f32(h, "attention.layer_norm_rms_epsilon", 1e-5f);
	key_u32(h, "rope.dimension_count", s->head_dim);
	key_f32(h, "rope.freq_base", 10000.0f);
	if (s->n_swa)
		key_u32(h, "attention.sliding_window", s->n_swa);
	key_u32(h, "vocab_size", s->n_vocab);
	if (s->has_tokenizer)
		key_vocabulary(h, s->n_vocab);
	else
		key_text(h, "tokenizer.ggml.model", "no_vocab");
	key_text(h, "lem.weights", "synthetic");
	snprintf(text, sizeof(text), "%" PRIu64, seed);
	key_text(h, "lem.seed", text);
}

static void make_header(const struct plan *p, uint64_t seed, struct str *out)
{
	struct header h = {.arch = p->arch};

	make_keys(&h, p, seed);
	str_add(out, GGUF_MAGIC);
	put_u32(out, GGUF_VERSION);
	put_u64(out, p->tensors.n);
	put_u64(out, h.n_keys);
	str_addn(out, str_c(&h.keys), h.keys.len);
	str_release(&h.keys);
	for (size_t i = 0; i < p->tensors.n; i++) {
		const struct tensor *t = &p->tensors.at[i];

		put_text(out, t->name);
		put_u32(out, t->ne1 ? 2 : 1);
		put_u64(out, t->ne0);
		if (t->ne1)
			put_u64(out, t->ne1);
		put_u32(out, t->type);
		put_u64(out, t->offset);
	}
	while (out->len % GGUF_ALIGNMENT)
		str_addc(out, '\0');
}

struct writer {
	FILE *f;
	struct rand rand;
	float *pool, *row;
	uint8_t *bytes;
	uint64_t done, total, reported;
	int64_t reported_ns;
	weights_progress_fn progress;
	void *arg;
};

/* Ten times a second, and the clock is read once a megabyte. False: the caller wants no more. */
static bool report(struct writer *w)
{
	int64_t now;

	if (!w->progress || (w->done - w->reported < 1 << 20 && w->done < w->total))
		return true;
	w->reported = w->done;
	now = clock_now_ns();
	if (now - w->reported_ns < NS_PER_S / 10 && w->done < w->total)
		return true;
	w->reported_ns = now;
	return w->progress(w->arg, "making synthetic weights", w->done, w->total);
}

static void fill_pool(struct writer *w)
{
	/* the mixture's own deviation, so that the whole comes out at 1 */
	double sd = sqrt(1 + (WIDE_FACTOR * WIDE_FACTOR - 1) / (double)WIDE_EVERY);

	for (size_t i = 0; i < POOL; i++) {
		double wide = rand_below(&w->rand, WIDE_EVERY) ? 1 : WIDE_FACTOR;

		w->pool[i] =
			(float)(round(rand_normal(&w->rand) * wide / sd * POOL_GRID) / POOL_GRID);
	}
}

static void draw_row(struct writer *w, const struct tensor *t)
{
	uint64_t bits = rand_u64(&w->rand);
	float sd = bits >> 63 ? t->sd : -t->sd;
	size_t at = bits % POOL;

	for (uint64_t i = 0; i < t->ne0; i++) {
		w->row[i] = t->mean + sd * w->pool[at];
		at = at + 1 == POOL ? 0 : at + 1;
	}
	for (uint64_t i = bits >> 32 & (NORM_OUTLIER_EVERY - 1); i < t->ne0 && t->mean != 0;
	     i += NORM_OUTLIER_EVERY)
		w->row[i] *= NORM_OUTLIER_FACTOR;
}

/* 1: cancelled; -1: errno. */
static int write_tensor(struct writer *w, const struct tensor *t)
{
	static const uint8_t zeros[GGUF_ALIGNMENT];
	size_t row_bytes = quant_bytes(t->type, t->ne0);
	uint64_t rows = MAX(t->ne1, UINT64_C(1)), rest = row_bytes * rows % GGUF_ALIGNMENT;

	for (uint64_t i = 0; i < rows; i++) {
		draw_row(w, t);
		quant_row(t->type, w->row, t->ne0, w->bytes);
		if (fwrite(w->bytes, 1, row_bytes, w->f) != row_bytes)
			return -1;
		w->done += row_bytes;
		if (!report(w))
			return 1;
	}
	return rest && fwrite(zeros, 1, GGUF_ALIGNMENT - rest, w->f) != GGUF_ALIGNMENT - rest ? -1
											      : 0;
}

static int write_all(struct writer *w, const struct plan *p, const struct str *header)
{
	int r = fwrite(header->buf, 1, header->len, w->f) == header->len ? 0 : -1;

	for (size_t i = 0; i < p->tensors.n && r == 0; i++)
		r = write_tensor(w, &p->tensors.at[i]);
	return r == 0 && (fflush(w->f) != 0 || fsync(fileno(w->f)) < 0) ? -1 : r;
}

static int check_space(const char *path, uint64_t bytes, struct lem_error *err)
{
	_cleanup_free_ char *dir = lem_strdup(path);
	char *slash = strrchr(dir, '/');
	struct statvfs v;

	if (slash)
		*slash = '\0';
	if (statvfs(slash ? dir : ".", &v) < 0 || (uint64_t)v.f_bavail * v.f_frsize > bytes)
		return 0;
	lem_fail(err, LEM_E_IO, "the model needs %.1f GB of disk, %.1f GB are free",
		 (double)bytes / 1e9, (double)v.f_bavail * (double)v.f_frsize / 1e9);
	lem_error_where(err, "%s", path);
	return lem_error_fix(err, "free some, or set LEM_CACHE_DIR to a larger disk");
}

/* What a writer that was killed has left. A living one writes all the time, so an hour tells them
 * apart. */
static void remove_stale(const char *path)
{
	enum { STALE_S = 3600 };
	_cleanup_free_ char *pattern = lem_asprintf("%s.tmp-*", path);
	glob_t g = {0};
	struct stat st;

	if (glob(pattern, GLOB_NOSORT, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			if (stat(g.gl_pathv[i], &st) == 0 &&
			    clock_wall_ns() / NS_PER_S - st.st_mtim.tv_sec > STALE_S)
				unlink(g.gl_pathv[i]);
	globfree(&g);
}

static int write_file(const struct plan *p, uint64_t seed, const char *path, struct writer *w,
		      struct lem_error *err)
{
	_cleanup_free_ char *tmp = lem_asprintf("%s.tmp-%d", path, (int)getpid());
	_cleanup_str_ struct str header = STR_INIT;
	int r;

	make_header(p, seed, &header);
	for (size_t i = 0; i < p->tensors.n; i++)
		w->total += quant_bytes(p->tensors.at[i].type, p->tensors.at[i].ne0) *
			    MAX(p->tensors.at[i].ne1, UINT64_C(1));
	remove_stale(path);
	if (check_space(path, p->data_bytes + header.len, err) < 0)
		return -LEM_E_IO;
	w->f = fopen(tmp, "we");
	if (!w->f)
		return lem_fail_errno(err, errno, "cannot create %s", tmp);
	setvbuf(w->f, NULL, _IOFBF, 1 << 20);
	r = write_all(w, p, &header);
	int saved = errno;

	fclose(w->f);
	if (r == 0 && rename(tmp, path) == 0) {
		fs_sync_parent(path);
		return 0;
	}
	if (r == 0)
		saved = errno;
	unlink(tmp);
	if (r == 1)
		return lem_fail(err, LEM_E_INTERRUPTED, "interrupted while making %s", path);
	return lem_fail_errno(err, saved, "cannot write the model %s", path);
}

int gguf_synthesize(const struct model_shape *shape, const char *quant, uint64_t seed,
		    const char *path, weights_progress_fn progress, void *arg,
		    struct lem_error *err)
{
	struct plan p = {.s = shape};
	struct writer w = {.progress = progress, .arg = arg};
	int r;

	if (choose_type(quant, &p, err) < 0 || check_shape(&p, err) < 0)
		return -LEM_E_REFUSED;
	plan_tensors(&p);
	rand_seed(&w.rand, seed ^ UINT64_C(0x6c656d));
	w.pool = lem_calloc(POOL, sizeof(*w.pool));
	w.row = lem_calloc(
		(size_t)MAX(MAX(shape->n_embd, shape->n_ff), shape->n_head * shape->head_dim),
		sizeof(*w.row));
	w.bytes = lem_calloc(
		(size_t)MAX(MAX(shape->n_embd, shape->n_ff), shape->n_head * shape->head_dim), 4);
	fill_pool(&w);
	r = write_file(&p, seed, path, &w, err);
	free(w.pool);
	free(w.row);
	free(w.bytes);
	vec_release(&p.tensors);
	return r;
}
