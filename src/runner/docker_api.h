/*
 * docker_api.h — the calls of the Docker Engine API that lem makes, over the engine's socket
 * (routing.md section 14). Works with Podman's compatible socket. HTTP and errors: sys/rest.h. All
 * strings returned lie in the caller's arena.
 *
 * Errors: LEM_E_NOT_FOUND (404, or no socket), LEM_E_IO (the connection broke), LEM_E_TIMEOUT,
 * LEM_E_UNSUPPORTED (an engine too old), LEM_E_INTERRUPTED (cancel), LEM_E_ENGINE (the engine
 * answered 4xx or 5xx: `why` has its message; docker_last_status tells which). One thread per
 * handle.
 */
#ifndef LEM_RUNNER_DOCKER_API_H
#define LEM_RUNNER_DOCKER_API_H

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"

struct docker;

/*
 * host: "unix:///path", NULL for $DOCKER_HOST, else /var/run/docker.sock, rootless
 * $XDG_RUNTIME_DIR/docker.sock, Podman's sockets. Pings it and negotiates the version: the lower of
 * the server's and 1.51, at least 1.41. cancel_fd: readable ends any wait; -1: none.
 */
int docker_open(const char *host, int cancel_fd, struct docker **ret, struct lem_error *err);
void docker_close(struct docker *d); /* NULL is fine */
static inline void cleanup_docker(struct docker **d)
{
	docker_close(*d);
}
#define _cleanup_docker_ _cleanup_(cleanup_docker)

/* From now on: another cancel_fd, and no call goes on beyond until_ns (LEM_E_TIMEOUT); 0: no such
 * end. */
void docker_limit(struct docker *d, int cancel_fd, int64_t until_ns);

const char *docker_socket(const struct docker *d);      /* path of the socket */
long docker_last_status(const struct docker *d);        /* of the last call; 0: no answer */
const char *docker_api_version(const struct docker *d); /* the negotiated one: "1.45" */

struct docker_info {
	const char *server_version, *operating_system, *architecture, *root_dir;
	const char *cgroup_driver, *cgroup_version, *default_runtime;
	const char *const *runtimes;      /* NULL-terminated names */
	const char *const *cdi_spec_dirs; /* NULL-terminated; empty: CDI is off, or not told */
	bool cdi_listed;                  /* the engine tells its CDI devices */
	const char *const *cdi_devices;   /* NULL-terminated qualified names */
	const char *const *warnings;
	bool rootless, selinux, podman;
	int64_t n_cpus, memory_bytes;
};
/* Does it ignore device requests silently? Podman's compatible API did until 5.4.0
 * (containers/podman#25171; seen with 4.3.1: the container starts without the device). An unknown
 * version counts as old. */
bool docker_drops_requests(const struct docker_info *i);
int docker_info(struct docker *d, struct arena *a, struct docker_info *ret, struct lem_error *err);

struct docker_image {
	const char *id, *digest;       /* "sha256:…"; digest: of the repository, else NULL */
	const char *architecture, *os; /* "amd64", "linux" */
	const char *const *env;        /* NULL-terminated "NAME=value" */
	const char *const *entrypoint, *const *cmd; /* NULL-terminated */
	int64_t size_bytes;
};
/* LEM_E_NOT_FOUND: not on this host. */
int docker_image(struct docker *d, const char *ref, struct arena *a, struct docker_image *ret,
		 struct lem_error *err);

/* Pulls one tag (latest when none is written) or digest, without credentials. progress: layers'
 * bytes so far. */
int docker_pull(struct docker *d, const char *ref,
		void (*progress)(void *arg, const char *status, uint64_t done, uint64_t total),
		void *arg, struct lem_error *err);

int docker_create(struct docker *d, const char *name, const char *body_json, struct arena *a,
		  const char **ret_id, struct lem_error *err);
/* Bytes to and from the container's standard streams, over one connection of its own: what is
 * written is its stdin (when asked for), what is read are docker_frames.h frames; ret_first gets
 * what was already read. Before docker_start. */
int docker_attach(struct docker *d, const char *id, bool with_stdin, int *ret_fd,
		  struct str *ret_first, struct lem_error *err);
int docker_start(struct docker *d, const char *id, struct lem_error *err);

struct docker_state {
	const char *status; /* "created", "running", "exited", … */
	int64_t exit_code, pid;
	bool oom_killed;
	const char *error, *started_at, *finished_at;
	const char *image_id;
	int host_port; /* of the first published port; 0 none */
};
int docker_inspect(struct docker *d, const char *id, struct arena *a, struct docker_state *ret,
		   struct lem_error *err);
/* Until it is no longer running; LEM_E_TIMEOUT after timeout_ns (> 0). */
int docker_wait(struct docker *d, const char *id, int64_t timeout_ns, int64_t *ret_exit_code,
		struct lem_error *err);
/* The last tail_lines of both streams, demultiplexed, at most max_bytes (the end of them). */
int docker_logs(struct docker *d, const char *id, int tail_lines, size_t max_bytes, struct str *out,
		struct lem_error *err);

struct docker_stats {
	double cpu_s;               /* CPU seconds since its start */
	uint64_t memory_bytes;      /* without inactive file cache */
	uint64_t memory_peak_bytes; /* 0 unknown */
};
int docker_stats(struct docker *d, const char *id, struct docker_stats *ret, struct lem_error *err);

int docker_stop(struct docker *d, const char *id, int64_t grace_ns, struct lem_error *err);
int docker_kill(struct docker *d, const char *id, struct lem_error *err);
int docker_remove(struct docker *d, const char *id, struct lem_error *err); /* absent is fine */

struct docker_listed {
	const char *id, *name, *state, *image;
	const char *run;   /* label lem.run; NULL none */
	const char *lease; /* label lem.owner: "HOST PID START_TIME" of the lem that made it */
};
/* All containers with the label lem=1, running or not. */
int docker_list(struct docker *d, struct arena *a, struct docker_listed **ret, size_t *ret_n,
		struct lem_error *err);

#endif
