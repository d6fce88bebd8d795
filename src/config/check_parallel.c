/* R08, R10, R11, R14, R15, R31: does the layout of the engine fit the GPUs that are listed? */
#include "config/impl.h"
#include "plan/parallel.h"

enum { MAX_FACTORS = 4, MAX_SHOWN_GPUS = 16, MAX_GPUS_ANYWHERE = 1024 };

struct factor {
	const char *option, *word; /* "tensor_parallel_size", "tensor" */
};

struct layout {
	const char *section, *code;
	struct factor factors[MAX_FACTORS];
	int64_t sizes[MAX_FACTORS];
	size_t n;
	int64_t need;
};

static void factor(struct layout *l, const char *option, const char *word, int64_t size)
{
	assert(l->n < MAX_FACTORS);
	l->factors[l->n] = (struct factor){option, word};
	l->sizes[l->n++] = size;
}

static char *factor_path(struct config *c, const struct layout *l, size_t i)
{
	return arena_printf(&c->arena, "%s.%s", l->section, l->factors[i].option);
}

/* A model that is spread by max_memory needs as many GPUs as that names. */
static int64_t gpus_in_max_memory(const struct experiment *e)
{
	const struct kv_list *m = &e->pytorch.max_memory;
	int64_t n = 0;

	for (size_t i = 0; i < m->n; i++)
		n += m->at[i].key[0] && !m->at[i].key[strspn(m->at[i].key, "0123456789")];
	return n;
}

/* What the engine in use multiplies; false: it takes whatever it is given. */
static bool make_layout(const struct experiment *e, struct layout *l)
{
	switch (e->backend) {
	case BACKEND_VLLM:
		l->section = "vllm";
		l->code = e->vllm.data_parallel_size > 1 ? "R11" : "R10";
		factor(l, "tensor_parallel_size", "tensor", e->vllm.tensor_parallel_size.v);
		factor(l, "pipeline_parallel_size", "pipeline", e->vllm.pipeline_parallel_size);
		if (e->vllm.data_parallel_size > 1)
			factor(l, "data_parallel_size", "data", e->vllm.data_parallel_size);
		break;
	case BACKEND_TENSORRT:
		l->section = "tensorrt";
		l->code = "R14";
		factor(l, "tp_size", "tensor", e->tensorrt.tp_size);
		factor(l, "pp_size", "pipeline", e->tensorrt.pp_size);
		if (e->tensorrt.cp_size > 1)
			factor(l, "cp_size", "context", e->tensorrt.cp_size);
		break;
	case BACKEND_SGLANG:
		l->section = "sglang";
		l->code = "R10";
		factor(l, "tp_size", "tensor", e->sglang.tp_size);
		factor(l, "pp_size", "pipeline", e->sglang.pp_size);
		if (!e->sglang.enable_dp_attention && e->sglang.dp_size > 1)
			factor(l, "dp_size", "data", e->sglang.dp_size);
		break;
	case BACKEND_PYTORCH:
		l->section = "pytorch";
		l->code = "R31";
		factor(l, "num_processes", "processes", e->pytorch.num_processes);
		factor(l, "tensor_parallel_size", "tensor", e->pytorch.tensor_parallel_size);
		if (gpus_in_max_memory(e) > 1)
			factor(l, "max_memory", "in max_memory", gpus_in_max_memory(e));
		break;
	default: return false;
	}
	l->need = parallel_product(l->sizes, l->n);
	return true;
}

static const char *show_gpus(struct config *c)
{
	const struct str_list *g = &c->exp.gpus;
	_cleanup_str_ struct str s = STR_INIT;

	str_addc(&s, '[');
	for (size_t i = 0; i < g->n && i < MAX_SHOWN_GPUS; i++)
		str_addf(&s, "%s%s", i ? ", " : "", g->at[i]);
	str_add(&s, g->n > MAX_SHOWN_GPUS ? ", …]" : "]");
	return arena_strdup(&c->arena, str_c(&s));
}

static const char *show_product(struct config *c, const struct layout *l)
{
	_cleanup_str_ struct str s = STR_INIT;

	for (size_t i = 0; i < l->n; i++)
		str_addf(&s, "%s%s %" PRId64, i ? " × " : "", l->factors[i].word, l->sizes[i]);
	return arena_strdup(&c->arena, str_c(&s));
}

static bool is_plain_index(const char *s)
{
	return !s[strspn(s, "0123456789")];
}

/* ", e.g. gpus: [0, 1, 2, 3]": the user's own list, continued; "" when it cannot be guessed. */
static const char *longer_list(struct config *c, int64_t need)
{
	const struct str_list *g = &c->exp.gpus;
	_cleanup_str_ struct str s = STR_INIT;
	int64_t next = 0;

	if (need > MAX_SHOWN_GPUS)
		return "";
	str_add(&s, ", e.g. gpus: [");
	for (size_t i = 0; i < g->n; i++) {
		if (!is_plain_index(g->at[i]))
			return "";
		next = MAX(next, (int64_t)strtol(g->at[i], NULL, 10) + 1);
		str_addf(&s, "%s%s", i ? ", " : "", g->at[i]);
	}
	for (int64_t i = (int64_t)g->n; i < need; i++)
		str_addf(&s, "%s%" PRId64, i ? ", " : "", next++);
	str_addc(&s, ']');
	return arena_strdup(&c->arena, str_c(&s));
}

static size_t largest(const struct layout *l)
{
	size_t best = 0;

	for (size_t i = 1; i < l->n; i++)
		if (l->sizes[i] > l->sizes[best])
			best = i;
	return best;
}

/* ", or set tensor_parallel_size: 1": one size that makes the layout fit; "" when all must shrink.
 */
static const char *smaller_size(struct config *c, const struct layout *l)
{
	int64_t n = (int64_t)c->exp.gpus.n;
	size_t first = largest(l);

	for (size_t k = 0; n > 0 && k < l->n; k++) {
		size_t i = (first + k) % l->n;
		int64_t fit = parallel_largest_fit(l->sizes, l->n, i, n);

		if (fit >= 1 && !str_eq(l->factors[i].option, "max_memory"))
			return arena_printf(&c->arena, ", or set %s: %" PRId64,
					    l->factors[i].option, fit);
	}
	return n > 0 ? ", or set every size to 1" : "";
}

static const char *plural(int64_t n)
{
	return n == 1 ? "GPU" : "GPUs";
}

static void too_few(struct config *c, const struct layout *l)
{
	size_t i = largest(l), n = c->exp.gpus.n;
	char *path = factor_path(c, l, i);
	const struct node *at =
		config_written(c, path) ? config_where(c, path) : config_where(c, "gpus");
	struct finding *f;

	f = finding_add(c, SEVERITY_ERROR, l->code, path, at,
			"needs %" PRId64 " %s (%s), gpus lists %s%.0zu%s", l->need, plural(l->need),
			show_product(c, l), n ? "" : "none", n,
			n ? arena_printf(&c->arena, " (%s)", show_gpus(c)) : "");
	if (l->need > MAX_GPUS_ANYWHERE) {
		finding_hint(c, f, "the sizes multiply: make them smaller");
		return;
	}
	finding_hint(c, f, "list %" PRId64 " %s%s%s", l->need, plural(l->need),
		     longer_list(c, l->need), smaller_size(c, l));
}

static void too_many(struct config *c, const struct layout *l)
{
	bool strict = c->exp.strict_gpus;
	int64_t n = (int64_t)c->exp.gpus.n, idle = n - l->need;
	int64_t fit = parallel_largest_fit(l->sizes, l->n, 0, n);
	bool can_grow = fit > l->sizes[0] && fit * (l->need / l->sizes[0]) == n;
	struct finding *f;

	f = finding_add(c, strict ? SEVERITY_ERROR : SEVERITY_WARNING, l->code, "gpus",
			config_where(c, "gpus"),
			"lists %" PRId64 " GPUs (%s), but %s uses %" PRId64 " (%s): %" PRId64
			" would stay idle and still draw power",
			n, show_gpus(c), backend_name(c->exp.backend), l->need, show_product(c, l),
			idle);
	if (can_grow)
		finding_hint(c, f, "list %" PRId64 ", or set %s.%s: %" PRId64, l->need, l->section,
			     l->factors[0].option, fit);
	else
		finding_hint(c, f, "list only %" PRId64, l->need);
}

static void check_mig(struct config *c, const struct layout *l)
{
	size_t i = largest(l);
	struct finding *f;

	if (l->need < 2)
		return;
	for (size_t g = 0; g < c->exp.gpus.n; g++) {
		if (!str_starts(c->exp.gpus.at[g], "MIG-"))
			continue;
		f = finding_add(c, SEVERITY_ERROR, "R08", "gpus", config_where(c, "gpus"),
				"lists the MIG slice %s, but %s %" PRId64 " needs %" PRId64
				" full GPUs: slices do not combine",
				c->exp.gpus.at[g], l->factors[i].option, l->sizes[i], l->need);
		finding_hint(c, f, "list full GPUs, or set %s: 1", l->factors[i].option);
		return;
	}
}

/* `auto` takes what pipeline and data parallelism leave; false after a finding. */
static bool resolve_auto(struct config *c)
{
	struct vllm_config *v = &c->exp.vllm;
	int64_t rest[] = {v->pipeline_parallel_size, v->data_parallel_size};
	int64_t others = parallel_product(rest, 2), n = (int64_t)c->exp.gpus.n;
	struct finding *f;

	if (!v->tensor_parallel_auto)
		return true;
	v->tensor_parallel_size = (struct maybe_i64){.set = true, .v = MAX(n / others, (int64_t)1)};
	if (n > 0 && n % others == 0)
		return true;
	f = finding_add(c, SEVERITY_ERROR, "R10", "vllm.tensor_parallel_size",
			config_where(c, "vllm.tensor_parallel_size"),
			"is auto, but %zu listed GPUs cannot be divided by pipeline %" PRId64
			" × data %" PRId64,
			c->exp.gpus.n, rest[0], rest[1]);
	finding_hint(c, f, "list a multiple of %" PRId64 " GPUs", others);
	return false;
}

static bool sizes_known(struct config *c, const struct layout *l)
{
	if (config_invalid(c, "gpus"))
		return false;
	for (size_t i = 0; i < l->n; i++)
		if (config_invalid(c, factor_path(c, l, i)))
			return false;
	return true;
}

void check_parallel(struct config *c, const struct config_request *req)
{
	struct layout l = {.n = 0};
	int64_t n = (int64_t)c->exp.gpus.n;

	if (c->exp.backend == BACKEND_VLLM && (config_invalid(c, "gpus") || !resolve_auto(c)))
		return;
	if (!make_layout(&c->exp, &l) || !sizes_known(c, &l))
		return;
	/* One PyTorch process without GPUs runs on the CPU, and so does a vLLM made for it, in as
	 * many parts as one likes. */
	if (n == 0 && l.need == 1 && c->exp.backend == BACKEND_PYTORCH)
		return;
	if (n == 0 && (c->exp.backend == BACKEND_VLLM || c->exp.backend == BACKEND_PYTORCH) &&
	    config_written(c, "gpus")) {
		check_shape(c, req);
		return;
	}
	if (l.need > n)
		too_few(c, &l);
	else if (l.need < n)
		too_many(c, &l);
	check_mig(c, &l);
	check_shape(c, req);
}
