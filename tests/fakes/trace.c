#include "trace.h"

#include <spawn.h>
#include <sys/wait.h>

#include "base/num.h"

extern char **environ;

/* gzip -dc of the file, or the file itself. */
static FILE *open_plain(const char *path, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	char *argv[] = {(char *)(uintptr_t) "gzip", (char *)(uintptr_t) "-dc",
			(char *)(uintptr_t)path, NULL};
	int fds[2], r;

	*pid = 0;
	if (!str_ends(path, ".gz"))
		return fopen(path, "re");
	if (pipe(fds) < 0)
		return NULL;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
	posix_spawn_file_actions_addclose(&actions, fds[0]);
	posix_spawn_file_actions_addclose(&actions, fds[1]);
	r = posix_spawnp(pid, "gzip", &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	if (r != 0) {
		*pid = 0;
		close(fds[0]);
		return NULL;
	}
	return fdopen(fds[0], "r");
}

static void add_row(struct trace_signal *s, struct trace_row row)
{
	if (s->n == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 1024;
		s->rows = lem_reallocarray(s->rows, s->cap, sizeof(*s->rows));
	}
	s->rows[s->n++] = row;
}

static bool parse_row(char *line, struct trace *t)
{
	char *save = NULL, *field[4];
	struct trace_row row;
	double value;

	for (size_t i = 0; i < ARRAY_LEN(field); i++) {
		field[i] = strtok_r(i ? NULL : line, ",\n", &save);
		if (!field[i])
			return false;
	}
	if (!num_parse_i64(field[0], &row.t_end_ns) || !num_parse_i64(field[1], &row.t_begin_ns) ||
	    !num_parse_f64(field[3], &value) || (unsigned char)field[2][0] >= TRACE_SIGNALS)
		return false;
	row.value = (int64_t)value;
	add_row(&t->signal[(unsigned char)field[2][0]], row);
	return true;
}

static int by_end(const void *a, const void *b)
{
	const struct trace_row *x = a, *y = b;

	return (x->t_end_ns > y->t_end_ns) - (x->t_end_ns < y->t_end_ns);
}

bool trace_load(const char *path, struct trace *ret)
{
	struct trace t = {0};
	pid_t pid;
	FILE *f = open_plain(path, &pid);
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		(void)parse_row(line, &t); /* the heading is no row */
	if (f)
		fclose(f);
	if (pid)
		(void)waitpid(pid, NULL, 0);
	for (size_t i = 0; i < TRACE_SIGNALS; i++)
		if (t.signal[i].n)
			qsort(t.signal[i].rows, t.signal[i].n, sizeof(*t.signal[i].rows), by_end);
	if (!t.signal['e'].n) {
		trace_release(&t);
		return false;
	}
	*ret = t;
	return true;
}

void trace_release(struct trace *t)
{
	for (size_t i = 0; i < TRACE_SIGNALS; i++)
		free(t->signal[i].rows);
	*t = (struct trace){0};
}

const struct trace_row *trace_at(const struct trace_signal *s, int64_t t_ns)
{
	size_t lo = 0, hi = s->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (s->rows[mid].t_end_ns <= t_ns)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? &s->rows[lo - 1] : NULL;
}

char *trace_path(const char *name, const char *file)
{
	const char *shared = getenv("LEM_SHARED"), *root = getenv("LEM_SOURCE_ROOT");
	char *path = shared && *shared ? lem_asprintf("%s/traces/%s/%s", shared, name, file)
				       : lem_asprintf("%s/../shared/traces/%s/%s",
						      root ? root : ".", name, file);

	if (access(path, R_OK) == 0)
		return path;
	free(path);
	return NULL;
}

struct trace_phase *trace_phases(const char *path, size_t *n)
{
	_cleanup_fclose_ FILE *f = fopen(path, "re");
	struct trace_phase *phases = NULL;
	char line[512];
	size_t cap = 0;

	*n = 0;
	while (f && fgets(line, sizeof(line), f)) {
		char *save = NULL, *name = strtok_r(line, ",", &save);
		char *start = strtok_r(NULL, ",", &save), *end = strtok_r(NULL, ",\n", &save);
		struct trace_phase p = {0};

		if (!name || !start || !end || !num_parse_i64(start, &p.start_ns) ||
		    !num_parse_i64(end, &p.end_ns))
			continue;
		lem_strlcpy(p.name, name, sizeof(p.name));
		if (*n == cap) {
			cap = cap ? 2 * cap : 64;
			phases = lem_reallocarray(phases, cap, sizeof(*phases));
		}
		phases[(*n)++] = p;
	}
	return phases;
}
