/*
 * launch_spec.h — what to start, as pure data: an engine makes it from a config, a runner starts
 * it. All strings live in the arena it was made in.
 */
#ifndef LEM_MODEL_LAUNCH_SPEC_H
#define LEM_MODEL_LAUNCH_SPEC_H

#include "base/base.h"

enum engine_channel {
	CHANNEL_WORKER, /* speaks workers/PROTOCOL.md on stdin/stdout */
	CHANNEL_HTTP,   /* an HTTP server */
};

/* A file that the engine needs beside argv; argv and binds name it already. Whoever starts the spec
 * writes it before and removes it after. */
struct launch_file {
	const char *host_path; /* absolute; its folder may have to be made */
	const char *contents;
};

struct launch_spec {
	const char *engine; /* registry name: "llamacpp", … */
	enum engine_channel channel;
	const char *const
		*argv; /* NULL-terminated; argv[0] is an absolute path or looked up in PATH */
	const char *program_option; /* of the config, naming argv[0]; NULL: the section's worker */
	const char *const
		*env;    /* NULL-terminated "NAME=value", added to the inherited environment */
	const char *cwd; /* NULL: inherit */
	const char *load_json;   /* CHANNEL_WORKER: the `load` request, one line */
	int64_t load_timeout_ns; /* until `loaded`, or until a server has given a token */
	int64_t silence_ns;      /* CHANNEL_WORKER: it must say something within, while running;
				    CHANNEL_HTTP: an answer must be complete within */
	int64_t stop_grace_ns;   /* SIGTERM to SIGKILL */
	size_t gpus_needed;
	const struct launch_file *files; /* ends with a NULL host_path; NULL: none */

	/* For a container; unused by a process. Paths in argv are then paths inside it. */
	const char *image;          /* reference or digest */
	const char *pull;           /* "missing", "never", "always" */
	const char *entrypoint;     /* replaces the image's; NULL: the image's own takes argv */
	const char *const *binds;   /* NULL-terminated "host:container[:ro]" */
	const char *const *secrets; /* NULL-terminated names in env whose values are never shown */
	const char *network; /* "host", "none", a network's name; NULL: the default, with `port` */
	const char *user;    /* "UID[:GID]" or a name; NULL: the image's */
	int port;            /* the server's, inside; published on loopback unless network is
				"host"; 0: none */
	int64_t shm_bytes;   /* 0: the default for its GPUs */

	/* Set by src/run, after the engine: what every place needs. */
	const struct gpu_binding *binding; /* devices; its env already stands last in env */
	const char *run_id, *experiment;   /* for names and labels; NULL: none */
};

#endif
