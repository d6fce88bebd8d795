/*
 * gather_engine.c — asks the container engine about itself, and reads what the host's files say of
 * its GPUs: CDI specifications and the NVIDIA Container Toolkit's configuration.
 */
#include <sys/timerfd.h>

#include "doctor/facts.h"
#include "runner/lease.h"
#include "sys/fs.h"

enum { TOOLKIT_MAX = 256 << 10 };

/* ---- the toolkit's config.toml ---- */

/* "true" 1, "false" 0, else -1. */
static int boolean(const char *v)
{
	return str_eq(v, "true") ? 1 : str_eq(v, "false") ? 0 : -1;
}

static void take_key(struct doctor_toolkit *t, const char *section, const char *key,
		     const char *value, struct arena *a)
{
	if (str_eq(section, "") &&
	    str_eq(key, "accept-nvidia-visible-devices-envvar-when-unprivileged"))
		t->accepts_envvar = boolean(value);
	else if (str_eq(section, "nvidia-container-cli") && str_eq(key, "no-cgroups"))
		t->no_cgroups = boolean(value);
	else if (str_eq(section, "nvidia-container-runtime") && str_eq(key, "mode"))
		t->mode = arena_strdup(a, value);
}

static char *trim(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	for (n = strlen(s); n && strchr(" \t\r", s[n - 1]); n--)
		s[n - 1] = '\0';
	return s;
}

static void take_line(char *line, char *section, size_t section_size, struct doctor_toolkit *t,
		      struct arena *a)
{
	char *eq, *s = trim(line);

	s[strcspn(s, "#")] = '\0'; /* no value that is read here has a # in it */
	s = trim(s);
	if (*s == '[') {
		s[strcspn(s, "]")] = '\0';
		lem_strlcpy(section, trim(s + 1), section_size);
		return;
	}
	eq = strchr(s, '=');
	if (!eq)
		return;
	*eq = '\0';
	char *value = trim(eq + 1);
	size_t n = strlen(value);

	if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0]) {
		value[n - 1] = '\0';
		value++;
	}
	take_key(t, section, trim(s), value, a);
}

void doctor_parse_toolkit(const char *text, struct arena *a, struct doctor_toolkit *ret)
{
	_cleanup_free_ char *copy = lem_strdup(text);
	char section[128] = "", *save = NULL;

	ret->mode = NULL;
	ret->accepts_envvar = ret->no_cgroups = -1;
	for (char *l = strtok_r(copy, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		take_line(l, section, sizeof(section), ret, a);
}

static void read_toolkit(struct doctor_facts *f)
{
	static const char *const programs[] = {
		"/usr/bin/nvidia-ctk", "/usr/bin/nvidia-container-runtime",
		"/usr/bin/nvidia-container-cli", "/usr/local/bin/nvidia-ctk"};
	_cleanup_free_ char *path = doctor_path("/etc/nvidia-container-runtime/config.toml");
	_cleanup_str_ struct str text = STR_INIT;

	if (fs_read_file(path, TOOLKIT_MAX, &text, NULL) < 0)
		str_reset(&text);
	doctor_parse_toolkit(str_c(&text), &f->arena, &f->toolkit);
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		_cleanup_free_ char *program = doctor_path(programs[i]);

		f->toolkit.installed |= fs_exists(program);
	}
}

/* ---- the engine ---- */

/* Readable when the time is up: no call to a daemon that hangs outlives it. */
static int open_deadline(int64_t ns)
{
	struct itimerspec when = {.it_value = {.tv_sec = ns / NS_PER_S}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd >= 0)
		timerfd_settime(fd, 0, &when, NULL);
	return fd;
}

static enum doctor_answer answer_of(const struct lem_error *err)
{
	if (err->code == LEM_E_INTERRUPTED || err->code == LEM_E_TIMEOUT)
		return ANSWER_TIMED_OUT;
	if (err->code == LEM_E_NOT_FOUND)
		return ANSWER_ABSENT;
	return strcasestr(err->what, "permission") || strcasestr(err->why, "permission")
		       ? ANSWER_REFUSED
		       : ANSWER_FAILED;
}

/* Containers whose lem has gone. Whoever cannot be told (another host) is left alone. */
static void find_leftovers(struct doctor_facts *f, struct docker *d)
{
	struct docker_listed *all = NULL;
	struct docker_listed *left;
	size_t n = 0;

	if (docker_list(d, &f->arena, &all, &n, NULL) < 0)
		return;
	left = arena_array(&f->arena, n + 1, sizeof(*left));
	for (size_t i = 0; i < n; i++)
		if (lease_is_dead(all[i].lease))
			left[f->engine.n_leftovers++] = all[i];
	f->engine.leftovers = left;
}

static int ask(struct doctor_facts *f, int deadline_fd, struct lem_error *err)
{
	struct doctor_engine *e = &f->engine;
	_cleanup_docker_ struct docker *d = NULL;
	int rc = docker_open(NULL, deadline_fd, &d, err);

	if (rc < 0)
		return rc;
	e->socket = arena_strdup(&f->arena, docker_socket(d));
	e->api_version = arena_strdup(&f->arena, docker_api_version(d));
	rc = docker_info(d, &f->arena, &e->info, err);
	if (rc >= 0)
		find_leftovers(f, d);
	return rc;
}

/* "container_use_devices" is 1 when containers may open devices: "CURRENT PENDING". */
static int selinux_allows(void)
{
	_cleanup_free_ char *path = doctor_path("/sys/fs/selinux/booleans/container_use_devices");
	char line[16];

	if (!fs_read_line(path, line, sizeof(line)))
		return -1;
	return line[0] == '1';
}

static const char *const *names_of(const struct cdi_registry *r, struct arena *a)
{
	const char **names = arena_array(a, r->n + 1, sizeof(*names));

	for (size_t i = 0; i < r->n; i++)
		names[i] = r->at[i].name;
	return names;
}

static bool is_empty(const char *const *list)
{
	return !list || !*list;
}

/* The folders are the daemon's; without one, or when a test names its own, those of this host. */
static void read_cdi(struct doctor_facts *f)
{
	struct doctor_engine *e = &f->engine;
	bool own = getenv("LEM_CDI_DIRS") || is_empty(e->info.cdi_spec_dirs);

	cdi_read(own ? NULL : e->info.cdi_spec_dirs, &f->arena, &e->cdi);
	e->cdi_on = !is_empty(e->info.cdi_spec_dirs) || e->info.podman;
	e->cdi_devices = e->info.cdi_listed ? e->info.cdi_devices : names_of(&e->cdi, &f->arena);
}

void doctor_ask_engine(struct doctor_facts *f)
{
	_cleanup_fd_ int deadline = open_deadline(ASK_TIMEOUT_NS);
	struct doctor_engine *e = &f->engine;

	if (ask(f, deadline, &e->error) < 0)
		e->answer = answer_of(&e->error);
	e->selinux_allows = selinux_allows();
	read_cdi(f);
	read_toolkit(f);
}
