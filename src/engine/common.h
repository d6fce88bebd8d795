/*
 * common.h — what the engine files share: lists of words for argv, env and binds, the model's way
 * into a container, the environment, the container's own settings. Pure.
 */
#ifndef LEM_ENGINE_COMMON_H
#define LEM_ENGINE_COMMON_H

#include "base/jsonw.h"
#include "engine/engine.h"

enum { SERVER_STOP_GRACE_S = 60 };

/* Where things lie in a container. */
#define IN_LEM      "/lem"             /* lem's own programs and files */
#define IN_MODELS   "/models"          /* the model, its adapter, its draft model */
#define IN_HF_CACHE "/lem/huggingface" /* HF_HOME; /root would be closed to another user */

/* A growing list of strings in an arena. */
struct words {
	struct arena *a;
	const char **at;
	size_t n, cap;
};
void words_add(struct words *w, const char *word);
void words_addf(struct words *w, const char *fmt, ...) _printf_(2, 3);
/* Two words: the flag and its value. */
void words_opt(struct words *w, const char *flag, const char *fmt, ...) _printf_(3, 4);
void words_flag(struct words *w, const char *flag, bool on); /* nothing when off */
const char *const *words_end(struct words *w);               /* NULL-terminated, never NULL */

/* What one launch collects. */
struct launch_draft {
	const struct engine_request *req;
	struct arena *a;
	struct words argv, env, binds;
	bool of_hub;   /* something comes from the hub or its cache */
	bool to_fetch; /* and may not be on this machine yet */
	struct lem_error *err;
};
#define LAUNCH_DRAFT(r, arena, e)                                                        \
	{                                                                                \
		.req = (r), .a = (arena), .argv = {.a = (arena)}, .env = {.a = (arena)}, \
		.binds = {.a = (arena)}, .err = (e)                                      \
	}

/* A string without its JSON quoting; everything else as it is written. */
const char *engine_plain_text(const char *json, struct arena *a);

/* The model as the engine is told: a hub id, or a folder; in a container the folder inside, with
 * its bind. Adds the Hugging Face cache and HF_HUB_OFFLINE where they belong. */
const char *engine_model(struct launch_draft *d);
/* An adapter or a draft model: a path when it looks like one (begins with / . or ~), else a hub id.
 * NULL after an error. */
const char *engine_second_model(struct launch_draft *d, const char *name, const char *what);

/* A path of the config: relative ones start at the file's folder, ~ is the home folder. NULL after
 * an error. */
const char *engine_host_path(struct launch_draft *d, const char *path);

/* No weights on disk: they must be made up by the engine. */
bool engine_dummy_weights(const struct engine_request *req);

/* extra_args of the config: --key value; true gives the flag alone, false --no-key where the
 * engine's parser knows that (else it is refused), a list its items, a map its JSON. dash: the
 * engine spells options with - instead of _. */
int engine_extra_args(struct launch_draft *d, const struct kv_list *extra, char dash, bool has_no);

/* The rest of every launch: environment (the engine's, then the config's; what routes the GPUs is
 * src/run's affair), secrets, and in a container image, binds and the section docker. image NULL:
 * the engine has no image of its own, docker.image must name one. */
int engine_finish(struct launch_draft *d, const char *image, struct launch_spec *ret);

/* The address a server listens on, its port, and how long it may take. */
void engine_listen(struct launch_draft *d, int port, double load_timeout_s,
		   double request_timeout_s, struct launch_spec *ret);

/* "server/open", "server/closed", "offline/continuous", "offline/streaming". */
const char *engine_http_mode(const struct experiment *e);

#endif
