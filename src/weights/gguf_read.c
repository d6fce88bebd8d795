#include <sys/stat.h>

#include "weights/gguf_stream.h"
#include "weights/weights.h"

enum { KEYS_MAX = 1 << 20, TENSORS_MAX = 1 << 20, DIMS_MAX = 4 };
/* No size that describes a transformer comes near; products of two then fit 64 bits. */
#define SIZE_LIMIT (INT64_C(1) << 31)

/* Numbers of llama.cpp's enum llama_ftype (general.file_type). */
static const char *ftype_name(int64_t ftype)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {{0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},    {7, "Q8_0"},
		     {8, "Q5_0"},    {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"}, {12, "Q3_K_M"},
		     {13, "Q3_K_L"}, {14, "Q4_K_S"}, {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},
		     {18, "Q6_K"},   {32, "BF16"}};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (names[i].number == ftype)
			return names[i].name;
	return NULL;
}

/* Elements a block and bytes a block of the tensor types that lem knows (ggml-common.h). */
static const struct tensor_type {
	enum ggml_tensor_type type;
	const char *name;
	uint32_t block, bytes;
} tensor_types[] = {
	{TENSOR_F32, "F32", 1, 4},           {TENSOR_F16, "F16", 1, 2},
	{TENSOR_BF16, "BF16", 1, 2},         {TENSOR_Q4_0, "Q4_0", 32, 18},
	{TENSOR_Q4_1, "Q4_1", 32, 20},       {TENSOR_Q5_0, "Q5_0", 32, 22},
	{TENSOR_Q5_1, "Q5_1", 32, 24},       {TENSOR_Q8_0, "Q8_0", 32, 34},
	{TENSOR_Q2_K, "Q2_K", 256, 84},      {TENSOR_Q3_K, "Q3_K", 256, 110},
	{TENSOR_Q4_K, "Q4_K", 256, 144},     {TENSOR_Q5_K, "Q5_K", 256, 176},
	{TENSOR_Q6_K, "Q6_K", 256, 210},     {TENSOR_IQ4_NL, "IQ4_NL", 32, 18},
	{TENSOR_IQ4_XS, "IQ4_XS", 256, 136}, {TENSOR_MXFP4, "MXFP4", 32, 17},
};

static const struct tensor_type *tensor_type(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_LEN(tensor_types); i++)
		if (tensor_types[i].type == type)
			return &tensor_types[i];
	return NULL;
}

/* What a header says, gathered before it is judged. */
struct header {
	struct model_shape s;
	uint64_t alignment, n_shared;
	uint64_t data_end; /* of the furthest tensor, from the data's begin */
	uint64_t elements[ARRAY_LEN(tensor_types)]; /* by type, to find the dominant one */
	bool has_output, too_large, split;
};

/* Numbers of the model: "ARCHITECTURE.suffix". */
static void take_size(struct header *h, const char *suffix, int64_t n)
{
	static const struct {
		const char *suffix;
		size_t offset;
	} sizes[] = {
		{"block_count", offsetof(struct header, s.n_layer)},
		{"embedding_length", offsetof(struct header, s.n_embd)},
		{"feed_forward_length", offsetof(struct header, s.n_ff)},
		{"attention.head_count", offsetof(struct header, s.n_head)},
		{"attention.head_count_kv", offsetof(struct header, s.n_head_kv)},
		{"attention.key_length", offsetof(struct header, s.head_dim)},
		{"attention.sliding_window", offsetof(struct header, s.n_swa)},
		{"vocab_size", offsetof(struct header, s.n_vocab)},
		{"context_length", offsetof(struct header, s.n_ctx_train)},
		{"expert_count", offsetof(struct header, s.n_expert)},
		{"expert_used_count", offsetof(struct header, s.n_expert_used)},
		{"expert_feed_forward_length", offsetof(struct header, s.n_ff_expert)},
		{"expert_shared_feed_forward_length", offsetof(struct header, s.n_ff_shared)},
		{"expert_shared_count", offsetof(struct header, n_shared)},
		{"leading_dense_block_count", offsetof(struct header, s.n_layer_dense)},
	};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		if (str_eq(suffix, sizes[i].suffix)) {
			h->too_large |= n < 0 || n > SIZE_LIMIT;
			memcpy((char *)h + sizes[i].offset, &n, sizeof(n));
		}
}

static void take_text(struct model_shape *s, const char *key, const char *text)
{
	if (str_eq(key, "general.architecture"))
		lem_strlcpy(s->architecture, text, sizeof(s->architecture));
	else if (str_eq(key, "general.name"))
		lem_strlcpy(s->name, text, sizeof(s->name));
	else if (str_eq(key, "tokenizer.ggml.model"))
		s->has_tokenizer = !str_eq(text, "no_vocab") && !str_eq(text, "none");
	else if (str_eq(key, "lem.weights"))
		s->weights = str_eq(text, "synthetic") ? WEIGHTS_SYNTHETIC : WEIGHTS_REAL;
}

/* general.architecture is the first key of every file seen, so that other prefixes (an image
 * encoder's sizes) can be told from the model's own. */
static void take_key(struct header *h, const char *key, const struct gguf_value *v)
{
	size_t n = strlen(h->s.architecture);

	if (v->is_text) {
		take_text(&h->s, key, v->text);
		return;
	}
	if (!v->is_number)
		return;
	if (str_eq(key, "general.alignment"))
		h->alignment = (uint64_t)v->number;
	else if (str_eq(key, "split.count"))
		h->split = v->number > 1;
	else if (str_eq(key, "general.file_type") && ftype_name(v->number))
		lem_strlcpy(h->s.quant, ftype_name(v->number), sizeof(h->s.quant));
	else if (n && str_starts(key, h->s.architecture) && key[n] == '.')
		take_size(h, key + n + 1, v->number);
}

static bool count_elements(struct gguf_stream *r, const char *name, const uint64_t *dims,
			   uint64_t *ret)
{
	uint64_t n = 1;

	for (int i = 0; i < DIMS_MAX; i++)
		if (__builtin_mul_overflow(n, dims[i], &n) || n > UINT64_C(1) << 48) {
			gguf_bad(r, "tensor %s is impossibly large", name);
			return false;
		}
	*ret = n;
	return true;
}

/* A tensor's data must lie in the file; the place of a type unknown to lem is checked by its first
 * byte only. */
static bool place_tensor(struct gguf_stream *r, struct header *h, const char *name, uint32_t type,
			 uint64_t n, uint64_t offset)
{
	const struct tensor_type *t = tensor_type(type);
	uint64_t bytes = t ? (n + t->block - 1) / t->block * t->bytes : 1, end;

	if (__builtin_add_overflow(offset, bytes, &end) || end > r->left) {
		gguf_bad(r, "it ends before the data of tensor %s", name);
		return false;
	}
	h->data_end = MAX(h->data_end, end);
	if (t)
		h->elements[t - tensor_types] += n;
	return true;
}

static bool take_tensor(struct gguf_stream *r, struct header *h)
{
	char name[128];
	uint32_t n_dims, type;
	uint64_t dims[DIMS_MAX] = {1, 1, 1, 1}, offset, n;

	if (!gguf_take_text(r, name, sizeof(name)) || !GGUF_TAKE(r, n_dims))
		return false;
	if (n_dims > DIMS_MAX) {
		gguf_bad(r, "tensor %s has %u dimensions", name, n_dims);
		return false;
	}
	for (uint32_t i = 0; i < n_dims; i++)
		if (!GGUF_TAKE(r, dims[i]))
			return false;
	if (!GGUF_TAKE(r, type) || !GGUF_TAKE(r, offset) || !count_elements(r, name, dims, &n) ||
	    !place_tensor(r, h, name, type, n, offset))
		return false;
	h->s.n_params += (int64_t)n; /* at most 2^48 each, 2^14 of that size before the sum wraps */
	if (h->s.n_params > INT64_C(1) << 60) {
		gguf_bad(r, "its tensors are impossibly large");
		return false;
	}
	h->has_output |= str_eq(name, "output.weight");
	h->s.gated_mlp |= str_starts(name, "blk.0.ffn_gate");
	if (str_eq(name, "token_embd.weight") && n_dims == 2 && !h->s.n_vocab)
		h->s.n_vocab = (int64_t)dims[1];
	return true;
}

static int read_counts(struct gguf_stream *r, uint64_t *ret_tensors, uint64_t *ret_keys)
{
	char magic[4];
	uint32_t version;

	if (!gguf_take(r, magic, 4))
		return -LEM_E_PARSE;
	if (memcmp(magic, GGUF_MAGIC, 4) != 0)
		return gguf_bad(r, "it does not begin with 'GGUF'");
	if (!GGUF_TAKE(r, version))
		return -LEM_E_PARSE;
	if (version && !(version & 0xffff))
		return gguf_bad(r, "it is big endian");
	if (version != 2 && version != 3)
		return gguf_bad(r, "version %u is not supported (2 and 3 are)", version);
	if (!GGUF_TAKE(r, *ret_tensors) || !GGUF_TAKE(r, *ret_keys))
		return -LEM_E_PARSE;
	if (*ret_tensors > TENSORS_MAX || *ret_keys > KEYS_MAX)
		return gguf_bad(r, "it claims %" PRIu64 " tensors and %" PRIu64 " keys",
				*ret_tensors, *ret_keys);
	return 0;
}

static int read_header(struct gguf_stream *r, struct header *h)
{
	char key[256];
	uint32_t type;
	uint64_t n_tensors, n_keys;
	struct gguf_value v;

	if (read_counts(r, &n_tensors, &n_keys) < 0)
		return -LEM_E_PARSE;
	for (uint64_t i = 0; i < n_keys; i++) {
		if (!gguf_take_text(r, key, sizeof(key)) || !GGUF_TAKE(r, type) ||
		    !gguf_take_value(r, type, &v))
			return -LEM_E_PARSE;
		take_key(h, key, &v);
	}
	for (uint64_t i = 0; i < n_tensors; i++)
		if (!take_tensor(r, h))
			return -LEM_E_PARSE;
	return 0;
}

/* The data begins at the next multiple of the alignment after the header. */
static int check_data(struct gguf_stream *r, const struct header *h, uint64_t file_bytes)
{
	uint64_t begin = file_bytes - r->left, align = h->alignment;

	if (!align || align > 1 << 20)
		return gguf_bad(r, "its alignment is %" PRIu64 " bytes", align);
	begin = (begin + align - 1) / align * align;
	if (h->data_end && (begin > file_bytes || h->data_end > file_bytes - begin))
		return gguf_bad(r,
				"it is cut off: %" PRIu64 " bytes instead of %" PRIu64 " or more",
				file_bytes, begin + h->data_end);
	return 0;
}

/* How many layers of a sliding-window model see everything. The file does not say; these are the
 * patterns of the published models (2 of gpt-oss and Gemma 2, 6 of Gemma 3, 4 of Cohere 2). */
static int64_t full_layers(const struct model_shape *s)
{
	static const struct {
		const char *architecture;
		int64_t every;
	} patterns[] = {{"gemma2", 2}, {"gemma3", 6}, {"gpt-oss", 2}, {"cohere2", 4}};

	for (size_t i = 0; i < ARRAY_LEN(patterns); i++)
		if (str_eq(s->architecture, patterns[i].architecture))
			return s->n_layer / patterns[i].every;
	return 0;
}

static void complete(struct header *h, uint64_t file_bytes)
{
	struct model_shape *s = &h->s;
	size_t most = 0;

	s->size_bytes = file_bytes;
	if (h->split)
		s->n_params = 0; /* the other files hold the rest of the tensors */
	s->tied_embeddings = !h->has_output;
	if (!s->n_head_kv)
		s->n_head_kv = s->n_head;
	if (!s->head_dim && s->n_head)
		s->head_dim = s->n_embd / s->n_head;
	if (!s->n_ff_shared && h->n_shared)
		s->n_ff_shared = (int64_t)h->n_shared * s->n_ff_expert;
	s->n_layer_full = s->n_swa ? full_layers(s) : 0;
	for (size_t i = 1; i < ARRAY_LEN(tensor_types); i++)
		if (h->elements[i] > h->elements[most])
			most = i;
	if (!s->quant[0] && h->elements[most])
		lem_strlcpy(s->quant, tensor_types[most].name, sizeof(s->quant));
}

int gguf_read_shape(const char *path, struct model_shape *ret, struct lem_error *err)
{
	_cleanup_fclose_ FILE *f = NULL;
	struct header h = {.s.weights = WEIGHTS_REAL, .alignment = GGUF_ALIGNMENT};
	struct lem_error own;
	struct stat st;

	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read as little endian");
	/* first what it is, because opening a pipe would wait for a writer */
	if (stat(path, &st) < 0)
		return lem_fail_errno(err, errno, "cannot open the model %s", path);
	if (!S_ISREG(st.st_mode))
		return lem_fail(err, LEM_E_PARSE, "the model %s is not a file", path);
	f = fopen(path, "re");
	if (!f || fstat(fileno(f), &st) < 0)
		return lem_fail_errno(err, errno, "cannot open the model %s", path);
	struct gguf_stream r = {
		.f = f, .left = (uint64_t)st.st_size, .path = path, .err = err ? err : &own};

	if (read_header(&r, &h) < 0 || check_data(&r, &h, (uint64_t)st.st_size) < 0)
		return -LEM_E_PARSE;
	if (!h.s.n_layer || !h.s.n_embd || !h.s.n_head)
		return gguf_bad(
			&r, "it does not describe a language model (no layers, width or heads)");
	if (h.too_large || h.s.n_vocab > SIZE_LIMIT)
		return gguf_bad(&r, "it describes a model of impossible size");
	complete(&h, (uint64_t)st.st_size);
	*ret = h.s;
	return 0;
}
