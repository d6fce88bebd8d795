#include "tmp.h"

#include <dirent.h>
#include <ftw.h>

#include "sys/fs.h"

char tmp_dir[64];

int tmp_start(void **state)
{
	_cleanup_free_ char *cache = NULL;

	(void)state;
	snprintf(tmp_dir, sizeof(tmp_dir), "/tmp/lem-test-weights-XXXXXX");
	if (!mkdtemp(tmp_dir))
		return -1;
	cache = tmp_path("cache");
	return setenv("LEM_CACHE_DIR", cache, 1);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int tmp_stop(void **state)
{
	(void)state;
	return nftw(tmp_dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

char *tmp_path(const char *name)
{
	return fs_join(tmp_dir, name);
}

char *tmp_file(const char *name, const void *bytes, size_t n)
{
	char *path = tmp_path(name);

	if (fs_write_atomic(path, bytes, n, NULL) < 0)
		abort();
	return path;
}

size_t tmp_entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

struct model_shape tmp_tiny(void)
{
	return (struct model_shape){.architecture = "llama",
				    .gated_mlp = true,
				    .n_layer = 2,
				    .n_embd = 64,
				    .n_ff = 96,
				    .n_head = 4,
				    .n_head_kv = 2,
				    .head_dim = 16,
				    .n_vocab = 100,
				    .n_ctx_train = 128};
}
