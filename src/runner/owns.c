#include <fcntl.h>

#include "runner/owns.h"

enum { FILE_MAX_BYTES = 8192, ANCESTORS_MAX = 256 };

/* A file of /proc as far as buf goes, NUL-terminated; false when it cannot be read. */
static bool read_proc(pid_t pid, const char *name, char *buf, size_t size)
{
	char path[64];
	size_t have = 0;
	ssize_t n = 0;

	(void)snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return false;
	while (have + 1 < size) {
		n = read(fd, buf + have, size - 1 - have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	buf[have] = '\0';
	return n >= 0 && have > 0;
}

bool owns_path_below(const char *path, size_t n, const char *top)
{
	size_t k = strlen(top);

	return n >= k && memcmp(path, top, k) == 0 && (n == k || path[k] == '/');
}

bool owns_cgroup_text(const char *text, const char *top)
{
	/* "0::/system.slice/docker-ID.scope", with version 1 one line for each hierarchy */
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");
		const char *first = memchr(line, ':', n);
		const char *second =
			first ? memchr(first + 1, ':', n - (size_t)(first + 1 - line)) : NULL;

		if (second && owns_path_below(second + 1, n - (size_t)(second + 1 - line), top))
			return true;
		line += n + (line[n] ? 1 : 0);
	}
	return false;
}

bool owns_container_cgroup(const char *text, const char *id, char *buf, size_t size)
{
	const char *at = *id ? strstr(text, id) : NULL;
	const char *start = at, *end = at;

	if (!at)
		return false;
	while (start > text && start[-1] != '\n' && start[-1] != ':')
		start--;
	end += strcspn(end, "/\n");
	if (*start != '/' || (size_t)(end - start) >= size)
		return false;
	memcpy(buf, start, (size_t)(end - start));
	buf[end - start] = '\0';
	return true;
}

bool owns_read_container_cgroup(pid_t pid, const char *id, char *buf, size_t size)
{
	char text[FILE_MAX_BYTES];

	return read_proc(pid, "cgroup", text, sizeof(text)) &&
	       owns_container_cgroup(text, id, buf, size);
}

bool owns_start_time(pid_t pid, uint64_t *ret_ticks)
{
	char text[1024];
	const char *p;
	unsigned long long ticks;

	if (!read_proc(pid, "stat", text, sizeof(text)) || !(p = strrchr(text, ')')))
		return false;
	if (sscanf(p + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
		   "%*d %llu",
		   &ticks) != 1)
		return false;
	*ret_ticks = ticks;
	return true;
}

/* The parent and the session, fields 4 and 6 of stat: after the last ')', as names may hold any
 * byte. */
static bool read_family(pid_t pid, pid_t *ret_parent, pid_t *ret_session)
{
	char text[1024];
	const char *p;
	int parent, session;

	if (!read_proc(pid, "stat", text, sizeof(text)) || !(p = strrchr(text, ')')))
		return false;
	if (sscanf(p + 1, " %*c %d %*d %d", &parent, &session) != 2)
		return false;
	*ret_parent = parent;
	*ret_session = session;
	return true;
}

/* What the engine leaves behind is handed to lem, but stays in the session of its own. */
static bool is_below(pid_t pid, pid_t root)
{
	for (int i = 0; i < ANCESTORS_MAX && pid > 1; i++) {
		pid_t parent, session;

		if (pid == root)
			return true;
		if (!read_family(pid, &parent, &session))
			return false;
		if (session == root)
			return true;
		pid = parent;
	}
	return false;
}

bool runner_owns_pid(const struct running *r, pid_t pid)
{
	char text[FILE_MAX_BYTES];

	if (pid <= 0)
		return false;
	if (r->cgroup[0] && !str_eq(r->cgroup, "/") &&
	    read_proc(pid, "cgroup", text, sizeof(text)) && owns_cgroup_text(text, r->cgroup))
		return true;
	return r->host_pid > 1 && is_below(pid, r->host_pid);
}
