/* R12, R13, R15: sizes that the model's own shape does not allow, and splits that do not multiply
 * out. */
#include "config/impl.h"
#include "plan/parallel.h"

enum { MAX_TPS = 12 };

struct split {
	const char *tp_path, *tp_option, *pp_path, *ep_path;
	int64_t tp, pp;
	bool expert_parallel;
};

static bool make_split(const struct experiment *e, struct split *s)
{
	switch (e->backend) {
	case BACKEND_VLLM:
		*s = (struct split){"vllm.tensor_parallel_size",    "tensor_parallel_size",
				    "vllm.pipeline_parallel_size",  "vllm.enable_expert_parallel",
				    e->vllm.tensor_parallel_size.v, e->vllm.pipeline_parallel_size,
				    e->vllm.enable_expert_parallel};
		return true;
	case BACKEND_TENSORRT:
		*s = (struct split){"tensorrt.tp_size",
				    "tp_size",
				    "tensorrt.pp_size",
				    "tensorrt.moe_ep_size",
				    e->tensorrt.tp_size,
				    e->tensorrt.pp_size,
				    e->tensorrt.moe_ep_size.set && e->tensorrt.moe_ep_size.v > 1};
		return true;
	case BACKEND_SGLANG:
		*s = (struct split){"sglang.tp_size",     "tp_size",         "sglang.pp_size",
				    "sglang.ep_size",     e->sglang.tp_size, e->sglang.pp_size,
				    e->sglang.ep_size > 1};
		return true;
	case BACKEND_PYTORCH:
		*s = (struct split){"pytorch.tensor_parallel_size",
				    "tensor_parallel_size",
				    "pytorch.tensor_parallel_size",
				    "",
				    e->pytorch.tensor_parallel_size,
				    1,
				    false};
		return true;
	default: return false;
	}
}

static void add_numbers(struct str *s, const int64_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		str_addf(s, "%s%" PRId64, i == 0 ? "" : i + 1 == n ? " or " : ", ", v[i]);
}

/* "set tensor_parallel_size: 2 (1, 2, 4 or 8 work with this model)" */
static void hint_tp(struct config *c, struct finding *f, const struct split *s,
		    const struct tensor_limits *l, const char *or_else)
{
	_cleanup_str_ struct str all = STR_INIT;
	int64_t tps[MAX_TPS], nearest = 1;
	size_t n = parallel_valid_tps(l, MAX(s->tp, (int64_t)8), tps, MAX_TPS);

	for (size_t i = 0; i < n; i++)
		if (tps[i] <= s->tp)
			nearest = tps[i];
	add_numbers(&all, tps, n);
	finding_hint(c, f, "set %s: %" PRId64 " (%s %s with this model)%s", s->tp_option, nearest,
		     str_c(&all), n == 1 ? "works" : "work", or_else);
}

static void check_heads(struct config *c, const struct split *s, const struct model_shape *m,
			const struct tensor_limits *l)
{
	const struct node *at = config_where(c, s->tp_path);
	enum kv_split kv = m->n_head_kv ? parallel_kv_split(m->n_head_kv, s->tp) : KV_EVEN;

	if (m->n_head && m->n_head % s->tp != 0)
		hint_tp(c,
			finding_add(c, SEVERITY_ERROR, "R12", s->tp_path, at,
				    "is %" PRId64 ", which does not divide the %" PRId64
				    " attention heads of %s",
				    s->tp, m->n_head, c->exp.model_name),
			s, l, "");
	else if (kv == KV_IMPOSSIBLE)
		hint_tp(c,
			finding_add(c, SEVERITY_ERROR, "R12", s->tp_path, at,
				    "is %" PRId64 ", which neither divides the %" PRId64
				    " key/value heads of %s nor is a multiple of them",
				    s->tp, m->n_head_kv, c->exp.model_name),
			s, l, "");
	else if (kv == KV_REPLICATED)
		finding_add(c, SEVERITY_INFO, "R12", s->tp_path, at,
			    "is %" PRId64 ", more than the %" PRId64
			    " key/value heads: each is kept on %" PRId64 " GPUs",
			    s->tp, m->n_head_kv, s->tp / m->n_head_kv);
}

static void check_layers(struct config *c, const struct split *s, const struct model_shape *m)
{
	struct finding *f;

	if (!m->n_layer || s->pp <= m->n_layer)
		return;
	f = finding_add(c, SEVERITY_ERROR, "R12", s->pp_path, config_where(c, s->pp_path),
			"is %" PRId64 ", but %s has only %" PRId64 " layers", s->pp,
			c->exp.model_name, m->n_layer);
	finding_hint(c, f, "set it to %" PRId64 " at most", m->n_layer);
}

static void check_block(struct config *c, const struct split *s, const struct tensor_limits *l)
{
	struct finding *f;

	if (!l->block || !l->inner || parallel_block_fits(l->inner, s->tp, l->block))
		return;
	f = finding_add(c, SEVERITY_ERROR, "R13", s->tp_path, config_where(c, s->tp_path),
			"is %" PRId64 ": a slice of the inner size %" PRId64
			" of %s is not whole quantisation blocks of %" PRId64,
			s->tp, l->inner, c->exp.model_name, l->block);
	hint_tp(c, f, s, l,
		c->exp.backend == BACKEND_VLLM
			? ", or enable_expert_parallel: true for a mixture of experts"
			: "");
}

static void check_experts(struct config *c, const struct split *s, const struct model_shape *m)
{
	struct finding *f;

	if (!s->expert_parallel || m->n_expert)
		return;
	f = finding_add(c, SEVERITY_ERROR, "C13", s->ep_path, config_where(c, s->ep_path),
			"needs a mixture of experts, which %s is not", c->exp.model_name);
	finding_hint(c, f, "remove it");
}

static void check_model(struct config *c, const struct config_request *req, const struct split *s)
{
	struct model_shape m = {.n_layer = 0};
	struct tensor_limits l;

	if (!req->shape || !c->exp.model_name || (s->tp == 1 && s->pp == 1))
		return;
	if (req->shape(c->exp.model_name, c->exp.root_dir, &m) < 0) {
		finding_add(c, SEVERITY_INFO, "R12", s->tp > 1 ? s->tp_path : s->pp_path,
			    config_where(c, s->tp > 1 ? s->tp_path : s->pp_path),
			    "cannot be checked against the heads and layers of %s: the model is "
			    "not on this machine",
			    c->exp.model_name);
		return;
	}
	l = (struct tensor_limits){m.n_head, m.n_head_kv,
				   m.n_expert && m.n_ff_expert ? m.n_ff_expert : m.n_ff,
				   s->expert_parallel ? 0 : m.quant_block};
	check_heads(c, s, &m, &l);
	check_layers(c, s, &m);
	check_block(c, s, &l);
	check_experts(c, s, &m);
}

static void check_tensorrt_moe(struct config *c)
{
	const struct tensorrt_config *t = &c->exp.tensorrt;
	int64_t moe_tp = t->moe_tp_size.set ? t->moe_tp_size.v : 0,
		moe_ep = t->moe_ep_size.set ? t->moe_ep_size.v : 0;
	const char *path = moe_ep ? "tensorrt.moe_ep_size" : "tensorrt.moe_tp_size";
	_cleanup_str_ struct str sizes = STR_INIT;
	int64_t divisors[MAX_TPS];
	struct finding *f;

	if (parallel_moe_valid(t->tp_size, moe_tp, moe_ep))
		return;
	add_numbers(&sizes, divisors, parallel_divisors(t->tp_size, t->tp_size, divisors, MAX_TPS));
	if (moe_tp && moe_ep)
		f = finding_add(c, SEVERITY_ERROR, "R15", path, config_where(c, path),
				"moe_tp_size %" PRId64 " × moe_ep_size %" PRId64
				" must be tp_size %" PRId64,
				moe_tp, moe_ep, t->tp_size);
	else
		f = finding_add(c, SEVERITY_ERROR, "R15", path, config_where(c, path),
				"is %" PRId64 ", which does not divide tp_size %" PRId64,
				moe_ep ? moe_ep : moe_tp, t->tp_size);
	finding_hint(c, f, "%s must divide tp_size %" PRId64 ": %s", path + strlen("tensorrt."),
		     t->tp_size, str_c(&sizes));
}

static void must_divide_tp(struct config *c, const char *code, const char *path, int64_t size,
			   const char *why)
{
	int64_t tp = c->exp.sglang.tp_size, divisors[MAX_TPS];
	_cleanup_str_ struct str sizes = STR_INIT;
	struct finding *f;

	if (tp % size == 0)
		return;
	add_numbers(&sizes, divisors, parallel_divisors(tp, tp, divisors, MAX_TPS));
	f = finding_add(c, SEVERITY_ERROR, code, path, config_where(c, path),
			"is %" PRId64 ", which does not divide tp_size %" PRId64 "%s", size, tp,
			why);
	finding_hint(c, f, "set it to %s", str_c(&sizes));
}

static void check_sglang(struct config *c)
{
	const struct sglang_config *s = &c->exp.sglang;

	if (s->enable_dp_attention)
		must_divide_tp(c, "R11", "sglang.dp_size", s->dp_size,
			       " (needed with enable_dp_attention)");
	must_divide_tp(c, "R15", "sglang.ep_size", s->ep_size, "");
}

void check_shape(struct config *c, const struct config_request *req)
{
	struct split s;

	if (c->exp.backend == BACKEND_TENSORRT)
		check_tensorrt_moe(c);
	if (c->exp.backend == BACKEND_SGLANG)
		check_sglang(c);
	if (make_split(&c->exp, &s))
		check_model(c, req, &s);
}
