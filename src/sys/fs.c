#include "sys/fs.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/clock.h"

int fs_read_file(const char *path, size_t max_bytes, struct str *out, struct lem_error *err)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_str_ struct str s = STR_INIT;
	char buf[65536];

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot open %s", path);
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return lem_fail_errno(err, errno, "cannot read %s", path);
		if (n == 0)
			break;
		if (s.len + (size_t)n > max_bytes)
			return lem_fail(err, LEM_E_PARSE, "%s is larger than %zu bytes", path,
					max_bytes);
		str_addn(&s, buf, (size_t)n);
	}
	str_release(out);
	*out = s;
	s = (struct str)STR_INIT;
	return 0;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		p += k;
		n -= (size_t)k;
	}
	return 0;
}

void fs_sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir =
		slash ? lem_strndup(path, (size_t)(slash - path) + 1) : lem_strdup(".");
	_cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		(void)fsync(fd); /* some file systems refuse; the rename itself stands */
}

int fs_write_atomic(const char *path, const void *bytes, size_t n, struct lem_error *err)
{
	_cleanup_free_ char *tmp = lem_asprintf("%s.tmp-XXXXXX", path);
	_cleanup_fd_ int fd = mkostemp(tmp, O_CLOEXEC);

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot create a file beside %s", path);
	if (write_all(fd, bytes, n) < 0 || fchmod(fd, 0644) < 0 || fsync(fd) < 0 ||
	    rename(tmp, path) < 0) {
		int saved = errno;

		unlink(tmp);
		return lem_fail_errno(err, saved, "cannot write %s", path);
	}
	fs_sync_parent(path);
	return 0;
}

int fs_mkdirs(const char *path, struct lem_error *err)
{
	_cleanup_free_ char *p = lem_strdup(path);

	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdir(p, 0777) < 0 && errno != EEXIST)
			return lem_fail_errno(err, errno, "cannot create the folder %s", p);
		*s = '/';
	}
	if (mkdir(p, 0777) < 0 && errno != EEXIST)
		return lem_fail_errno(err, errno, "cannot create the folder %s", p);
	if (!fs_is_dir(p))
		return lem_fail(err, LEM_E_IO, "%s exists and is not a folder", p);
	return 0;
}

static int make_parent(const char *path, struct lem_error *err)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? lem_strndup(path, (size_t)(slash - path)) : NULL;

	return dir && *dir ? fs_mkdirs(dir, err) : 0;
}

/* Asked again and again instead of waiting in flock, so that the caller can stop it. */
int fs_lock(const char *path, bool (*keep_waiting)(void *arg), void *arg, struct lem_error *err)
{
	_cleanup_fd_ int fd = -1;
	int r = make_parent(path, err);

	if (r < 0)
		return r;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot create the lock file %s", path);
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return lem_fail_errno(err, errno, "cannot lock %s", path);
		if (keep_waiting && !keep_waiting(arg))
			return lem_fail(err, LEM_E_INTERRUPTED,
					"interrupted while another process held %s", path);
		clock_sleep_until_ns(clock_now_ns() + NS_PER_S / 10);
	}
	return steal_fd(&fd);
}

bool fs_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

bool fs_is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool fs_is_executable(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool fs_read_line(const char *path, char *buf, size_t size)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");

	if (!f || !fgets(buf, (int)size, f))
		return false;
	buf[strcspn(buf, "\n")] = '\0';
	return true;
}

char *fs_cache_dir(void)
{
	const char *s;

	if ((s = getenv("LEM_CACHE_DIR")) && *s)
		return lem_strdup(s);
	if ((s = getenv("XDG_CACHE_HOME")) && *s)
		return fs_join(s, "lem");
	if ((s = getenv("HOME")) && *s)
		return fs_join(s, ".cache/lem");
	return lem_asprintf("/tmp/lem-cache-%u", (unsigned)getuid());
}

char *fs_program_dir(void)
{
	char buf[4096];
	ssize_t n = readlink("/proc/self/exe", buf, sizeof(buf) - 1);
	char *slash;

	if (n <= 0)
		return lem_strdup(".");
	buf[n] = '\0';
	slash = strrchr(buf, '/');
	if (slash && slash != buf)
		*slash = '\0';
	return lem_strdup(buf);
}

char *fs_join(const char *dir, const char *name)
{
	if (name[0] == '/' || !dir || !*dir)
		return lem_strdup(name);
	return lem_asprintf("%s%s%s", dir, str_ends(dir, "/") ? "" : "/", name);
}
