#include "gpu/processes.h"

#include <pwd.h>

#include "base/num.h"
#include "sys/fs.h"

/* Processes in one list of one GPU; MPS servers show some 50 clients. 24 kB of stack. */
enum { LIST_MAX = 1024, MIGS_MAX = 64 };

/* Where entries go, and whose they are. */
struct sink {
	struct gpu_process *at;
	size_t cap, n;
	size_t card_begin; /* entries of the card that is being read start here */
	const char *card_uuid;
	int gpu_index;
};

typedef int (*list_fn)(nvml_device dev, unsigned *count, struct nvml_process_info *infos);

/* UINT64_MAX is NVML_VALUE_NOT_AVAILABLE. */
static uint64_t bytes_of(const struct nvml_process_info *p)
{
	return p->used_bytes == UINT64_MAX ? 0 : p->used_bytes;
}

/* The same process in another list of the same card: compute outweighs graphics, and the whole
 * card's figure that of an instance. False when it is not there (or beyond the caller's room). */
static bool merge(struct sink *s, pid_t pid, uint64_t bytes, bool graphics)
{
	for (size_t i = s->card_begin; i < MIN(s->n, s->cap); i++) {
		if (s->at[i].pid != pid)
			continue;
		s->at[i].graphics &= graphics;
		s->at[i].memory_bytes = MAX(s->at[i].memory_bytes, bytes);
		return true;
	}
	return false;
}

static void add(struct sink *s, const struct nvml_process_info *p, bool graphics)
{
	struct gpu_process *g;

	if (merge(s, (pid_t)p->pid, bytes_of(p), graphics))
		return;
	if (s->n++ >= s->cap)
		return;
	g = &s->at[s->n - 1];
	*g = (struct gpu_process){.gpu_index = s->gpu_index,
				  .pid = (pid_t)p->pid,
				  .graphics = graphics,
				  .memory_bytes = bytes_of(p)};
	lem_strlcpy(g->card_uuid, s->card_uuid, sizeof(g->card_uuid));
}

static int read_list(list_fn list, nvml_device dev, bool graphics, struct sink *s)
{
	struct nvml_process_info infos[LIST_MAX];
	unsigned n = LIST_MAX;
	int r = list ? list(dev, &n, infos) : NVML_FUNCTION_NOT_FOUND;

	for (unsigned i = 0; r == NVML_SUCCESS && i < MIN(n, (unsigned)LIST_MAX); i++)
		add(s, &infos[i], graphics);
	return r;
}

/* The instances of a card that is split. What all of them say; SUCCESS when one of them tells and
 * none refuses. */
static int read_instances(const struct nvml *nvml, nvml_device card, struct sink *s)
{
	unsigned max = 0;
	int result = NVML_NOT_SUPPORTED;

	if (!nvml->mig_max || !nvml->mig_by_index || nvml->mig_max(card, &max) != NVML_SUCCESS)
		return NVML_NOT_SUPPORTED;
	for (unsigned i = 0; i < MIN(max, (unsigned)MIGS_MAX); i++) {
		nvml_device mig;
		int r;

		if (nvml->mig_by_index(card, i, &mig) != NVML_SUCCESS)
			continue;
		r = read_list(nvml->compute_processes, mig, false, s);
		if (r == NVML_SUCCESS)
			(void)read_list(nvml->graphics_processes, mig, true, s);
		else if (r != NVML_NOT_SUPPORTED)
			return r;
		result = r == NVML_SUCCESS ? r : result;
	}
	return result;
}

/* The whole card's list needs privileges when MIG is on; the instances' may then do. */
static int read_card(const struct nvml *nvml, nvml_device card, struct sink *s)
{
	unsigned mig = 0, pending = 0;
	int r = read_list(nvml->compute_processes, card, false, s), of_instances;

	if (r == NVML_SUCCESS) /* data centre cards have no graphics list */
		(void)read_list(nvml->graphics_processes, card, true, s);
	if (!nvml->mig_mode || nvml->mig_mode(card, &mig, &pending) != NVML_SUCCESS || !mig)
		return r;
	of_instances = read_instances(nvml, card, s);
	return of_instances == NVML_SUCCESS ? of_instances : r;
}

int gpu_processes_read(const struct nvml *nvml, struct gpu_process *at, size_t cap, size_t *ret_n,
		       struct lem_error *err)
{
	struct sink s = {.at = at, .cap = cap};
	unsigned n = 0;
	int r = nvml->device_count(&n);

	if (r != NVML_SUCCESS)
		return nvml_fail(err, r, "count the GPUs");
	for (unsigned i = 0; i < n; i++) {
		char uuid[NVML_UUID_SIZE] = "";
		nvml_device dev;

		/* One that cannot be opened has nothing that runs on it: the inventory says why. */
		if (nvml->device_by_index(i, &dev) != NVML_SUCCESS ||
		    nvml->uuid(dev, uuid, sizeof(uuid)) != NVML_SUCCESS)
			continue;
		uuid[sizeof(uuid) - 1] = '\0';
		s.card_uuid = uuid;
		s.gpu_index = (int)i;
		s.card_begin = MIN(s.n, cap);
		r = read_card(nvml, dev, &s);
		if (r != NVML_SUCCESS)
			return nvml_fail(err, r, "list the processes on GPU %u", i);
	}
	*ret_n = s.n;
	return 0;
}

/* The effective owner. The owner of /proc/PID itself is root for a process that may not be dumped.
 */
static bool read_uid(pid_t pid, uid_t *ret)
{
	char path[64], line[128];
	_cleanup_fclose_ FILE *f = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%lld/status", (long long)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		char *save = NULL, *uid;
		int64_t v;

		if (!str_starts(line, "Uid:"))
			continue;
		(void)strtok_r(line, "\t ", &save); /* "Uid:" real effective saved file system */
		(void)strtok_r(NULL, "\t ", &save);
		uid = strtok_r(NULL, "\t ", &save);
		if (!uid || !num_parse_i64(uid, &v))
			return false;
		*ret = (uid_t)v;
		return true;
	}
	return false;
}

void gpu_process_describe(pid_t pid, char *name, size_t name_size, char *user, size_t user_size)
{
	char path[64], buf[1024];
	struct passwd entry, *found = NULL;
	uid_t uid;

	(void)snprintf(path, sizeof(path), "/proc/%lld/comm", (long long)pid);
	if (pid <= 0 || !fs_read_line(path, name, name_size))
		lem_strlcpy(name, "", name_size);
	lem_strlcpy(user, "", user_size);
	if (pid <= 0 || !read_uid(pid, &uid))
		return;
	if (getpwuid_r(uid, &entry, buf, sizeof(buf), &found) == 0 && found)
		lem_strlcpy(user, found->pw_name, user_size);
	else
		(void)snprintf(user, user_size, "%u", (unsigned)uid);
}
