#include "runner/docker_body.h"

#include "base/jsonw.h"
#include "model/gpu_binding.h"

/* routing.md sections 10 and 15: what NCCL and the engines need. */
enum { SHM_MIN_GIB = 8, STACK_BYTES = 64 << 20 };
#define GIB          (INT64_C(1) << 30)
#define LOG_MAX_SIZE "64m" /* of one file; the last two are kept */
#define LOG_FILES    "2"

/* ---- what both forms say ---- */

static size_t n_gpus(const struct launch_spec *s)
{
	return s->binding ? s->binding->n : 0;
}

static const struct gpu_device_request *request_of(const struct launch_spec *s)
{
	static const struct gpu_device_request none;

	return n_gpus(s) ? &s->binding->request : &none;
}

static bool has_devices(const struct launch_spec *s)
{
	const struct gpu_device_request *q = request_of(s);

	return q->driver && q->ids && q->ids[0];
}

static int64_t shm_bytes(const struct launch_spec *s)
{
	return s->shm_bytes ? s->shm_bytes : MAX((int64_t)SHM_MIN_GIB, (int64_t)n_gpus(s)) * GIB;
}

/* On the host's network a port is the host's already; without a network there is none. */
static bool publishes(const struct launch_spec *s)
{
	return s->port > 0 && !str_eq(s->network, "host") && !str_eq(s->network, "none");
}

static int64_t stop_timeout_s(const struct launch_spec *s)
{
	return (s->stop_grace_ns + NS_PER_S - 1) / NS_PER_S;
}

static size_t name_len(const char *entry)
{
	return strcspn(entry, "=");
}

static bool same_name(const char *a, const char *b)
{
	return name_len(a) == name_len(b) && memcmp(a, b, name_len(a)) == 0;
}

/* A variable written twice is read differently by libc (the first) and by the NVIDIA runtime (the
 * last, routing.md section 1): only the last goes out. */
static bool overridden(const char *const *entry)
{
	for (const char *const *later = entry + 1; *later; later++)
		if (same_name(*later, *entry))
			return true;
	return false;
}

static bool is_secret(const struct launch_spec *s, const char *entry)
{
	for (const char *const *p = s->secrets; p && *p; p++)
		if (same_name(*p, entry))
			return true;
	return false;
}

struct label {
	const char *name;
	char *value;
};

/* Sorted as they are written; a value is NULL when there is nothing to say. */
struct labels {
	struct label at[6];
	size_t n;
};

static void labels_release(struct labels *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->at[i].value);
}
#define _cleanup_labels_ _cleanup_(labels_release)

static void add_label(struct labels *l, const char *name, const char *value)
{
	if (value)
		l->at[l->n++] = (struct label){name, lem_strdup(value)};
}

static void add_gpu_labels(struct labels *l, const struct launch_spec *s)
{
	_cleanup_str_ struct str uuids = STR_INIT, indices = STR_INIT;

	if (!n_gpus(s))
		return;
	for (size_t i = 0; i < n_gpus(s); i++) {
		str_addf(&uuids, "%s%s", i ? "," : "", s->binding->gpus[i].uuid);
		str_addf(&indices, "%s%d", i ? "," : "", s->binding->gpus[i].index);
	}
	add_label(l, "lem.gpus.uuid", str_c(&uuids));
	add_label(l, "lem.gpus.host_index", str_c(&indices));
}

static void make_labels(const struct launch_spec *s, const struct docker_body_options *o,
			struct labels *ret)
{
	add_label(ret, "lem", "1");
	add_label(ret, "lem.run", s->run_id);
	add_label(ret, "lem.experiment", s->experiment);
	add_gpu_labels(ret, s);
	add_label(ret, "lem.owner", o->owner);
}

/* ---- the create request ---- */

static void write_list(struct jsonw *w, const char *key, const char *const *list)
{
	jsonw_array(w, key);
	for (; list && *list; list++)
		jsonw_str(w, NULL, *list);
	jsonw_end_array(w);
}

static void write_env(struct jsonw *w, const struct launch_spec *s,
		      const struct docker_body_options *o)
{
	jsonw_array(w, "Env");
	for (const char *const *e = s->env; e && *e; e++) {
		_cleanup_str_ struct str hidden = STR_INIT;

		if (overridden(e))
			continue;
		if (is_secret(s, *e) && !o->show_secrets) {
			str_addn(&hidden, *e, name_len(*e));
			str_add(&hidden, "=***");
		}
		jsonw_str(w, NULL, hidden.len ? str_c(&hidden) : *e);
	}
	jsonw_end_array(w);
}

static void write_labels(struct jsonw *w, const struct launch_spec *s,
			 const struct docker_body_options *o)
{
	_cleanup_labels_ struct labels l = {.n = 0};

	make_labels(s, o, &l);
	jsonw_object(w, "Labels");
	for (size_t i = 0; i < l.n; i++)
		jsonw_str(w, l.at[i].name, l.at[i].value);
	jsonw_end_object(w);
}

/* Count stays absent: 0 beside DeviceIDs, as the API wants it. */
static void write_devices(struct jsonw *w, const struct launch_spec *s)
{
	const struct gpu_device_request *q = request_of(s);

	if (!has_devices(s))
		return;
	jsonw_array(w, "DeviceRequests");
	jsonw_object(w, NULL);
	jsonw_str(w, "Driver", q->driver);
	write_list(w, "DeviceIDs", q->ids);
	if (!str_eq(q->driver, "cdi")) { /* the hook reads the driver's capabilities from here */
		static const char *const capabilities[] = {"gpu", "compute", "utility", NULL};

		jsonw_array(w, "Capabilities");
		write_list(w, NULL, capabilities);
		jsonw_end_array(w);
	}
	jsonw_end_object(w);
	jsonw_end_array(w);
}

static void write_ulimit(struct jsonw *w, const char *name, int64_t value)
{
	jsonw_object(w, NULL);
	jsonw_str(w, "Name", name);
	jsonw_i64(w, "Soft", value);
	jsonw_i64(w, "Hard", value);
	jsonw_end_object(w);
}

static void write_ulimits(struct jsonw *w, const struct docker_body_options *o)
{
	if (o->rootless)
		return;
	jsonw_array(w, "Ulimits");
	write_ulimit(w, "memlock", -1);
	write_ulimit(w, "stack", STACK_BYTES);
	jsonw_end_array(w);
}

static void write_port_bindings(struct jsonw *w, const struct launch_spec *s)
{
	char name[24];

	if (!publishes(s))
		return;
	(void)snprintf(name, sizeof(name), "%d/tcp", s->port);
	jsonw_object(w, "PortBindings");
	jsonw_array(w, name);
	jsonw_object(w, NULL);
	jsonw_str(w, "HostIp", "127.0.0.1");
	jsonw_str(w, "HostPort", ""); /* a free one */
	jsonw_end_object(w);
	jsonw_end_array(w);
	jsonw_end_object(w);
}

static void write_log_config(struct jsonw *w)
{
	jsonw_object(w, "LogConfig");
	jsonw_str(w, "Type", "json-file");
	jsonw_object(w, "Config");
	jsonw_str(w, "max-size", LOG_MAX_SIZE);
	jsonw_str(w, "max-file", LOG_FILES);
	jsonw_end_object(w);
	jsonw_end_object(w);
}

static void write_host_config(struct jsonw *w, const struct launch_spec *s,
			      const struct docker_body_options *o)
{
	jsonw_object(w, "HostConfig");
	if (request_of(s)->runtime)
		jsonw_str(w, "Runtime", request_of(s)->runtime);
	write_devices(w, s);
	jsonw_bool(w, "Privileged", false);
	jsonw_bool(w, "AutoRemove", false); /* a crash must leave evidence */
	jsonw_bool(w, "Init", true);
	jsonw_i64(w, "ShmSize", shm_bytes(s));
	jsonw_str(w, "IpcMode", "private");
	if (s->network)
		jsonw_str(w, "NetworkMode", s->network);
	write_port_bindings(w, s);
	write_ulimits(w, o);
	if (s->binds && s->binds[0])
		write_list(w, "Binds", s->binds);
	write_log_config(w);
	jsonw_end_object(w);
}

static void write_streams(struct jsonw *w, const struct docker_body_options *o)
{
	jsonw_bool(w, "Tty", false);
	jsonw_bool(w, "OpenStdin", o->open_stdin);
	jsonw_bool(w, "StdinOnce", o->open_stdin); /* lem's end closes its stdin */
	jsonw_bool(w, "AttachStdin", o->open_stdin);
	jsonw_bool(w, "AttachStdout", true);
	jsonw_bool(w, "AttachStderr", true);
}

static void write_exposed_ports(struct jsonw *w, const struct launch_spec *s)
{
	char name[24];

	if (!publishes(s))
		return;
	(void)snprintf(name, sizeof(name), "%d/tcp", s->port);
	jsonw_object(w, "ExposedPorts");
	jsonw_object(w, name);
	jsonw_end_object(w);
	jsonw_end_object(w);
}

void docker_body_json(const struct launch_spec *spec, const struct docker_body_options *o,
		      struct str *out)
{
	const char *const entrypoint[] = {spec->entrypoint, NULL};
	struct jsonw w;

	jsonw_init(&w, out, o->indent);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "Image", spec->image);
	if (spec->entrypoint)
		write_list(&w, "Entrypoint", entrypoint);
	write_list(&w, "Cmd", spec->argv);
	write_env(&w, spec, o);
	if (spec->cwd)
		jsonw_str(&w, "WorkingDir", spec->cwd);
	if (spec->user)
		jsonw_str(&w, "User", spec->user);
	write_labels(&w, spec, o);
	write_streams(&w, o);
	write_exposed_ports(&w, spec);
	jsonw_str(&w, "StopSignal", "SIGTERM");
	jsonw_i64(&w, "StopTimeout", stop_timeout_s(spec));
	write_host_config(&w, spec, o);
	jsonw_end_object(&w);
}

/* ---- the command line ---- */

static bool is_plain(const char *word)
{
	static const char plain[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";

	return *word && word[strspn(word, plain)] == '\0';
}

static void add_word(struct str *out, const char *word)
{
	if (out->len)
		str_addc(out, ' ');
	if (is_plain(word)) {
		str_add(out, word);
		return;
	}
	str_addc(out, '\'');
	for (; *word; word++) {
		if (*word == '\'')
			str_add(out, "'\\''");
		else
			str_addc(out, *word);
	}
	str_addc(out, '\'');
}

static void add_option(struct str *out, const char *option, const char *value)
{
	add_word(out, option);
	add_word(out, value);
}

static void add_optionf(struct str *out, const char *option, const char *fmt, ...) _printf_(3, 4);
static void add_optionf(struct str *out, const char *option, const char *fmt, ...)
{
	_cleanup_str_ struct str value = STR_INIT;
	va_list ap;

	va_start(ap, fmt);
	str_vaddf(&value, fmt, ap);
	va_end(ap);
	add_option(out, option, str_c(&value));
}

/* --gpus takes a record of comma-separated values, so a list of ids needs quotes of its own. */
static void add_devices(struct str *out, const struct launch_spec *s)
{
	const struct gpu_device_request *q = request_of(s);
	_cleanup_str_ struct str gpus = STR_INIT;

	if (q->runtime)
		add_optionf(out, "--runtime", "%s", q->runtime);
	if (!has_devices(s))
		return;
	for (const char *const *id = q->ids; *id; id++) {
		if (str_eq(q->driver, "cdi"))
			add_option(out, "--device", *id);
		else
			str_addf(&gpus, "%s%s", gpus.len ? "," : "\"device=", *id);
	}
	if (gpus.len)
		add_optionf(out, "--gpus", "%s\"", str_c(&gpus));
}

/* A secret goes by name: the client takes its value from its own environment. */
static void add_env(struct str *out, const struct launch_spec *s)
{
	for (const char *const *e = s->env; e && *e; e++) {
		if (overridden(e))
			continue;
		if (is_secret(s, *e))
			add_optionf(out, "-e", "%.*s", (int)name_len(*e), *e);
		else
			add_option(out, "-e", *e);
	}
}

static void add_labels(struct str *out, const struct launch_spec *s,
		       const struct docker_body_options *o)
{
	_cleanup_labels_ struct labels l = {.n = 0};

	make_labels(s, o, &l);
	for (size_t i = 0; i < l.n; i++)
		add_optionf(out, "--label", "%s=%s", l.at[i].name, l.at[i].value);
}

static void add_limits(struct str *out, const struct launch_spec *s,
		       const struct docker_body_options *o)
{
	add_optionf(out, "--shm-size", "%" PRId64, shm_bytes(s));
	add_option(out, "--ipc", "private");
	if (!o->rootless) {
		add_option(out, "--ulimit", "memlock=-1");
		add_optionf(out, "--ulimit", "stack=%d", (int)STACK_BYTES);
	}
	add_option(out, "--stop-signal", "SIGTERM");
	add_optionf(out, "--stop-timeout", "%" PRId64, stop_timeout_s(s));
	add_option(out, "--log-driver", "json-file");
	add_option(out, "--log-opt", "max-size=" LOG_MAX_SIZE);
	add_option(out, "--log-opt", "max-file=" LOG_FILES);
}

static void add_place(struct str *out, const struct launch_spec *s)
{
	if (s->network)
		add_option(out, "--network", s->network);
	if (publishes(s))
		add_optionf(out, "-p", "127.0.0.1::%d", s->port);
	for (const char *const *b = s->binds; b && *b; b++)
		add_option(out, "-v", *b);
	if (s->user)
		add_option(out, "--user", s->user);
	if (s->cwd)
		add_option(out, "--workdir", s->cwd);
	if (s->entrypoint)
		add_option(out, "--entrypoint", s->entrypoint);
}

void docker_run_line(const struct launch_spec *spec, const struct docker_body_options *o,
		     struct str *out)
{
	_cleanup_str_ struct str line = STR_INIT;
	bool podman = n_gpus(spec) && str_eq(spec->binding->path, "podman-cdi");

	add_word(&line, podman ? "podman" : "docker");
	add_word(&line, "run");
	add_word(&line, o->open_stdin ? "-i" : "-d");
	if (o->name)
		add_option(&line, "--name", o->name);
	add_word(&line, "--init");
	add_devices(&line, spec);
	add_env(&line, spec);
	add_labels(&line, spec, o);
	add_limits(&line, spec, o);
	add_place(&line, spec);
	add_word(&line, spec->image);
	for (const char *const *p = spec->argv; *p; p++)
		add_word(&line, *p);
	str_add(out, str_c(&line));
}
