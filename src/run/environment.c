#include "run/environment.h"

#include "base/jsonw.h"

extern char **environ;

static bool is_recorded(const char *entry)
{
	static const char *const prefixes[] = {"NCCL_",         "OMP_",        "GOMP_",
					       "KMP_",          "CUDA_",       "LEM_BACKEND",
					       "LEM_CAMPAIGN_", "LEM_CYCLE",   "LEM_TOTAL_CYCLES",
					       "CONDA_PREFIX",  "VIRTUAL_ENV", "SLURM_JOB_ID",
					       "SLURM_STEP_ID"};

	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
		if (str_starts(entry, prefixes[i]))
			return true;
	return false;
}

static void put_variables(struct jsonw *w)
{
	jsonw_object(w, "variables");
	for (char **e = environ; *e; e++) {
		const char *eq = strchr(*e, '=');

		if (!eq || !is_recorded(*e))
			continue;
		_cleanup_free_ char *name = lem_strndup(*e, (size_t)(eq - *e));

		jsonw_str(w, name, eq + 1);
	}
	jsonw_end_object(w);
}

static void put_known(struct jsonw *w, const char *key, const char *value)
{
	jsonw_str(w, key, value[0] ? value : NULL);
}

void environment_json(const struct host_facts *h, struct str *out)
{
	struct jsonw w;

	jsonw_init(&w, out, 0);
	jsonw_object(&w, NULL);
	jsonw_str(&w, "lem_version", LEM_VERSION);
	put_known(&w, "hostname", h->hostname);
	put_known(&w, "os", h->os);
	put_known(&w, "kernel", h->kernel);
	jsonw_object(&w, "cpu");
	put_known(&w, "model", h->cpu_model);
	put_known(&w, "governor", h->governor);
	jsonw_i64(&w, "logical_online", h->cpus_online);
	jsonw_i64(&w, "logical_allowed", h->cpus_allowed);
	jsonw_i64(&w, "cores_allowed", h->cores_allowed);
	jsonw_end_object(&w);
	jsonw_u64(&w, "memory_total_bytes", h->memory_total_bytes);
	jsonw_u64(&w, "memory_available_bytes", h->memory_available_bytes);
	put_known(&w, "virtualization", h->virtualization);
	put_known(&w, "container", h->container);
	put_variables(&w);
	jsonw_end_object(&w);
}
