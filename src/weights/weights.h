/*
 * weights.h — model files: find, describe, make. GGUF reading and writing, Hugging Face
 * config.json, named shapes, `hf:` downloads, `synthetic:` models.
 */
#ifndef LEM_WEIGHTS_WEIGHTS_H
#define LEM_WEIGHTS_WEIGHTS_H

#include "base/error.h"
#include "base/str.h"
#include "model/model_shape.h"

/* Shape from the header of a GGUF file: bounded reads, every length checked against the file. */
int gguf_read_shape(const char *path, struct model_shape *ret, struct lem_error *err);
/* Shape from a Hugging Face config.json (text_config first). */
int hf_config_read_shape(const char *path, struct model_shape *ret, struct lem_error *err);
/* Shape of whatever model_name names locally: GGUF, directory with config.json, config.json,
 * "synthetic:…". LEM_E_NOT_FOUND when it is not local. Matches config_shape_fn up to err. */
int weights_local_shape(const char *model_name, const char *base_dir, struct model_shape *ret,
			struct lem_error *err);

/* Progress of a download or of a synthesis; called at most ten times a second; false cancels. */
typedef bool (*weights_progress_fn)(void *arg, const char *what, uint64_t done, uint64_t total);

struct weights_request {
	const char *model_name; /* path | hf:ORG/REPO[:FILE] | synthetic:SHAPE[:QUANT] */
	const char *base_dir;   /* relative paths start here */
	const char *quant; /* for synthetic without :QUANT: "f16", "q8_0", "q4_0"; NULL = q8_0 */
	uint64_t seed;
	/* synthetic GGUF: with a made-up vocabulary, for a server that turns every token into text;
	 * a file of its own. Its words mean nothing: the shape still says has_tokenizer false. */
	bool vocabulary;
	weights_progress_fn progress;
	void *progress_arg;
};

/* Gives an absolute path of a readable model file; makes or downloads it into the cache if needed
 * ($LEM_CACHE_DIR, else $XDG_CACHE_HOME/lem, else ~/.cache/lem). */
int weights_resolve(const struct weights_request *req, char **ret_path,
		    struct model_shape *ret_shape, struct lem_error *err);

/* Where weights_resolve finds the file or would put it; makes and fetches nothing. *ret_there: it
 * is there now; *ret_shape is filled as far as it is known without it. */
int weights_locate(const struct weights_request *req, char **ret_path,
		   struct model_shape *ret_shape, bool *ret_there, struct lem_error *err);

/* A model in Hugging Face's layout, for engines that read those. */
struct weights_hf {
	char *model; /* malloc'ed: an absolute folder, or the id of a model on the hub */
	bool cached; /* an id, all of whose files lie in the hub's cache already */
	bool absent; /* not on this machine (yet): to be fetched by the engine, or made by a run */
	struct model_shape shape; /* weights SYNTHETIC: there are none, the engine makes them up */
};

/* model_name is a folder, an id of the hub ("hf:" before it may be left out), or synthetic:SHAPE,
 * for which a folder with config.json and a tokenizer is made in lem's cache; plan: only said where
 * it would be. Fetches nothing. hf_home: see below; NULL: no cache of the hub. */
int weights_resolve_hf(const struct weights_request *req, const char *hf_home, bool plan,
		       struct weights_hf *ret, struct lem_error *err);
/* $HF_HOME, else its default; NULL when no home folder is known; malloc'ed. */
char *weights_hf_home(void);

/* SHA-256 of a file; remembered in the cache by (path, size, mtime, inode). */
int weights_sha256(const char *path, char hex[65], struct lem_error *err);

/* Writes a GGUF with random weights, of a shape that has_tokenizer with a made-up vocabulary.
 * quant: "f16", "q8_0", "q4_0". Atomic: a crash leaves no half file. */
int gguf_synthesize(const struct model_shape *shape, const char *quant, uint64_t seed,
		    const char *path, weights_progress_fn progress, void *arg,
		    struct lem_error *err);
size_t weights_shape_count(void);
const struct model_shape *weights_named_shape(const char *name); /* NULL: no such name */
const struct model_shape *weights_shape_at(size_t i, const char **ret_name);

#endif
