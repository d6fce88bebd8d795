#include "run/summarize.h"

#include <math.h>

#include "energy/energy.h"
#include "flops/flops.h"
#include "run/goodput.h"
#include "run/streams.h"
#include "run/work.h"
#include "stats/stats.h"

enum { GROUPS = 10 }; /* slices of the window whose spread gives the intervals of rates */

static void count(const struct run_record *r, struct summary *s)
{
	s->window_ns = r->window_end_ns - r->window_start_ns;
	s->requests_asked = (int64_t)r->n_requests_asked;
	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		s->requests_done += request_answered(q) && !q->uncounted;
		s->prompts_cut += q->truncated;
		if (r->server.used)
			continue;
		s->input_tokens += q->input_tokens;
		s->output_tokens += q->output_tokens;
	}
	if (r->server.used)
		streams_count(r, s);
}

static struct quantity rate(const double *num, const double *den, const char *method,
			    const char *none)
{
	struct interval i;
	double v;

	if (!stats_ratio_jackknife(num, den, GROUPS, &v, &i))
		return quantity_unknown(none);
	return quantity_of(v, fmin(i.low, v), fmax(i.high, v), method);
}

/* Tokens and requests that were complete in each tenth of the window, over its length. What began
 * before the window and ended in it counts, as what is still in flight at its end does not: with
 * one of them left out the rate would be that of a window with an idle beginning. */
static void throughput(const struct run_record *r, struct summary *s)
{
	static const char method[] = "count / window; spread over 10 slices",
			  none[] = "nothing was measured";
	double out[GROUPS] = {0}, all[GROUPS] = {0}, done[GROUPS] = {0}, seconds[GROUPS];
	int64_t t0 = r->window_start_ns, ns = s->window_ns;

	for (int g = 0; g < GROUPS; g++)
		seconds[g] = (double)ns / 1e9 / GROUPS;
	if (r->server.used && ns > 0)
		streams_spread(r, out, all, GROUPS);
	for (size_t i = 0; i < r->n_steps && ns > 0; i++) {
		const struct step_record *p = &r->steps[i];
		int64_t g = (p->t_end_ns - t0) * GROUPS / (ns + 1);

		if (g < 0 || g >= GROUPS)
			continue;
		out[g] += p->n_seqs;
		all[g] += p->n_seqs + p->n_prefill;
	}
	for (size_t i = 0; i < r->n_requests && ns > 0; i++) {
		int64_t since_ns = r->requests[i].t_last_ns - t0;

		if (request_answered(&r->requests[i]) && since_ns >= 0 && since_ns <= ns)
			done[since_ns * GROUPS / (ns + 1)]++;
	}
	s->output_tokens_per_s = rate(out, seconds, method, none);
	s->total_tokens_per_s = rate(all, seconds, method, none);
	s->requests_per_s = rate(done, seconds, method, none);
}

/* Output tokens of a step that also computes prompt tokens belong to the prefill, unless sequences
 * that were decoding already took part: then the step is mixed and no honest split exists. A step
 * is mixed when it gives more tokens than prompts it can have finished, seen by requests whose
 * first token it is not. */
static bool is_mixed(const struct run_record *r, const size_t *first_tokens, size_t i)
{
	return r->steps[i].n_prefill > 0 && (size_t)r->steps[i].n_seqs > first_tokens[i];
}

static int by_end(const void *key, const void *step)
{
	int64_t t = *(const int64_t *)key, end = ((const struct step_record *)step)->t_end_ns;

	return (t > end) - (t < end);
}

/* How many requests got their first token in each step. */
static size_t *count_first_tokens(const struct run_record *r)
{
	size_t *n = lem_calloc(r->n_steps, sizeof(*n));

	for (size_t i = 0; i < r->n_requests && r->n_steps; i++) {
		const struct step_record *p = bsearch(&r->requests[i].t_first_ns, r->steps,
						      r->n_steps, sizeof(*r->steps), by_end);

		if (p)
			n[p - r->steps]++;
	}
	return n;
}

/* Tokens and seconds of one replica's steps, by slice of the window. */
struct phase_sums {
	double n[GROUPS], seconds[GROUPS];
};

enum { MAX_REPLICAS = 1024 };

static size_t count_replicas(const struct run_record *r)
{
	int32_t most = 0;

	for (size_t i = 0; i < r->n_steps; i++)
		most = MAX(most, r->steps[i].replica);
	return (size_t)MIN(most, MAX_REPLICAS - 1) + 1;
}

/* Replicas compute at the same time, so their rates add up; the seconds of their steps do not. */
static struct quantity sum_of_rates(const struct phase_sums *sums, size_t n, const char *method,
				    const char *none)
{
	double value = 0, below = 0, above = 0;
	bool any = false;

	for (size_t i = 0; i < n; i++) {
		struct quantity q = rate(sums[i].n, sums[i].seconds, method, none);

		if (!q.known)
			continue;
		any = true;
		value += q.value;
		below += (q.value - q.low) * (q.value - q.low);
		above += (q.high - q.value) * (q.high - q.value);
	}
	return any ? quantity_of(value, value - sqrt(below), value + sqrt(above), method)
		   : quantity_unknown(none);
}

static void set_phase_rates(const struct run_record *r, struct phase_sums *prefill,
			    struct phase_sums *decode, size_t n, struct summary *s)
{
	for (size_t i = 0; i < r->n_steps; i++) {
		const struct step_record *p = &r->steps[i];
		size_t g = i * GROUPS / r->n_steps,
		       k = MIN((size_t)MAX(p->replica, 0), (size_t)MAX_REPLICAS - 1);
		struct phase_sums *of = p->n_prefill > 0 ? &prefill[k] : &decode[k];

		of->n[g] += p->n_prefill > 0 ? p->n_prefill : p->n_seqs;
		of->seconds[g] += (double)(p->t_end_ns - p->t_start_ns) / 1e9;
	}
	s->prefill_tokens_per_s =
		sum_of_rates(prefill, n,
			     n == 1 ? "prompt tokens / time of their steps"
				    : "prompt tokens / time of their steps, summed over replicas",
			     "no prompt was computed");
	s->decode_tokens_per_s =
		sum_of_rates(decode, n,
			     n == 1 ? "output tokens / time of their steps"
				    : "output tokens / time of their steps, summed over replicas",
			     "no token was decoded");
}

static void phase_rates(const struct run_record *r, struct summary *s)
{
	_cleanup_free_ size_t *first = count_first_tokens(r);
	size_t n = count_replicas(r);
	bool mixed = false;

	for (size_t i = 0; i < r->n_steps; i++)
		mixed |= is_mixed(r, first, i);
	if (r->server.used || mixed) {
		s->prefill_tokens_per_s = quantity_unknown(
			r->server.used ? "a server's steps are not seen from outside"
				       : "prompts and decoding share steps (continuous batching)");
		s->decode_tokens_per_s = s->prefill_tokens_per_s;
		return;
	}
	_cleanup_free_ struct phase_sums *sums = lem_calloc(2 * n, sizeof(*sums));

	set_phase_rates(r, sums, sums + n, n, s);
}

struct column {
	double *at;
	size_t n;
};

static void push_ms(struct column *c, int64_t from_ns, int64_t to_ns)
{
	if (from_ns && to_ns)
		c->at[c->n++] = (double)(to_ns - from_ns) / 1e6;
}

/* A worker's stamps are one a token. Tokens that came out of one step (drafts that were accepted, a
 * beam that won) share a stamp: each has its part of the gap before them. */
static void push_gaps(struct column *c, const struct run_record *r, const struct request_record *q)
{
	const int64_t *t = &r->token_stamps_ns[q->first_stamp];
	int64_t n;

	for (int64_t k = 0; k < q->n_stamps && !r->server.used; k += n) {
		for (n = 1; k + n < q->n_stamps && t[k + n] == t[k]; n++)
			;
		for (int64_t i = 0; i < n && k > 0; i++)
			c->at[c->n++] = (double)(t[k] - t[k - 1]) / 1e6 / (double)n;
	}
}

/* The whole answer came at once: nothing is known of the time from token to token. */
static bool came_at_once(const struct run_record *r, const struct request_record *q)
{
	return !r->server.used && q->t_first_ns == q->t_last_ns;
}

static void latencies(const struct run_record *r, struct summary *s)
{
	static const char none[] = "no request gave a token";
	struct column c[6];

	for (int k = 0; k < 6; k++)
		c[k] = (struct column){
			lem_calloc(k == 1 ? r->n_token_stamps : r->n_requests, sizeof(double)), 0};
	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		if (q->uncounted || (q->finish[0] && !request_answered(q)))
			continue;
		push_ms(&c[0], q->t_sent_ns, q->t_first_ns);
		push_gaps(&c[1], r, q);
		if (q->output_tokens >= 2 && !came_at_once(r, q))
			c[2].at[c[2].n++] = (double)(q->t_last_ns - q->t_first_ns) / 1e6 /
					    (double)(q->output_tokens - 1);
		if (!request_answered(q))
			continue;
		push_ms(&c[3], q->t_sent_ns, q->t_last_ns);
		push_ms(&c[4], q->t_scheduled_ns, q->t_first_ns);
		push_ms(&c[5], q->t_scheduled_ns, q->t_last_ns);
	}
	struct latency_stats *out[] = {&s->ttft, &s->itl,        &s->tpot,
				       &s->e2e,  &s->ttft_sched, &s->e2e_sched};

	for (int k = 0; k < 6; k++) {
		*out[k] = stats_latency(c[k].at, c[k].n, none);
		free(c[k].at);
	}
	streams_gaps(r, s);
}

static struct quantity exact_or_unknown(double v, const char *why)
{
	return isnan(v) ? quantity_unknown(why ? why : "not known")
			: quantity_of(v, v, v, "counted from the model's shape");
}

static void operations(const struct run_record *r, struct summary *s)
{
	double prefill = 0, decode = 0;
	const char *why = NULL;

	for (size_t i = 0; i < r->n_requests; i++) {
		const struct request_record *q = &r->requests[i];

		if (q->output_tokens < 1 || !q->input_tokens || q->uncounted)
			continue;
		prefill += flops_of_span(&r->shape, 0, q->input_tokens, 1, &why);
		decode += flops_of_span(&r->shape, q->input_tokens,
					q->input_tokens + q->output_tokens - 1,
					q->output_tokens - 1, &why);
	}
	s->flops_prefill = exact_or_unknown(prefill, why);
	s->flops_decode = exact_or_unknown(decode, why);
	s->flops_total = exact_or_unknown(prefill + decode, why);
	s->mfu = quantity_unknown("no peak rate of the device is stated");
}

/* The first reason why a kind of meter could not be read; `otherwise` when none was tried. */
static const char *meter_reason(const struct run_record *r, const char *prefix,
				const char *otherwise)
{
	for (size_t i = 0; i < r->samples.n_status; i++)
		if (str_starts(r->samples.status[i].meter, prefix) && !r->samples.status[i].usable)
			return r->samples.status[i].reason;
	return otherwise;
}

static bool has_domain(const struct run_record *r, enum domain d)
{
	for (size_t i = 0; i < r->samples.n_series; i++)
		if (r->samples.series[i].domain == d)
			return true;
	return false;
}

static struct quantity domain_energy(const struct run_record *r, enum domain d, const char *reason)
{
	if (!has_domain(r, d))
		return quantity_unknown(reason);
	return energy_of_domain(&r->samples, d, r->window_start_ns, r->window_end_ns);
}

static struct quantity phase_power(const struct run_record *r, enum run_phase phase,
				   const char *device)
{
	const struct phase_span *p = run_record_phase(r, phase);

	if (!p || p->t_end_ns <= p->t_start_ns)
		return quantity_unknown("no idle baseline was taken");
	return energy_mean_power_w(&r->samples, DOMAIN_GPU, device, p->t_start_ns, p->t_end_ns);
}

static void describe_gpu(const struct run_record *r, const char *card, struct gpu_energy *g)
{
	g->temperature_max_c = NAN;
	for (size_t i = 0; i < r->samples.n_series; i++) {
		const struct series *c = &r->samples.series[i];
		bool temperature = c->signal == SIGNAL_TEMPERATURE_C,
		     reasons = c->signal == SIGNAL_CLOCK_REASONS;

		if (!str_eq(c->device, card) || (!temperature && !reasons))
			continue;
		for (size_t k = 0; k < c->n; k++) {
			if (!c->ok[k] || c->t_end_ns[k] < r->window_start_ns ||
			    c->t_end_ns[k] > r->window_end_ns)
				continue;
			if (temperature)
				g->temperature_max_c =
					fmax(g->temperature_max_c, (double)c->value[k]);
			else
				g->clock_reasons |= (uint64_t)c->value[k];
		}
	}
}

static void gpu_energies(const struct run_record *r, struct summary *s)
{
	struct quantity above[SUMMARY_MAX_GPUS];
	size_t n = MIN(r->binding.n, (size_t)SUMMARY_MAX_GPUS);

	for (size_t i = 0; i < n; i++) {
		struct gpu_energy *g = &s->per_gpu[i];
		const char *card = gpu_ref_card(&r->binding.gpus[i]);
		struct quantity idle;

		lem_strlcpy(g->uuid, r->binding.gpus[i].uuid, sizeof(g->uuid));
		g->total_j = energy_of_device(&r->samples, DOMAIN_GPU, card, r->window_start_ns,
					      r->window_end_ns);
		idle = phase_power(r, PHASE_BASELINE_RESIDENT, card);
		g->above_idle_j = energy_above_idle(g->total_j, idle, s->window_ns);
		above[i] = g->above_idle_j;
		describe_gpu(r, card, g);
	}
	s->n_per_gpu = n;
	s->gpu_above_idle_j = n ? energy_sum(above, n, "total - resident idle")
				: quantity_unknown("no GPU in this run");
}

/* The joules per token are made of every domain that was measured; an estimate stands alone and
 * says so. */
static void efficiency(struct summary *s)
{
	struct quantity parts[3];
	const struct quantity *candidates[] = {&s->gpu_j, &s->cpu_j, &s->dram_j};
	static const char *const names[] = {"gpu", "cpu", "dram"};
	struct quantity total = quantity_unknown("no energy was measured");
	size_t n = 0;

	s->energy_scope[0] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(candidates); i++) {
		if (!candidates[i]->known)
			continue;
		parts[n++] = *candidates[i];
		size_t used = strlen(s->energy_scope);

		snprintf(s->energy_scope + used, sizeof(s->energy_scope) - used, "%s%s",
			 used ? "+" : "", names[i]);
	}
	if (n) {
		total = energy_sum(parts, n,
				   n == 1 ? parts[0].method : "sum of the measured domains");
	} else if (s->cpu_estimated_j.known) {
		total = s->cpu_estimated_j;
		lem_strlcpy(s->energy_scope, "cpu, estimated", sizeof(s->energy_scope));
	} else {
		snprintf(total.reason, sizeof(total.reason),
			 "no energy was measured (GPU: %.30s; CPU: %.80s)", s->gpu_j.reason,
			 s->cpu_j.reason);
	}
	s->scope_j = total;
	s->j_per_output_token = quantity_per(total, (double)s->output_tokens, "no output token");
	s->j_per_input_token = quantity_per(total, (double)s->input_tokens, "no input token");
	s->j_per_total_token =
		quantity_per(total, (double)(s->input_tokens + s->output_tokens), "no token");
	s->j_per_request = quantity_per(total, (double)s->requests_done, "no request was served");
}

static void energies(const struct run_record *r, struct summary *s)
{
	const char *cpu = meter_reason(r, "rapl", "RAPL: not asked for");

	s->gpu_j = r->binding.n ? domain_energy(r, DOMAIN_GPU,
						meter_reason(r, "nvml", "NVML: not asked for"))
				: quantity_unknown("no GPU in this run");
	s->cpu_j = domain_energy(r, DOMAIN_CPU_PACKAGE, cpu);
	s->dram_j = domain_energy(
		r, DOMAIN_DRAM,
		has_domain(r, DOMAIN_CPU_PACKAGE) ? "RAPL: this CPU has no DRAM domain" : cpu);
	s->cpu_estimated_j = domain_energy(r, DOMAIN_CPU_ESTIMATE,
					   "not asked for (energy.estimate_watts_per_core)");
	s->prefill_j = quantity_unknown("not attributed to phases in this version");
	s->decode_j = s->prefill_j;
	s->idle_w = r->binding.n ? phase_power(r, PHASE_BASELINE, NULL)
				 : quantity_unknown("no GPU in this run");
	s->resident_idle_w = r->binding.n ? phase_power(r, PHASE_BASELINE_RESIDENT, NULL)
					  : quantity_unknown("no GPU in this run");
	gpu_energies(r, s);
	efficiency(s);
}

static void certificate(const struct run_record *r, struct summary *s)
{
	size_t n = r->samples.n_late;
	_cleanup_free_ double *ms = lem_calloc(n, sizeof(*ms));

	for (size_t i = 0; i < n; i++)
		ms[i] = (double)r->samples.late_ns[i] / 1e6;
	s->meter_late_p99_ms = n ? stats_latency(ms, n, "").p99 : NAN;
	s->self_cpu_share =
		energy_cpu_share(&r->samples, DOMAIN_SELF, r->window_start_ns, r->window_end_ns);
	streams_client(r, s);
}

void summarize(const struct run_record *r, struct summary *ret)
{
	*ret = (struct summary){0};
	count(r, ret);
	work_count(r, ret);
	throughput(r, ret);
	phase_rates(r, ret);
	latencies(r, ret);
	operations(r, ret);
	energies(r, ret);
	certificate(r, ret);
	goodput(r, &r->slo, ret);
	judge(r, ret);
}
