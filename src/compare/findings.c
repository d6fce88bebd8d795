#include <math.h>

#include "compare/impl.h"

void compare_add(struct comparison *c, const char *field, bool differs, const char *fmt, ...)
{
	struct compare_finding f = {.field = field, .differs = differs};
	size_t at = c->n_findings;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(f.text, sizeof(f.text), fmt, ap);
	va_end(ap);
	if (differs)
		c->same_work = false;
	if (c->n_findings == COMPARE_MAX_FINDINGS)
		return;
	while (differs && at > 0 && !c->findings[at - 1].differs)
		at--;
	memmove(&c->findings[at + 1], &c->findings[at],
		(c->n_findings - at) * sizeof(*c->findings));
	c->findings[at] = f;
	c->n_findings++;
}

static const char *or_unknown(const char *text)
{
	return text && *text ? text : "not known";
}

/* ---- what was sent ---- */

static bool sent_ids(const struct run_record *r)
{
	for (size_t i = 0; i < r->n_requests; i++)
		if (r->requests[i].input_tokens_asked > 0)
			return true;
	return compare_config_is(r, "prompts", "type", "synthetic");
}

static void compare_prompts(const struct run_record *a, const struct run_record *b,
			    struct comparison *c)
{
	const char *ha = a->prompts_hash, *hb = b->prompts_hash;

	if (ha && hb && a->prompts_form && b->prompts_form &&
	    !str_eq(a->prompts_form, b->prompts_form))
		compare_add(c, "prompts", true,
			    "A sent %s and B %s: whether these are the same work their hashes "
			    "cannot tell (token_ids: what was sent; texts: what the engine made "
			    "ids of)",
			    a->prompts_form, b->prompts_form);
	else if (ha && hb && !str_eq(ha, hb))
		compare_add(c, "prompts", true,
			    "the two runs sent different %s (SHA-256 %.12s and %.12s)",
			    sent_ids(a) && sent_ids(b) ? "token ids" : "prompts", ha, hb);
	else if (!ha || !hb)
		compare_add(c, "prompts", true, "what %s sent is not known: it ended before that",
			    ha   ? "B"
			    : hb ? "A"
				 : "the runs");
}

/* ---- of what ---- */

static bool same_shape(const struct model_shape *a, const struct model_shape *b)
{
	return a->n_layer == b->n_layer && a->n_embd == b->n_embd && a->n_ff == b->n_ff &&
	       a->n_head == b->n_head && a->n_head_kv == b->n_head_kv && a->n_vocab == b->n_vocab &&
	       a->n_expert == b->n_expert;
}

static void compare_model(const struct run_record *a, const struct run_record *b,
			  struct comparison *c)
{
	const struct model_shape *sa = &a->shape, *sb = &b->shape;
	bool known = sa->n_layer && sb->n_layer, named = str_eq(a->model_name, b->model_name);

	if (known && !same_shape(sa, sb))
		compare_add(c, "model", true,
			    "the models differ: A '%.60s' has %" PRId64 " layers of %" PRId64
			    " and %" PRId64 " token ids, B '%.60s' %" PRId64 " of %" PRId64
			    " and %" PRId64,
			    or_unknown(a->model_name), sa->n_layer, sa->n_embd, sa->n_vocab,
			    or_unknown(b->model_name), sb->n_layer, sb->n_embd, sb->n_vocab);
	else if (!named)
		compare_add(c, "model", !known,
			    "the models have other names, '%.80s' and '%.80s'%s",
			    or_unknown(a->model_name), or_unknown(b->model_name),
			    known ? ", and the same shape" : "");
	else if (!known)
		compare_add(c, "model", false,
			    "the model is the same by its name only, '%.80s': %s",
			    or_unknown(a->model_name),
			    sa->n_layer   ? "its shape in B is not known"
			    : sb->n_layer ? "its shape in A is not known"
					  : "its shape is not known");
	if (sa->weights != sb->weights && sa->weights && sb->weights)
		compare_add(c, "model", true, "one run used real weights, the other random ones");
}

static void compare_dtype(struct comparison *c)
{
	if (c->a.dtype[0] && c->b.dtype[0] && !str_eq(c->a.dtype, c->b.dtype))
		compare_add(c, "dtype", true, "A computed in %s, B in %s", c->a.dtype, c->b.dtype);
	else if (!c->a.dtype[0] || !c->b.dtype[0])
		compare_add(c, "dtype", false, "the data type of %s is not known",
			    c->a.dtype[0]   ? "B"
			    : c->b.dtype[0] ? "A"
					    : "both");
}

/* ---- where ---- */

static bool same_cards(const struct gpu_binding *a, const struct gpu_binding *b)
{
	for (size_t i = 0; i < a->n && i < b->n; i++)
		if (!str_eq(a->gpus[i].uuid, b->gpus[i].uuid))
			return false;
	return a->n == b->n;
}

static void compare_gpus(const struct run_record *a, const struct run_record *b,
			 struct comparison *c)
{
	if (!c->a.place[0] || !c->b.place[0])
		compare_add(c, "gpus", false,
			    "where %s ran is not known: lem did not start the server",
			    c->a.place[0]   ? "B"
			    : c->b.place[0] ? "A"
					    : "both");
	else if (!str_eq(c->a.place, c->b.place))
		compare_add(c, "gpus", true, "A ran on %s, B on %s", c->a.place, c->b.place);
	else if (!same_cards(&a->binding, &b->binding))
		compare_add(c, "gpus", false, "the runs were on other cards of the same kind");
}

/* ---- how it was asked ---- */

static const char *way(const struct run_record *r)
{
	const char *mode = r->engine_mode ? r->engine_mode : "";

	if (str_eq(mode, "server/open"))
		return "by a schedule";
	if (str_eq(mode, "server/closed"))
		return "in a closed loop";
	return str_eq(mode, "offline/streaming") ? "one at a time" : "all at once";
}

static void compare_load(const struct run_record *a, const struct run_record *b,
			 struct comparison *c)
{
	int64_t na = compare_config_int(a, "traffic", "concurrency"),
		nb = compare_config_int(b, "traffic", "concurrency");

	if (a->level.in_flight > 0 && b->level.in_flight > 0) {
		na = a->level.in_flight;
		nb = b->level.in_flight;
	}
	if (!str_eq(way(a), way(b)))
		compare_add(c, "load", true, "the requests of A were sent %s, those of B %s",
			    way(a), way(b));
	else if (str_eq(a->engine_mode, "server/closed") && na != nb)
		compare_add(c, "load", true,
			    "%" PRId64 " requests were in flight in A, %" PRId64 " in B", na, nb);
	else if (!isnan(a->level.rate_hz) && !isnan(b->level.rate_hz) &&
		 a->level.rate_hz != b->level.rate_hz)
		compare_add(c, "load", true, "A was asked %.4g requests/s, B %.4g",
			    a->level.rate_hz, b->level.rate_hz);
}

/* ---- what became of it ---- */

static void compare_status(const char *name, const struct compare_run *r, struct comparison *c)
{
	const struct verdict *v = &r->sum->verdict;

	if (r->rec->status != RUN_COMPLETED)
		compare_add(c, "status", true, "%s %s before its window was complete", name,
			    r->rec->status == RUN_FAILED ? "failed" : "was interrupted");
	else if (v->level == VERDICT_INVALID)
		compare_add(c, "verdict", false, "the verdict of %s is invalid: %s", name,
			    v->n_reasons ? v->reasons[0] : "no reason was kept");
}

void compare_runs(const struct compare_run *a, const struct compare_run *b, struct comparison *ret)
{
	*ret = (struct comparison){.same_work = true};
	compare_status("A", a, ret);
	compare_status("B", b, ret);
	compare_prompts(a->rec, b->rec, ret);
	compare_requests(a, b, ret);
	compare_model(a->rec, b->rec, ret);
	compare_dtype(ret);
	compare_gpus(a->rec, b->rec, ret);
	compare_load(a->rec, b->rec, ret);
	compare_figures(a, b, ret);
}
