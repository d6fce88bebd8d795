#include "runner/docker_answers.h"

#include <jansson.h>

static inline void cleanup_json(json_t **j)
{
	json_decref(*j);
}
#define _cleanup_json_ _cleanup_(cleanup_json)

static json_t *parse(const char *text, struct lem_error *err)
{
	json_t *j = json_loads(text, 0, NULL);

	if (!j)
		lem_fail(err, LEM_E_PARSE, "the container engine's answer is not JSON: %.80s",
			 *text ? text : "(empty)");
	return j;
}

static json_t *parse_object(const char *text, struct lem_error *err)
{
	json_t *j = parse(text, err);

	if (!j || json_is_object(j))
		return j;
	json_decref(j);
	lem_fail(err, LEM_E_PARSE, "the container engine's answer is no JSON object: %.80s", text);
	return NULL;
}

/* Ids go into the paths of later requests. */
static bool is_hex(const char *id)
{
	return id && *id && id[strspn(id, "0123456789abcdefABCDEF")] == '\0';
}

static const char *text_of(const json_t *j, struct arena *a)
{
	return json_is_string(j) ? arena_strdup(a, json_string_value(j)) : NULL;
}

static const char *get_text(const json_t *o, const char *key, struct arena *a)
{
	return text_of(json_object_get(o, key), a);
}

static int64_t get_i64(const json_t *o, const char *key)
{
	const json_t *j = json_object_get(o, key);

	return json_is_integer(j) ? (int64_t)json_integer_value(j) : 0;
}

static uint64_t get_u64(const json_t *o, const char *key)
{
	int64_t v = get_i64(o, key);

	return v > 0 ? (uint64_t)v : 0;
}

static bool get_bool(const json_t *o, const char *key)
{
	return json_is_true(json_object_get(o, key));
}

/* An array of strings; NULL-terminated, other items left out. Never NULL. */
static const char *const *get_list(const json_t *o, const char *key, struct arena *a)
{
	const json_t *list = json_object_get(o, key);
	size_t n = json_array_size(list), k = 0;
	const char **at = arena_array(a, n + 1, sizeof(*at));

	for (size_t i = 0; i < n; i++)
		if (json_is_string(json_array_get(list, i)))
			at[k++] = text_of(json_array_get(list, i), a);
	return at;
}

static const char *const *get_keys(const json_t *o, const char *key, struct arena *a)
{
	json_t *map = json_object_get(o, key);
	const char **at = arena_array(a, json_object_size(map) + 1, sizeof(*at));
	const char *name;
	json_t *value;
	size_t n = 0;

	json_object_foreach (map, name, value)
		at[n++] = arena_strdup(a, name);
	return at;
}

static const char *const *get_cdi_devices(const json_t *o, struct arena *a)
{
	const json_t *list = json_object_get(o, "DiscoveredDevices");
	size_t n = json_array_size(list), k = 0;
	const char **at = arena_array(a, n + 1, sizeof(*at));

	for (size_t i = 0; i < n; i++) {
		const json_t *d = json_array_get(list, i);
		const char *id = json_string_value(json_object_get(d, "ID"));
		const char *source = json_string_value(json_object_get(d, "Source"));

		if (id && str_eq(source ? source : "", "cdi"))
			at[k++] = arena_strdup(a, id);
	}
	return at;
}

static bool any_starts(const char *const *list, const char *prefix)
{
	for (; *list; list++)
		if (str_starts(*list, prefix))
			return true;
	return false;
}

int docker_parse_info(const char *text, struct arena *a, struct docker_info *ret,
		      struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const char *const *security;

	if (!j)
		return -LEM_E_PARSE;
	security = get_list(j, "SecurityOptions", a);
	*ret = (struct docker_info){
		.server_version = get_text(j, "ServerVersion", a),
		.operating_system = get_text(j, "OperatingSystem", a),
		.architecture = get_text(j, "Architecture", a),
		.root_dir = get_text(j, "DockerRootDir", a),
		.cgroup_driver = get_text(j, "CgroupDriver", a),
		.cgroup_version = get_text(j, "CgroupVersion", a),
		.default_runtime = get_text(j, "DefaultRuntime", a),
		.runtimes = get_keys(j, "Runtimes", a),
		.cdi_spec_dirs = get_list(j, "CDISpecDirs", a),
		.cdi_listed = json_object_get(j, "DiscoveredDevices") != NULL,
		.cdi_devices = get_cdi_devices(j, a),
		.warnings = get_list(j, "Warnings", a),
		.rootless = any_starts(security, "name=rootless") || get_bool(j, "Rootless"),
		.selinux = any_starts(security, "name=selinux"),
		/* Podman's own words for what Docker has no field for */
		.podman = json_object_get(j, "BuildahVersion") != NULL,
		.n_cpus = get_i64(j, "NCPU"),
		.memory_bytes = get_i64(j, "MemTotal"),
	};
	return 0;
}

bool docker_drops_requests(const struct docker_info *i)
{
	int major = 0, minor = 0;

	if (!i->podman)
		return false;
	if (!i->server_version || sscanf(i->server_version, "%d.%d", &major, &minor) != 2)
		return true;
	return major < 5 || (major == 5 && minor < 4);
}

/* "repo@sha256:…" → the digest alone. */
static const char *repo_digest(const json_t *j, struct arena *a)
{
	const json_t *list = json_object_get(j, "RepoDigests");
	const char *text = json_string_value(json_array_get(list, 0));
	const char *at = text ? strchr(text, '@') : NULL;

	return at ? arena_strdup(a, at + 1) : NULL;
}

int docker_parse_image(const char *text, struct arena *a, struct docker_image *ret,
		       struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const json_t *config = json_object_get(j, "Config");
	struct docker_image image;

	if (!j)
		return -LEM_E_PARSE;
	image = (struct docker_image){
		.id = get_text(j, "Id", a),
		.digest = repo_digest(j, a),
		.architecture = get_text(j, "Architecture", a),
		.os = get_text(j, "Os", a),
		.env = get_list(config, "Env", a),
		.entrypoint = get_list(config, "Entrypoint", a),
		.cmd = get_list(config, "Cmd", a),
		.size_bytes = get_i64(j, "Size"),
	};
	if (!image.id)
		return lem_fail(err, LEM_E_PARSE,
				"the container engine tells an image without an id");
	*ret = image;
	return 0;
}

/* The first published port: {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}]}. */
static int host_port(const json_t *j)
{
	json_t *ports = json_object_get(json_object_get(j, "NetworkSettings"), "Ports");
	const char *name;
	json_t *bindings;

	json_object_foreach (ports, name, bindings) {
		const char *text =
			json_string_value(json_object_get(json_array_get(bindings, 0), "HostPort"));
		int v = 0;

		for (; text && *text >= '0' && *text <= '9' && v < 100000; text++)
			v = v * 10 + (*text - '0');
		if (v > 0 && v < 65536)
			return v;
	}
	return 0;
}

int docker_parse_state(const char *text, struct arena *a, struct docker_state *ret,
		       struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const json_t *s = json_object_get(j, "State");
	const char *status = json_string_value(json_object_get(s, "Status"));

	if (!j)
		return -LEM_E_PARSE;
	if (!status)
		return lem_fail(err, LEM_E_PARSE,
				"the container engine tells a container without a state");
	*ret = (struct docker_state){
		.status = arena_strdup(a, status),
		.exit_code = get_i64(s, "ExitCode"),
		.pid = get_i64(s, "Pid"),
		.oom_killed = get_bool(s, "OOMKilled"),
		.error = get_text(s, "Error", a),
		.started_at = get_text(s, "StartedAt", a),
		.finished_at = get_text(s, "FinishedAt", a),
		.image_id = get_text(j, "Image", a),
		.host_port = host_port(j),
	};
	return 0;
}

int docker_parse_stats(const char *text, struct docker_stats *ret, struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const json_t *memory = json_object_get(j, "memory_stats");
	const json_t *detail = json_object_get(memory, "stats");
	const json_t *cpu = json_object_get(json_object_get(j, "cpu_stats"), "cpu_usage");
	uint64_t cache = get_u64(detail, "inactive_file"), usage = get_u64(memory, "usage");

	if (!j)
		return -LEM_E_PARSE;
	if (!cache)
		cache = get_u64(detail, "total_inactive_file"); /* cgroup v1 */
	*ret = (struct docker_stats){
		.cpu_s = (double)get_u64(cpu, "total_usage") / 1e9,
		.memory_bytes = usage > cache ? usage - cache : usage,
		.memory_peak_bytes = get_u64(memory, "max_usage"),
	};
	return 0;
}

int docker_parse_list(const char *text, struct arena *a, struct docker_listed **ret, size_t *ret_n,
		      struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse(text, err);
	size_t n = json_array_size(j), k = 0;
	struct docker_listed *at = arena_array(a, n + 1, sizeof(*at));

	if (!j)
		return -LEM_E_PARSE;
	if (!json_is_array(j))
		return lem_fail(err, LEM_E_PARSE, "the container engine told no list: %.80s", text);
	for (size_t i = 0; i < n; i++) {
		const json_t *c = json_array_get(j, i), *labels = json_object_get(c, "Labels");
		const char *name =
			json_string_value(json_array_get(json_object_get(c, "Names"), 0));

		if (!is_hex(json_string_value(json_object_get(c, "Id"))))
			continue;
		at[k++] = (struct docker_listed){
			.id = get_text(c, "Id", a),
			.name = name ? arena_strdup(a, *name == '/' ? name + 1 : name) : "",
			.state = get_text(c, "State", a),
			.image = get_text(c, "Image", a),
			.run = get_text(labels, "lem.run", a),
			.lease = get_text(labels, "lem.owner", a),
		};
	}
	*ret = at;
	*ret_n = k;
	return 0;
}

int docker_parse_id(const char *text, struct arena *a, const char **ret_id, struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const char *id = json_string_value(json_object_get(j, "Id"));

	if (!j)
		return -LEM_E_PARSE;
	if (!is_hex(id))
		return lem_fail(err, LEM_E_PARSE, "the container engine gave no container id");
	*ret_id = arena_strdup(a, id);
	return 0;
}

int docker_parse_exit_code(const char *text, int64_t *ret, struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const json_t *code = json_object_get(j, "StatusCode");

	if (!j)
		return -LEM_E_PARSE;
	if (!json_is_integer(code))
		return lem_fail(err, LEM_E_PARSE, "the container engine told no exit status");
	*ret = (int64_t)json_integer_value(code);
	return 0;
}

const char *docker_parse_message(const char *text, struct arena *a)
{
	_cleanup_json_ json_t *j = json_loads(text, 0, NULL);
	const char *message = json_string_value(json_object_get(j, "message"));

	if (!message && *text == '<')
		return "no message, but a web page"; /* of a proxy in between */
	return arena_printf(a, "%.400s", message ? message : *text ? text : "no message");
}

int docker_parse_pull_line(const char *text, struct arena *a, struct docker_pull_line *ret,
			   struct lem_error *err)
{
	_cleanup_json_ json_t *j = parse_object(text, err);
	const json_t *detail = json_object_get(j, "errorDetail");
	const json_t *progress = json_object_get(j, "progressDetail");
	const char *error;

	if (!j)
		return -LEM_E_PARSE;
	error = get_text(detail, "message", a);
	*ret = (struct docker_pull_line){
		.error = error ? error : get_text(j, "error", a),
		.status = get_text(j, "status", a),
		.layer = get_text(j, "id", a),
		.done = get_u64(progress, "current"),
		.total = get_u64(progress, "total"),
	};
	return 0;
}
