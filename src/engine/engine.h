/*
 * engine.h — an engine is a pure function from a config to what must be started. It does no I/O, so
 * it is the same for a process, a container or a Slurm step. Adding one: a file here, a line in
 * registry.c, its option table in config, a contract test.
 */
#ifndef LEM_ENGINE_ENGINE_H
#define LEM_ENGINE_ENGINE_H

#include "base/arena.h"
#include "base/error.h"
#include "config/config.h"
#include "model/gpu_binding.h"
#include "model/launch_spec.h"
#include "model/model_shape.h"

/* What is known when the engine is asked; nothing in it is written to. */
struct engine_request {
	const struct experiment *exp;
	const struct model_shape *shape;   /* of the resolved model; fields may be 0 */
	const struct gpu_binding *binding; /* n 0: CPU */
	const char *model_path;            /* resolved, absolute */
	const char *program_dir;           /* where lem's own workers lie, on this host */
	bool in_container;    /* argv and paths are those inside; binds bring them there */
	const char *hf_cache; /* this host's Hugging Face cache folder; NULL: none to bind */
	int threads_default;  /* threads to use when the config does not say */
};

struct engine_ops {
	enum backend backend;
	const char *name; /* as backend_name() spells it */
	/* Pure; any thread; never blocks. Strings of ret live in a. LEM_E_REFUSED when the config
	 * asks for what this engine cannot do. */
	int (*launch)(const struct engine_request *req, struct arena *a, struct launch_spec *ret,
		      struct lem_error *err);
	/* How results name the way of working: "offline/static", … Static string. */
	const char *(*mode)(const struct experiment *exp);
	/* On a host it is started from its image; false: its worker lies beside lem. */
	bool needs_container;
};

/* NULL when this version cannot start that engine. */
const struct engine_ops *engine_find(enum backend backend);
/* "llamacpp, …" for messages; static string. */
const char *engine_names(void);

extern const struct engine_ops engine_llamacpp;

#endif
