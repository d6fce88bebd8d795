#include "base/num.h"
#include "gpu/processes.h"
#include "run/life.h"

/* The GPUs of the binding as they are just before a run: free memory, who is on them, their mode.
 * What the driver does not tell is not judged. */

enum { PROCESSES_MAX = 512, COMPUTE_PROHIBITED = 2, COMPUTE_EXCLUSIVE = 3 };

struct scene {
	struct nvml *nvml;
	struct gpu_process *at;
	size_t n;
};

/* "pid 812 (python3, user x)". */
static const char *who(const struct gpu_process *p, char *buf, size_t size)
{
	char name[64], user[32];

	gpu_process_describe(p->pid, name, sizeof(name), user, sizeof(user));
	(void)snprintf(buf, size, "pid %lld%s%.40s%s%.30s%s", (long long)p->pid,
		       name[0] ? " (" : "", name, user[0] && name[0] ? ", user " : "",
		       name[0] ? user : "", name[0] ? ")" : "");
	return buf;
}

/* The one that holds most of a GPU's memory; NULL: nobody is told. */
static const struct gpu_process *largest_on(const struct scene *s, const char *card)
{
	const struct gpu_process *most = NULL;

	for (size_t i = 0; i < s->n; i++)
		if (str_eq(s->at[i].card_uuid, card) &&
		    (!most || s->at[i].memory_bytes > most->memory_bytes))
			most = &s->at[i];
	return most;
}

static const struct gpu_device *device_of(const struct life *l, const struct gpu_ref *g)
{
	for (size_t i = 0; i < l->inventory.n; i++)
		if (str_eq(l->inventory.gpus[i].uuid, gpu_ref_card(g)))
			return &l->inventory.gpus[i];
	return NULL;
}

static int check_mode(const struct life *l, const struct gpu_ref *g, struct lem_error *err)
{
	const struct gpu_device *d = device_of(l, g);

	if (!d || d->compute_mode != COMPUTE_PROHIBITED)
		return 0;
	(void)lem_fail(err, LEM_E_REFUSED,
		       "R28: GPU %d lets no program compute (compute mode prohibited)", g->index);
	return lem_error_fix(err, "sudo nvidia-smi -i %s -c 0", gpu_ref_card(g));
}

/* What each GPU must have free at least; 0: not known. vLLM refuses to start without its share of
 * the whole memory (vllm/v1/worker/gpu_worker.py); weights spread over the GPUs of a layout. */
static uint64_t needed_bytes(const struct life *l, const struct nvml_memory *m)
{
	const struct experiment *e = l->e;
	uint64_t size = l->rec->shape.size_bytes, share = size / l->rec->binding.n;

	switch (e->backend) {
	case BACKEND_VLLM:
		return (uint64_t)(e->vllm.gpu_memory_utilization * (double)m->total_bytes);
	case BACKEND_LLAMACPP:
		return e->llamacpp.n_gpu_layers.set || e->llamacpp.tensor_split.n ? 0 : share;
	case BACKEND_PYTORCH: return share;
	default: return 0;
	}
}

/* "3, 4": GPUs of this host with that much free. */
static void list_free(const struct life *l, const struct scene *s, uint64_t bytes, struct str *out)
{
	for (size_t i = 0; i < l->inventory.n; i++) {
		struct nvml_memory m;
		nvml_device dev;

		if (s->nvml->device_by_uuid(l->inventory.gpus[i].uuid, &dev) == NVML_SUCCESS &&
		    s->nvml->memory_info(dev, &m) == NVML_SUCCESS && m.free_bytes >= bytes)
			str_addf(out, "%s%d", out->len ? ", " : "", l->inventory.gpus[i].index);
	}
}

static int fail_memory(const struct life *l, const struct scene *s, const struct gpu_ref *g,
		       const struct nvml_memory *m, uint64_t need, struct lem_error *err)
{
	const struct gpu_process *p = largest_on(s, gpu_ref_card(g));
	_cleanup_str_ struct str other = STR_INIT;
	char free_text[24], need_text[24], used_text[24], name[128];

	list_free(l, s, need, &other);
	(void)lem_fail(err, LEM_E_REFUSED, "R26: GPU %d has %s free, the engine needs %s there",
		       g->index, num_format_bytes(m->free_bytes, free_text, sizeof(free_text)),
		       num_format_bytes(need, need_text, sizeof(need_text)));
	num_format_bytes(m->used_bytes, used_text, sizeof(used_text));
	if (p)
		(void)lem_error_why(err, "%s are in use, most of it by %s", used_text,
				    who(p, name, sizeof(name)));
	else
		(void)lem_error_why(err, "%s are in use", used_text);
	return lem_error_fix(err, "GPUs with enough free memory now: %s",
			     other.len ? str_c(&other) : "none");
}

static int check_memory(struct life *l, const struct scene *s, const struct gpu_ref *g,
			struct lem_error *err)
{
	struct lem_error told;
	struct nvml_memory m;
	nvml_device dev;
	uint64_t need;

	if (!s->nvml->memory_info || str_starts(g->uuid, "MIG-") ||
	    s->nvml->device_by_uuid(gpu_ref_card(g), &dev) != NVML_SUCCESS ||
	    s->nvml->memory_info(dev, &m) != NVML_SUCCESS)
		return 0;
	need = needed_bytes(l, &m);
	if (!need || m.free_bytes >= need)
		return 0;
	if (!l->planning)
		return fail_memory(l, s, g, &m, need, err);
	(void)fail_memory(l, s, g, &m, need, &told);
	run_record_note(l->rec, "%s; %s", told.what, told.why); /* it may be free later */
	return 0;
}

/* In exclusive mode a second program gets "all CUDA-capable devices are busy". */
static int fail_exclusive(const struct gpu_ref *g, const char *name, struct lem_error *err)
{
	(void)lem_fail(err, LEM_E_REFUSED,
		       "R28: GPU %d takes one process only (compute mode exclusive), and %s is "
		       "on it",
		       g->index, name);
	return lem_error_fix(err,
			     "stop it, choose another GPU, or let more in: sudo nvidia-smi -i %s "
			     "-c 0",
			     gpu_ref_card(g));
}

static int check_foreigners(struct life *l, const struct scene *s, const struct gpu_ref *g,
			    struct lem_error *err)
{
	const struct gpu_device *d = device_of(l, g);
	bool exclusive = d && d->compute_mode == COMPUTE_EXCLUSIVE && !l->planning;
	char name[128];

	for (size_t i = 0; i < s->n; i++) {
		const struct gpu_process *p = &s->at[i];

		if (!str_eq(p->card_uuid, gpu_ref_card(g)) || p->pid == getpid())
			continue;
		who(p, name, sizeof(name));
		if (!p->graphics && exclusive)
			return fail_exclusive(g, name, err);
		if (!p->graphics && l->e->strict_gpus && !l->planning) {
			(void)lem_fail(err, LEM_E_REFUSED,
				       "R27: %s is on GPU %d before the run (strict_gpus)", name,
				       g->index);
			return lem_error_fix(err, "stop it or choose another GPU; its energy "
						  "cannot be told from the engine's");
		}
		run_record_note(l->rec, "R27: %s %s GPU %d before the run", name,
				p->graphics ? "draws on" : "is on", g->index);
	}
	return 0;
}

int life_check_gpus(struct life *l, struct lem_error *err)
{
	_cleanup_free_ struct gpu_process *at = NULL;
	_cleanup_nvml_ struct nvml *nvml = NULL;
	const struct gpu_binding *b = &l->rec->binding;
	struct scene s = {0};
	int rc = 0;

	if (!b->n || l->runner == &runner_external || nvml_open(&nvml, NULL) < 0)
		return 0;
	at = lem_calloc(PROCESSES_MAX, sizeof(*at));
	s = (struct scene){.nvml = nvml, .at = at};
	if (gpu_processes_read(nvml, at, PROCESSES_MAX, &s.n, NULL) < 0)
		s.n = 0;
	s.n = MIN(s.n, (size_t)PROCESSES_MAX);
	for (size_t i = 0; i < b->n && rc >= 0; i++) {
		rc = check_mode(l, &b->gpus[i], err);
		if (rc >= 0)
			rc = check_memory(l, &s, &b->gpus[i], err);
		if (rc >= 0)
			rc = check_foreigners(l, &s, &b->gpus[i], err);
	}
	return rc;
}
