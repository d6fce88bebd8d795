/*
 * Models in Hugging Face's layout: a folder on this machine, the id of one on the hub, or a
 * synthetic one, which is a folder with nothing but config.json and a tokenizer made up: engines
 * invent the weights themselves.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/jsonw.h"
#include "sys/fs.h"
#include "weights/weights.h"

enum { CONFIG_MAX_BYTES = 8 << 20 };

char *weights_hf_home(void)
{
	const char *s;

	if ((s = getenv("HF_HOME")) && *s)
		return lem_strdup(s);
	if ((s = getenv("XDG_CACHE_HOME")) && *s)
		return fs_join(s, "huggingface");
	if ((s = getenv("HOME")) && *s)
		return fs_join(s, ".cache/huggingface");
	return NULL;
}

/* ---- what lies in a folder ---- */

static bool is_weights(const char *name)
{
	return str_ends(name, ".safetensors") ||
	       (str_ends(name, ".bin") && str_starts(name, "pytorch_model"));
}

static bool is_tokenizer(const char *name)
{
	return str_eq(name, "tokenizer.json") || str_eq(name, "tokenizer.model") ||
	       str_eq(name, "vocab.json");
}

/* Weights count by the bytes they have on disk; none at all makes the model synthetic. */
static void look_into(const char *folder, struct model_shape *s)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	s->weights = WEIGHTS_SYNTHETIC;
	while (d && (e = readdir(d))) {
		_cleanup_free_ char *path = fs_join(folder, e->d_name);
		struct stat st;

		if (is_tokenizer(e->d_name))
			s->has_tokenizer = true;
		if (!is_weights(e->d_name) || stat(path, &st) < 0)
			continue;
		s->weights = WEIGHTS_REAL;
		s->size_bytes += (uint64_t)st.st_size;
	}
	if (d)
		closedir(d);
}

static int read_folder(const char *folder, struct model_shape *ret, struct lem_error *err)
{
	_cleanup_free_ char *config = fs_join(folder, "config.json");
	struct model_shape s;
	int r;

	if (!fs_exists(config)) {
		lem_fail(err, LEM_E_REFUSED, "the model folder %s has no config.json", folder);
		return lem_error_fix(err, "name a folder in Hugging Face's layout");
	}
	r = hf_config_read_shape(config, &s, err);
	if (r < 0) {
		if (err)
			err->code = LEM_E_REFUSED; /* known before anything is launched */
		(void)lem_error_fix(err, "fetch the model again, or repair %s", config);
		return -LEM_E_REFUSED;
	}
	look_into(folder, &s);
	*ret = s;
	return 0;
}

static int resolve_folder(const char *path, struct weights_hf *ret, struct lem_error *err)
{
	struct model_shape s;
	int r = read_folder(path, &s, err);
	char *real;

	if (r < 0)
		return r;
	real = realpath(path, NULL);
	if (!real)
		return lem_fail_errno(err, errno, "cannot resolve %s", path);
	*ret = (struct weights_hf){.model = real, .shape = s};
	return 0;
}

/* ---- synthetic: config.json of a named shape, and a tokenizer with a word for each id ---- */

/* Of the shapes that lem knows by name; their numbers come from these models' own files. */
static void add_family(struct jsonw *w, const struct model_shape *s)
{
	bool gemma = str_eq(s->architecture, "gemma3"), qwen = str_eq(s->architecture, "qwen2");

	jsonw_array(w, "architectures");
	jsonw_str(w, NULL,
		  gemma  ? "Gemma3ForCausalLM"
		  : qwen ? "Qwen2ForCausalLM"
			 : "LlamaForCausalLM");
	jsonw_end_array(w);
	jsonw_str(w, "model_type", gemma ? "gemma3_text" : s->architecture);
	if (gemma) {
		jsonw_str(w, "hidden_activation", "gelu_pytorch_tanh");
		jsonw_i64(w, "query_pre_attn_scalar", s->head_dim);
		jsonw_i64(w, "sliding_window", s->n_swa);
		jsonw_array(w, "layer_types");
		for (int64_t i = 0; i < s->n_layer; i++)
			jsonw_str(w, NULL,
				  (i + 1) % (s->n_layer / s->n_layer_full) ? "sliding_attention"
									   : "full_attention");
		jsonw_end_array(w);
	} else {
		jsonw_str(w, "hidden_act", "silu");
	}
}

static void config_text(const struct model_shape *s, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 1);
	jsonw_object(&w, NULL);
	add_family(&w, s);
	jsonw_i64(&w, "num_hidden_layers", s->n_layer);
	jsonw_i64(&w, "hidden_size", s->n_embd);
	jsonw_i64(&w, "intermediate_size", s->n_ff);
	jsonw_i64(&w, "num_attention_heads", s->n_head);
	jsonw_i64(&w, "num_key_value_heads", s->n_head_kv);
	jsonw_i64(&w, "head_dim", s->head_dim);
	jsonw_i64(&w, "vocab_size", s->n_vocab);
	jsonw_i64(&w, "max_position_embeddings", s->n_ctx_train);
	jsonw_f64(&w, "rms_norm_eps", 1e-5);
	jsonw_bool(&w, "tie_word_embeddings", s->tied_embeddings);
	jsonw_i64(&w, "bos_token_id", 1);
	jsonw_i64(&w, "eos_token_id", 2);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}

/* Servers refuse to start without a tokenizer. Prompts are token ids all the same. */
static void tokenizer_text(int64_t n_vocab, struct str *out)
{
	struct jsonw w;
	char word[32];

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "version", "1.0");
	jsonw_object(&w, "pre_tokenizer");
	jsonw_str(&w, "type", "WhitespaceSplit");
	jsonw_end_object(&w);
	jsonw_object(&w, "model");
	jsonw_str(&w, "type", "WordLevel");
	jsonw_object(&w, "vocab");
	for (int64_t i = 0; i < n_vocab; i++) {
		(void)snprintf(word, sizeof(word), "t%" PRId64, i);
		jsonw_i64(&w, word, i);
	}
	jsonw_end_object(&w);
	jsonw_str(&w, "unk_token", "t0");
	jsonw_end_object(&w);
	jsonw_end_object(&w);
	str_addc(out, '\n');
}

static const char tokenizer_config[] = "{\"tokenizer_class\": \"PreTrainedTokenizerFast\", "
				       "\"unk_token\": \"t0\", \"bos_token\": \"t1\", "
				       "\"eos_token\": \"t2\"}\n";

static int put(const char *folder, const char *name, const char *text, size_t n,
	       struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(folder, name);

	return fs_write_atomic(path, text, n, err);
}

/* config.json last: a folder that has one is complete. The same text always, so that two at once do
 * each other no harm. */
static int make_folder(const char *folder, const struct str *config, int64_t n_vocab,
		       struct lem_error *err)
{
	_cleanup_free_ char *done = fs_join(folder, "config.json");
	_cleanup_str_ struct str tokenizer = STR_INIT;
	int r;

	if (fs_exists(done))
		return 0;
	tokenizer_text(n_vocab, &tokenizer);
	if ((r = fs_mkdirs(folder, err)) < 0 ||
	    (r = put(folder, "tokenizer.json", str_c(&tokenizer), tokenizer.len, err)) < 0 ||
	    (r = put(folder, "tokenizer_config.json", tokenizer_config, strlen(tokenizer_config),
		     err)) < 0)
		return r;
	return put(folder, "config.json", str_c(config), config->len, err);
}

/* The text of config.json for "llama-1b" or for the path of a config.json; a folder keeps its own
 * and needs none (*ret_folder). */
static int synthetic_config(const char *name, const char *base_dir, struct str *out,
			    char **ret_folder, struct model_shape *ret, struct lem_error *err)
{
	const struct model_shape *named = weights_named_shape(name);
	_cleanup_free_ char *path = fs_join(base_dir, name);
	int r;

	if (named) {
		*ret = *named;
		config_text(named, out);
		return 0;
	}
	if (fs_is_dir(path)) {
		*ret_folder = steal_ptr(path);
		return read_folder(*ret_folder, ret, err);
	}
	if (!str_ends(name, ".json") || !fs_exists(path)) {
		lem_fail(err, LEM_E_REFUSED, "there is no synthetic shape '%s'", name);
		return lem_error_fix(err, "use llama-15m, llama-160m, llama-1b, llama-3.1-8b, "
					  "qwen2.5-0.5b, gemma3-270m, or the path of a "
					  "config.json");
	}
	r = hf_config_read_shape(path, ret, err);
	return r < 0 ? r : fs_read_file(path, CONFIG_MAX_BYTES, out, err);
}

static char *synthetic_folder(const char *name, const struct str *config)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
	char hex[DIGEST_HEX_SIZE], slug[48];
	size_t n = 0;

	digest_bytes(str_c(config), config->len, hex);
	for (; *base && n + 1 < sizeof(slug); base++)
		slug[n++] = isalnum((unsigned char)*base) || strchr(".-", *base) ? *base : '-';
	slug[n] = '\0';
	return lem_asprintf("%s/models/hf-%s-%.12s", cache, slug, hex);
}

static int resolve_synthetic(const struct weights_request *q, bool plan, struct weights_hf *ret,
			     struct lem_error *err)
{
	const char *name = q->model_name + strlen("synthetic:"), *colon = strrchr(name, ':');
	_cleanup_str_ struct str config = STR_INIT;
	_cleanup_free_ char *folder = NULL;
	struct model_shape s;
	int r;

	if (colon && !strchr(colon, '/') && !str_ends(colon, ".json")) {
		lem_fail(err, LEM_E_REFUSED,
			 "'%s' asks for the GGUF quantisation %s, which this engine cannot make up",
			 q->model_name, colon + 1);
		return lem_error_fix(err, "leave it out: fp_precision is the type of the weights");
	}
	r = synthetic_config(name, q->base_dir, &config, &folder, &s, err);
	if (r < 0)
		return r;
	if (folder) { /* its weights, if it has any, are not read */
		r = resolve_folder(folder, ret, err);
		ret->shape.weights = WEIGHTS_SYNTHETIC;
		return r;
	}
	folder = synthetic_folder(name, &config);
	r = plan ? 0 : make_folder(folder, &config, s.n_vocab, err);
	if (r < 0)
		return r;
	s.weights = WEIGHTS_SYNTHETIC;
	s.has_tokenizer = false; /* what it calls words are not words */
	s.n_params = model_shape_params(&s);
	(void)snprintf(s.name, sizeof(s.name), "synthetic %.70s", name);
	*ret = (struct weights_hf){.absent = plan && !fs_exists(folder), .shape = s};
	ret->model = steal_ptr(folder);
	return 0;
}

/* ---- ids of the hub ---- */

/* "ORG/NAME" or "NAME": it becomes a path and part of a URL. */
static bool is_hub_id(const char *id)
{
	const char *slash = strchr(id, '/');

	return *id && id[0] != '/' && id[0] != '.' && !strstr(id, "..") && !str_ends(id, "/") &&
	       (!slash || !strchr(slash + 1, '/')) &&
	       !id[strspn(id,
			  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")];
}

/* huggingface_hub's layout: hub/models--ORG--NAME/refs/main names the snapshot. NULL: none. */
static char *snapshot_of(const char *hf_home, const char *id)
{
	_cleanup_str_ struct str root = STR_INIT;
	char revision[64];

	if (!hf_home)
		return NULL;
	str_addf(&root, "%s/hub/models--", hf_home);
	for (const char *p = id; *p; p++)
		str_add(&root, *p == '/' ? "--" : (const char[]){*p, '\0'});
	_cleanup_free_ char *ref = lem_asprintf("%s/refs/main", str_c(&root));

	if (!fs_read_line(ref, revision, sizeof(revision)) || strchr(revision, '/'))
		return NULL;
	return lem_asprintf("%s/snapshots/%s", str_c(&root), revision);
}

static int resolve_id(const struct weights_request *q, const char *hf_home, struct weights_hf *ret,
		      struct lem_error *err)
{
	const char *id = q->model_name + (str_starts(q->model_name, "hf:") ? 3 : 0);
	_cleanup_free_ char *snapshot = NULL;
	struct model_shape s = {0};

	if (!is_hub_id(id)) {
		lem_fail(err, LEM_E_REFUSED,
			 "there is no model folder '%s', and it is no id of the hub",
			 q->model_name);
		return lem_error_fix(err, "name a folder with config.json, an id such as "
					  "Qwen/Qwen2.5-0.5B, or synthetic:llama-1b");
	}
	snapshot = snapshot_of(hf_home, id);
	/* what is only on the hub is not looked at here: the engine fetches it */
	if (!snapshot || read_folder(snapshot, &s, NULL) < 0)
		s = (struct model_shape){.weights = WEIGHTS_REAL, .has_tokenizer = true};
	*ret = (struct weights_hf){.model = lem_strdup(id),
				   .cached = s.size_bytes > 0,
				   .absent = s.size_bytes == 0,
				   .shape = s};
	if (s.n_layer) /* a snapshot without weights is one that is not complete yet */
		ret->shape.weights = WEIGHTS_REAL;
	return 0;
}

int weights_resolve_hf(const struct weights_request *q, const char *hf_home, bool plan,
		       struct weights_hf *ret, struct lem_error *err)
{
	_cleanup_free_ char *path = fs_join(q->base_dir, q->model_name);

	if (str_starts(q->model_name, "synthetic:"))
		return resolve_synthetic(q, plan, ret, err);
	if (str_starts(q->model_name, "hf:"))
		return resolve_id(q, hf_home, ret, err);
	if (fs_is_dir(path))
		return resolve_folder(path, ret, err);
	if (fs_exists(path)) {
		lem_fail(err, LEM_E_REFUSED,
			 "the model %s is a file; this engine needs a folder with config.json",
			 path);
		return lem_error_fix(err,
				     "use backend: llamacpp for a GGUF file, or name the folder");
	}
	return resolve_id(q, hf_home, ret, err);
}
