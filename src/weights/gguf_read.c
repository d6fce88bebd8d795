#include <fcntl.h>
#include <sys/stat.h>

#include "weights/gguf.h"
#include "weights/weights.h"

/*
 * Reads the header through a buffered, counted stream: nothing is trusted, every length is held
 * against the bytes that the file still has, and what is not needed (vocabularies) is skipped
 * without being read into memory.
 */
struct reader {
	FILE *f;
	uint64_t left; /* bytes of the file not consumed */
	const char *path;
	struct lem_error *err;
	bool failed;
};

enum {
	KEYS_MAX = 1 << 20,
	TENSORS_MAX = 1 << 20,
	NAME_MAX_BYTES = 65535,
	DIMS_MAX = 4,
	ARRAY_DEPTH = 4
};

static int bad(struct reader *r, const char *fmt, ...) _printf_(2, 3);
static int bad(struct reader *r, const char *fmt, ...)
{
	char buf[200];
	va_list ap;

	if (r->failed)
		return -LEM_E_PARSE;
	r->failed = true;
	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	lem_fail(r->err, LEM_E_PARSE, "not a usable GGUF file: %s", buf);
	lem_error_where(r->err, "%s", r->path);
	return lem_error_fix(r->err, "fetch or make the model file again; it may be truncated");
}

static bool take(struct reader *r, void *buf, size_t n)
{
	if (r->failed || n > r->left || fread(buf, 1, n, r->f) != n) {
		bad(r, "it ends in the middle of its header");
		return false;
	}
	r->left -= n;
	return true;
}

static bool skip(struct reader *r, uint64_t n)
{
	if (r->failed || n > r->left || fseeko(r->f, (off_t)n, SEEK_CUR) < 0) {
		bad(r, "it ends in the middle of its header");
		return false;
	}
	r->left -= n;
	return true;
}

/* Little endian, as all hosts that lem runs on are (checked once in gguf_read_shape). */
#define TAKE(r, v) take((r), &(v), sizeof(v))

static bool take_string(struct reader *r, char *buf, size_t size)
{
	uint64_t n;

	if (!TAKE(r, n))
		return false;
	if (n > r->left) {
		bad(r, "a text of %" PRIu64 " bytes is longer than the file", n);
		return false;
	}
	size_t keep = (size_t)MIN(n, (uint64_t)size - 1);

	buf[keep] = '\0';
	return take(r, buf, keep) && skip(r, n - keep);
}

static size_t scalar_size(uint32_t type)
{
	static const uint8_t sizes[GGUF_TYPE_COUNT] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

	return type < GGUF_TYPE_COUNT ? sizes[type] : 0;
}

/* A value as integer or text; of an array the first element (per-layer lists hold equal ones). */
struct value {
	bool is_number, is_text;
	int64_t number;
	char text[128];
};

static bool take_number(struct reader *r, uint32_t type, struct value *v)
{
	uint8_t raw[8] = {0};
	size_t n = scalar_size(type);
	float f32;
	double f64;

	if (!take(r, raw, n))
		return false;
	v->is_number = true;
	switch (type) {
	case GGUF_I8: v->number = (int8_t)raw[0]; break;
	case GGUF_I16: v->number = (int16_t)(raw[0] | raw[1] << 8); break;
	case GGUF_I32: {
		int32_t i;
		memcpy(&i, raw, 4);
		v->number = i;
		break;
	}
	case GGUF_F32:
		memcpy(&f32, raw, 4);
		v->number = f32 > -1e15f && f32 < 1e15f ? (int64_t)f32 : 0;
		break;
	case GGUF_F64:
		memcpy(&f64, raw, 8);
		v->number = f64 > -1e15 && f64 < 1e15 ? (int64_t)f64 : 0;
		break;
	default: memcpy(&v->number, raw, 8); break;
	}
	return true;
}

static bool take_value(struct reader *r, uint32_t type, struct value *v, int depth);

static bool take_array(struct reader *r, struct value *v, int depth)
{
	uint32_t type;
	uint64_t n;
	struct value rest;

	if (!TAKE(r, type) || !TAKE(r, n))
		return false;
	if (n > r->left || depth > ARRAY_DEPTH) {
		bad(r, "a list of %" PRIu64 " entries cannot be in it", n);
		return false;
	}
	if (n && !take_value(r, type, v, depth + 1))
		return false;
	if (n && scalar_size(type))
		return skip(r, (n - 1) * scalar_size(type));
	for (uint64_t i = 1; i < n; i++)
		if (!take_value(r, type, &rest, depth + 1))
			return false;
	return true;
}

static bool take_value(struct reader *r, uint32_t type, struct value *v, int depth)
{
	*v = (struct value){0};
	if (type == GGUF_STRING) {
		v->is_text = true;
		return take_string(r, v->text, sizeof(v->text));
	}
	if (type == GGUF_ARRAY)
		return take_array(r, v, depth);
	if (scalar_size(type))
		return take_number(r, type, v);
	bad(r, "a value has the unknown type %u", type);
	return false;
}

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
	return "other";
}

/* Keys whose names start with the architecture are kept here until it is known to match. */
static void take_key(struct model_shape *s, const char *key, const struct value *v)
{
	static const struct {
		const char *suffix;
		size_t offset;
	} numbers[] = {
		{".block_count", offsetof(struct model_shape, n_layer)},
		{".embedding_length", offsetof(struct model_shape, n_embd)},
		{".feed_forward_length", offsetof(struct model_shape, n_ff)},
		{".attention.head_count", offsetof(struct model_shape, n_head)},
		{".attention.head_count_kv", offsetof(struct model_shape, n_head_kv)},
		{".attention.key_length", offsetof(struct model_shape, head_dim)},
		{".vocab_size", offsetof(struct model_shape, n_vocab)},
		{".context_length", offsetof(struct model_shape, n_ctx_train)},
		{".expert_count", offsetof(struct model_shape, n_expert)},
		{".expert_used_count", offsetof(struct model_shape, n_expert_used)},
		{".expert_feed_forward_length", offsetof(struct model_shape, n_ff_expert)},
	};

	for (size_t i = 0; i < ARRAY_LEN(numbers) && v->is_number; i++)
		if (str_ends(key, numbers[i].suffix) && strchr(key, '.') && v->number > 0)
			memcpy((char *)s + numbers[i].offset, &v->number, sizeof(v->number));
	if (str_eq(key, "general.file_type") && v->is_number)
		lem_strlcpy(s->quant, ftype_name(v->number), sizeof(s->quant));
	if (!v->is_text)
		return;
	if (str_eq(key, "general.architecture"))
		lem_strlcpy(s->architecture, v->text, sizeof(s->architecture));
	else if (str_eq(key, "general.name"))
		lem_strlcpy(s->name, v->text, sizeof(s->name));
	else if (str_eq(key, "tokenizer.ggml.model"))
		s->has_tokenizer = !str_eq(v->text, "no_vocab") && !str_eq(v->text, "none");
	else if (str_eq(key, "lem.weights"))
		s->weights = str_eq(v->text, "synthetic") ? WEIGHTS_SYNTHETIC : WEIGHTS_REAL;
}

static bool take_tensor(struct reader *r, struct model_shape *s, bool *has_output)
{
	char name[128];
	uint32_t n_dims, type;
	uint64_t dims[DIMS_MAX] = {1, 1, 1, 1}, offset, n = 1;

	if (!take_string(r, name, sizeof(name)) || !TAKE(r, n_dims))
		return false;
	if (n_dims > DIMS_MAX) {
		bad(r, "tensor %s has %u dimensions", name, n_dims);
		return false;
	}
	for (uint32_t i = 0; i < n_dims; i++)
		if (!TAKE(r, dims[i]))
			return false;
	for (uint32_t i = 0; i < n_dims; i++)
		if (__builtin_mul_overflow(n, dims[i], &n) || n > (UINT64_C(1) << 50)) {
			bad(r, "tensor %s is impossibly large", name);
			return false;
		}
	s->n_params += (int64_t)n;
	*has_output |= str_eq(name, "output.weight");
	s->gated_mlp |= str_starts(name, "blk.0.ffn_gate");
	if (str_eq(name, "token_embd.weight") && n_dims == 2 && !s->n_vocab)
		s->n_vocab = (int64_t)dims[1];
	return TAKE(r, type) && TAKE(r, offset);
}

static int read_header(struct reader *r, struct model_shape *s)
{
	char magic[4], key[256];
	uint32_t version, type;
	uint64_t n_tensors, n_keys;
	struct value v;
	bool has_output = false;

	if (!take(r, magic, 4))
		return -LEM_E_PARSE;
	if (memcmp(magic, GGUF_MAGIC, 4) != 0)
		return bad(r, "it does not begin with 'GGUF'");
	if (!TAKE(r, version))
		return -LEM_E_PARSE;
	if (version != 2 && version != 3)
		return bad(r, "version %u is not supported (2 and 3, little endian, are)", version);
	if (!TAKE(r, n_tensors) || !TAKE(r, n_keys))
		return -LEM_E_PARSE;
	if (n_tensors > TENSORS_MAX || n_keys > KEYS_MAX)
		return bad(r, "it claims %" PRIu64 " tensors and %" PRIu64 " keys", n_tensors,
			   n_keys);
	for (uint64_t i = 0; i < n_keys; i++) {
		if (!take_string(r, key, sizeof(key)) || !TAKE(r, type) ||
		    !take_value(r, type, &v, 0))
			return -LEM_E_PARSE;
		take_key(s, key, &v);
	}
	for (uint64_t i = 0; i < n_tensors; i++)
		if (!take_tensor(r, s, &has_output))
			return -LEM_E_PARSE;
	s->tied_embeddings = !has_output;
	return 0;
}

int gguf_read_shape(const char *path, struct model_shape *ret, struct lem_error *err)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	struct model_shape s = {.weights = WEIGHTS_REAL};
	struct lem_error own;
	struct stat st;

	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF is read as little endian");
	if (!f || fstat(fileno(f), &st) < 0)
		return lem_fail_errno(err, errno, "cannot open the model %s", path);
	if (!S_ISREG(st.st_mode))
		return lem_fail(err, LEM_E_PARSE, "the model %s is not a file", path);
	struct reader r = {
		.f = f, .left = (uint64_t)st.st_size, .path = path, .err = err ? err : &own};

	if (read_header(&r, &s) < 0)
		return -LEM_E_PARSE;
	s.size_bytes = (uint64_t)st.st_size;
	if (!s.n_head_kv)
		s.n_head_kv = s.n_head;
	if (!s.head_dim && s.n_head)
		s.head_dim = s.n_embd / s.n_head;
	if (!s.n_layer || !s.n_embd || !s.n_head)
		return bad(&r, "it does not describe a language model (no layers, width or heads)");
	*ret = s;
	return 0;
}
