#include "base/clock.h"
#include "gpu/proof.h"
#include "run/life.h"
#include "sys/fs.h"

/* The probe answers within a second (routing.md section 13); the first CUDA program after boot, or
 * on eight GPUs without persistence, takes much longer. Pulling an image is not counted. */
enum { PROBE_TIMEOUT_S = 120 };
#define PROBE_INSIDE "/lem/lem-gpuprobe"

/* Not proved means not measured: why stands in the record too. */
static int unproved(struct life *l, const struct lem_error *err)
{
	struct gpu_binding *b = &l->rec->binding;

	b->proved = false;
	lem_strlcpy(b->proof, err->what, sizeof(b->proof));
	return -(int)err->code;
}

static int fail_no_probe(struct life *l, const char *path, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_ROUTING, "the GPUs cannot be proved: %s %s", path,
		       fs_exists(path) ? "cannot be executed" : "does not exist");
	(void)lem_error_why(err, "it shows which GPUs CUDA sees where the engine runs; without it "
				 "nothing is measured");
	(void)lem_error_fix(err, "build it with 'make build', or install lem whole");
	return unproved(l, err);
}

static char *probe_path(const struct life *l)
{
	return lem_asprintf("%s/lem-gpuprobe", l->req->program_dir);
}

int life_can_prove(struct life *l, struct lem_error *err)
{
	_cleanup_free_ char *path = probe_path(l);

	if (!l->rec->binding.n || l->runner == &runner_external || fs_is_executable(path))
		return 0;
	return fail_no_probe(l, path, err);
}

/* What has nothing to do with routing keeps its own code: no image, no daemon, a signal. */
static bool is_about_routing(const struct life *l, enum lem_code code)
{
	switch (code) {
	case LEM_E_INTERRUPTED:
	case LEM_E_REFUSED:
	case LEM_E_USAGE:
	case LEM_E_INTERNAL: return false;
	case LEM_E_NOT_FOUND:
	case LEM_E_IO: return !l->runner->is_container;
	default: return true;
	}
}

static int fail_run(struct life *l, struct lem_error *err)
{
	struct lem_error old = *err;

	if (!is_about_routing(l, old.code))
		return unproved(l, err);
	(void)lem_fail(err, LEM_E_ROUTING, "the GPUs could not be proved: %s", old.what);
	(void)lem_error_why(err, "%s", old.why[0] ? old.why : "lem-gpuprobe could not be run");
	(void)lem_error_fix(err, "%s",
			    old.fix[0] ? old.fix
				       : "lem-gpuprobe needs an image with glibc and a driver that "
					 "is passed into it; see `lem doctor`");
	life_blame(l, err);
	return unproved(l, err);
}

/* The last line that is not empty. */
static void last_line(const struct str *log, char *buf, size_t size)
{
	const char *from = str_c(log), *end = from + log->len, *at;

	while (end > from && (unsigned char)end[-1] <= ' ')
		end--;
	for (at = end; at > from && at[-1] != '\n'; at--)
		;
	(void)snprintf(buf, size, "%.*s", (int)MIN(end - at, (ptrdiff_t)size - 1), at);
}

/* It ran, but what it printed is no document of its own. */
static int fail_answer(struct life *l, const struct str *log, int status, struct lem_error *err)
{
	struct lem_error old = *err;
	char line[200];

	last_line(log, line, sizeof(line));
	(void)lem_fail(err, LEM_E_ROUTING, "the GPUs could not be proved: %s", old.what);
	(void)lem_error_why(err, "%s%sits status was %d%s%s", old.why, old.why[0] ? "; " : "",
			    status, line[0] ? "; its last words: " : "", line);
	(void)lem_error_fix(err, "lem-gpuprobe needs glibc (2.17 or newer) and the driver's "
				 "libcuda.so.1 where the engine runs; see `lem doctor`");
	life_blame(l, err);
	return unproved(l, err);
}

static void keep_observed(struct gpu_binding *b, const struct gpu_observed *o, size_t n)
{
	free(b->observed);
	b->observed = n ? lem_calloc(n, sizeof(*o)) : NULL;
	b->n_observed = n;
	if (n)
		memcpy(b->observed, o, n * sizeof(*o));
}

static int judge_answer(struct life *l, const struct str *out, const struct str *log, int status,
			struct lem_error *err)
{
	_cleanup_arena_ struct arena a = ARENA_INIT;
	struct gpu_binding *b = &l->rec->binding;
	struct gpu_observed *seen = NULL;
	size_t n = 0;
	int rc = gpu_proof_parse(str_c(out), &a, &seen, &n, err);

	if (rc == -LEM_E_PARSE)
		return fail_answer(l, log, status, err);
	if (rc >= 0) {
		keep_observed(b, seen, n);
		rc = gpu_proof_compare(b, seen, n, err);
	}
	if (rc < 0)
		return unproved(l, err);
	b->proved = true;
	(void)snprintf(b->proof, sizeof(b->proof),
		       "lem-gpuprobe: where the engine runs, CUDA shows %s in the order of gpus",
		       n == 1 ? "this GPU" : "these GPUs");
	return 0;
}

int life_prove(struct life *l, struct lem_error *err)
{
	_cleanup_str_ struct str out = STR_INIT, log = STR_INIT;
	_cleanup_free_ char *path = probe_path(l),
			    *bind = lem_asprintf("%s:" PROBE_INSIDE ":ro", path);
	const char *const argv[] = {l->runner->is_container ? PROBE_INSIDE : path, NULL};
	const char *const binds[] = {bind, NULL};
	int status = 0, rc;

	if (!l->rec->binding.n || l->runner == &runner_external)
		return 0;
	if (!l->runner->run_once) {
		(void)lem_fail(err, LEM_E_ROUTING,
			       "the GPUs cannot be proved: nothing can be run beside an engine of "
			       "runner %s",
			       l->runner->name);
		return unproved(l, err);
	}
	l->detail = "proving the GPUs";
	life_report(l);
	rc = l->runner->run_once(&l->spec, argv, binds, PROBE_TIMEOUT_S * NS_PER_S,
				 &l->session.context, &out, &log, &status, err);
	l->detail = "";
	return rc < 0 ? fail_run(l, err) : judge_answer(l, &out, &log, status, err);
}

/* ---- what the engine says of itself ---- */

static const char *without_prefix(const char *uuid)
{
	return str_starts(uuid, "GPU-") ? uuid + 4 : uuid;
}

/* Position in gpus; -1: not listed. Some libraries tell UUIDs without "GPU-". */
static int position_of(const struct gpu_binding *b, const char *uuid)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcasecmp(without_prefix(b->gpus[i].uuid), without_prefix(uuid)) == 0 ||
		    strcasecmp(without_prefix(gpu_ref_card(&b->gpus[i])), without_prefix(uuid)) ==
			    0)
			return (int)i;
	return -1;
}

static int fail_loaded(struct life *l, const struct worker_loaded *w, const char *what,
		       struct lem_error *err)
{
	const struct gpu_binding *b = &l->rec->binding;
	_cleanup_str_ struct str asked = STR_INIT, told = STR_INIT;

	for (size_t i = 0; i < b->n; i++)
		str_addf(&asked, "%sGPU %d %.40s", i ? ", " : "", b->gpus[i].index,
			 b->gpus[i].uuid);
	for (size_t i = 0; i < w->n_devices; i++)
		if (w->devices[i].uuid)
			str_addf(&told, "%s%.44s", told.len ? ", " : "", w->devices[i].uuid);
	(void)lem_fail(err, LEM_E_ROUTING, "%s", what);
	(void)lem_error_why(err, "gpus asks for: %.220s; the engine names: %.220s", str_c(&asked),
			    str_c(&told));
	(void)lem_error_fix(err, "let nothing in the engine's own options choose devices");
	return unproved(l, err);
}

int life_check_loaded(struct life *l, const struct worker_loaded *w, struct lem_error *err)
{
	size_t n = 0;
	int before = -1;

	for (size_t i = 0; i < w->n_devices && l->rec->binding.n; i++) {
		const char *uuid = w->devices[i].uuid;
		int at = uuid ? position_of(&l->rec->binding, uuid) : before;

		if (!uuid)
			continue;
		if (at < 0)
			return fail_loaded(l, w, "the engine uses a GPU that gpus does not list",
					   err);
		if (at <= before)
			return fail_loaded(l, w, "the engine uses the GPUs in another order", err);
		before = at;
		n++;
	}
	if (n && n < l->rec->binding.n)
		run_record_note(l->rec, "the engine names %zu of the %zu GPUs of gpus", n,
				l->rec->binding.n);
	return 0;
}
