/*
 * summary.h — what is computed from one run record: the figures of a `lem.result/1` document.
 * Pure data; built by run/summarize.c from a record, written by store/result_json.c.
 */
#ifndef LEM_MODEL_SUMMARY_H
#define LEM_MODEL_SUMMARY_H

#include "model/quantity.h"
#include "model/slo.h"

enum verdict_level { VERDICT_VALID, VERDICT_SUSPECT, VERDICT_INVALID };

struct verdict {
	enum verdict_level level;
	char reasons[16][200]; /* the gravest first */
	size_t n_reasons;
};

/* Pooled samples in milliseconds; quantiles by linear interpolation. n == 0: nothing measured. */
struct latency_stats {
	size_t n;
	double mean, p50, p90, p95, p99, min, max;
	char reason[120]; /* when n == 0 */
};

struct gpu_energy {
	char uuid[96];
	struct quantity total_j, above_idle_j;
	double temperature_max_c; /* NAN when not read */
	uint64_t clock_reasons;   /* all bits seen in the window */
};

enum { SUMMARY_MAX_GPUS = 64 };

enum { SUMMARY_MAX_FAILURES = 24 };

/* Lengths in tokens; quantiles by linear interpolation. bins[k] counts those from 2^k to
 * 2^(k+1) − 1, the last one all above. n == 0: none is known. */
enum { LENGTH_BINS = 26 };

struct length_stats {
	size_t n;
	int64_t total, min, max;
	double mean, p50, p90, p99;
	int64_t bins[LENGTH_BINS];
};

struct failure_count {
	char name[24];
	int64_t n;
};

struct summary {
	struct verdict verdict;
	int64_t window_ns;
	int64_t requests_done, requests_asked;
	int64_t input_tokens, output_tokens;
	/* Prefill and decode as the engine's synchronised steps show them. */
	struct quantity prefill_tokens_per_s, decode_tokens_per_s;
	struct quantity output_tokens_per_s, total_tokens_per_s, requests_per_s;
	struct latency_stats ttft, itl, tpot, e2e;  /* from the time the engine began the request */
	struct latency_stats ttft_sched, e2e_sched; /* from the time it was asked for */
	/* Of a server driven over HTTP. A chunk may hold several tokens: itl gives each its share
	 * of the gap before its chunk, itl_chunk is the gap itself. */
	struct latency_stats itl_chunk;
	struct latency_stats lag;    /* how late requests left lem */
	struct quantity client_busy; /* share of its time in which lem's client computed */
	/* What the client can do on this host, a CPU-second; and that divided by what the run asked
	 * of it a second: how many times more would have gone. */
	struct quantity roofline_requests, roofline_chunks, headroom_requests, headroom_chunks;
	int64_t chunks, cached_tokens; /* cached_tokens -1: the server does not tell */
	int64_t lengths_differ;        /* requests with other than the tokens forced */
	int64_t lengths_untold;        /* answered, but without token counts */
	int64_t chunks_untold; /* answered, but not with how many tokens in each chunk: not in itl;
				  with more than 1 % of them itl is not known */
	int64_t inputs_differ; /* requests whose ids the engine counts otherwise than they were sent
				*/
	struct length_stats input_lengths, output_lengths; /* of the answered requests */
	struct failure_count failures[SUMMARY_MAX_FAILURES];
	size_t n_failures;
	struct quantity gpu_j, gpu_above_idle_j, cpu_j, dram_j, cpu_estimated_j;
	struct quantity prefill_j, decode_j;
	struct gpu_energy per_gpu[SUMMARY_MAX_GPUS];
	size_t n_per_gpu;
	struct quantity idle_w, resident_idle_w; /* all metered GPUs together */
	/* The energy the per-token figures are made of: which domains, e.g. "gpu" or
	 * "gpu+cpu+dram". */
	char energy_scope[40];
	struct quantity scope_j; /* in the window */
	struct quantity j_per_output_token, j_per_input_token, j_per_total_token, j_per_request;
	struct quantity flops_prefill, flops_decode, flops_total, mfu;
	struct slo_summary slo;
	struct quantity self_cpu_share; /* lem's own CPU seconds per wall second in the window */
	double meter_late_p99_ms;       /* NAN when there was no sampler */
	size_t prompts_cut;             /* requests whose input was truncated */
};

const char *verdict_name(enum verdict_level level); /* "valid", "suspect", "invalid" */
/* Raises the level if need be and keeps the reason; the list is bounded. */
void verdict_add(struct verdict *v, enum verdict_level level, const char *fmt, ...) _printf_(3, 4);

#endif
