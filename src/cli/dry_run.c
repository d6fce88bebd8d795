#include "cli/dry_run.h"

#include "base/jsonw.h"
#include "base/str.h"
#include "cli/cli.h"
#include "run/run.h"
#include "runner/docker_body.h"
#include "sys/fs.h"

struct view {
	const struct run_plan *plan;
	const struct run_record *rec; /* its notes are the warnings */
	struct docker_body_options options;
};

static bool is_secret(const struct launch_spec *s, const char *entry)
{
	size_t n = strcspn(entry, "=");

	for (const char *const *p = s->secrets; p && *p; p++)
		if (strlen(*p) == n && memcmp(*p, entry, n) == 0)
			return true;
	return false;
}

/* "NAME=value", the value of a secret hidden. */
static void add_env(const struct launch_spec *s, const char *entry, struct str *out)
{
	if (is_secret(s, entry))
		str_addf(out, "%.*s=***", (int)strcspn(entry, "="), entry);
	else
		str_add(out, entry);
}

static void json_words(struct jsonw *w, const char *key, const char *const *words)
{
	jsonw_array(w, key);
	for (; words && *words; words++)
		jsonw_str(w, NULL, *words);
	jsonw_end_array(w);
}

static void json_env(struct jsonw *w, const struct launch_spec *s)
{
	jsonw_array(w, "env");
	for (const char *const *e = s->env; e && *e; e++) {
		_cleanup_str_ struct str one = STR_INIT;

		add_env(s, *e, &one);
		jsonw_str(w, NULL, str_c(&one));
	}
	jsonw_end_array(w);
}

static void json_gpus(struct jsonw *w, const struct gpu_binding *b)
{
	jsonw_array(w, "gpus");
	for (size_t i = 0; i < b->n; i++) {
		const struct gpu_ref *g = &b->gpus[i];

		jsonw_object(w, NULL);
		jsonw_str(w, "requested", g->requested);
		jsonw_i64(w, "index", g->index);
		jsonw_str(w, "uuid", g->uuid);
		jsonw_str(w, "pci_bus_id", g->pci_bus_id);
		jsonw_str(w, "name", g->name);
		jsonw_i64(w, "container_index", g->container_index);
		jsonw_i64(w, "cuda_index", (int64_t)i);
		jsonw_end_object(w);
	}
	jsonw_end_array(w);
}

static void json_container(struct jsonw *w, const struct view *v)
{
	_cleanup_str_ struct str body = STR_INIT, line = STR_INIT;

	docker_body_json(v->plan->spec, &v->options, &body);
	docker_run_line(v->plan->spec, &v->options, &line);
	jsonw_raw(w, "create_request", str_c(&body));
	jsonw_str(w, "docker_run", str_c(&line));
}

static void show_json(const struct view *v)
{
	_cleanup_str_ struct str out = STR_INIT;
	const struct launch_spec *s = v->plan->spec;
	struct jsonw w;

	jsonw_init(&w, &out, 2);
	jsonw_object(&w, NULL);
	jsonw_object(&w, "dry_run");
	jsonw_str(&w, "runner", v->plan->runner->name);
	jsonw_str(&w, "path", v->plan->binding->path);
	jsonw_str(&w, "engine", s->engine);
	jsonw_str(&w, "image", v->plan->runner->is_container ? s->image : NULL);
	json_gpus(&w, v->plan->binding);
	if (v->plan->runner->is_container) {
		json_container(&w, v);
	} else {
		json_words(&w, "argv", s->argv);
		jsonw_str(&w, "cwd", s->cwd);
		json_env(&w, s);
	}
	jsonw_array(&w, "warnings");
	for (size_t i = 0; i < v->rec->n_notes; i++)
		jsonw_str(&w, NULL, v->rec->notes[i]);
	jsonw_end_array(&w);
	jsonw_end_object(&w);
	jsonw_end_object(&w);
	puts(str_c(&out));
}

static void text_gpus(const struct view *v, struct str *out)
{
	const struct gpu_binding *b = v->plan->binding;

	if (b->n == 0) {
		str_add(out, "GPUs: none, the engine is shown none\n");
		return;
	}
	str_addf(out, "%-16s %-8s %-42s %-18s %-10s %s\n", "gpus", "host GPU", "UUID", "PCI bus id",
		 v->plan->runner->is_container ? "in there" : "given as", "CUDA device");
	for (size_t i = 0; i < b->n; i++) {
		const struct gpu_ref *g = &b->gpus[i];

		str_addf(out, "%-16s %-8d %-42s %-18s %-10d %zu\n", g->requested, g->index, g->uuid,
			 g->pci_bus_id, g->container_index, i);
	}
}

static void text_container(const struct view *v, struct str *out)
{
	const struct launch_spec *s = v->plan->spec;

	str_addf(out, "image: %s\n\n# POST /containers/create\n", s->image ? s->image : "(none)");
	docker_body_json(s, &v->options, out);
	str_add(out, "\n\n# the same by the client\n");
	docker_run_line(s, &v->options, out);
	str_addc(out, '\n');
}

static void text_process(const struct launch_spec *s, struct str *out)
{
	str_add(out, "argv:");
	for (const char *const *p = s->argv; *p; p++)
		str_addf(out, " %s", *p);
	str_addf(out, "\ncwd: %s\nadded environment:\n", s->cwd ? s->cwd : "inherited");
	for (const char *const *e = s->env; e && *e; e++) {
		str_add(out, "  ");
		add_env(s, *e, out);
		str_addc(out, '\n');
	}
}

static void show_text(const struct view *v)
{
	_cleanup_str_ struct str out = STR_INIT;

	str_addf(&out, "%s by runner %s, GPUs by path %s\n", v->plan->spec->engine,
		 v->plan->runner->name, v->plan->binding->path);
	text_gpus(v, &out);
	if (v->plan->runner->is_container)
		text_container(v, &out);
	else
		text_process(v->plan->spec, &out);
	fputs(str_c(&out), stdout);
	for (size_t i = 0; i < v->rec->n_notes; i++)
		fprintf(stderr, "lem: warning: %s\n", v->rec->notes[i]);
	fputs("lem: the configuration is good; nothing was started\n", stderr);
}

int dry_run(const struct experiment *e, bool json)
{
	_cleanup_free_ char *program_dir = fs_program_dir();
	const struct run_request q = {.exp = e, .program_dir = program_dir, .cancel_fd = -1};
	struct lem_error err = LEM_ERROR_INIT;
	struct run_record r;
	struct run_plan plan;
	int rc;

	run_record_init(&r);
	rc = run_plan(&q, &r, &plan, &err);
	if (rc < 0) {
		rc = cli_error_as(&err, json);
		run_record_release(&r);
		return rc;
	}
	const struct view v = {
		.plan = &plan,
		.rec = &r,
		.options = {.indent = 2,
			    .open_stdin = plan.spec->channel == CHANNEL_WORKER,
			    .rootless = plan.rootless},
	};

	(json ? show_json : show_text)(&v);
	run_record_release(&r);
	return CLI_OK;
}
