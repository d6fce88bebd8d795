#include "sys/oom.h"

#include "base/num.h"
#include "sys/fs.h"

enum { FILE_MAX_BYTES = 1 << 20, LEVELS_MAX = 64 };

bool oom_parse_count(const char *text, int64_t *ret)
{
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");

		if (str_starts(line, "oom_kill ")) {
			_cleanup_free_ char *number = lem_strndup(line + 9, n - 9);

			return num_parse_i64(number, ret) && *ret >= 0;
		}
		line += n + (line[n] ? 1 : 0);
	}
	return false;
}

/* ---- where to look ---- */

/* The n-th field of a line of mountinfo, counted from 0. */
static const char *field(const char *line, size_t n, int which, size_t *ret_n)
{
	const char *end = line + n;

	for (; which && line; which--) {
		line = memchr(line, ' ', (size_t)(end - line));
		line = line ? line + 1 : NULL;
	}
	*ret_n = line ? MIN(strcspn(line, " \n"), (size_t)(end - line)) : 0;
	return line;
}

static bool has_word(const char *list, size_t n, const char *word)
{
	size_t k = strlen(word);

	for (size_t i = 0; i + k <= n; i++)
		if (memcmp(list + i, word, k) == 0 && (i == 0 || list[i - 1] == ',') &&
		    (i + k == n || list[i + k] == ','))
			return true;
	return false;
}

/* "4:memory:/a/b" → "/a/b". */
static const char *v1_group(const char *groups, size_t *ret_n)
{
	for (const char *line = groups; *line;) {
		size_t n = strcspn(line, "\n");
		const char *list = memchr(line, ':', n);
		const char *path =
			list ? memchr(list + 1, ':', n - (size_t)(list + 1 - line)) : NULL;

		if (path && has_word(list + 1, (size_t)(path - list - 1), "memory")) {
			*ret_n = n - (size_t)(path + 1 - line);
			return path + 1;
		}
		line += n + (line[n] ? 1 : 0);
	}
	return NULL;
}

bool oom_parse_v1(const char *mountinfo, const char *groups, char *folder, size_t size,
		  size_t *ret_mount_n)
{
	size_t group_n = 0, root_n, at_n;
	const char *group = v1_group(groups, &group_n);

	for (const char *line = mountinfo; group && *line;) {
		size_t n = strcspn(line, "\n");
		const char *type = memmem(line, n, " - cgroup ", 10);
		const char *root = field(line, n, 3, &root_n), *at = field(line, n, 4, &at_n);
		const char *options = type ? strrchr(type, ' ') : NULL;

		if (options && options > line + n)
			options = memrchr(type, ' ', (size_t)(line + n - type));
		if (options && root && at &&
		    has_word(options + 1, (size_t)(line + n - options - 1), "memory")) {
			/* a mount of a part of the tree: the part is in both paths */
			size_t skip =
				root_n > 1 && group_n >= root_n && memcmp(group, root, root_n) == 0
					? root_n
					: 0;

			*ret_mount_n = at_n;
			return (size_t)snprintf(folder, size, "%.*s%.*s", (int)at_n, at,
						(int)(group_n - skip), group + skip) < size;
		}
		line += n + (line[n] ? 1 : 0);
	}
	return false;
}

static bool find_v2(const char *mountinfo, const char *groups, char *folder, size_t size,
		    size_t *ret_mount_n)
{
	char mount[CGROUP_PATH_SIZE], own[CGROUP_PATH_SIZE];

	if (!cgroup_parse_mount(mountinfo, mount, sizeof(mount)) ||
	    !cgroup_parse_own(groups, own, sizeof(own)))
		return false;
	*ret_mount_n = strlen(mount);
	return (size_t)snprintf(folder, size, "%s%s", mount, own) < size;
}

static bool read_count(const char *file, int64_t *ret)
{
	_cleanup_str_ struct str text = STR_INIT;

	return fs_read_file(file, FILE_MAX_BYTES, &text, NULL) >= 0 &&
	       oom_parse_count(str_c(&text), ret);
}

/* The nearest group, from folder up to its mount, that counts in a file of that name. */
static bool search(const char *folder, size_t mount_n, const char *name, struct oom_watch *ret)
{
	char path[CGROUP_PATH_SIZE];

	lem_strlcpy(path, folder, sizeof(path));
	for (int i = 0; i < LEVELS_MAX && strlen(path) >= mount_n; i++) {
		char *slash;

		(void)snprintf(ret->file, sizeof(ret->file), "%s/%s", path, name);
		if (read_count(ret->file, &ret->before)) {
			(void)snprintf(ret->name, sizeof(ret->name), "%s of %s", name,
				       path[mount_n] ? path + mount_n : "/");
			return true;
		}
		slash = strrchr(path, '/');
		if (!slash || slash == path)
			break;
		*slash = '\0';
	}
	return false;
}

void oom_watch_begin(pid_t pid, struct oom_watch *ret)
{
	_cleanup_str_ struct str mounts = STR_INIT, groups = STR_INIT;
	char folder[CGROUP_PATH_SIZE], path[64];
	size_t n = 0;

	*ret = (struct oom_watch){0};
	(void)snprintf(path, sizeof(path), "/proc/%ld/cgroup", (long)pid);
	if (fs_read_file("/proc/self/mountinfo", FILE_MAX_BYTES, &mounts, NULL) >= 0 &&
	    fs_read_file(path, FILE_MAX_BYTES, &groups, NULL) >= 0) {
		const char *m = str_c(&mounts), *g = str_c(&groups);

		if (oom_parse_v1(m, g, folder, sizeof(folder), &n) &&
		    search(folder, n, "memory.oom_control", ret))
			return;
		if (find_v2(m, g, folder, sizeof(folder), &n) &&
		    (search(folder, n, "memory.events.local", ret) ||
		     search(folder, n, "memory.events", ret)))
			return;
	}
	*ret = (struct oom_watch){.file = "/proc/vmstat", .name = "/proc/vmstat", .machine = true};
	if (!read_count(ret->file, &ret->before))
		ret->file[0] = '\0';
}

/* ---- what it says ---- */

int64_t oom_watch_kills(const struct oom_watch *w)
{
	int64_t now;

	return w->file[0] && read_count(w->file, &now) ? MAX(now - w->before, INT64_C(0)) : 0;
}

/* The end of a long name tells more than its beginning. */
static const char *short_name(const struct oom_watch *w)
{
	enum { SHOWN = 110 };
	size_t n = strlen(w->name);

	return n > SHOWN ? w->name + n - SHOWN : w->name;
}

void oom_watch_explain(const struct oom_watch *w, bool killed, const char *text, char *buf,
		       size_t size)
{
	int64_t kills = oom_watch_kills(w);

	if (kills && killed)
		(void)snprintf(buf, size,
			       "killed by the kernel because memory ran out (%s: oom_kill %" PRId64
			       " → %" PRId64 ")",
			       short_name(w), w->before, w->before + kills);
	else if (kills)
		(void)snprintf(buf, size,
			       "%s, and %s killed by the kernel because memory ran out (%s: "
			       "oom_kill %" PRId64 " → %" PRId64 ")",
			       text,
			       w->machine ? "processes of this machine were"
					  : "processes in its memory group were",
			       short_name(w), w->before, w->before + kills);
	else if (killed && w->file[0])
		(void)snprintf(buf, size,
			       "%s, not by the kernel for lack of memory (%s: oom_kill is still "
			       "%" PRId64 ")",
			       text, short_name(w), w->before);
	else
		lem_strlcpy(buf, text, size);
}
