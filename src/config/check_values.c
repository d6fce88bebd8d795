/* Values that are right alone and wrong, or doubtful, together. */
#include "config/impl.h"

#include <ctype.h>

static struct finding *say(struct config *c, enum severity s, const char *code, const char *field,
			   const char *what)
{
	return finding_add(c, s, code, field, config_where(c, field), "%s", what);
}

static void check_lengths(struct config *c)
{
	const struct experiment *e = &c->exp;
	struct finding *f;

	if (e->min_output_tokens > e->max_output_tokens) {
		f = finding_add(c, SEVERITY_ERROR, "C14", "min_output_tokens",
				config_where(c, "min_output_tokens"),
				"is %" PRId64 ", more than max_output_tokens %" PRId64,
				e->min_output_tokens, e->max_output_tokens);
		finding_hint(c, f, "set it to %" PRId64 " to force that length",
			     e->max_output_tokens);
	}
	if (e->max_output_tokens > 2048) {
		f = finding_add(c, SEVERITY_WARNING, "C20", "max_output_tokens",
				config_where(c, "max_output_tokens"),
				"is %" PRId64
				": long outputs take much time, and memory for the KV cache",
				e->max_output_tokens);
		finding_hint(c, f, "2048 or less is enough for a stable figure");
	}
}

static bool from_decoder_preset(const struct config *c, const char *path)
{
	const struct value *v = config_value(c, path);

	return v && v->source == SOURCE_PRESET && v->detail;
}

static void check_greedy(struct config *c)
{
	const struct decoder_config *d = &c->exp.decoder;
	struct finding *f;

	if (d->top_p != 1 && !from_decoder_preset(c, "decoder.top_p"))
		finding_hint(
			c,
			say(c, SEVERITY_WARNING, "C21", "decoder.top_p",
			    "has no effect without sampling (temperature 0 or do_sample false)"),
			"remove it, or raise the temperature");
	if (d->top_k != 0 && config_written(c, "decoder.top_k"))
		finding_hint(
			c,
			say(c, SEVERITY_WARNING, "C21", "decoder.top_k",
			    "has no effect without sampling (temperature 0 or do_sample false)"),
			"remove it, or raise the temperature");
	if (d->repetition_penalty != 1) {
		f = say(c, SEVERITY_INFO, "C21", "decoder.repetition_penalty",
			"changes which token is the most likely one, also without sampling");
		finding_hint(c, f, "remove it unless that is meant");
	}
	if (d->do_sample && config_written(c, "decoder.do_sample"))
		finding_hint(c,
			     say(c, SEVERITY_INFO, "C21", "decoder.do_sample",
				 "has no effect at temperature 0"),
			     "remove it, or raise the temperature");
}

static void check_decoder(struct config *c)
{
	const struct decoder_config *d = &c->exp.decoder;

	if (d->preset)
		finding_add(c, SEVERITY_INFO, "C21", "decoder.preset",
			    config_where(c, "decoder.preset"),
			    "%s is in use; keys beside it win over it", d->preset);
	if (d->temperature == 0 || !d->do_sample)
		check_greedy(c);
	else if (d->temperature != 1 && d->top_p != 1 && !from_decoder_preset(c, "decoder.top_p"))
		finding_hint(c,
			     say(c, SEVERITY_WARNING, "C21", "decoder",
				 "sets both temperature and top_p, which narrow the choice twice"),
			     "set one of them and leave the other at 1");
}

static void check_at_most(struct config *c, const char *path, int64_t v, const char *limit_path,
			  int64_t limit)
{
	struct finding *f;

	if (v <= limit)
		return;
	if (!config_written(c, path) &&
	    config_written(c, limit_path)) { /* point at what was written */
		f = finding_add(c, SEVERITY_ERROR, "C14", limit_path, config_where(c, limit_path),
				"is %" PRId64 ", less than %s %" PRId64, limit, path, v);
		finding_hint(c, f, "raise it, or write %s: %" PRId64 " too", path, limit);
		return;
	}
	f = finding_add(c, SEVERITY_ERROR, "C14", path, config_where(c, path),
			"is %" PRId64 ", more than %s %" PRId64, v, limit_path, limit);
	finding_hint(c, f, "set it to %" PRId64 " at most", limit);
}

static void check_warmup(struct config *c)
{
	const struct warmup_config *w = &c->exp.warmup;

	if (w->requests.set) {
		if (w->convergence_detection)
			finding_hint(
				c,
				say(c, SEVERITY_ERROR, "C14", "warmup.requests",
				    "asks for a fixed number, but convergence_detection is true"),
				"remove one of the two");
		return;
	}
	check_at_most(c, "warmup.window_size", w->window_size, "warmup.max_prompts",
		      w->max_prompts);
	check_at_most(c, "warmup.min_prompts", w->min_prompts, "warmup.max_prompts",
		      w->max_prompts);
}

static void check_rate(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (t->concurrency.set && t->rate.set)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "traffic.concurrency",
				 "asks for a closed loop, traffic.rate for an open one"),
			     "remove one of the two");
	else if (!t->concurrency.set && !t->rate.set && !check_loads_are_listed(c) &&
		 t->arrival != TRAFFIC_TRACE && !config_invalid(c, "traffic.rate") &&
		 !config_invalid(c, "traffic.concurrency"))
		finding_hint(c, say(c, SEVERITY_ERROR, "C05", "traffic.rate", "is missing"),
			     "write rate: 1.0 for one request per second, or concurrency: 8 for a "
			     "closed loop");
}

static void check_traffic(struct config *c)
{
	const struct traffic_config *t = &c->exp.traffic;

	if (!t->present)
		return;
	check_rate(c);
	if (t->arrival == TRAFFIC_TRACE && !t->trace && !config_invalid(c, "traffic.trace") &&
	    !(c->exp.prompts.present && c->exp.prompts.type == PROMPTS_TRACE))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C05", "traffic.trace",
				 "is missing, but arrival is trace"),
			     "name the file with the arrival times, or take requests and times "
			     "from a trace with prompts.type: trace");
	if (t->arrival != TRAFFIC_TRACE && config_written(c, "traffic.trace_scale"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "traffic.trace_scale",
				 "is only used with arrival: trace"),
			     "remove it, or write arrival: trace");
	if (t->arrival != TRAFFIC_TRACE && t->trace)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "traffic.trace",
				 "is only used with arrival: trace"),
			     "remove it, or write arrival: trace");
	if (t->arrival != TRAFFIC_GAMMA && config_written(c, "traffic.burstiness") &&
	    t->burstiness != 1)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C13", "traffic.burstiness",
				 "is only used with arrival: gamma"),
			     "remove it, or write arrival: gamma");
	if (t->duration_sec.set && t->ramp_sec >= t->duration_sec.v)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "traffic.ramp_sec",
				 "is not shorter than duration_sec: nothing would be counted"),
			     "shorten it, or send for longer");
	if (c->exp.streaming)
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C14", "streaming",
				 "issues one request at a time, but traffic sends them over time"),
			     "remove one of the two; with traffic every token is stamped anyway");
}

static void check_streaming(struct config *c)
{
	const struct experiment *e = &c->exp;
	const char *path =
		e->backend == BACKEND_PYTORCH ? "pytorch.batch_size" : "llamacpp.batch_size";
	int64_t batch = e->backend == BACKEND_PYTORCH    ? e->pytorch.batch_size
			: e->backend == BACKEND_LLAMACPP ? e->llamacpp.batch_size
							 : 1;
	struct finding *f;

	if (!e->streaming || batch <= 1)
		return;
	f = finding_add(c, SEVERITY_ERROR, "C14", path, config_where(c, path),
			"is %" PRId64 ", but streaming issues one request at a time", batch);
	finding_hint(c, f, "set it to 1, or streaming: false");
}

static bool has_meter(const struct energy_config *e, const char *name)
{
	for (size_t i = 0; i < e->meters.n; i++)
		if (str_eq(e->meters.at[i], name))
			return true;
	return false;
}

static void check_energy(struct config *c)
{
	const struct energy_config *e = &c->exp.energy;

	if (has_meter(e, "estimate") && !e->estimate_watts_per_core.set &&
	    !config_invalid(c, "energy.estimate_watts_per_core"))
		finding_hint(c,
			     say(c, SEVERITY_ERROR, "C05", "energy.estimate_watts_per_core",
				 "is missing, but the estimate meter is asked for"),
			     "state the watts one busy core draws, such as 5");
	if (has_meter(e, "auto") && e->meters.n > 1)
		finding_hint(
			c,
			say(c, SEVERITY_ERROR, "C14", "energy.meters", "names auto beside others"),
			"write auto alone, or the others alone");
}

void check_values(struct config *c)
{
	check_lengths(c);
	check_decoder(c);
	check_warmup(c);
	check_traffic(c);
	check_loads(c);
	check_streaming(c);
	check_energy(c);
}

#define GPUS_DECIDE "is derived from gpus and cannot be set here"
#define GPUS_HOW    "remove it; gpus: [0, 1] uses the GPUs 0 and 1"

static bool name_ok(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && *s != '_')
			return false;
	return true;
}

/* Variables that would undo the routing, or hide that it cannot work; NULL: it may be set. */
static const char *refused_env(const char *name, const char **ret_code, const char **ret_fix)
{
	static const struct {
		const char *name, *code, *why, *fix;
	} names[] = {
		{"NVIDIA_DRIVER_CAPABILITIES", "R04",
		 "is set by lem to what an engine needs: compute,utility", "remove it"},
		{"NVIDIA_DISABLE_REQUIRE", "R25",
		 "would turn the clear error of an image that is too new for the driver into a "
		 "late CUDA error",
		 "remove it; choose an image that the driver can run"},
		{"CUDA_VISIBLE_DEVICES", "R04", GPUS_DECIDE, GPUS_HOW},
		{"NVIDIA_VISIBLE_DEVICES", "R04", GPUS_DECIDE, GPUS_HOW},
		{"CUDA_DEVICE_ORDER", "R04", GPUS_DECIDE, GPUS_HOW},
		{"LEM_GPU_UUIDS", "R04", GPUS_DECIDE, GPUS_HOW},
	};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (!str_eq(name, names[i].name))
			continue;
		*ret_code = names[i].code;
		*ret_fix = names[i].fix;
		return names[i].why;
	}
	*ret_code = "C03";
	*ret_fix = "remove it, or give your own variable another name";
	return str_starts(name, "LEM_") ? "begins with LEM_, which is lem's own" : NULL;
}

static void check_env_name(struct config *c, const char *name)
{
	const char *code, *fix, *why = refused_env(name, &code, &fix);
	char *path = arena_printf(&c->arena, "env.%s", name);
	const struct node *env = config_where(c, "env"), *at = node_get(env, name);
	struct finding *f;

	if (why) {
		f = finding_add(c, SEVERITY_ERROR, code, path, at ? at : env, "%s", why);
		finding_hint(c, f, "%s", fix);
	}
	if (!name_ok(name))
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C03", path, at ? at : env,
					 "is not a name for an environment variable"),
			     "use letters, digits and _");
	if (at && at->kind != NODE_SCALAR)
		finding_hint(c,
			     finding_add(c, SEVERITY_ERROR, "C02", path, at,
					 "must be a text or a number, is %s",
					 config_is_secret(name, strlen(name))
						 ? "***"
						 : node_show(&c->arena, at)),
			     "write one value");
}

void check_env(struct config *c)
{
	for (size_t i = 0; i < c->exp.env.n; i++)
		check_env_name(c, c->exp.env.at[i].key);
}
