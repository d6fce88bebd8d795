/*
 * fake_sysfs.h — a /sys of one's own in a temporary folder, for LEM_SYSFS_ROOT. Files can be
 * written again while they are read.
 */
#ifndef LEM_TESTS_FAKE_SYSFS_H
#define LEM_TESTS_FAKE_SYSFS_H

#include "base/base.h"

struct fake_sysfs {
	char root[64];
};

void fake_sysfs_init(struct fake_sysfs *f);
/* Writes text and a newline to root/path, making folders as needed. In place: an open descriptor
 * sees the new content, as with the kernel's files. */
void fake_sysfs_write(const struct fake_sysfs *f, const char *path, const char *fmt, ...)
	_printf_(3, 4);
/* A powercap zone: "intel-rapl:0" named "package-0" that counts uj up to max_uj. */
void fake_sysfs_zone(const struct fake_sysfs *f, const char *zone, const char *name, uint64_t uj,
		     uint64_t max_uj);
void fake_sysfs_chmod(const struct fake_sysfs *f, const char *path, unsigned mode);
void fake_sysfs_release(struct fake_sysfs *f); /* removes the folder */

#endif
