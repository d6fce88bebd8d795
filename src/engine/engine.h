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
	/* Absolute: a GGUF file, or a folder with config.json. Of a MODEL_HF engine also the id of
	 * a model on the hub. shape->weights SYNTHETIC: there are no weights beside config.json. */
	const char *model_path;
	const char *program_dir; /* where lem's own workers lie, on this host */
	bool in_container;       /* argv and paths are those inside; binds bring them there */
	const char *hf_cache;    /* this host's HF_HOME (…/huggingface); NULL: none to bind */
	bool model_cached;       /* model_path is a hub id, and all of it lies in hf_cache */
	const char *hf_token; /* lem's own HF_TOKEN for a container that must fetch; NULL: none */
	const char *home_dir; /* for ~ in paths of the config; NULL: not known */
	const char *base_dir; /* absolute: where relative paths of the config start */
	/* Where files of the launch spec are put on this host, absolute; need not exist yet. */
	const char *scratch_dir;
	int port; /* a free one of this host, for a server that listens on it; 0: its default */
	int threads_default; /* threads to use when the config does not say */
};

/* How a server is asked for the ids of a text, at /tokenize beside /v1. */
enum engine_tokenize {
	TOKENIZE_NOT,   /* it has no such endpoint */
	TOKENIZE_VLLM,  /* load/tokenize.h; SGLang too */
	TOKENIZE_LLAMA, /* llama-server */
	TOKENIZE_ANY,   /* not known which server it is: found out by asking */
};

/* Paths of a server beside /v1; NULL: it has none. */
struct engine_http {
	const char *health;  /* answers 200 once it is up; that it can generate is asked apart */
	const char *version; /* JSON with the version in a member of the name below */
	const char *version_member; /* NULL: "version" */
	const char *metrics;        /* its own metrics, as text */
	const char *options;        /* JSON: the options it resolved */
	enum engine_tokenize tokenize;
	/* It ends the connection after a streamed answer, though it promises otherwise: lem asks
	 * for just that, so that no request crosses the end. */
	bool closes;
};

/* What model_name must become before launch(). */
enum model_form {
	MODEL_GGUF,   /* weights_resolve() */
	MODEL_HF,     /* weights_resolve_hf() */
	MODEL_SERVED, /* a name that a running server knows it by */
};

struct engine_ops {
	enum backend backend;
	const char *name; /* in results; as backend_name() spells it, but for a second one of a
			     backend */
	/* A backend may have two engines (llama.cpp: embedded, and its server); NULL: takes all
	 * that the others of its backend do not. Pure. */
	bool (*takes)(const struct experiment *exp);
	enum model_form model;
	/* Pure; any thread; never blocks. Strings of ret live in a. LEM_E_REFUSED when the config
	 * asks for what this engine cannot do. */
	int (*launch)(const struct engine_request *req, struct arena *a, struct launch_spec *ret,
		      struct lem_error *err);
	/* How results name the way of working: "offline/static", … Static string. */
	const char *(*mode)(const struct experiment *exp);
	/* On a host it is started from its image; false: its worker lies beside lem. */
	bool needs_container;
	/* MODEL_GGUF: it turns every token into text, so a synthetic model is made with a
	 * vocabulary. */
	bool needs_vocabulary;
	const struct engine_http *http; /* of CHANNEL_HTTP; NULL: it speaks workers/PROTOCOL.md */
};

/* The one that an experiment asks for; NULL when this version cannot start it. */
const struct engine_ops *engine_for(const struct experiment *exp);
/* The first of a backend: what it does with a model is the same for all. NULL as above. */
const struct engine_ops *engine_find(enum backend backend);
/* "llamacpp, …" for messages; static string. */
const char *engine_names(void);

extern const struct engine_ops engine_pytorch, engine_vllm, engine_tensorrt, engine_sglang,
	engine_llamacpp, engine_llama_server, engine_openai;

#endif
