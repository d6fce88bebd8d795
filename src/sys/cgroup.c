#include "sys/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/num.h"
#include "sys/fs.h"

enum { MOUNTINFO_MAX = 1 << 20, SELF_MAX = 16384 };
#define DESTROY_NS (NS_PER_S / 2)

/* One field of a line of mountinfo into buf; "\040" and its like as they are written in octal. */
static bool unescape(const char *from, size_t n, char *buf, size_t size)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		char c = from[i];

		if (c == '\\' && i + 3 < n) {
			c = (char)((from[i + 1] - '0') * 64 + (from[i + 2] - '0') * 8 +
				   (from[i + 3] - '0'));
			i += 3;
		}
		if (k + 1 >= size)
			return false;
		buf[k++] = c;
	}
	buf[k] = '\0';
	return k > 0;
}

/* Start of the field, counted from 0, of a line; NULL when there are fewer. */
static const char *field(const char *line, size_t n, size_t which)
{
	const char *end = line + n;

	for (; which; which--) {
		line = memchr(line, ' ', (size_t)(end - line));
		if (!line)
			return NULL;
		line++;
	}
	return line;
}

/* "36 25 0:31 / /sys/fs/cgroup rw,… shared:9 - cgroup2 cgroup2 rw": optional fields end with "-".
 */
bool cgroup_parse_mount(const char *mountinfo, char *buf, size_t size)
{
	for (const char *line = mountinfo; *line;) {
		size_t n = strcspn(line, "\n");
		const char *type = memmem(line, n, " - cgroup2 ", 11);
		const char *root = field(line, n, 3), *at = field(line, n, 4);

		/* a mount of a part of the tree does not hold our own path */
		if (type && at && str_starts(root, "/ "))
			return unescape(at, strcspn(at, " \n"), buf, size);
		line += n + (line[n] ? 1 : 0);
	}
	return false;
}

bool cgroup_parse_own(const char *text, char *buf, size_t size)
{
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");

		if (str_starts(line, "0::/") && n - 3 < size) {
			memcpy(buf, line + 3, n - 3);
			buf[n - 3] = '\0';
			return true;
		}
		line += n + (line[n] ? 1 : 0);
	}
	return false;
}

static int find_own(char *folder, char *name, size_t size, struct lem_error *err)
{
	_cleanup_str_ struct str mounts = STR_INIT, self = STR_INIT;
	char mount[CGROUP_PATH_SIZE];

	if (fs_read_file("/proc/self/mountinfo", MOUNTINFO_MAX, &mounts, err) < 0 ||
	    fs_read_file("/proc/self/cgroup", SELF_MAX, &self, err) < 0 ||
	    !cgroup_parse_mount(str_c(&mounts), mount, sizeof(mount)) ||
	    !cgroup_parse_own(str_c(&self), name, size))
		return lem_fail(err, LEM_E_UNSUPPORTED, "there is no cgroup v2 here");
	if ((size_t)snprintf(folder, size, "%s%s", mount, str_eq(name, "/") ? "" : name) >= size)
		return lem_fail(err, LEM_E_UNSUPPORTED, "the path of the own cgroup is too long");
	return 0;
}

/* rmdir refuses a group that still has members, so nothing in use can go. */
static void sweep(const char *folder)
{
	DIR *d = opendir(folder);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char number[16];
		int64_t pid;
		size_t n = str_starts(e->d_name, "lem-") ? strcspn(e->d_name + 4, "-") : 0;

		if (!n || n >= sizeof(number))
			continue;
		memcpy(number, e->d_name + 4, n);
		number[n] = '\0';
		if (num_parse_i64(number, &pid) && pid > 1 && kill((pid_t)pid, 0) < 0 &&
		    errno == ESRCH)
			(void)unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
}

int cgroup_make(struct cgroup *ret, struct lem_error *err)
{
	static int counter;
	char folder[CGROUP_PATH_SIZE], name[CGROUP_PATH_SIZE];
	struct cgroup c;
	int rc = find_own(folder, name, sizeof(folder), err);

	if (rc < 0)
		return rc;
	sweep(folder);
	counter++;
	if ((size_t)snprintf(c.folder, sizeof(c.folder), "%s/lem-%d-%d", folder, (int)getpid(),
			     counter) >= sizeof(c.folder) ||
	    (size_t)snprintf(c.name, sizeof(c.name), "%s/lem-%d-%d", str_eq(name, "/") ? "" : name,
			     (int)getpid(), counter) >= sizeof(c.name))
		return lem_fail(err, LEM_E_UNSUPPORTED, "the path of the own cgroup is too long");
	if (mkdir(c.folder, 0755) < 0)
		return lem_fail_errno(err, errno, "cannot make the cgroup %.200s", c.folder);
	*ret = c;
	return 0;
}

static int open_in(const struct cgroup *c, const char *file, int flags)
{
	char path[CGROUP_PATH_SIZE + 32];

	(void)snprintf(path, sizeof(path), "%s/%s", c->folder, file);
	return open(path, flags | O_CLOEXEC);
}

int cgroup_open_procs(const struct cgroup *c)
{
	return open_in(c, "cgroup.procs", O_WRONLY);
}

/* cgroup.kill is of Linux 5.14; before it, one by one. */
static void kill_members(const struct cgroup *c)
{
	_cleanup_fd_ int fd = open_in(c, "cgroup.kill", O_WRONLY);
	_cleanup_str_ struct str list = STR_INIT;
	char path[CGROUP_PATH_SIZE + 32];

	if (fd >= 0 && write(fd, "1", 1) == 1)
		return;
	(void)snprintf(path, sizeof(path), "%s/cgroup.procs", c->folder);
	if (fs_read_file(path, MOUNTINFO_MAX, &list, NULL) < 0)
		return;
	for (const char *p = str_c(&list); *p; p += strcspn(p, "\n"), p += *p ? 1 : 0) {
		long pid = strtol(p, NULL, 10);

		if (pid > 1)
			(void)kill((pid_t)pid, SIGKILL);
	}
}

void cgroup_destroy(struct cgroup *c)
{
	int64_t t_end_ns = clock_now_ns() + DESTROY_NS;

	if (!c->folder[0])
		return;
	while (rmdir(c->folder) < 0 && errno == EBUSY && clock_now_ns() < t_end_ns) {
		kill_members(c);
		clock_sleep_until_ns(clock_now_ns() + NS_PER_MS);
	}
	*c = (struct cgroup){0};
}
