/*
 * nvml_fake_more.c — what the fake GPUs hold and how they are joined: MIG instances, processes,
 * links, modes. nvml_fake.c lists the script's keys.
 */
#include <dirent.h>

#include "nvml_fake.h"

void fake_mig_uuid(int card, int instance, char *buf, unsigned size)
{
	(void)snprintf(buf, size, "MIG-%08x-fa4e-5000-8000-%012x",
		       0x2b3c4d00u + (unsigned)card * 16 + (unsigned)instance,
		       0xabcdefu + (unsigned)instance);
}

void fake_more_defaults(void)
{
	fake.topology = NVML_TOPOLOGY_SYSTEM;
	fake.cuda = 13000;
	fake.cc = 90;
	fake.persistence = fake.ecc = fake.ecc_pending = 1;
	fake.compute_mode = -1;
	for (int i = 0; i < MAX_GPUS; i++) {
		lem_strlcpy(fake.name[i], "Fake H100 80GB", sizeof(fake.name[i]));
		fake.used_bytes[i] = UINT64_C(10) << 30;
		for (int k = 0; k < MAX_MIGS; k++)
			fake.migs[i][k] = (struct nvml_device_opaque){.index = i, .mig = k};
	}
}

/* ---- the script ---- */

/* "key" for all GPUs: -1; "keyN" for one. False when it is another key. */
static bool indexed_key(const char *key, const char *name, int64_t *ret)
{
	size_t n = strlen(name);

	*ret = -1;
	if (!str_starts(key, name))
		return false;
	return !key[n] || (num_parse_i64(key + n, ret) && *ret >= 0 && *ret < MAX_GPUS);
}

/* Each part between + signs. False when one of them was refused. */
static bool each_part(const char *value, bool (*use)(char *part))
{
	_cleanup_free_ char *copy = lem_strdup(value);
	char *save = NULL;
	bool ok = true;

	for (char *p = strtok_r(copy, "+", &save); p; p = strtok_r(NULL, "+", &save))
		ok &= use(p);
	return ok;
}

/* Cuts a number off the front that ends with one of `ends` (or the text). */
static bool take_number(char **p, const char *ends, int64_t *ret)
{
	size_t n = strcspn(*p, ends);
	bool more = (*p)[n] != '\0';

	(*p)[n] = '\0';
	if (!num_parse_i64(*p, ret))
		return false;
	*p += n + (more ? 1 : 0);
	return true;
}

static bool take_gpu(char **p, struct fake_proc *proc)
{
	int64_t gpu, mig = -1;
	bool instance = (*p)[strcspn(*p, ".:")] == '.';

	if (!take_number(p, ".:", &gpu) || (instance && !take_number(p, ":", &mig)) || gpu < 0 ||
	    gpu >= MAX_GPUS || mig >= MAX_MIGS)
		return false;
	proc->gpu = (int)gpu;
	proc->mig = (int)mig;
	return true;
}

static bool keep_proc(const struct fake_proc *proc)
{
	if (fake.n_procs == MAX_PROCS)
		return false;
	fake.procs[fake.n_procs++] = *proc;
	return true;
}

static bool use_pid(char *part, bool graphics)
{
	struct fake_proc proc = {.used_bytes = UINT64_MAX, .graphics = graphics};

	if (!take_gpu(&part, &proc) || !take_number(&part, ":", &proc.pid))
		return false;
	if (*part && !num_parse_bytes(part, &proc.used_bytes))
		return false;
	return keep_proc(&proc);
}

static bool use_compute(char *part)
{
	return use_pid(part, false);
}

static bool use_graphics(char *part)
{
	return use_pid(part, true);
}

static bool use_comm(char *part)
{
	struct fake_proc proc = {.used_bytes = UINT64_C(1) << 30};

	return take_gpu(&part, &proc) && *part && lem_strlcpy(proc.comm, part, sizeof(proc.comm)) &&
	       keep_proc(&proc);
}

static bool use_migs(char *part)
{
	int64_t card, n;

	if (!take_number(&part, ":", &card) || !num_parse_i64(part, &n) || card < 0 ||
	    card >= MAX_GPUS || n < 0 || n > MAX_MIGS)
		return false;
	fake.n_migs[card] = (int)n;
	return true;
}

static bool take_pair(char **p, int64_t *a, int64_t *b)
{
	return take_number(p, "-", a) && take_number(p, ":", b) && *a >= 0 && *b >= 0 &&
	       *a < MAX_GPUS && *b < MAX_GPUS;
}

static bool use_peers(char *part)
{
	int64_t a, b;

	if (!take_pair(&part, &a, &b))
		return false;
	fake.no_peer[a][b] = fake.no_peer[b][a] = false;
	return true;
}

static bool use_links(char *part)
{
	int64_t a, b, n;

	if (!take_pair(&part, &a, &b) || !num_parse_i64(part, &n))
		return false;
	fake.direct_links[a][b] = fake.direct_links[b][a] = (int)n;
	return true;
}

static bool set_peers(const char *value)
{
	for (int a = 0; a < MAX_GPUS; a++)
		for (int b = 0; b < MAX_GPUS; b++)
			fake.no_peer[a][b] = true;
	return str_eq(value, "none") || each_part(value, use_peers);
}

static bool set_links(const char *value)
{
	int64_t n;

	if (strchr(value, '-'))
		return each_part(value, use_links);
	if (!num_parse_i64(value, &n))
		return false;
	fake.switch_links = (int)n;
	return true;
}

static bool set_fabric(const char *value)
{
	_cleanup_free_ char *copy = lem_strdup(value);
	char *p = copy;

	return take_number(&p, ":", &fake.fabric_state) &&
	       (!*p || num_parse_i64(p, &fake.fabric_status));
}

static bool set_name(const char *value, int64_t only)
{
	for (int i = 0; i < MAX_GPUS; i++)
		if (only < 0 || only == i)
			lem_strlcpy(fake.name[i], value, sizeof(fake.name[i]));
	return true;
}

static bool set_used(const char *value, int64_t only)
{
	uint64_t bytes;

	if (!num_parse_bytes(value, &bytes))
		return false;
	for (int i = 0; i < MAX_GPUS; i++)
		if (only < 0 || only == i)
			fake.used_bytes[i] = bytes;
	return true;
}

static bool set_number(const char *key, const char *value)
{
	const struct {
		const char *key;
		int64_t *number;
	} keys[] = {
		{"topology", &fake.topology},
		{"cuda", &fake.cuda},
		{"cc", &fake.cc},
		{"persistence", &fake.persistence},
		{"ecc", &fake.ecc},
		{"eccpending", &fake.ecc_pending},
		{"remap", &fake.remap},
		{"remapfailed", &fake.remap_failed},
		{"retired", &fake.retired},
		{"computemode", &fake.compute_mode},
	};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		if (str_eq(keys[i].key, key))
			return num_parse_i64(value, keys[i].number);
	return false;
}

bool fake_more_set(const char *key, const char *value)
{
	int64_t only;

	if (indexed_key(key, "name", &only))
		return set_name(value, only);
	if (indexed_key(key, "used", &only))
		return set_used(value, only);
	if (str_eq(key, "procs"))
		return each_part(value, use_compute);
	if (str_eq(key, "graphics"))
		return each_part(value, use_graphics);
	if (str_eq(key, "proccomm"))
		return each_part(value, use_comm);
	if (str_eq(key, "procsfile"))
		return lem_strlcpy(fake.procs_file, value, sizeof(fake.procs_file)) > 0;
	if (str_eq(key, "migs"))
		return each_part(value, use_migs);
	if (str_eq(key, "p2p"))
		return set_peers(value);
	if (str_eq(key, "nvlink"))
		return set_links(value);
	if (str_eq(key, "fabric"))
		return set_fabric(value);
	return set_number(key, value);
}

#ifndef FAKE_OLD
/* ---- processes ---- */

struct proc_list {
	struct nvml_process_info *at;
	unsigned cap, n;
	nvml_device dev;
	bool graphics;
};

/* A card shows what its instances run, too. */
static void list_proc(struct proc_list *l, const struct fake_proc *p, int64_t pid)
{
	if (p->gpu != l->dev->index || (l->dev->mig >= 0 && p->mig != l->dev->mig) ||
	    p->graphics != l->graphics)
		return;
	if (l->n < l->cap)
		l->at[l->n] = (struct nvml_process_info){
			.pid = (uint32_t)pid,
			.used_bytes = p->used_bytes,
			.gpu_instance = p->mig < 0 ? UINT32_MAX : (uint32_t)p->mig + 7,
			.compute_instance = p->mig < 0 ? UINT32_MAX : 0,
		};
	l->n++;
}

/* A zombie keeps its comm, but its contexts are gone: it has no command line any more. */
static bool is_alive(const char *pid)
{
	char path[300];
	_cleanup_fclose_ FILE *f = NULL;

	(void)snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	f = fopen(path, "re");
	return f && fgetc(f) != EOF;
}

static void list_by_comm(struct proc_list *l, const struct fake_proc *p)
{
	DIR *proc = opendir("/proc");
	struct dirent *e;
	int64_t pid;

	while (proc && (e = readdir(proc))) {
		char path[300], comm[32] = "";
		_cleanup_fclose_ FILE *f = NULL;

		if (!num_parse_i64(e->d_name, &pid))
			continue;
		(void)snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (!f || !fgets(comm, sizeof(comm), f))
			continue;
		comm[strcspn(comm, "\n")] = '\0';
		if (str_eq(comm, p->comm) && is_alive(e->d_name))
			list_proc(l, p, pid);
	}
	if (proc)
		closedir(proc);
}

static void list_file(struct proc_list *l)
{
	_cleanup_fclose_ FILE *f = *fake.procs_file ? fopen(fake.procs_file, "re") : NULL;
	char line[128];

	while (f && fgets(line, sizeof(line), f)) {
		struct fake_proc p = {.mig = -1};
		char *save = NULL, *gpu = strtok_r(line, " \n", &save);
		char *pid = strtok_r(NULL, " \n", &save), *bytes = strtok_r(NULL, " \n", &save);

		if (gpu && pid && bytes && take_gpu(&gpu, &p) && num_parse_i64(pid, &p.pid) &&
		    num_parse_bytes(bytes, &p.used_bytes))
			list_proc(l, &p, p.pid);
	}
}

static int list_all(nvml_device dev, bool graphics, unsigned *count,
		    struct nvml_process_info *infos)
{
	struct proc_list l = {.at = infos, .cap = *count, .dev = dev, .graphics = graphics};
	int r = gate(dev, graphics ? "graphics" : "processes");

	if (r != NVML_SUCCESS)
		return r;
	for (size_t i = 0; i < fake.n_procs; i++) {
		if (*fake.procs[i].comm)
			list_by_comm(&l, &fake.procs[i]);
		else
			list_proc(&l, &fake.procs[i], fake.procs[i].pid);
	}
	list_file(&l);
	*count = l.n;
	return l.n > l.cap ? NVML_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(nvml_device dev, unsigned *count,
						   struct nvml_process_info *infos);
EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(nvml_device dev, unsigned *count,
						   struct nvml_process_info *infos)
{
	/* the privilege that the whole card's list needs when it is split */
	if (dev->mig < 0 && fake.n_migs[dev->index] && gate(dev, "card") != NVML_SUCCESS)
		return gate(dev, "card");
	return list_all(dev, false, count, infos);
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(nvml_device dev, unsigned *count,
						   struct nvml_process_info *infos);
EXPORT int nvmlDeviceGetComputeRunningProcesses_v2(nvml_device dev, unsigned *count,
						   struct nvml_process_info *infos)
{
	int r = nvmlDeviceGetComputeRunningProcesses_v3(dev, count, infos);

	if (r == NVML_SUCCESS && *count) /* so that a test can tell which one was called */
		infos[0].used_bytes = 2;
	return r;
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(nvml_device dev, unsigned *count,
						    struct nvml_process_info *infos);
EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(nvml_device dev, unsigned *count,
						    struct nvml_process_info *infos)
{
	return list_all(dev, true, count, infos);
}

/* ---- MIG ---- */

EXPORT int nvmlDeviceGetMaxMigDeviceCount(nvml_device dev, unsigned *count);
EXPORT int nvmlDeviceGetMaxMigDeviceCount(nvml_device dev, unsigned *count)
{
	(void)dev;
	*count = MAX_MIGS;
	return NVML_SUCCESS;
}

/* The first place is empty: indices have holes. */
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(nvml_device dev, unsigned index, nvml_device *mig);
EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(nvml_device dev, unsigned index, nvml_device *mig)
{
	unsigned n = (unsigned)fake.n_migs[dev->index], hole = n < MAX_MIGS ? 1 : 0;

	if (index < hole || index - hole >= n)
		return NVML_NOT_FOUND;
	*mig = &fake.migs[dev->index][index - hole];
	return gate(dev, "mig");
}

EXPORT int nvmlDeviceGetGpuInstanceId(nvml_device mig, unsigned *id);
EXPORT int nvmlDeviceGetGpuInstanceId(nvml_device mig, unsigned *id)
{
	*id = (unsigned)mig->mig + 7;
	return mig->mig < 0 ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

EXPORT int nvmlDeviceGetComputeInstanceId(nvml_device mig, unsigned *id);
EXPORT int nvmlDeviceGetComputeInstanceId(nvml_device mig, unsigned *id)
{
	*id = 0;
	return mig->mig < 0 ? NVML_NOT_SUPPORTED : NVML_SUCCESS;
}

/* ---- modes ---- */

EXPORT int nvmlDeviceGetComputeMode(nvml_device dev, int *mode);
EXPORT int nvmlDeviceGetComputeMode(nvml_device dev, int *mode)
{
	*mode = (int)fake.compute_mode;
	return fake.compute_mode < 0 ? NVML_NOT_SUPPORTED : gate(dev, "computemode");
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version);
EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
	*version = (int)fake.cuda;
	return fake.cuda ? NVML_SUCCESS : NVML_LIBRARY_NOT_FOUND;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(nvml_device dev, int *major, int *minor);
EXPORT int nvmlDeviceGetCudaComputeCapability(nvml_device dev, int *major, int *minor)
{
	*major = (int)fake.cc / 10;
	*minor = (int)fake.cc % 10;
	return gate(dev, "cc");
}

EXPORT int nvmlDeviceGetPersistenceMode(nvml_device dev, int *on);
EXPORT int nvmlDeviceGetPersistenceMode(nvml_device dev, int *on)
{
	*on = (int)fake.persistence;
	return gate(dev, "persistence");
}

EXPORT int nvmlDeviceGetEccMode(nvml_device dev, int *current, int *pending);
EXPORT int nvmlDeviceGetEccMode(nvml_device dev, int *current, int *pending)
{
	*current = (int)fake.ecc;
	*pending = (int)fake.ecc_pending;
	return gate(dev, "ecc");
}

EXPORT int nvmlDeviceGetRemappedRows(nvml_device dev, unsigned *correctable,
				     unsigned *uncorrectable, unsigned *pending, unsigned *failed);
EXPORT int nvmlDeviceGetRemappedRows(nvml_device dev, unsigned *correctable,
				     unsigned *uncorrectable, unsigned *pending, unsigned *failed)
{
	*correctable = *uncorrectable = 0;
	*pending = (unsigned)fake.remap;
	*failed = (unsigned)fake.remap_failed;
	return gate(dev, "remap");
}

EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(nvml_device dev, int *pending);
EXPORT int nvmlDeviceGetRetiredPagesPendingStatus(nvml_device dev, int *pending)
{
	*pending = (int)fake.retired;
	return gate(dev, "retired");
}

EXPORT int nvmlDeviceGetGpuFabricInfo(nvml_device dev, struct nvml_fabric_info *info);
EXPORT int nvmlDeviceGetGpuFabricInfo(nvml_device dev, struct nvml_fabric_info *info)
{
	*info = (struct nvml_fabric_info){.status = (int32_t)fake.fabric_status,
					  .state = (uint8_t)fake.fabric_state};
	return gate(dev, "fabric");
}

EXPORT int nvmlDeviceGetGpuFabricInfoV(nvml_device dev, struct nvml_fabric_info_v2 *info);
EXPORT int nvmlDeviceGetGpuFabricInfoV(nvml_device dev, struct nvml_fabric_info_v2 *info)
{
	if (info->version != NVML_FABRIC_INFO_V2)
		return NVML_INVALID_ARGUMENT;
	info->status = (int32_t)fake.fabric_status;
	info->state = (uint8_t)fake.fabric_state;
	return gate(dev, "fabricv") == NVML_SUCCESS ? gate(dev, "fabric") : gate(dev, "fabricv");
}

/* ---- links ---- */

EXPORT int nvmlDeviceGetP2PStatus(nvml_device a, nvml_device b, int caps, int *status);
EXPORT int nvmlDeviceGetP2PStatus(nvml_device a, nvml_device b, int caps, int *status)
{
	bool linked = fake.switch_links || fake.direct_links[a->index][b->index];

	*status = fake.no_peer[a->index][b->index] ? NVML_P2P_CHIPSET : NVML_P2P_OK;
	if (caps == NVML_P2P_CAPS_NVLINK && !linked)
		*status = NVML_P2P_NOT_SUPPORTED;
	return gate(a, "p2p");
}

EXPORT int nvmlDeviceGetTopologyCommonAncestor(nvml_device a, nvml_device b, int *level);
EXPORT int nvmlDeviceGetTopologyCommonAncestor(nvml_device a, nvml_device b, int *level)
{
	(void)b;
	*level = (int)fake.topology;
	return gate(a, "topology");
}

/* Link number `link` of a GPU: the other GPU's index, -1 a switch, -2 none. */
static int link_end(nvml_device dev, unsigned link)
{
	int left = (int)link;

	for (int i = 0; i < fake.n_gpus; i++) {
		if (left < fake.direct_links[dev->index][i])
			return i;
		left -= fake.direct_links[dev->index][i];
	}
	return left < fake.switch_links ? -1 : -2;
}

EXPORT int nvmlDeviceGetNvLinkState(nvml_device dev, unsigned link, int *active);
EXPORT int nvmlDeviceGetNvLinkState(nvml_device dev, unsigned link, int *active)
{
	if (link >= 18)
		return NVML_INVALID_ARGUMENT;
	*active = link_end(dev, link) != -2;
	return gate(dev, "nvlink");
}

EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvml_device dev, unsigned link,
					       struct nvml_pci_info *pci);
EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(nvml_device dev, unsigned link,
					       struct nvml_pci_info *pci)
{
	int end = link_end(dev, link);

	*pci = (struct nvml_pci_info){.bus = end >= 0 ? 0x10u + (uint32_t)end : 0x05};
	(void)snprintf(pci->bus_id, sizeof(pci->bus_id), "00000000:%02X:00.0", pci->bus);
	return end == -2 ? NVML_INVALID_ARGUMENT : gate(dev, "nvlink");
}
#endif
