#include "run/server.h"

#include <jansson.h>
#include <poll.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/jsonw.h"
#include "base/num.h"
#include "run/drive.h"
#include "run/life.h"
#include "sys/web.h"

enum { ASK_TIMEOUT_S = 5, METRICS_TIMEOUT_S = 10, PAUSE_MS = 100, METRICS_MAX_BYTES = 4 << 20 };
/* Nobody starts a server that lem did not start: it is there, or soon will be. */
enum { REFUSED_PATIENCE_S = 5 };

/* ---- where it is ---- */

static int bad_url(const char *url, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_USAGE, "openai.url is not the URL of a server: %.200s", url);
	return lem_error_fix(err, "write it like http://localhost:8000/v1");
}

/* "host:port" of n bytes; false: it makes no sense. */
static bool parse_authority(const char *s, size_t n, struct server *ret)
{
	const char *end = s + n, *close = *s == '[' ? memchr(s, ']', n) : NULL;
	const char *host_end = close ? close + 1 : memchr(s, ':', n);
	int64_t port = ret->tls ? 443 : 80;
	size_t host_n;

	host_end = host_end ? host_end : end;
	host_n = (size_t)(host_end - s);
	if (close) {
		s++;
		host_n -= 2;
	}
	if (!host_n || host_n >= sizeof(ret->host) || (*s == '[' && !close))
		return false;
	if (host_end < end) {
		_cleanup_free_ char *text = lem_strndup(host_end + 1, (size_t)(end - host_end - 1));

		if (*host_end != ':' || !num_parse_i64(text, &port) || port < 1 || port > 65535)
			return false;
	}
	memcpy(ret->host, s, host_n);
	ret->host[host_n] = '\0';
	ret->port = (int)port;
	return true;
}

/* Prefixes end in /v1; one that does not is taken as it is. */
static bool set_paths(struct server *s, const char *prefix, size_t n, bool chat)
{
	bool has_v1 = n >= 3 && memcmp(prefix + n - 3, "/v1", 3) == 0;
	const char *open = strchr(s->host, ':') ? "[" : "", *close = *open ? "]" : "";
	int k, m;

	k = snprintf(s->path, sizeof(s->path), "%.*s/%s", (int)n, prefix,
		     chat ? "chat/completions" : "completions");
	m = snprintf(s->models, sizeof(s->models), "%.*s/models", (int)n, prefix);
	(void)snprintf(s->root, sizeof(s->root), "http%s://%s%s%s:%d%.*s", s->tls ? "s" : "", open,
		       s->host, close, s->port, (int)(has_v1 ? n - 3 : n), prefix);
	s->chat = chat;
	return k > 0 && (size_t)k < sizeof(s->path) && m > 0 && (size_t)m < sizeof(s->models);
}

int server_parse_url(const char *url, bool chat, struct server *ret, struct lem_error *err)
{
	struct server s = *ret;
	const char *rest = strstr(url, "://");
	size_t n, k;

	if ((!str_starts(url, "http://") && !str_starts(url, "https://")) || strpbrk(url, " ?#@"))
		return bad_url(url, err);
	s.tls = str_starts(url, "https://");
	rest += 3;
	n = strcspn(rest, "/");
	if (!parse_authority(rest, n, &s))
		return bad_url(url, err);
	rest += n;
	k = strlen(rest);
	while (k && rest[k - 1] == '/')
		k--;
	if (!set_paths(&s, rest, k, chat))
		return bad_url(url, err);
	*ret = s;
	return 0;
}

/* ---- its key ---- */

static int read_key(struct life *l, struct lem_error *err)
{
	const char *name = l->e->openai.api_key_env, *key = name ? getenv(name) : NULL;
	const char **headers;

	if (!name)
		return 0;
	if (!key || !*key) {
		(void)lem_fail(err, LEM_E_REFUSED,
			       "the environment variable %.60s, which openai.api_key_env names, is "
			       "not set",
			       name);
		return lem_error_fix(err, "export %.60s=…, or remove api_key_env", name);
	}
	if (strpbrk(key, "\r\n")) {
		(void)lem_fail(err, LEM_E_REFUSED, "the key in %.60s has a line break in it", name);
		return lem_error_fix(err, "set it without one");
	}
	headers = arena_array(&l->rec->arena, 2, sizeof(*headers));
	headers[0] = arena_printf(&l->rec->arena, "Authorization: Bearer %s", key);
	l->server.headers = headers;
	return 0;
}

int life_server_check(struct life *l, struct lem_error *err)
{
	const struct openai_config *c = &l->e->openai;
	int rc;

	l->server.tls_verify = true;
	if (l->e->backend != BACKEND_OPENAI)
		return 0;
	l->server.tls_verify = c->tls_verify;
	rc = server_parse_url(c->url, str_eq(c->endpoint, "chat"), &l->server, err);
	if (rc >= 0)
		rc = read_key(l, err);
	if (rc >= 0 && l->server.chat && prompts_have_ids(&l->prompts)) {
		(void)lem_fail(err, LEM_E_REFUSED,
			       "the prompts are token ids, and the chat endpoint takes text "
			       "only");
		rc = lem_error_fix(err, "write openai.endpoint: completions, or prompts of text");
	}
	return rc;
}

/* ---- asking it ---- */

/* GET of a path below root, or of the list of models. */
static int ask_any(struct life *l, const char *path, int64_t timeout_ns, long *ret_status,
		   struct str *ret, struct lem_error *err)
{
	const struct server *s = &l->server;
	_cleanup_free_ char *url = NULL;
	struct web_request q = {.headers = s->headers,
				.no_tls_verify = !s->tls_verify,
				.timeout_ns = timeout_ns,
				.cancel_fd = s->stop_fd,
				.max_bytes = METRICS_MAX_BYTES};

	if (str_eq(path, s->models)) { /* stands at the origin, not below root */
		const char *slash = strchr(strstr(s->root, "://") + 3, '/');
		size_t n = slash ? (size_t)(slash - s->root) : strlen(s->root);

		url = lem_asprintf("%.*s%s", (int)n, s->root, path);
	} else {
		url = lem_asprintf("%s%s", s->root, path);
	}
	q.url = url;
	return web_get(&q, ret_status, ret, err);
}

/* Negative also for a status that is not 200. */
static int ask(struct life *l, const char *path, int64_t timeout_ns, struct str *ret,
	       struct lem_error *err)
{
	long status = 0;
	int rc = ask_any(l, path, timeout_ns, &status, ret, err);

	if (rc >= 0 && status != 200)
		rc = lem_fail(err, LEM_E_IO, "%s%s answers with status %ld", l->server.root, path,
			      status);
	return rc;
}

const char *life_server_metrics(struct life *l)
{
	const char *path = l->engine->http->metrics;
	_cleanup_str_ struct str text = STR_INIT;

	if (!path || ask(l, path, METRICS_TIMEOUT_S * NS_PER_S, &text, NULL) < 0 || !text.len ||
	    memchr(text.buf, '\0', text.len))
		return NULL;
	return arena_strndup(&l->rec->arena, text.buf, text.len);
}

/* ---- its end ---- */

/* The last few lines that are not empty. */
static void last_lines(const struct str *log, char *buf, size_t size)
{
	size_t from = log->len, lines = 0;

	while (from > 0 && lines < 4 && log->len - from < size - 1) {
		from--;
		if (log->buf[from] == '\n' && from + 1 < log->len)
			lines++;
	}
	if (from < log->len && log->buf[from] == '\n')
		from++;
	lem_strlcpy(buf, str_c(log) + from, size);
}

/* A line that sends its reader to the lines above it says nothing itself (vLLM: "Engine core
 * initialization failed. See root cause above."). */
static bool is_error(const char *line, size_t n)
{
	return (memmem(line, n, "Error: ", 7) || memmem(line, n, "error: ", 7)) &&
	       !memmem(line, n, "root cause", 10);
}

/* "0.00.399.998 E llama_adapter_lora_init: …", as llama.cpp writes them. */
static bool is_llama_error(const char *line)
{
	size_t n = strspn(line, "0123456789.");

	return n > 8 && str_starts(line + n, " E ");
}

/* From the last line that names an error on, because what follows a Python exception may be long;
 * else the last lines. llama.cpp tells the cause first, and then all that failed with it. */
static void last_words(const struct str *log, char *buf, size_t size)
{
	const char *line = str_c(log), *found = NULL, *next;

	for (; *line; line = *next ? next + 1 : next) {
		next = line + strcspn(line, "\n");
		if (is_llama_error(line)) {
			found = line;
			break;
		}
		if (is_error(line, (size_t)(next - line)))
			found = line;
	}
	if (found)
		lem_strlcpy(buf, found, size);
	else
		last_lines(log, buf, size);
}

static int fail_ended(struct life *l, const char *doing, struct lem_error *err)
{
	_cleanup_str_ struct str log = STR_INIT;
	struct timespec moment = {.tv_nsec = 50 * NS_PER_MS};
	char how[320], tail[400];

	(void)l->runner->wait_until(&l->session.running, clock_now_ns() + 2 * NS_PER_S);
	(void)nanosleep(&moment, NULL); /* its last words may still be in the pipe */
	(void)l->runner->describe_end(&l->session.running, how, sizeof(how));
	pump_log(l->server.pump, &log);
	last_words(&log, tail, sizeof(tail));
	(void)lem_fail(err, LEM_E_ENGINE, "the engine ended while %s: %s", doing, how);
	return lem_error_why(err, "%s%s", tail[0] ? "its last words: " : "it left no message",
			     tail);
}

int life_server_stopped(struct life *l, const char *doing, struct lem_error *err)
{
	struct pollfd p = {.fd = l->req->cancel_fd, .events = POLLIN};

	if (p.fd >= 0 && poll(&p, 1, 0) > 0)
		return lem_fail(err, LEM_E_INTERRUPTED, "interrupted");
	if (l->server.pump && pump_ended(l->server.pump))
		return fail_ended(l, doing, err);
	return 0;
}

void life_server_log(struct life *l)
{
	str_reset(&l->session.io.log);
	if (l->server.pump)
		pump_log(l->server.pump, &l->session.io.log);
}

void life_server_close(struct life *l)
{
	if (l->server.pump) {
		str_reset(&l->session.io.log);
		pump_stop(l->server.pump, &l->session.io.log);
		l->server.pump = NULL;
	}
	if (l->server.stop_fd > 0)
		close(l->server.stop_fd);
	l->server.stop_fd = -1;
}

/* ---- ready ---- */

static void add_to(int epoll, int fd)
{
	struct epoll_event e = {.events = EPOLLIN};

	if (fd >= 0)
		(void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
}

/* An epoll descriptor is itself readable once one of its own is. */
static int take_streams(struct life *l, struct lem_error *err)
{
	struct proc *p = &l->session.running.proc;
	struct server *s = &l->server;
	int rc = 0;

	if (l->runner != &runner_external)
		rc = pump_start(steal_fd(&p->out), steal_fd(&p->err), p->pidfd, &s->pump, err);
	if (rc < 0)
		return rc;
	s->stop_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->stop_fd < 0)
		return lem_fail_errno(err, errno, "cannot watch the engine");
	add_to(s->stop_fd, l->req->cancel_fd);
	if (s->pump)
		add_to(s->stop_fd, pump_end_fd(s->pump));
	return 0;
}

static int set_address(struct life *l, struct lem_error *err)
{
	static const char *const close_after[] = {"Connection: close", NULL};
	char url[64];

	if (l->runner == &runner_external)
		return 0;
	if (l->session.running.port <= 0)
		return lem_fail(err, LEM_E_INTERNAL, "the engine's port is not known");
	if (l->engine->http->closes)
		l->server.headers = close_after;
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", l->session.running.port);
	return server_parse_url(url, false, &l->server, err);
}

/* A pause that ends at once when the server does. */
static void pause_a_moment(struct life *l)
{
	struct pollfd p = {.fd = l->server.stop_fd, .events = POLLIN};

	(void)poll(&p, 1, PAUSE_MS);
	life_report(l);
}

static int fail_not_ready(struct life *l, const struct lem_error *last, struct lem_error *err)
{
	_cleanup_str_ struct str log = STR_INIT;
	char buf[24], tail[300] = "";

	if (l->server.pump)
		pump_log(l->server.pump, &log);
	last_words(&log, tail, sizeof(tail));
	(void)lem_fail(err, LEM_E_TIMEOUT, "the server at %.100s was not ready within %s",
		       l->server.root,
		       num_format_duration(l->spec.load_timeout_ns, buf, sizeof(buf)));
	(void)lem_error_why(err, "%.200s%s%s", last->what, tail[0] ? "; its log ends with: " : "",
			    tail);
	return lem_error_fix(err, "%s",
			     l->server.pump
				     ? "raise load_timeout_sec in the engine's section if loading "
				       "takes that long"
				     : last->fix);
}

/* Errors that time does not heal. */
static bool is_final(const struct life *l, enum lem_code code, int64_t t_start_ns)
{
	if (code == LEM_E_INTERRUPTED || code == LEM_E_USAGE || code == LEM_E_UNSUPPORTED ||
	    code == LEM_E_ENGINE)
		return true;
	if (l->server.pump)
		return false; /* while it starts anything may happen, but not for ever */
	return code == LEM_E_NOT_FOUND || code == LEM_E_REFUSED ||
	       ((code == LEM_E_IO || code == LEM_E_PARSE) &&
		clock_now_ns() > t_start_ns + REFUSED_PATIENCE_S * NS_PER_S);
}

/* Repeats one step until it succeeds, fails for good, or the deadline has come. */
static int until_ready(struct life *l, int64_t t_end_ns,
		       int (*step)(struct life *, int64_t left_ns, struct lem_error *),
		       struct lem_error *err)
{
	int64_t t_start_ns = clock_now_ns();
	struct lem_error last = LEM_ERROR_INIT;

	for (;;) {
		int64_t left_ns = t_end_ns - clock_now_ns();
		struct lem_error now = {.code = LEM_E_TIMEOUT};
		int rc = left_ns > 0 ? step(l, left_ns, &now) : -LEM_E_TIMEOUT;

		if (rc >= 0)
			return 0;
		/* that the time is over says less than what came before */
		if (now.code != LEM_E_TIMEOUT || last.code == LEM_E_NONE)
			last = now;
		rc = life_server_stopped(l, "starting", err);
		if (rc < 0)
			return rc;
		if (left_ns <= 0)
			return fail_not_ready(l, &last, err);
		if (is_final(l, last.code, t_start_ns)) {
			*err = last;
			return -(int)err->code;
		}
		pause_a_moment(l);
	}
}

static int ask_health(struct life *l, int64_t left_ns, struct lem_error *err)
{
	_cleanup_str_ struct str body = STR_INIT;
	const char *path = l->engine->http->health;
	int64_t timeout_ns = MIN(left_ns, ASK_TIMEOUT_S * NS_PER_S);
	long status;

	if (path)
		return ask(l, path, timeout_ns, &body, err);
	/* whatever it answers, it is there */
	return ask_any(l, l->server.models, timeout_ns, &status, &body, err);
}

/* ---- what it says of itself ---- */

static json_t *ask_json(struct life *l, const char *path)
{
	_cleanup_str_ struct str body = STR_INIT;

	if (!path || ask(l, path, ASK_TIMEOUT_S * NS_PER_S, &body, NULL) < 0)
		return NULL;
	return json_loadb(str_c(&body), body.len, 0, NULL);
}

static int fail_model(const struct life *l, const json_t *list, struct lem_error *err)
{
	_cleanup_str_ struct str names = STR_INIT;
	const json_t *m;
	size_t i;

	json_array_foreach (list, i, m) {
		const char *id = json_string_value(json_object_get(m, "id"));

		if (id && i < 5)
			str_addf(&names, "%s%.60s", i ? ", " : "", id);
	}
	(void)lem_fail(err, LEM_E_REFUSED, "the server at %.100s does not serve '%.80s'",
		       l->server.root, l->e->model_name);
	return lem_error_fix(err, "write one that it does in model_name: %.250s", str_c(&names));
}

/* Its own name for the model: what the config says, or its first when lem started it. */
static int choose_model(struct life *l, const json_t *models, struct lem_error *err)
{
	const json_t *list = json_object_get(models, "data"), *m;
	const char *wanted = l->e->adapter && l->server.pump ? "adapter" : l->e->model_name,
		   *first = NULL;
	size_t i;

	l->server.model = wanted;
	json_array_foreach (list, i, m) {
		const char *id = json_string_value(json_object_get(m, "id"));

		first = first ? first : id;
		if (id && str_eq(id, wanted))
			return 0;
	}
	if (!first)
		return 0; /* it tells none */
	if (!l->server.pump)
		return fail_model(l, list, err);
	l->server.model = arena_strdup(&l->rec->arena, first);
	return 0;
}

static void put_words(struct jsonw *w, const char *key, const char *const *words)
{
	jsonw_array(w, key);
	for (; words && *words; words++)
		jsonw_str(w, NULL, *words);
	jsonw_end_array(w);
}

static void put_raw(struct jsonw *w, const char *key, const json_t *j)
{
	char *text = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;

	if (text)
		jsonw_raw(w, key, text);
	else
		jsonw_null(w, key);
	free(text);
}

/* What was started, and what the server made of it. */
static void keep_build(struct life *l, const json_t *version, const json_t *models,
		       const json_t *options)
{
	const char *member = l->engine->http->version_member;
	const char *text = json_string_value(json_object_get(version, member ? member : "version"));
	_cleanup_str_ struct str s = STR_INIT;
	struct run_record *r = l->rec;
	struct jsonw w;

	jsonw_init(&w, &s, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "name", l->engine->name);
	jsonw_str(&w, "version", text);
	jsonw_str(&w, "served_model", l->server.model);
	put_words(&w, "argv", l->spec.argv);
	put_raw(&w, "models", models);
	put_raw(&w, "options", options);
	jsonw_end_object(&w);
	r->engine_build_json = arena_strdup(&r->arena, str_c(&s));
	r->engine_version = text ? arena_strdup(&r->arena, text) : NULL;
	r->server.used = true;
	r->server.url = arena_printf(&r->arena, "%s", l->server.root);
	r->server.client_cpu_ns = -1;
}

static int learn(struct life *l, struct lem_error *err)
{
	json_t *models = ask_json(l, l->server.models),
	       *version = ask_json(l, l->engine->http->version),
	       *options = ask_json(l, l->engine->http->options);
	int rc = choose_model(l, models, err);

	if (rc >= 0)
		keep_build(l, version, models, options);
	json_decref(models);
	json_decref(version);
	json_decref(options);
	return rc;
}

int life_server_ready(struct life *l, struct lem_error *err)
{
	int64_t t_end_ns = clock_now_ns() + l->spec.load_timeout_ns;
	int rc;

	if ((rc = take_streams(l, err)) < 0 || (rc = set_address(l, err)) < 0)
		return rc;
	l->detail = "waiting for the server";
	if ((rc = until_ready(l, t_end_ns, ask_health, err)) < 0 || (rc = learn(l, err)) < 0 ||
	    (rc = drive_prepare(l, err)) < 0)
		return rc;
	l->detail = "waiting for a first token";
	rc = until_ready(l, t_end_ns, drive_one, err);
	l->detail = "";
	return rc;
}
