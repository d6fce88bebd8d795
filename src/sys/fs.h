/*
 * fs.h — files: bounded reads, atomic writes, folders.
 */
#ifndef LEM_SYS_FS_H
#define LEM_SYS_FS_H

#include "base/error.h"
#include "base/str.h"

/* Whole file into out; LEM_E_PARSE when it is longer than max_bytes, LEM_E_IO when unreadable. */
int fs_read_file(const char *path, size_t max_bytes, struct str *out, struct lem_error *err);
/* Temporary file beside path, fsync, rename, fsync of the folder: old or new content, never a part.
 */
int fs_write_atomic(const char *path, const void *bytes, size_t n, struct lem_error *err);
/* Makes a rename or creation of path survive a power cut, where the file system can. */
void fs_sync_parent(const char *path);
int fs_mkdirs(const char *path, struct lem_error *err); /* like mkdir -p */
/* Takes the lock file path (made, with its folders, when absent) for this process alone and gives
 * its descriptor; closing that lets go. While another has it, keep_waiting is asked ten times a
 * second: false gives up with LEM_E_INTERRUPTED. NULL waits without end. */
int fs_lock(const char *path, bool (*keep_waiting)(void *arg), void *arg, struct lem_error *err);
bool fs_exists(const char *path);
bool fs_is_dir(const char *path);
bool fs_is_executable(const char *path);
/* First line of a small file (sysfs, proc) without the newline; false when absent. */
bool fs_read_line(const char *path, char *buf, size_t size);
/* "$LEM_CACHE_DIR", "$XDG_CACHE_HOME/lem", "$HOME/.cache/lem" or "/tmp/lem-cache-UID"; malloc'ed.
 */
char *fs_cache_dir(void);
/* Folder of the running program; malloc'ed. */
char *fs_program_dir(void);
/* dir + "/" + name, or name alone when absolute; malloc'ed. */
char *fs_join(const char *dir, const char *name);

#endif
