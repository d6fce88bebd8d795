#include <fcntl.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "sys/fs.h"
#include "weights/weights.h"

static int hash_file(const char *path, char hex[DIGEST_HEX_SIZE], struct lem_error *err)
{
	enum { CHUNK = 1 << 20 };
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *buf = lem_malloc(CHUNK);
	struct digest *d;
	ssize_t n;

	if (fd < 0)
		return lem_fail_errno(err, errno, "cannot open %s", path);
	d = digest_new();
	while ((n = read(fd, buf, CHUNK)) > 0 || (n < 0 && errno == EINTR))
		digest_update(d, buf, (size_t)MAX(n, (ssize_t)0));
	digest_final(d, hex);
	digest_free(d);
	return n < 0 ? lem_fail_errno(err, errno, "cannot read %s", path) : 0;
}

/* Hashing 16 GB takes a minute, so the answer is remembered under what would change with the
 * content. */
static char *memo_path(const char *path, const struct stat *st)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	_cleanup_free_ char *what =
		lem_asprintf("%s|%lld|%lld.%09ld|%llu|%llu", path, (long long)st->st_size,
			     (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
			     (unsigned long long)st->st_ino, (unsigned long long)st->st_dev);
	char hex[DIGEST_HEX_SIZE];

	digest_bytes(what, strlen(what), hex);
	return lem_asprintf("%s/checksums/%.32s", cache, hex);
}

int weights_sha256(const char *path, char hex[65], struct lem_error *err)
{
	struct stat st;
	char line[80];
	int r;

	if (stat(path, &st) < 0)
		return lem_fail_errno(err, errno, "cannot read %s", path);
	_cleanup_free_ char *memo = memo_path(path, &st);

	if (fs_read_line(memo, line, sizeof(line)) && strspn(line, "0123456789abcdef") == 64 &&
	    !line[64]) {
		lem_strlcpy(hex, line, 65);
		return 0;
	}
	r = hash_file(path, hex, err);
	if (r < 0)
		return r;
	_cleanup_free_ char *dir = lem_strdup(memo);

	*strrchr(dir, '/') = '\0';
	if (fs_mkdirs(dir, NULL) >= 0)
		(void)fs_write_atomic(memo, hex, 64,
				      NULL); /* only a memo: a full disk must not stop a run here */
	return 0;
}
