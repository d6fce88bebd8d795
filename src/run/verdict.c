#include "run/summarize.h"

#include <math.h>

#include "energy/energy.h"
#include "run/overload.h"

/* Limits and where they come from: energy.md sections 1, 5 and 6. */
#define WINDOW_MIN_NS   (5 * NS_PER_S) /* counter edges within 1 % */
#define INTERVAL_WIDE   0.10           /* half width over value of an energy figure */
#define SPEED_WIDE      0.20 /* the same of the output rate: something else took the machine */
#define LATE_P99_MAX_MS 50.0 /* half a counter period */
/* lem's own CPU, in cores: an engine on the CPU loses what lem takes; beside a GPU a reading of
 * NVML's energy counter costs 4 ms of CPU (energy.md section 2; seen on an H100), which disturbs
 * nothing. */
#define SELF_SHARE_MAX     0.05
#define SELF_SHARE_MAX_GPU 0.25
/* The look at the window's end comes this late at most: who is first seen by it was there. */
#define LOOK_LATE_NS (200 * NS_PER_MS)
/* Requests that failed, or had another length than was forced: more of them are another work. */
#define FAULTY_SHARE 0.01
/* How late requests of a schedule may leave: the bar of the client itself, and as much as can be
 * seen in a latency. */
#define LAG_MAX_MS      2.0
#define LAG_MAX_SHARE   0.05
#define CLIENT_BUSY_MAX 0.9
/* How near to what the client can do here a run may come: beyond it queues of its own begin. And
 * how far below it was surely not the client's speed that made requests late. */
#define HEADROOM_MIN    1.5
#define HEADROOM_FAR    10.0
#define BUSY_FAR        0.5
#define REASONS_THERMAL 0xe8u /* hardware slowdown, software and hardware thermal, power brake */

/* "3 timeout, 2 4xx" */
static void list_failures(const struct summary *s, char *buf, size_t size)
{
	buf[0] = '\0';
	for (size_t i = 0; i < s->n_failures; i++) {
		size_t used = strlen(buf);

		(void)snprintf(buf + used, size - used, "%s%" PRId64 " %s", i ? ", " : "",
			       s->failures[i].n, s->failures[i].name);
	}
}

/* Requests over HTTP fail one by one; what was asked for and what came is compared here. */
static void judge_answers(const struct run_record *r, struct summary *s)
{
	struct verdict *v = &s->verdict;
	double asked = (double)MAX(s->requests_asked, INT64_C(1));
	char list[140];

	list_failures(s, list, sizeof(list));
	if (s->n_failures)
		verdict_add(v, VERDICT_SUSPECT, "requests failed: %s", list);
	if (s->lengths_untold)
		verdict_add(v,
			    (double)s->lengths_untold > FAULTY_SHARE * asked ? VERDICT_INVALID
									     : VERDICT_SUSPECT,
			    "the server told no token counts for %" PRId64 " requests",
			    s->lengths_untold);
	if (s->lengths_differ)
		verdict_add(v,
			    (double)s->lengths_differ > FAULTY_SHARE * asked ? VERDICT_INVALID
									     : VERDICT_SUSPECT,
			    "%" PRId64 " requests gave another number of tokens than was forced",
			    s->lengths_differ);
	if (s->inputs_differ)
		verdict_add(v, VERDICT_SUSPECT,
			    "for %" PRId64
			    " requests the engine counts other input tokens than were "
			    "sent",
			    s->inputs_differ);
	if (s->cached_tokens > 0 && !r->server.prefix_cache)
		verdict_add(v, VERDICT_SUSPECT,
			    "%" PRId64 " prompt tokens came from the server's prefix cache, which "
			    "was not asked for",
			    s->cached_tokens);
}

/* NAN: not known. */
static double headroom(const struct summary *s)
{
	if (!s->headroom_requests.known || !s->headroom_chunks.known)
		return s->headroom_requests.known ? s->headroom_requests.value
		       : s->headroom_chunks.known ? s->headroom_chunks.value
						  : (double)NAN;
	return fmin(s->headroom_requests.value, s->headroom_chunks.value);
}

/* Whether lem, not the server, set the pace. */
static void judge_client(const struct run_record *r, struct summary *s)
{
	double late = s->lag.n ? s->lag.p99 : 0, room = headroom(s),
	       busy = s->client_busy.known ? s->client_busy.value : 0,
	       most = LAG_MAX_MS + LAG_MAX_SHARE * (s->ttft.n ? s->ttft.p50 : 0);

	if (r->server.arrivals && late > most)
		verdict_add(
			&s->verdict, VERDICT_SUSPECT,
			"client-limited: requests left lem late, p50 %.2f ms, p99 %.2f ms%s",
			s->lag.p50, late,
			room >= HEADROOM_FAR && busy < BUSY_FAR
				? "; its client is fast enough here, so something else took the "
				  "processor"
				: "");
	if (busy > CLIENT_BUSY_MAX)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "client-limited: lem's client computed %.0f %% of the time",
			    busy * 100);
	else if (room < HEADROOM_MIN)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "client-limited: the run asked of lem's client what it can do here at "
			    "most, %.1f times over",
			    room);
}

/* The speed of a server that is overloaded is real; its latencies depend on how long it was asked.
 */
static void judge_load(const struct run_record *r, struct summary *s)
{
	char why[160];

	if (overload_seen(r, why, sizeof(why)))
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "overloaded: the server did not keep up: %s", why);
}

static void judge_outcome(const struct run_record *r, struct summary *s)
{
	struct verdict *v = &s->verdict;

	if (r->status == RUN_FAILED)
		verdict_add(v, VERDICT_INVALID, "the run failed before its window was complete");
	if (r->status == RUN_INTERRUPTED)
		verdict_add(v, VERDICT_INVALID, "the run was interrupted");
	if (r->status == RUN_COMPLETED && s->requests_done < s->requests_asked)
		verdict_add(v,
			    !r->server.arrivals || !s->requests_done ||
					    (double)s->requests_done <
						    (1 - FAULTY_SHARE) * (double)s->requests_asked
				    ? VERDICT_INVALID
				    : VERDICT_SUSPECT,
			    "%" PRId64 " of %" PRId64 " requests were not answered",
			    s->requests_asked - s->requests_done, s->requests_asked);
	for (size_t i = 0; i < r->n_notes; i++)
		if (str_starts(r->notes[i], "worker_faults: "))
			verdict_add(v, VERDICT_INVALID,
				    "the engine's report contradicts itself (%s faults, see notes)",
				    r->notes[i] + strlen("worker_faults: "));
		else if (str_starts(r->notes[i], NOTE_COMPILED))
			verdict_add(v, VERDICT_SUSPECT, "%s", r->notes[i]);
}

/* The platform's counter contains packages and more; it is recorded, but no figure is made of it.
 */
static bool enters_a_figure(const struct run_record *r, const char *device)
{
	for (size_t i = 0; i < r->samples.n_series; i++)
		if (str_eq(r->samples.series[i].device, device) &&
		    r->samples.series[i].domain == DOMAIN_PSYS)
			return false;
	return true;
}

static double half_width(const struct quantity *q)
{
	return q->known && q->value > 0 ? (q->high - q->low) / 2 / q->value : 0;
}

static void judge_energy(const struct run_record *r, struct summary *s)
{
	struct energy_fault faults[8];
	size_t n = energy_faults(&r->samples, r->window_start_ns, r->window_end_ns, faults,
				 ARRAY_LEN(faults));
	const struct quantity *j = &s->j_per_output_token;
	uint64_t dropped = 0, reasons = 0;

	for (size_t i = 0; i < n; i++)
		if (enters_a_figure(r, faults[i].device))
			verdict_add(&s->verdict, VERDICT_INVALID, "energy of %s: %s",
				    faults[i].device, faults[i].text);
	if (j->known && strstr(s->energy_scope, "estimated"))
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "the energy is an estimate (CPU seconds times a stated power), not a "
			    "measurement");
	else if (half_width(j) > INTERVAL_WIDE)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "the energy is known to +-%.0f %% only; a longer window helps",
			    half_width(j) * 100);
	for (size_t i = 0; i < r->samples.n_series; i++)
		dropped += r->samples.series[i].dropped;
	if (dropped)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "%" PRIu64 " meter readings found no room", dropped);
	for (size_t i = 0; i < s->n_per_gpu; i++)
		reasons |= s->per_gpu[i].clock_reasons;
	if (reasons & REASONS_THERMAL)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "a GPU slowed down for heat or by hardware (reasons 0x%" PRIx64 ")",
			    reasons);
}

static int card_index(const struct gpu_binding *b, const char *card_uuid)
{
	for (size_t i = 0; i < b->n; i++)
		if (str_eq(gpu_ref_card(&b->gpus[i]), card_uuid))
			return b->gpus[i].index;
	return -1;
}

/* "python3, user x", as far as they are known. */
static void describe(const struct gpu_foreigner *f, char *buf, size_t size)
{
	(void)snprintf(buf, size, "%.40s%s%.30s", f->name[0] ? f->name : "its name is not known",
		       f->user[0] ? ", user " : "", f->user);
}

/* Who was there only before or after the window has cost nothing of it. */
static void judge_foreigners(const struct run_record *r, struct verdict *v)
{
	const struct gpu_binding *b = &r->binding;

	for (size_t i = 0; i < b->n_foreigners; i++) {
		const struct gpu_foreigner *f = &b->foreigners[i];
		char who[96];

		if (f->t_last_ns < r->window_start_ns ||
		    f->t_first_ns > r->window_end_ns + LOOK_LATE_NS)
			continue;
		describe(f, who, sizeof(who));
		if (f->graphics)
			verdict_add(v, VERDICT_SUSPECT,
				    "pid %" PRId64 " (%s) draws on GPU %d; its energy is counted "
				    "too",
				    f->pid, who, card_index(b, f->card_uuid));
		else
			verdict_add(v, VERDICT_INVALID,
				    "contaminated: pid %" PRId64 " (%s) used GPU %d during the "
				    "window",
				    f->pid, who, card_index(b, f->card_uuid));
	}
}

/* Records of before the proof existed say nothing of why there is none. */
static void judge_routing(const struct run_record *r, struct summary *s)
{
	const struct gpu_binding *b = &r->binding;
	struct verdict *v = &s->verdict;

	for (size_t i = 0; i < b->n; i++) {
		if (b->gpus[i].t_lost_ns)
			verdict_add(v, VERDICT_INVALID,
				    "R41: GPU %d (%.40s) was lost during the run", b->gpus[i].index,
				    b->gpus[i].uuid);
		if (str_starts(b->gpus[i].uuid, "MIG-"))
			verdict_add(v, VERDICT_SUSPECT,
				    "the energy is that of the whole GPU %d, which other MIG "
				    "instances may share",
				    b->gpus[i].index);
	}
	if (b->guard_level == GPU_GUARD_STRAY)
		verdict_add(v, VERDICT_INVALID, "%s", b->guard);
	if (b->n && str_eq(b->path, "external"))
		verdict_add(v, VERDICT_SUSPECT, "%s", b->proof);
	else if (b->n && !b->proved && b->proof[0])
		verdict_add(v, VERDICT_INVALID, "the GPUs were not proved: %s", b->proof);
	else if (b->n && !b->proved && s->gpu_j.known)
		verdict_add(v, VERDICT_SUSPECT, "that the engine used these GPUs was not proved");
	if (b->guard_level == GPU_GUARD_UNSEEN)
		verdict_add(v, VERDICT_SUSPECT, "%s", b->guard);
	judge_foreigners(r, v);
}

static void judge_method(const struct run_record *r, struct summary *s)
{
	if (half_width(&s->output_tokens_per_s) > SPEED_WIDE && !r->server.arrivals)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "the speed varied within the window: %.0f output tokens/s +-%.0f %%; "
			    "is the machine shared?",
			    s->output_tokens_per_s.value,
			    half_width(&s->output_tokens_per_s) * 100);
	if (r->status == RUN_COMPLETED && s->window_ns < WINDOW_MIN_NS)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "the window is %.1f s, shorter than 5 s; make it longer with %s",
			    (double)s->window_ns / 1e9,
			    r->server.arrivals ? "traffic.duration_sec"
					       : "window.min_duration_sec");
	if (r->warmup.enabled && !r->warmup.converged && r->status == RUN_COMPLETED)
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "warm-up did not settle: variation %.1f %% after %zu iterations, %.1f "
			    "%% wanted",
			    r->warmup.final_cv * 100, r->warmup.n, r->warmup.target_cv * 100);
	if (!r->warmup.enabled)
		verdict_add(&s->verdict, VERDICT_SUSPECT, "there was no warm-up");
	if (s->meter_late_p99_ms > LATE_P99_MAX_MS)
		verdict_add(&s->verdict, VERDICT_SUSPECT, "the meter ran late: p99 %.0f ms",
			    s->meter_late_p99_ms);
	if (s->self_cpu_share.known &&
	    s->self_cpu_share.value > (r->binding.n ? SELF_SHARE_MAX_GPU : SELF_SHARE_MAX))
		verdict_add(&s->verdict, VERDICT_SUSPECT,
			    "lem itself used %.1f %% of a core in the window",
			    s->self_cpu_share.value * 100);
}

void judge(const struct run_record *r, struct summary *s)
{
	judge_outcome(r, s);
	judge_routing(r, s);
	if (s->window_ns <= 0)
		return;
	if (r->server.used) {
		judge_answers(r, s);
		judge_client(r, s);
		judge_load(r, s);
	}
	judge_energy(r, s);
	judge_method(r, s);
}
