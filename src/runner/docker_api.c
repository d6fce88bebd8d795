#include "runner/docker_api.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/num.h"
#include "runner/docker_answers.h"
#include "runner/docker_frames.h"
#include "sys/fs.h"
#include "sys/rest.h"

/* Known to work: 1.41 is Docker 20.10 (Debian 12), 1.44 the least that Docker 29 takes. */
enum { API_MIN = 41, API_MAX = 51, LAYERS_MAX = 512, PULL_LINE_MAX = 1 << 20 };

#define CALL_TIMEOUT_NS  (60 * NS_PER_S)
#define START_TIMEOUT_NS (180 * NS_PER_S) /* an image on a slow disk is unpacked here */
#define PULL_SILENCE_NS  (600 * NS_PER_S) /* a big layer is unpacked in silence */

struct docker {
	struct rest *rest;
	char socket[256];
	char version[8]; /* "1.45" */
	long status;     /* of the last answer */
};

/* ---- where it listens ---- */

static bool is_socket_there(const char *path)
{
	return path && fs_exists(path);
}

static int socket_of_host(const char *host, char *buf, size_t size, struct lem_error *err)
{
	if (!str_starts(host, "unix://")) {
		(void)lem_fail(err, LEM_E_REFUSED, "DOCKER_HOST is %.100s", host);
		(void)lem_error_why(err,
				    "lem meters the GPUs of this host, so the container engine "
				    "must run on this host too");
		return lem_error_fix(err, "unset it, or use unix:///path/of/the.sock");
	}
	lem_strlcpy(buf, host + strlen("unix://"), size);
	return 0;
}

static int find_socket(const char *host, char *buf, size_t size, struct lem_error *err)
{
	const char *env = host ? host : getenv("DOCKER_HOST");
	const char *run = getenv("XDG_RUNTIME_DIR");
	_cleanup_free_ char *rootless = run ? lem_asprintf("%s/docker.sock", run) : NULL;
	_cleanup_free_ char *podman = run ? lem_asprintf("%s/podman/podman.sock", run) : NULL;
	const char *const places[] = {"/var/run/docker.sock", rootless, podman,
				      "/run/podman/podman.sock"};

	if (env && *env)
		return socket_of_host(env, buf, size, err);
	for (size_t i = 0; i < ARRAY_LEN(places); i++)
		if (is_socket_there(places[i])) {
			lem_strlcpy(buf, places[i], size);
			return 0;
		}
	lem_strlcpy(buf, places[0], size); /* the error names it */
	return 0;
}

/* ---- one call ---- */

/* An answer that is an error: by its status, with the engine's own words as the reason. */
static int fail_status(const struct rest_answer *r, const char *doing, struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct lem_error own;
	const char *message = docker_parse_message(str_c(&r->body), &a);

	err = err ? err : &own; /* the code returned lies in it */
	/* "client version 1.51 is too old. Minimum supported API version is 1.60" */
	if (r->status == 400 && strstr(message, "client version ")) {
		lem_fail(err, LEM_E_UNSUPPORTED, "the container engine no longer speaks API 1.%d",
			 API_MAX);
		lem_error_why(err, "%s", message);
		return lem_error_fix(err, "a newer lem speaks with it");
	}
	lem_fail(err, r->status == 404 ? LEM_E_NOT_FOUND : LEM_E_ENGINE,
		 "the container engine cannot %s (HTTP %ld)", doing, r->status);
	return lem_error_why(err, "%s", message);
}

static int call(struct docker *d, const char *doing, const struct rest_request *q,
		struct rest_answer *answer, struct lem_error *err)
{
	struct lem_error own;
	int rc = rest_call(d->rest, q, answer, err ? err : &own);

	d->status = rc < 0 ? 0 : answer->status;
	if (rc < 0)
		return lem_error_context(err ? err : &own, "cannot %s", doing);
	if (answer->status / 100 == 2 || answer->status == 304)
		return 0;
	return fail_status(answer, doing, err);
}

static int get(struct docker *d, const char *doing, const char *path, struct rest_answer *answer,
	       struct lem_error *err)
{
	const struct rest_request q = {
		.method = "GET", .path = path, .timeout_ns = CALL_TIMEOUT_NS};

	return call(d, doing, &q, answer, err);
}

static int post(struct docker *d, const char *doing, const char *path, int64_t timeout_ns,
		struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	const struct rest_request q = {.method = "POST", .path = path, .timeout_ns = timeout_ns};

	return call(d, doing, &q, &answer, err);
}

static char *path_of(const struct docker *d, const char *fmt, const char *id)
{
	_cleanup_free_ char *head = lem_asprintf("/v%s", d->version);
	_cleanup_str_ struct str s = STR_INIT;

	str_add(&s, head);
	for (; *fmt; fmt++) {
		if (*fmt == '@')
			str_add(&s, id);
		else
			str_addc(&s, *fmt);
	}
	return str_detach(&s);
}

static void add_escaped(struct str *out, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    strchr("-._~", c))
			str_addc(out, (char)c);
		else
			str_addf(out, "%%%02X", c);
	}
}

/* ---- opening ---- */

static int negotiate(struct docker *d, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	const struct rest_request q = {.method = "GET",
				       .path = "/_ping",
				       .timeout_ns = CALL_TIMEOUT_NS,
				       .max_bytes = 65536};
	int64_t minor = 0;
	int rc = call(d, "answer a ping", &q, &answer, err);

	if (rc < 0)
		return rc;
	if (!str_starts(answer.api_version, "1.") || !num_parse_i64(answer.api_version + 2, &minor))
		return lem_fail(err, LEM_E_PARSE, "%s answers, but not as a container engine does",
				d->socket);
	if (minor < API_MIN) {
		lem_fail(err, LEM_E_UNSUPPORTED,
			 "the container engine at %s speaks API %s, at least 1.%d is needed",
			 d->socket, answer.api_version, API_MIN);
		return lem_error_fix(err,
				     "update it: Docker 20.10 (2020) and Podman 4 are new enough");
	}
	(void)snprintf(d->version, sizeof(d->version), "1.%d", (int)MIN(minor, (int64_t)API_MAX));
	return 0;
}

int docker_open(const char *host, int cancel_fd, struct docker **ret, struct lem_error *err)
{
	_cleanup_docker_ struct docker *d = lem_calloc(1, sizeof(*d));
	int rc = find_socket(host, d->socket, sizeof(d->socket), err);

	if (rc >= 0)
		rc = rest_open(d->socket, cancel_fd, &d->rest, err);
	if (rc >= 0)
		rc = negotiate(d, err);
	if (rc < 0)
		return rc;
	*ret = d;
	d = NULL;
	return 0;
}

void docker_close(struct docker *d)
{
	if (!d)
		return;
	rest_close(d->rest);
	free(d);
}

void docker_limit(struct docker *d, int cancel_fd, int64_t until_ns)
{
	rest_limit(d->rest, cancel_fd, until_ns);
}

long docker_last_status(const struct docker *d)
{
	return d->status;
}

const char *docker_socket(const struct docker *d)
{
	return d->socket;
}

const char *docker_api_version(const struct docker *d)
{
	return d->version;
}

/* ---- reading ---- */

int docker_info(struct docker *d, struct arena *a, struct docker_info *ret, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path = path_of(d, "/info", "");
	int rc = get(d, "tell about itself", path, &answer, err);

	return rc < 0 ? rc : docker_parse_info(str_c(&answer.body), a, ret, err);
}

int docker_image(struct docker *d, const char *ref, struct arena *a, struct docker_image *ret,
		 struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_str_ struct str path = STR_INIT;
	int rc;

	str_addf(&path, "/v%s/images/", d->version);
	for (const char *p = ref; *p; p++) { /* slashes and colons stand as they are */
		char one[2] = {*p, '\0'};

		if (*p == '/' || *p == ':' || *p == '@')
			str_addc(&path, *p);
		else
			add_escaped(&path, one);
	}
	str_add(&path, "/json");
	rc = get(d, "describe the image", str_c(&path), &answer, err);
	return rc < 0 ? rc : docker_parse_image(str_c(&answer.body), a, ret, err);
}

int docker_inspect(struct docker *d, const char *id, struct arena *a, struct docker_state *ret,
		   struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path = path_of(d, "/containers/@/json", id);
	int rc = get(d, "describe the container", path, &answer, err);

	return rc < 0 ? rc : docker_parse_state(str_c(&answer.body), a, ret, err);
}

int docker_stats(struct docker *d, const char *id, struct docker_stats *ret, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path = path_of(d, "/containers/@/stats?stream=0&one-shot=1", id);
	int rc = get(d, "tell the container's use", path, &answer, err);

	return rc < 0 ? rc : docker_parse_stats(str_c(&answer.body), ret, err);
}

int docker_list(struct docker *d, struct arena *a, struct docker_listed **ret, size_t *ret_n,
		struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_str_ struct str path = STR_INIT;
	int rc;

	str_addf(&path, "/v%s/containers/json?all=1&filters=", d->version);
	add_escaped(&path, "{\"label\":[\"lem=1\"]}");
	rc = get(d, "list containers", str_c(&path), &answer, err);
	return rc < 0 ? rc : docker_parse_list(str_c(&answer.body), a, ret, ret_n, err);
}

/* ---- pulling ---- */

struct pull {
	struct str line;
	struct {
		char id[32];
		uint64_t done, total;
	} layers[LAYERS_MAX];
	size_t n;
	void (*progress)(void *arg, const char *status, uint64_t done, uint64_t total);
	void *arg;
};

static void note_layer(struct pull *p, const struct docker_pull_line *l)
{
	uint64_t done = 0, total = 0;
	size_t i = 0;

	if (!l->layer || !l->total || !str_eq(l->status ? l->status : "", "Downloading"))
		return;
	while (i < p->n && strncmp(p->layers[i].id, l->layer, sizeof(p->layers[i].id) - 1) != 0)
		i++;
	if (i == LAYERS_MAX)
		return;
	p->n = MAX(p->n, i + 1);
	lem_strlcpy(p->layers[i].id, l->layer, sizeof(p->layers[i].id));
	p->layers[i].done = l->done;
	p->layers[i].total = l->total;
	for (i = 0; i < p->n; i++) {
		done += p->layers[i].done;
		total += p->layers[i].total;
	}
	if (p->progress)
		p->progress(p->arg, l->status, done, total);
}

/* A pull fails inside its 200 answer. */
static int take_pull_line(struct pull *p, struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct docker_pull_line l;
	int rc;

	if (p->line.len == 0)
		return 0;
	rc = docker_parse_pull_line(str_c(&p->line), &a, &l, err);
	str_reset(&p->line);
	if (rc < 0)
		return rc;
	if (l.error) {
		lem_fail(err, LEM_E_ENGINE, "the container engine gave up");
		return lem_error_why(err, "%.400s", l.error);
	}
	note_layer(p, &l);
	return 0;
}

static int on_pull_bytes(void *arg, const char *bytes, size_t n, struct lem_error *err)
{
	struct pull *p = arg;

	for (size_t i = 0; i < n; i++) {
		int rc = 0;

		if (bytes[i] == '\n' || bytes[i] == '\r')
			rc = take_pull_line(p, err);
		else
			str_addc(&p->line, bytes[i]);
		if (rc < 0)
			return rc;
		if (p->line.len > PULL_LINE_MAX)
			return lem_fail(err, LEM_E_PARSE, "the pull's progress has no line ends");
	}
	return 0;
}

/* An empty tag would pull every tag there is. */
static void add_reference(struct str *path, const char *ref)
{
	const char *slash = strrchr(ref, '/');
	bool complete = strchr(ref, '@') || strchr(slash ? slash : ref, ':');

	add_escaped(path, ref);
	if (!complete)
		str_add(path, "&tag=latest");
}

int docker_pull(struct docker *d, const char *ref,
		void (*progress)(void *arg, const char *status, uint64_t done, uint64_t total),
		void *arg, struct lem_error *err)
{
	static const char *const anonymous[] = {"X-Registry-Auth: e30=", NULL};
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ struct pull *p = lem_calloc(1, sizeof(*p));
	_cleanup_str_ struct str path = STR_INIT;
	struct lem_error own;
	struct rest_request q = {.method = "POST",
				 .headers = anonymous,
				 .on_bytes = on_pull_bytes,
				 .arg = p,
				 .silence_ns = PULL_SILENCE_NS};
	int rc;

	err = err ? err : &own;
	p->progress = progress;
	p->arg = arg;
	str_addf(&path, "/v%s/images/create?fromImage=", d->version);
	add_reference(&path, ref);
	q.path = str_c(&path);
	rc = call(d, "pull the image", &q, &answer, err);
	if (rc >= 0 && take_pull_line(p, err) < 0)
		rc = lem_error_context(err, "cannot pull the image");
	str_release(&p->line);
	return rc;
}

/* ---- a container's life ---- */

int docker_create(struct docker *d, const char *name, const char *body_json, struct arena *a,
		  const char **ret_id, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_str_ struct str path = STR_INIT;
	struct rest_request q = {
		.method = "POST", .body = body_json, .timeout_ns = START_TIMEOUT_NS};
	int rc;

	str_addf(&path, "/v%s/containers/create?name=", d->version);
	add_escaped(&path, name);
	q.path = str_c(&path);
	rc = call(d, "make the container", &q, &answer, err);
	return rc < 0 ? rc : docker_parse_id(str_c(&answer.body), a, ret_id, err);
}

int docker_attach(struct docker *d, const char *id, bool with_stdin, int *ret_fd,
		  struct str *ret_first, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path =
		path_of(d,
			with_stdin ? "/containers/@/attach?stream=1&stdin=1&stdout=1&stderr=1"
				   : "/containers/@/attach?stream=1&stdout=1&stderr=1",
			id);
	struct lem_error own;
	int rc = rest_upgrade(d->rest, path, CALL_TIMEOUT_NS, ret_fd, ret_first, &answer,
			      err ? err : &own);

	d->status = rc < 0 ? 0 : answer.status;
	if (rc < 0)
		return lem_error_context(err ? err : &own, "cannot attach to the container");
	return *ret_fd < 0 ? fail_status(&answer, "attach to the container", err) : 0;
}

int docker_start(struct docker *d, const char *id, struct lem_error *err)
{
	_cleanup_free_ char *path = path_of(d, "/containers/@/start", id);

	return post(d, "start the container", path, START_TIMEOUT_NS, err);
}

int docker_wait(struct docker *d, const char *id, int64_t timeout_ns, int64_t *ret_exit_code,
		struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path = path_of(d, "/containers/@/wait?condition=not-running", id);
	const struct rest_request q = {
		.method = "POST", .path = path, .timeout_ns = MAX(timeout_ns, INT64_C(1))};
	int rc = call(d, "wait for the container", &q, &answer, err);

	return rc < 0 ? rc : docker_parse_exit_code(str_c(&answer.body), ret_exit_code, err);
}

struct log_tail {
	struct docker_frames frames;
	struct str *out;
	size_t max;
};

static int keep_log(void *arg, int stream, const char *bytes, size_t n)
{
	struct log_tail *t = arg;

	(void)stream;
	if (n > t->max) {
		bytes += n - t->max;
		n = t->max;
	}
	if (t->out->len + n > 2 * t->max) {
		memmove(t->out->buf, t->out->buf + t->out->len - t->max, t->max);
		t->out->len = t->max;
	}
	str_addn(t->out, bytes, n);
	return 0;
}

static int on_log_bytes(void *arg, const char *bytes, size_t n, struct lem_error *err)
{
	struct log_tail *t = arg;

	return docker_frames_feed(&t->frames, bytes, n, keep_log, t, err);
}

int docker_logs(struct docker *d, const char *id, int tail_lines, size_t max_bytes, struct str *out,
		struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *head = path_of(d, "/containers/@/logs?stdout=1&stderr=1&tail=", id);
	_cleanup_free_ char *path = lem_asprintf("%s%d", head, tail_lines);
	struct log_tail t = {.out = out, .max = max_bytes};
	const struct rest_request q = {.method = "GET",
				       .path = path,
				       .timeout_ns = CALL_TIMEOUT_NS,
				       .on_bytes = on_log_bytes,
				       .arg = &t};
	int rc = call(d, "give the container's log", &q, &answer, err);

	if (out->len > max_bytes) {
		memmove(out->buf, out->buf + out->len - max_bytes, max_bytes);
		out->len = max_bytes;
		out->buf[max_bytes] = '\0';
	}
	return rc;
}

int docker_stop(struct docker *d, const char *id, int64_t grace_ns, struct lem_error *err)
{
	_cleanup_free_ char *head = path_of(d, "/containers/@/stop?t=", id);
	_cleanup_free_ char *path =
		lem_asprintf("%s%d", head, (int)((grace_ns + NS_PER_S - 1) / NS_PER_S));

	return post(d, "stop the container", path, grace_ns + CALL_TIMEOUT_NS, err);
}

int docker_kill(struct docker *d, const char *id, struct lem_error *err)
{
	_cleanup_free_ char *path = path_of(d, "/containers/@/kill?signal=SIGKILL", id);

	return post(d, "kill the container", path, CALL_TIMEOUT_NS, err);
}

int docker_remove(struct docker *d, const char *id, struct lem_error *err)
{
	_cleanup_rest_answer_ struct rest_answer answer = {0};
	_cleanup_free_ char *path = path_of(d, "/containers/@?force=1&v=1", id);
	const struct rest_request q = {
		.method = "DELETE", .path = path, .timeout_ns = CALL_TIMEOUT_NS};
	int rc = call(d, "remove the container", &q, &answer, err);

	/* 409: a removal is in progress already */
	return rc < 0 && (answer.status == 404 || answer.status == 409) ? 0 : rc;
}
