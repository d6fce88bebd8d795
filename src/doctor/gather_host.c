/* gather_host.c — limits, disks, programs, counters of this machine; and everything together. */
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "doctor/facts.h"
#include "meter/meter.h"
#include "sys/curl.h"
#include "sys/fs.h"

char *doctor_path(const char *path)
{
	const char *root = getenv("LEM_DOCTOR_ROOT");

	return lem_asprintf("%s%s", root ? root : "", path);
}

/* ---- file systems, one of which may be a dead network one ---- */

struct spaces {
	atomic_uint beat;
	char images[256], results[256], cache[256], shm[256];
	int64_t images_free_bytes, results_free_bytes, cache_free_bytes, shm_bytes;
};

/* Of the folder, or of the nearest one above it that exists: where it would be made. */
static bool find_space(const char *path, struct statvfs *ret)
{
	char at[256];

	if (lem_strlcpy(at, path, sizeof(at)) >= sizeof(at) || !*at)
		return false;
	for (;;) {
		char *slash;

		if (statvfs(at, ret) == 0)
			return true;
		slash = strrchr(at, '/');
		if (errno != ENOENT || str_eq(at, ".") || str_eq(at, "/"))
			return false;
		if (!slash)
			lem_strlcpy(at, ".", sizeof(at));
		else if (slash == at)
			at[1] = '\0';
		else
			*slash = '\0';
	}
}

static int64_t free_bytes(const char *path)
{
	struct statvfs v;

	return find_space(path, &v) ? (int64_t)v.f_bavail * (int64_t)v.f_frsize : -1;
}

static void look(void *arg)
{
	struct spaces *s = arg;
	struct statvfs v;

	s->shm_bytes = statvfs(s->shm, &v) == 0 ? (int64_t)v.f_blocks * (int64_t)v.f_frsize : -1;
	atomic_fetch_add(&s->beat, 1);
	s->images_free_bytes = free_bytes(s->images);
	atomic_fetch_add(&s->beat, 1);
	s->cache_free_bytes = free_bytes(s->cache);
	atomic_fetch_add(&s->beat, 1);
	s->results_free_bytes = free_bytes(s->results);
}

static void read_spaces(struct doctor_limits *l)
{
	struct spaces *s = bounded_alloc(sizeof(*s));
	_cleanup_free_ char *shm = doctor_path("/dev/shm");
	enum bounded_end end;

	s->images_free_bytes = s->results_free_bytes = s->cache_free_bytes = s->shm_bytes = -1;
	lem_strlcpy(s->images, l->images_dir ? l->images_dir : "", sizeof(s->images));
	lem_strlcpy(s->results, l->results_dir, sizeof(s->results));
	lem_strlcpy(s->cache, l->cache_dir, sizeof(s->cache));
	lem_strlcpy(s->shm, shm, sizeof(s->shm));
	(void)bounded_run(look, s, &s->beat, ASK_TIMEOUT_NS, &end, NULL, NULL);
	l->shm_bytes = s->shm_bytes;
	l->images_free_bytes = s->images_free_bytes;
	l->results_free_bytes = s->results_free_bytes;
	l->cache_free_bytes = s->cache_free_bytes;
	bounded_free(s, sizeof(*s));
}

static void read_limits(struct doctor_facts *f, const char *results_dir)
{
	_cleanup_free_ char *cache = fs_cache_dir();
	struct doctor_limits *l = &f->limits;
	struct rlimit r;

	l->images_dir = f->engine.info.root_dir;
	l->results_dir = arena_strdup(&f->arena, results_dir);
	l->cache_dir = arena_strdup(&f->arena, cache);
	l->memlock_bytes = getrlimit(RLIMIT_MEMLOCK, &r) < 0 || r.rlim_cur == RLIM_INFINITY
				   ? -1
				   : (int64_t)r.rlim_cur;
	read_spaces(l);
}

/* ---- programs ---- */

static const char *in_path(const char *name, struct arena *a)
{
	_cleanup_free_ char *path = lem_strdup(getenv("PATH"));
	char *save = NULL;

	for (char *d = path ? strtok_r(path, ":", &save) : NULL; d;
	     d = strtok_r(NULL, ":", &save)) {
		_cleanup_free_ char *full = lem_asprintf("%s/%s", d, name);

		if (fs_is_executable(full))
			return arena_strdup(a, full);
	}
	return NULL;
}

static bool beside(const char *dir, const char *name)
{
	_cleanup_free_ char *path = fs_join(dir, name);

	return fs_is_executable(path);
}

/* A script is started by its interpreter: it need not be executable. */
static bool there(const char *dir, const char *name)
{
	_cleanup_free_ char *path = fs_join(dir, name);

	return fs_exists(path);
}

static void read_tools(struct doctor_facts *f)
{
	_cleanup_free_ char *dir = fs_program_dir();
	struct doctor_tools *t = &f->tools;

	t->curl = curl_api(&t->curl_error) != NULL;
	t->docker_client = in_path("docker", &f->arena);
	t->program_dir = arena_strdup(&f->arena, dir);
	t->worker_llama = beside(dir, "lem-worker-llama");
	t->worker_pytorch = there(dir, "lem_worker_pytorch.pyz");
	t->gpuprobe = beside(dir, "lem-gpuprobe");
}

/* ---- energy of the CPU ---- */

static void read_cpu_meters(struct doctor_facts *f)
{
	static const char *const meters[] = {"rapl_perf", "rapl_powercap", NULL};
	static const char *const signs[] = {"class/powercap/intel-rapl:0",
					    "bus/event_source/devices/power"};
	const struct meter_request q = {.meters = meters};
	const char *env = getenv("LEM_SYSFS_ROOT");

	if (meter_probe(&q, &f->cpu_meters, &f->n_cpu_meters, NULL) < 0)
		f->n_cpu_meters = 0;
	for (size_t i = 0; i < ARRAY_LEN(signs); i++) {
		_cleanup_free_ char *path = fs_join(env && *env ? env : "/sys", signs[i]);

		f->has_rapl |= fs_exists(path);
	}
}

void doctor_read_host(struct doctor_facts *f, const char *results_dir)
{
	host_read(&f->host);
	gpu_place_read(&f->arena, &f->place);
	read_limits(f, results_dir);
	read_tools(f);
	read_cpu_meters(f);
}

/* ---- everything ---- */

bool doctor_cdi_has(const struct doctor_facts *f, const char *uuid)
{
	_cleanup_free_ char *name = lem_asprintf("nvidia.com/gpu=%s", uuid);

	for (const char *const *d = f->engine.cdi_devices; d && *d; d++)
		if (str_eq(*d, name))
			return true;
	return false;
}

bool doctor_cdi_has_all(const struct doctor_facts *f)
{
	size_t n = 0;

	for (size_t i = 0; i < f->inventory.n; i++) {
		if (!doctor_counts(f, i) || f->inventory.gpus[i].problem[0])
			continue;
		if (!doctor_cdi_has(f, f->inventory.gpus[i].uuid))
			return false;
		n++;
	}
	return n > 0;
}

void doctor_gather(const char *results_dir, struct doctor_facts **ret)
{
	struct doctor_facts *f = lem_calloc(1, sizeof(*f));

	doctor_ask_driver(f); /* first: no thread runs yet */
	doctor_ask_engine(f);
	doctor_read_host(f, results_dir);
	*ret = f;
}

void doctor_facts_free(struct doctor_facts *f)
{
	if (!f)
		return;
	bounded_free(f->driver, sizeof(*f->driver));
	free(f->cpu_meters);
	arena_release(&f->arena);
	free(f);
}
