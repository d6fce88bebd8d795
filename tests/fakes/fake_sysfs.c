#include "fake_sysfs.h"

#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>

#include "sys/fs.h"

void fake_sysfs_init(struct fake_sysfs *f)
{
	lem_strlcpy(f->root, "/tmp/lem-sysfs-XXXXXX", sizeof(f->root));
	if (!mkdtemp(f->root))
		abort();
}

void fake_sysfs_write(const struct fake_sysfs *f, const char *path, const char *fmt, ...)
{
	_cleanup_free_ char *full = lem_asprintf("%s/%s", f->root, path);
	_cleanup_free_ char *dir = lem_strdup(full);
	_cleanup_fd_ int fd = -1;
	char text[256];
	va_list ap;
	int n;

	*strrchr(dir, '/') = '\0';
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text) - 1, fmt, ap);
	va_end(ap);
	text[n++] = '\n';
	if (fs_mkdirs(dir, NULL) < 0)
		abort();
	fd = open(full, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	/* Shorter content than before: cut after writing, so that no reader meets an empty file. */
	if (fd < 0 || pwrite(fd, text, (size_t)n, 0) != n || ftruncate(fd, n) < 0)
		abort();
}

void fake_sysfs_zone(const struct fake_sysfs *f, const char *zone, const char *name, uint64_t uj,
		     uint64_t max_uj)
{
	_cleanup_free_ char *dir = lem_asprintf("class/powercap/%s", zone);
	_cleanup_free_ char *name_path = lem_asprintf("%s/name", dir);
	_cleanup_free_ char *uj_path = lem_asprintf("%s/energy_uj", dir);
	_cleanup_free_ char *max_path = lem_asprintf("%s/max_energy_range_uj", dir);

	fake_sysfs_write(f, name_path, "%s", name);
	fake_sysfs_write(f, uj_path, "%" PRIu64, uj);
	fake_sysfs_write(f, max_path, "%" PRIu64, max_uj);
}

void fake_sysfs_chmod(const struct fake_sysfs *f, const char *path, unsigned mode)
{
	_cleanup_free_ char *full = lem_asprintf("%s/%s", f->root, path);

	if (chmod(full, mode) < 0)
		abort();
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st;
	(void)flag;
	(void)ftw;
	return remove(path);
}

void fake_sysfs_release(struct fake_sysfs *f)
{
	(void)nftw(f->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
