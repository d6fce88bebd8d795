/* Feeds every file of the folders or files named to LLVMFuzzerTestOneInput: the corpus as a
 * regression test. */
#include <dirent.h>
#include <sys/stat.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t replayed;

static void one(const char *path)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	struct stat st;

	if (!f || fstat(fileno(f), &st) < 0 || !S_ISREG(st.st_mode)) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	uint8_t *data = lem_malloc((size_t)st.st_size);
	size_t n = fread(data, 1, (size_t)st.st_size, f);

	LLVMFuzzerTestOneInput(data, n);
	free(data);
	replayed++;
}

static void folder(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d) {
		one(path);
		return;
	}
	while ((e = readdir(d))) {
		_cleanup_free_ char *file = lem_asprintf("%s/%s", path, e->d_name);

		if (e->d_name[0] != '.')
			one(file);
	}
	closedir(d);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		folder(argv[i]);
	printf("%zu inputs replayed\n", replayed);
	return replayed ? 0 : 1;
}
