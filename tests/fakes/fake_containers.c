#include "fake_docker_impl.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <jansson.h>

#include "base/clock.h"

/* ---- answers ---- */

static bool say(struct fake_docker *f, int fd, int status, const char *body)
{
	const struct fake_reply r = {.status = status, .body = body};

	return fd < 0 || fake_answer(f, fd, &r);
}

static bool say_message(struct fake_docker *f, int fd, int status, const char *message)
{
	_cleanup_free_ char *body = lem_asprintf("{\"message\":\"%s\"}", message);

	return say(f, fd, status, body);
}

static bool say_no_container(struct fake_docker *f, int fd)
{
	return say_message(f, fd, 404, "No such container");
}

/* ---- containers ---- */

static struct fake_container *find(struct fake_docker *f, const char *id)
{
	for (size_t i = 0; i < f->n_containers; i++)
		if (!f->containers[i].removed && str_starts(id, f->containers[i].id))
			return &f->containers[i];
	return NULL;
}

static struct fake_container *add(struct fake_docker *f, const char *id, const char *name,
				  const char *labels)
{
	struct fake_container *c = &f->containers[f->n_containers++];

	assert(f->n_containers <= FAKE_CONTAINERS);
	*c = (struct fake_container){.f = f, .attach_fd = -1, .labels = lem_strdup(labels)};
	lem_strlcpy(c->id, id, sizeof(c->id));
	lem_strlcpy(c->name, name, sizeof(c->name));
	return c;
}

void fake_end_container(struct fake_docker *f, struct fake_container *c, int code)
{
	if (!c->running)
		return;
	c->running = false;
	c->exit_code = code;
	c->oom_killed = f->program.oom_killed;
	if (c->attach_fd >= 0)
		shutdown(c->attach_fd, SHUT_RDWR);
	pthread_cond_broadcast(&f->changed);
}

static void send_frames(struct fake_docker *f, int fd, const struct fake_program *p)
{
	size_t step = p->byte_by_byte ? 1 : p->n_frames;

	for (size_t i = 0; i < p->n_frames && !f->stopping && fd >= 0; i += step)
		if (!fake_send(fd, p->frames + i, MIN(step, p->n_frames - i)))
			return;
}

static void *run(void *arg)
{
	struct fake_container *c = arg;
	struct fake_docker *f = c->f;
	struct fake_program p = f->program;
	int fd;

	pthread_mutex_lock(&f->lock); /* a number of its own: the connection may close its */
	fd = c->attach_fd < 0 ? -1 : fcntl(c->attach_fd, F_DUPFD_CLOEXEC, 0);
	pthread_mutex_unlock(&f->lock);
	send_frames(f, fd, &p);
	if (fd >= 0)
		close(fd);
	pthread_mutex_lock(&f->lock);
	if (!p.runs && !p.echo)
		fake_end_container(f, c, p.exit_code);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* "name=x" of the query; malloc'ed. */
static char *query(const char *line, const char *name)
{
	_cleanup_free_ char *key = lem_asprintf("%s=", name);
	const char *at = strstr(line, key);

	return at ? lem_strndup(at + strlen(key), strcspn(at + strlen(key), "&")) : lem_strdup("");
}

static bool name_taken(struct fake_docker *f, const char *name)
{
	for (size_t i = 0; i < f->n_containers; i++)
		if (!f->containers[i].removed && str_eq(f->containers[i].name, name))
			return true;
	return false;
}

static bool create(struct fake_docker *f, int fd, const char *line, const char *body)
{
	_cleanup_free_ char *name = query(line, "name");
	json_t *j = json_loads(body, 0, NULL);
	_cleanup_free_ char *labels =
		json_dumps(json_object_get(j, "Labels"), JSON_COMPACT | JSON_ENCODE_ANY);
	bool port = json_object_get(json_object_get(j, "HostConfig"), "PortBindings") != NULL;
	_cleanup_free_ char *answer = NULL;
	char id[65];

	json_decref(j);
	if (!labels)
		return say_message(f, fd, 400, "invalid JSON");
	if (!f->image)
		return say_message(f, fd, 404, "No such image: x");
	if (name_taken(f, name))
		return say_message(f, fd, 409, "Conflict. The container name is already in use");
	(void)snprintf(id, sizeof(id), "%08zx%056x", f->n_containers + 1, 0xabc);
	add(f, id, name, labels)->has_port = port;
	answer = lem_asprintf("{\"Id\":\"%s\",\"Warnings\":[]}", id);
	return say(f, fd, 201, answer);
}

static bool list(struct fake_docker *f, int fd)
{
	_cleanup_str_ struct str s = STR_INIT;
	bool first = true;

	str_addc(&s, '[');
	for (size_t i = 0; i < f->n_containers; i++) {
		const struct fake_container *c = &f->containers[i];

		if (c->removed || !strstr(c->labels, "\"lem\":\"1\""))
			continue;
		str_addf(&s, "%s{\"Id\":\"%s\",\"Names\":[\"/%s\"],\"State\":\"%s\",\"Labels\":%s}",
			 first ? "" : ",", c->id, c->name, c->running ? "running" : "exited",
			 c->labels);
		first = false;
	}
	str_addc(&s, ']');
	return say(f, fd, 200, str_c(&s));
}

static bool inspect(struct fake_docker *f, int fd, const struct fake_container *c)
{
	_cleanup_str_ struct str s = STR_INIT;

	str_addf(
		&s,
		"{\"Id\":\"%s\",\"Image\":\"sha256:1111\",\"State\":{\"Status\":\"%s\",\"Pid\":%ld,"
		"\"ExitCode\":%d,\"OOMKilled\":%s,\"Error\":\"\"},\"NetworkSettings\":{\"Ports\":{",
		c->id,
		!c->started  ? "created"
		: c->running ? "running"
			     : "exited",
		c->running ? f->pid : 0L, c->exit_code, c->oom_killed ? "true" : "false");
	if (c->has_port && c->running)
		str_add(&s, "\"8000/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"32768\"}]");
	str_add(&s, "}}}");
	return say(f, fd, 200, str_c(&s));
}

static bool start(struct fake_docker *f, int fd, struct fake_container *c)
{
	if (c->started)
		return say(f, fd, 304, "");
	c->started = c->running = true;
	pthread_create(&c->thread, NULL, run, c);
	return say(f, fd, 204, "");
}

/* Locked; sleeps as long as an engine would that ignores SIGTERM. */
static bool stop(struct fake_docker *f, int fd, struct fake_container *c, const char *line)
{
	_cleanup_free_ char *t = query(line, "t");
	struct timespec until;
	long grace = strtol(t, NULL, 10);

	if (!c->running)
		return say(f, fd, 304, "");
	if (!f->program.ignores_term) {
		fake_end_container(f, c, 143);
		return say(f, fd, 204, "");
	}
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += grace;
	while (c->running && !f->stopping && !f->down)
		if (pthread_cond_timedwait(&f->changed, &f->lock, &until) != 0)
			break;
	fake_end_container(f, c, 137);
	return say(f, fd, 204, "");
}

static bool kill_it(struct fake_docker *f, int fd, struct fake_container *c)
{
	if (!c->running)
		return say_message(f, fd, 409, "cannot kill container: container is not running");
	fake_end_container(f, c, 137);
	return say(f, fd, 204, "");
}

static bool delete_it(struct fake_docker *f, int fd, struct fake_container *c)
{
	fake_end_container(f, c, 137);
	c->removed = true;
	return say(f, fd, 204, "");
}

/* Docker sends the head at once and the body when it has ended. */
static bool wait_for(struct fake_docker *f, int fd, struct fake_container *c)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n";
	_cleanup_free_ char *body = NULL, *chunk = NULL;

	(void)fake_send(fd, head, sizeof(head) - 1);
	while (c->running && !f->stopping && !f->down)
		pthread_cond_wait(&f->changed, &f->lock);
	if (f->down)
		return false;
	body = lem_asprintf("{\"StatusCode\":%d}", c->exit_code);
	chunk = lem_asprintf("%zx\r\n%s\r\n0\r\n\r\n", strlen(body), body);
	return fake_send(fd, chunk, strlen(chunk));
}

/* ---- its standard streams ---- */

static void echo_line(struct fake_docker *f, struct fake_container *c, int fd, const char *line)
{
	_cleanup_str_ struct str s = STR_INIT;
	size_t n = strlen(line) + 1;

	if (str_starts(line, "exit ")) {
		pthread_mutex_lock(&f->lock);
		fake_end_container(f, c, (int)strtol(line + 5, NULL, 10));
		pthread_mutex_unlock(&f->lock);
		return;
	}
	str_addn(&s, "\1\0\0", 4);
	str_addc(&s, (char)(n >> 24));
	str_addc(&s, (char)(n >> 16));
	str_addc(&s, (char)(n >> 8));
	str_addc(&s, (char)n);
	str_addf(&s, "%s\n", line);
	(void)fake_send(fd, str_c(&s), s.len);
}

/* Reads its stdin until it ends; in: what came behind the request. */
static void read_stdin(struct fake_docker *f, struct fake_container *c, int fd, struct str *in)
{
	char buf[4096];
	ssize_t n;

	do {
		char *end;

		while (f->program.echo && in->len && (end = memchr(in->buf, '\n', in->len))) {
			_cleanup_free_ char *line = lem_strndup(in->buf, (size_t)(end - in->buf));
			size_t used = strlen(line) + 1;

			memmove(in->buf, in->buf + used, in->len - used);
			in->len -= used;
			echo_line(f, c, fd, line);
		}
		n = read(fd, buf, sizeof(buf));
		if (n > 0)
			str_addn(in, buf, (size_t)n);
	} while (n > 0);
	pthread_mutex_lock(&f->lock);
	if (f->program.echo)
		fake_end_container(f, c, 0);
	pthread_mutex_unlock(&f->lock);
}

static bool attach(struct fake_docker *f, int fd, struct fake_container *c, struct str *in)
{
	static const char head[] =
		"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\n"
		"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n";

	c->attach_fd = fd;
	(void)fake_send(fd, head, sizeof(head) - 1);
	pthread_mutex_unlock(&f->lock);
	read_stdin(f, c, fd, in);
	pthread_mutex_lock(&f->lock);
	/* without echo a half-closed stdin does not end it: the connection lasts as long as it */
	while (c->running && !f->stopping && !f->down && !c->removed)
		pthread_cond_wait(&f->changed, &f->lock);
	return false;
}

/* ---- requests ---- */

static bool act_on_container(struct fake_docker *f, int fd, const char *line, const char *rest,
			     struct str *in)
{
	struct fake_container *c = find(f, rest);
	const char *verb = strchr(rest, '/');
	bool get = str_starts(line, "GET ");

	if (!c)
		return say_no_container(f, fd);
	if (str_starts(line, "DELETE "))
		return delete_it(f, fd, c);
	if (!verb)
		return say_message(f, fd, 404, "page not found");
	if (get && str_starts(verb, "/json"))
		return inspect(f, fd, c);
	if (str_starts(verb, "/attach"))
		return attach(f, fd, c, in);
	if (str_starts(verb, "/start"))
		return start(f, fd, c);
	if (str_starts(verb, "/wait"))
		return wait_for(f, fd, c);
	if (str_starts(verb, "/stop"))
		return stop(f, fd, c, line);
	if (str_starts(verb, "/kill"))
		return kill_it(f, fd, c);
	return say_message(f, fd, 404, "page not found");
}

static bool pull(struct fake_docker *f, int fd)
{
	f->image = f->image_after_pull;
	return say(f, fd, 200,
		   "{\"status\":\"Pulling from r/engine\"}\r\n"
		   "{\"status\":\"Downloading\",\"id\":\"aa\",\"progressDetail\":"
		   "{\"current\":50,\"total\":100}}\r\n"
		   "{\"status\":\"Downloading\",\"id\":\"bb\",\"progressDetail\":"
		   "{\"current\":10,\"total\":300}}\r\n"
		   "{\"status\":\"Extracting\",\"id\":\"aa\",\"progressDetail\":{\"current\":1,"
		   "\"total\":2}}\r\n"
		   "{\"status\":\"Download complete\",\"id\":\"bb\"}\r\n");
}

static bool act(struct fake_docker *f, int fd, const char *line, const char *body, struct str *in)
{
	static const char container[] = " /containers/";
	const char *rest = strstr(line, container);

	if (str_starts(line, "GET /_ping"))
		return say(f, fd, 200, "OK");
	if (str_starts(line, "GET /info"))
		return say(f, fd, 200, f->info);
	if (str_starts(line, "POST /images/create"))
		return pull(f, fd);
	if (str_starts(line, "GET /images/"))
		return f->image ? say(f, fd, 200, f->image)
				: say_message(f, fd, 404, "No such image: x");
	if (str_starts(line, "POST /containers/create"))
		return create(f, fd, line, body);
	if (str_starts(line, "GET /containers/json"))
		return list(f, fd);
	if (rest)
		return act_on_container(f, fd, line, rest + sizeof(container) - 1, in);
	return say_message(f, fd, 404, "page not found");
}

bool fake_act(struct fake_docker *f, int fd, const char *line, const char *body, struct str *in)
{
	bool more;

	pthread_mutex_lock(&f->lock);
	more = act(f, fd, line, body, in);
	pthread_mutex_unlock(&f->lock);
	return more;
}

/* ---- what the test says and asks ---- */

void fake_add_container(struct fake_docker *f, const char *id, const char *name, const char *owner)
{
	_cleanup_free_ char *labels =
		owner ? lem_asprintf("{\"lem\":\"1\",\"lem.run\":\"x\",\"lem.owner\":\"%s\"}",
				     owner)
		      : lem_strdup("{}");

	pthread_mutex_lock(&f->lock);
	add(f, id, name, labels);
	pthread_mutex_unlock(&f->lock);
}

bool fake_has_container(struct fake_docker *f, const char *id)
{
	bool there;

	pthread_mutex_lock(&f->lock);
	there = find(f, id) != NULL;
	pthread_mutex_unlock(&f->lock);
	return there;
}

size_t fake_containers(struct fake_docker *f)
{
	size_t n = 0;

	pthread_mutex_lock(&f->lock);
	for (size_t i = 0; i < f->n_containers; i++)
		n += f->containers[i].removed ? 0 : 1;
	pthread_mutex_unlock(&f->lock);
	return n;
}
