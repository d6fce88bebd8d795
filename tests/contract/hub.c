#include "hub.h"

#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/digest.h"
#include "sys/dl.h"
#include "sys/fs.h"

#include <cmocka.h>

void hub_make_dir(struct hub *h)
{
	*h = (struct hub){.stdin_fd = -1};
	snprintf(h->dir, sizeof(h->dir), "/tmp/lem-test-hub-XXXXXX");
	assert_non_null(mkdtemp(h->dir));
	snprintf(h->file, sizeof(h->file), "%s/model.gguf", h->dir);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void hub_remove_dir(struct hub *h)
{
	nftw(h->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void run_server(const char *file, int in, int out)
{
	_cleanup_free_ char *program =
		lem_asprintf("%s/tests/fakes/hub_server.py", getenv("LEM_SOURCE_ROOT"));

	dup2(in, 0);
	dup2(out, 1);
	unsetenv("LD_PRELOAD"); /* python is not built with the sanitizers */
	execlp("python3", "python3", program, file, (char *)NULL);
	_exit(127);
}

void hub_start(struct hub *h)
{
	int in[2], out[2];
	_cleanup_str_ struct str bytes = STR_INIT;
	char line[64] = "";
	FILE *f;

	assert_non_null(getenv("LEM_SOURCE_ROOT"));
	setenv("no_proxy", "127.0.0.1", 1);
	assert_int_equal(fs_read_file(h->file, 1 << 30, &bytes, NULL), 0);
	digest_bytes(bytes.buf, bytes.len, h->sha256);
	h->size = bytes.len;
	assert_int_equal(pipe(in) | pipe(out), 0);
	h->pid = fork();
	if (h->pid == 0) {
		close(in[1]);
		close(out[0]);
		run_server(h->file, in[0], out[1]);
	}
	close(in[0]);
	close(out[1]);
	h->stdin_fd = in[1];
	f = fdopen(out[0], "r");
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	assert_int_equal(sscanf(line, "%d %d", &h->port, &h->store_port), 2);
}

void hub_stop(struct hub *h)
{
	close(h->stdin_fd);
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
}

char *hub_url(const struct hub *h, const char *behaviour)
{
	return lem_asprintf("http://127.0.0.1:%d/acme/%s/resolve/main/model.gguf", h->port,
			    behaviour);
}

json_t *hub_log(const struct hub *h)
{
	_cleanup_free_ char *url = lem_asprintf("http://127.0.0.1:%d/log", h->port);
	_cleanup_str_ struct str text = STR_INIT;
	struct dl_request q = {.url = url};
	json_t *j;

	assert_int_equal(dl_text(&q, 16 << 20, &text, NULL), 0);
	j = json_loads(str_c(&text), 0, NULL);
	assert_true(json_is_array(j));
	return j;
}
